"""Capture: every model is either followed exactly, or left to its own forward; nothing is silently half right."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from tests.support.capture_room import (
    OTHER,
    Forward,
    Pair,
    X,
    both_ways,
    folds,
    host,
    parity,
    prepared,
    same_or_refused,
)
from tests.support.compare import EXACT, assert_same, call, error_of, normal, report_of

# --- what the symbolic trace follows -----------------------------------------------------------------------------


def merged_branches(m: Any, x: Tensor) -> Tensor:
    """RepVGG's: one kernel out of three, in forward."""
    one = F.pad(m.conv.weight[:, :, 1:2, 1:2], (1, 1, 1, 1))
    return m.norm(F.conv2d(x, m.conv.weight + one + m.kernel, m.conv.bias, padding=1))  # type: ignore[no-any-return]


def standardized_weight(m: Any, x: Tensor) -> Tensor:
    w = m.conv.weight
    w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
    return m.norm(F.conv2d(x, w, None, padding=1))  # type: ignore[no-any-return]


def branch_on_weights(m: Any, x: Tensor) -> Tensor:
    w = m.conv.weight if m.conv.weight.shape[-1] > 1 and m.conv.weight.abs().sum() > 0 else m.kernel
    return m.norm(F.conv2d(x, w, padding=1))  # type: ignore[no-any-return]


def over_parametrized(m: Any, x: Tensor) -> Tensor:
    """DO-Conv's: a product of two tensors is the kernel."""
    w = torch.einsum("oihw,ij->ojhw", m.conv.weight, m.plain[:, :, 0, 0])
    return m.norm(torch.conv2d(x, w, m.conv.bias, padding=1))  # type: ignore[no-any-return]


def many_computed_weights(m: Any, x: Tensor) -> Tensor:
    """Temporaries whose memory, and identity, is used again at once."""
    y = x
    for k in range(6):
        y = y + F.conv2d(x, m.conv.weight * (k + 1), padding=1)
    return m.norm(y)  # type: ignore[no-any-return]


def functional_calls(m: Any, x: Tensor) -> Tensor:
    y = F.conv2d(weight=m.conv.weight, padding=(1, 1), input=x, bias=None)
    y = F.batch_norm(y, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, False, 0.1, 1e-5)
    y = F.conv2d(F.pad(value=0, pad=(1, 1, 1, 1), input=y), m.kernel, None, 1, "valid")
    return F.linear(torch.conv2d(y, m.plain, padding="same").mean((2, 3)), m.plain[:, :, 0, 0])


