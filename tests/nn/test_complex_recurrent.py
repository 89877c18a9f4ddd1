"""Complex LSTM and GRU: against the cells written out, real layers, packed and naive forms, and what may be given."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fusekit.nn as fnn
import fusekit.nn.functional as FF
from fusekit.testing.strategies import relative_error
from tests.support.complex_layers import DOUBLE

KINDS = ("LSTM", "GRU")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_product = pytest.mark.parametrize("product", ["complex", "parts"])


def layer(kind: str, *arguments: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    made = getattr(fnn, f"Complex{kind}")(*arguments, dtype=DOUBLE, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.4)
    return made


def sequence(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


def split(function: Any, z: Tensor) -> Tensor:
    return torch.complex(function(z.real), function(z.imag))


def times(product: str, a: Tensor, b: Tensor) -> Tensor:
    return a * b if product == "complex" else torch.complex(a.real * b.real, a.imag * b.imag)


def written_out(kind: str, product: str, cell: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step in complex arithmetic, from the papers."""
    given, kept = x @ cell.weight_ih.mT + cell.bias_ih, h @ cell.weight_hh.mT + cell.bias_hh
    if kind == "LSTM":
        i, f, g, o = (given + kept).chunk(4, -1)
        c = times(product, split(torch.sigmoid, f), c) + times(product, split(torch.sigmoid, i), split(torch.tanh, g))
        return times(product, split(torch.sigmoid, o), split(torch.tanh, c)), c
    (xr, xz, xn), (hr, hz, hn) = given.chunk(3, -1), kept.chunk(3, -1)
    r, z = split(torch.sigmoid, xr + hr), split(torch.sigmoid, xz + hz)
    n = split(torch.tanh, xn + times(product, r, hn))
    one = 1 if product == "complex" else 1 + 1j
    return times(product, one - z, n) + times(product, z, h), c


@torch.no_grad()
@each_kind
@each_product
def test_cells_and_layers_are_the_formulas(kind: str, product: str) -> None:
    cell: Any = layer(f"{kind}Cell", 4, 3, product=product)
    whole = layer(kind, 4, 3, product=product)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(whole, f"{name}_l0").copy_(getattr(cell, name))
    x, h, c = sequence(5, 2, 4), sequence(2, 3), sequence(3, 2, 3)[0]
    first = (h.unsqueeze(0), c.unsqueeze(0)) if kind == "LSTM" else h.unsqueeze(0)
    outputs, state = whole(x, first)
    for t in range(5):
        stepped = cell(x[t], (h, c) if kind == "LSTM" else h)
        h, c = written_out(kind, product, cell, x[t], h, c)
        ours = stepped if kind == "LSTM" else (stepped,)
        assert all(relative_error(a, b) < 1e-13 for a, b in zip(ours, (h, c), strict=False))
        assert relative_error(outputs[t], h) < 1e-13
    finals = state if kind == "LSTM" else (state,)
    assert all(relative_error(a[0], b) < 1e-13 for a, b in zip(finals, (h, c), strict=False))
    single = cell(x[0, 1])
    assert (
        relative_error(single[0] if kind == "LSTM" else single, (cell(x[0])[0] if kind == "LSTM" else cell(x[0]))[1])
        < 1e-13
    )


@torch.no_grad()
@each_kind
def test_products_of_parts_are_one_real_layer(kind: str) -> None:
    """The real layer of twice the width, and the same layer step by step, as a padded batch is run."""
    whole = layer(kind, 4, 3, 2, bidirectional=True, product="parts")
    x = sequence(5, 2, 4)
    outputs, states = whole(x)
    packed, last = whole(pack_sequence([x[:, 0], x[:, 1]]))
    assert relative_error(packed.data.reshape(5, 2, 6), outputs) < 1e-13
    for a, b in zip(last if kind == "LSTM" else [last], states if kind == "LSTM" else [states], strict=True):
        assert relative_error(a, b) < 1e-13


@torch.no_grad()
@each_kind
@each_product
@pytest.mark.parametrize("lengths", [(3, 5, 1), (5, 5, 2)])
def test_packed_sequences_are_the_sequences_by_themselves(kind: str, product: str, lengths: tuple[int, ...]) -> None:
    whole = layer(kind, 4, 3, 2, bidirectional=True, product=product)
    x, h = sequence(5, 3, 4), sequence(4, 3, 3)
    alone = [x[:length, i] for i, length in enumerate(lengths)]
    state = (h, 2 * h) if kind == "LSTM" else h
    y, last = whole(pack_sequence(alone, enforce_sorted=False), state)
    outputs, finals = [], []
    for i, one in enumerate(alone):
        own = tuple(s[:, i] for s in state) if kind == "LSTM" else h[:, i]
        single, final = whole(one, own)
        outputs.append(single)
        finals.append(final)
    assert isinstance(y, PackedSequence)
    assert relative_error(y.data, pack_sequence(outputs, enforce_sorted=False).data) < 1e-13
    for index, state_of_all in enumerate(last if kind == "LSTM" else [last]):
        expected = torch.stack([f[index] if kind == "LSTM" else f for f in finals], 1)
        assert relative_error(state_of_all, expected) < 1e-13