def arithmetic_spellings(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y = torch.add(y, m.scale, alpha=3) + torch.sub(y, x, alpha=2) + torch.add(2.0, y, alpha=3)
    y = torch.mul(input=y, other=2) + torch.div(y, other=4.0) - torch.rsub(y, 3) + (1 - y) + 2 / (y.abs() + 1)
    return y.mul(m.scale).add(y, alpha=0.5).sub(1).div(3) * m.scale  # type: ignore[no-any-return]


def shared_with_two_followers(m: Any, x: Tensor) -> Tensor:
    return m.norm(m.conv(x)) + m.relu(m.conv(x)) + m.b(m.conv(x))  # type: ignore[no-any-return]


def relu_called_twice(m: Any, x: Tensor) -> Tensor:
    """The second call overwrites w, which is read once more."""
    z = m.relu(m.a(x))
    w = m.b(z)
    v = m.relu(w)
    return v + w  # type: ignore[no-any-return]


def augmented_alias(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    kept = x
    x += m.b(x)
    return x + kept


def augmented_power(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    kept = y
    y **= 2
    y *= 0.5
    y -= m.scale
    return y + kept  # type: ignore[no-any-return]


def chain_of_writes(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y.add_(1).mul_(2).clamp_(min=-1.0)
    F.relu(y, inplace=True)
    torch.relu_(y)
    return m.b(y) + y  # type: ignore[no-any-return]


def number_written(m: Any, x: Tensor) -> Tensor:
    n = x.shape[2]
    n += 1
    n *= x.size(3)
    return m.a(x) / n  # type: ignore[no-any-return]


def nested_outputs(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return {"first": [y, (y + 1, None)], "n": 3, "last": (m.b(y),)}


def dtype_changes(m: Any, x: Tensor) -> Tensor:
    y = m.a(x).float() / 255
    return m.b(y.double())  # type: ignore[no-any-return]


SYMBOLIC: list[Forward] = [
    *(merged_branches, standardized_weight, branch_on_weights, over_parametrized, many_computed_weights),
    *(functional_calls, arithmetic_spellings, shared_with_two_followers, relu_called_twice, augmented_alias),
    *(augmented_power, chain_of_writes, number_written, nested_outputs, dtype_changes),
]


@pytest.mark.parametrize("forward", SYMBOLIC, ids=lambda f: f.__name__)
def test_symbolic_trace_follows(forward: Forward) -> None:
    """Weights computed in forward, spellings, sharing, in-place writes that can be made plain: all without inputs."""
    for result in both_ways(prepared(host(forward))):
        assert report_of(result).capture == "symbolic trace"


@pytest.mark.parametrize("forward", SYMBOLIC[:4], ids=lambda f: f.__name__)
def test_weights_computed_in_forward_fold(forward: Forward) -> None:
    """They arrive as constants, and the batch norm behind them folds."""
    for result in both_ways(prepared(host(forward))):
        assert folds(result) == 1


# --- what it must not follow -------------------------------------------------------------------------------------


def write_to_a_view(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    v = y.view(-1)
    y *= 2
    return m.b(y) + v.view_as(y)  # type: ignore[no-any-return]


def write_to_the_input(m: Any, x: Tensor) -> Tensor:
    kept = x
    x += 1
    return m.a(x) + kept  # type: ignore[no-any-return]


def zeroed(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y.zero_()
    return m.b(y) + y  # type: ignore[no-any-return]


def copied_into(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y.copy_(x)
    return m.b(y)  # type: ignore[no-any-return]


def items_assigned(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 0] = 0
    y[:, :, ::2] *= 2
    return m.b(y)  # type: ignore[no-any-return]


def single_batch(m: Any, x: Tensor) -> Tensor:
    if x.shape[0] == 1:
        return m.a(x) * 2  # type: ignore[no-any-return]
    return m.a(x)  # type: ignore[no-any-return]


def empty_batch(m: Any, x: Tensor) -> Tensor:
    return x if x.shape[0] == 0 else m.a(x)[:, :2]


def single_column(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if x.shape[-1] > 1 else m.a(x) * 2  # type: ignore[no-any-return]


def product_of_sizes(m: Any, x: Tensor) -> Tensor:
    return m.a(x) * 2 if x.shape[2] * x.shape[3] == 1 else m.a(x)  # type: ignore[no-any-return]


def asks_for_a_type(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if isinstance(x, Tensor) else m.a(x) * 2  # type: ignore[no-any-return]


def asks_torch_for_a_type(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if torch.is_tensor(x) else m.a(x) * 2  # type: ignore[no-any-return]


DECIDED_BY_SIZES: list[Forward] = [parity, single_batch, empty_batch, single_column, product_of_sizes]
EXPORTED: list[Forward] = [
    *(write_to_a_view, write_to_the_input, zeroed, copied_into, items_assigned),
    *(asks_for_a_type, asks_torch_for_a_type),
]
SMALL = (normal(0, 3, 6, 6), normal(1, 3, 1, 1), normal(2, 3, 6, 1), normal(1, 3, 7, 8))


@pytest.mark.parametrize(("forward", "batch"), [*((f, 2) for f in (*EXPORTED, *DECIDED_BY_SIZES)), (single_batch, 1)])
def test_what_a_symbolic_trace_would_get_wrong(forward: Forward, batch: int) -> None:
    """Without inputs the children are optimized in place and every size works; with inputs sizes decide, or
    torch.export follows, and what was assumed of sizes, 0 and 1 among them, is checked."""
    model = prepared(host(forward))
    plain, captured = both_ways(model, X[:batch], (*OTHER, *SMALL))
    assert report_of(plain).capture == "symbolic trace"  # of the children
    assert all(same_or_refused(plain, model, x) for x in (*OTHER, *SMALL))
    assert report_of(captured).capture == ("torch.export" if forward in EXPORTED else "symbolic trace")
    assert folds(plain) and folds(captured)


def test_guards_say_what_was_assumed() -> None:
    """A program raises where what was assumed of sizes fails, in words a user can act on."""
    result = fusekit.optimize(prepared(host(parity)), X)
    with pytest.raises(ValueError, match=r"captured for inputs with \(x.size\(\)\[3\] % 2\) == 0"):
        result(normal(2, 3, 6, 7))
    for batch, other, condition in ((2, 1, "!="), (1, 2, "==")):
        result = fusekit.optimize(prepared(host(single_batch)), X[:batch])
        with pytest.raises(ValueError, match=rf"x.size\(\)\[0\] {condition} 1"):
            result(X[:other])


def random_constant(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + torch.randn(3, 1, 1, dtype=torch.float64)  # type: ignore[no-any-return]


def random_of_python(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + random.random()  # type: ignore[no-any-return]


def random_of_numpy(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + float(np.random.rand())  # type: ignore[no-any-return]


def numpy_state() -> Any:
    state: Any = np.random.get_state()
    return state[1]


@pytest.mark.parametrize("forward", [random_constant, random_of_python, random_of_numpy], ids=lambda f: f.__name__)
def test_random_numbers_stay_random(forward: Forward) -> None:
    """A draw must not become a constant, and looking must not advance the generators."""
    model = prepared(host(forward))
    states = torch.get_rng_state(), random.getstate(), numpy_state().copy()
    result = fusekit.optimize(model)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == numpy_state()).all()
    assert not torch.equal(call(result, X), call(result, X))

    def seeded(module: nn.Module) -> Any:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        return call(module, X)

    assert error_of(seeded(result), seeded(model)) <= EXACT


def test_dropout_in_forward_stays_active() -> None:
    """F.dropout's default is training=True: a user's mistake, and still what the model computes."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return F.dropout(m.a(x), 0.5)

    result = fusekit.optimize(prepared(host(forward)))
    assert 0 < int((call(result, X) == 0).sum()) < 200


class Counting(nn.Module):
    """Its answer depends on how often it was asked, kept in a buffer or in an attribute."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.a = Pair()
        self.calls: Any
        if buffer:
            self.register_buffer("calls", torch.zeros(()))
        else:
            self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.a(x) * self.calls  # type: ignore[no-any-return]


@pytest.mark.parametrize("buffer", [True, False])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("example", [None, X])
def test_state_that_forward_changes_goes_on_changing(buffer: bool, inside: bool, example: Tensor | None) -> None:
    """Neither a trace's own run nor a constant may stand for the state."""
    counting = Counting(buffer)
    model = prepared(nn.Sequential(Pair(), counting, Pair()) if inside else counting)
    result = fusekit.optimize(model, example)
    assert int(counting.calls) == 0
    for _ in range(3):
        assert_same(result, model, X)
    assert folds(result)


def test_a_cache_in_an_odd_child_keeps_no_fakes() -> None:
    """A module that keeps what it sees must not be left with proxies or fake tensors."""

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cache: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.cache is None or self.cache.shape[0] != x.shape[-1]:
                self.cache = torch.arange(x.shape[-1], dtype=x.dtype)
            return x + self.cache

    original = prepared(nn.Sequential(Pair(), Cached(), Pair()))

    def model() -> nn.Module:
        return copy.deepcopy(original)

    for example in (None, X):
        result = fusekit.optimize(model(), example)
        for x in (X, *OTHER):
            same_or_refused(result, model(), x)
    assert all(same_or_refused(fusekit.optimize(model()), model(), x) for x in (X, *OTHER))


def test_values_kept_for_later_are_still_kept() -> None:
    """A forward that leaves features on the module (`self.last = y`) goes on doing so."""

    def forward(m: Any, x: Tensor) -> Tensor:
        m.last = m.a(x)
        return m.b(m.last)  # type: ignore[no-any-return]

    model = prepared(host(forward))
    for result in both_ways(model):
        call(result, X)
        assert error_of(result.last, call(model.a, X)) <= EXACT  # type: ignore[arg-type]


def test_a_model_called_with_gradients_can_be_optimized() -> None:
    """What it kept of the call is no leaf, which torch does not copy by itself."""

    def forward(m: Any, x: Tensor) -> Tensor:
        m.kept.append(m.a(x))
        return m.b(x)  # type: ignore[no-any-return]

    model: Any = prepared(host(forward))
    model.kept = []
    model(X)
    assert len(both_ways(model)) == 2


def test_autocast_is_not_lost() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m.a(x)  # type: ignore[no-any-return]

    model = prepared(host(forward)).float()
    assert call(fusekit.optimize(model), X.float()).dtype == call(model, X.float()).dtype == torch.bfloat16


# --- the original ------------------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a module that an optimization might touch."""
    state: dict[str, Any] = {}
    for path, module in model.named_modules():
        state[path] = (type(module), module.training, {k: id(v) for k, v in vars(module).items() if k[0] != "_"})
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            state[f"{path}:{name}"] = (id(tensor), tensor._version, tensor.requires_grad, tensor.detach().clone())
        state[f"{path}:hooks"] = (len(module._forward_hooks), len(module._forward_pre_hooks))
    return state


@pytest.mark.parametrize(
    ("forward", "training"),
    [*((f, False) for f in SYMBOLIC[::2]), (parity, True), (items_assigned, False), (write_to_the_input, True)],
)
def test_the_original_is_not_touched(forward: Forward, training: bool) -> None:
    model = prepared(host(forward)).train(training)
    model.conv.requires_grad_(False)
    before, x = snapshot(model), X.clone()
    for example in (None, x):
        result = fusekit.optimize(model, example)
        with torch.no_grad():
            for tensor in (*result.parameters(), *result.buffers()):
                tensor.zero_()  # nor does it share memory
    after = snapshot(model)
    assert before.keys() == after.keys() and torch.equal(x, X)
    for key, value in before.items():
        assert value[:3] == after[key][:3], key
        assert len(value) < 4 or torch.equal(value[3], after[key][3]), key


def test_training_mode_is_noted_loudly() -> None:
    model = prepared(host(parity)).train()
    for example in (None, X):
        result = fusekit.optimize(model, example)
        assert str(report_of(result)).startswith("fusekit: the model is in training mode")
        assert_same(result, copy.deepcopy(model).eval(), X)
    assert not report_of(fusekit.optimize(model.eval())).notes