@torch.no_grad()
@each_kind
def test_real_weights_and_inputs_are_torchs_layer(kind: str) -> None:
    """With everything real the complex product is the real one; σ(0) = ½ j is not, so only "parts" stays real."""
    real = getattr(nn, kind)(4, 3, 2, bidirectional=True, batch_first=True).double()
    ours = layer(kind, 4, 3, 2, bidirectional=True, batch_first=True, product="parts")
    for name, parameter in ours.named_parameters():
        parameter.copy_(real.get_parameter(name).to(DOUBLE))
    x = sequence(2, 5, 4).real
    assert relative_error(ours(x.to(DOUBLE))[0].real, real(x)[0]) < 1e-13


@torch.no_grad()
@each_kind
def test_naive_form_is_two_real_layers_on_both_parts(kind: str) -> None:
    naive = getattr(fnn, f"NaiveComplex{kind}")(4, 3, 2, bidirectional=True, batch_first=True, dtype=DOUBLE)
    re, im = naive.children()
    x = sequence(2, 5, 4)

    def run(network: nn.Module, part: Tensor) -> Tensor:
        y: Tensor = network(part.transpose(0, 1))[0]
        return y.transpose(0, 1)

    expected = FF.apply_complex(lambda part: run(re, part), lambda part: run(im, part), x)
    assert relative_error(naive(x)[0], expected) < 1e-14
    one_way = getattr(fnn, f"NaiveComplex{kind}")(4, 3, dtype=DOUBLE)
    whole, last = one_way(x)
    before, state = one_way(x[:1])
    after, end = one_way(x[1:], state)
    assert relative_error(torch.cat([before, after]), whole) < 1e-13
    for a, b in zip(end, last, strict=True):
        assert all(relative_error(p, q) < 1e-13 for p, q in (zip(a, b, strict=True) if kind == "LSTM" else [(a, b)]))
    with pytest.raises(TypeError, match="PackedSequence"):
        one_way(pack_sequence([x[0]]))
    prefix = kind.lower()
    assert {name.split(".")[0] for name in one_way.state_dict()} == {f"{prefix}_re", f"{prefix}_im"}


@each_kind
def test_dropout_between_layers_and_gradients_through_packed_sequences(kind: str) -> None:
    deep = layer(kind, 4, 3, 2, dropout=1.0)
    x = sequence(5, 2, 4)
    below = deep(x)[0]
    blind = deep(sequence(5, 2, 4) * 3)[0]
    assert torch.equal(below, blind)  # nothing of the first layer arrives
    assert not torch.equal(deep.eval()(x)[0], below)
    y, _ = deep(pack_sequence([x[:, 0], x[:3, 1]]))
    y.data.abs().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in deep.parameters())
    free = layer(kind, 4, 3, bias=False)
    assert all("bias" not in name for name in free.state_dict())
    assert free(x)[0].shape == (5, 2, 3)


@each_kind
def test_what_may_not_be_given(kind: str) -> None:
    one = layer(kind, 4, 3)
    with pytest.raises(ValueError, match=r"expected an input \[T, \(N,\) 4\], got shape \[5, 2, 3\]"):
        one(sequence(5, 2, 3))
    with pytest.raises(ValueError, match=r"expected states of shape \[1, 2, 3\], got \[1, 4, 3\]"):
        one(sequence(5, 2, 4), (sequence(1, 4, 3),) * 2 if kind == "LSTM" else sequence(1, 4, 3))
    with pytest.raises(ValueError, match="product must be 'complex' or 'parts', got 'real'"):
        layer(kind, 4, 3, product="real")
    with pytest.raises(ValueError, match="hidden_size: expected a positive number, got 0"):
        layer(kind, 4, 0)
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
        layer(kind, 4, 3, dropout=2)
    with pytest.raises(ValueError, match="at least one step"):
        one(sequence(0, 2, 4))
    with pytest.raises(ValueError, match=r"expected an input \[\(N,\) 4\]"):
        layer(f"{kind}Cell", 4, 3)(sequence(2, 3))
    assert (
        repr(layer(kind, 4, 3, 2, dropout=0.5, product="parts"))
        == f"Complex{kind}(4, 3, num_layers=2, dropout=0.5, product='parts')"
    )
