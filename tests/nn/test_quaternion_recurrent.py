"""Quaternion recurrent layers: against cells written out, against torch's own layers, and read from checkpoints."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fusekit import nn as fnn
from fusekit.nn.functional.recurrent import run_recurrent
from fusekit.testing.strategies import relative_error
from tests.nn.test_quaternion_layers import components, disturbed
from tests.support import quaternion_reference as reference

KINDS: tuple[tuple[Any, Any, dict[str, Any]], ...] = (
    (fnn.QuaternionLSTM, nn.LSTM, {}),
    (fnn.QuaternionGRU, nn.GRU, {}),
    (fnn.QuaternionRNN, nn.RNN, {}),
    (fnn.QuaternionRNN, nn.RNN, {"nonlinearity": "relu"}),
)
STACKS: tuple[dict[str, Any], ...] = (
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "num_layers": 2},
)


@pytest.mark.parametrize("gates", ["quaternion", "component"])
def test_lstm_is_the_cell_written_out(gates: Any) -> None:
    layer: Any = disturbed(fnn.QuaternionLSTM(8, 12, gates=gates, dtype=torch.float64))
    x = torch.randn(4, 3, 8, dtype=torch.float64)
    values: list[Any] = [
        getattr(layer, f"{what}_{part}_l0").detach() for what in ("weight", "bias") for part in ("ih", "hh")
    ]
    y, (h, _) = layer(x)
    w, u, b, c = values
    wanted = reference.lstm(x, w, u, b, c, gates)
    assert relative_error(y.detach(), wanted) < 1e-14
    assert torch.equal(h[0], y[-1])


@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1].__name__ + str(kind[2]))
def test_layers_are_torchs_with_block_weights(kind: Any, stack: dict[str, Any]) -> None:
    """Layers, directions, states, no batch, packed sequences: what torch's layer gives with the same real weights."""
    ours, theirs, options = kind
    layer: Any = disturbed(ours(8, 4, **options, **stack)).double()
    twin = theirs(8, 4, **options, **stack).double()
    names = list(twin.state_dict())
    twin.load_state_dict(dict(zip(names, layer.real_weights(), strict=True)))
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    rows = 2 * 2 if "bidirectional" in stack else stack.get("num_layers", 1)
    batch = 3 if "batch_first" in stack else 5
    state: Any = torch.randn(rows, batch, 4, dtype=torch.float64)
    state = (state, state.flip(0)) if theirs is nn.LSTM else state
    lone = (state[0][:, 0], state[1][:, 0]) if theirs is nn.LSTM else state[:, 0]
    lengths = torch.tensor([2, 3, 1] if "batch_first" in stack else [1, 3, 2, 3, 3])
    packed = pack_padded_sequence(x, lengths, batch_first="batch_first" in stack, enforce_sorted=False)
    calls = [(x,), (x, state), (x[0],), (x[0], lone), (packed,), (packed, state)]
    for call in calls:
        for one, other in zip(leaves(layer(*call)), leaves(twin(*call)), strict=True):
            assert relative_error(one, other) < 1e-13


def leaves(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [pad_packed_sequence(value)[0].detach()]
    return [value.detach()] if isinstance(value, Tensor) else [leaf for part in value for leaf in leaves(part)]


def test_dropout_between_layers_only_when_training() -> None:
    torch.manual_seed(0)
    layer = fnn.QuaternionGRU(4, 8, 2, dropout=0.5)
    x = torch.randn(5, 2, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_bad_input_is_named() -> None:
    layer = fnn.QuaternionLSTM(8, 4)
    for x, hx, message in (
        (torch.ones(2, 3, 4), None, "LSTM: expected 8 input features, got 4"),
        (torch.ones(8), None, "LSTM: expected an input of 2 axes .unbatched. or 3, got 1"),
        (torch.ones(2, 3, 8), torch.ones(1, 3, 4), r"LSTM: expected a pair \(h, c\) for the state"),
        (
            torch.ones(2, 3, 8),
            (torch.ones(2, 3, 4),) * 2,
            r"LSTM: expected a state of shape \[1, 3, 4\], got \[2, 3, 4\]",
        ),
        (torch.ones(2, 8), (torch.ones(1, 3, 4),) * 2, r"LSTM: expected a state of shape \[1, 4\], got \[1, 3, 4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x, hx)
    with pytest.raises(ValueError, match="GRU: expected one tensor for the state"):
        fnn.QuaternionGRU(8, 4)(torch.ones(2, 3, 8), (torch.ones(1, 3, 4),) * 2)
    with pytest.raises(ValueError, match="num_layers: expected a positive number, got 0"):
        fnn.QuaternionGRU(8, 4, 0)
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, got 2"):
        fnn.QuaternionGRU(8, 4, dropout=2)
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got 'x'"):
        fnn.QuaternionRNN(8, 4, nonlinearity="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonlinearity must be 'leaky_relu', 'relu' or 'tanh', got 'x'"):
        fnn.QuaternionLiGRU(8, 4, nonlinearity="x")  # type: ignore[arg-type]


def light(layer: Any, x: Tensor) -> Tensor:
    """The light GRU of one layer, gate by gate and step by step."""
    w, u, norm = layer.weight_ih_l0, layer.weight_hh_l0, layer.norm_l0
    entering = norm(reference.linear(x.flatten(0, 1), w)).unflatten(0, x.shape[:2])
    act = {"leaky_relu": nn.functional.leaky_relu, "relu": torch.relu, "tanh": torch.tanh}[layer.nonlinearity]
    h = x.new_zeros(x.shape[1], layer.hidden_size)
    out = []
    for now in entering:
        value = now + reference.linear(h, u)
        if layer.gates == "component":
            a, z = value.chunk(2, -1)
        else:  # quaternions 0 to H are a, those from H on z
            a, z = (reference.blocks(part) for part in reference.numbers(value).chunk(2, -2))
        h = torch.sigmoid(z) * h + (1 - torch.sigmoid(z)) * act(a)
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gates", ["quaternion", "component"])
@pytest.mark.parametrize("nonlinearity", ["leaky_relu", "relu", "tanh"])
def test_light_gru(nonlinearity: Any, gates: Any, training: bool) -> None:
    layer = disturbed(fnn.QuaternionLiGRU(8, 4, nonlinearity=nonlinearity, gates=gates, dtype=torch.float64)).train(
        training
    )
    x = torch.randn(4, 3, 8, dtype=torch.float64)
    y, h = layer(x)
    assert relative_error(y.detach(), light(layer, x).detach()) < 1e-13
    assert torch.equal(h[0], y[-1])


def test_light_gru_stacks() -> None:
    """Both directions and all layers: the backward one is the forward one on the sequence turned round."""
    layer: Any = disturbed(fnn.QuaternionLiGRU(8, 4, 2, batch_first=True, bidirectional=True)).eval()
    for part in ("ih", "hh"):
        getattr(layer, f"weight_{part}_l0_reverse").data = getattr(layer, f"weight_{part}_l0").data
    layer.norm_l0_reverse.load_state_dict(layer.norm_l0.state_dict())
    x = torch.randn(2, 5, 8)
    alone = fnn.QuaternionLiGRU(8, 4, batch_first=True).eval()
    alone.load_state_dict({key: value for key, value in layer.state_dict().items() if "l0" in key and "rev" not in key})
    one = torch.cat([alone(x)[0], alone(x.flip(1))[0].flip(1)], -1)
    second = fnn.QuaternionLiGRU(8, 4, batch_first=True, bidirectional=True).eval()
    state = {key.replace("l1", "l0"): value for key, value in layer.state_dict().items() if "l1" in key}
    second.load_state_dict(state)
    y, h = layer(x)
    assert torch.allclose(y, second(one)[0], atol=1e-6)
    assert h.shape == (4, 2, 4)
    start = torch.randn(4, 2, 4)
    assert not torch.allclose(layer(x, start)[0], y)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_checkpoints_of_speechbrain(bidirectional: bool) -> None:
    """rnn.0.w.r_weight [in, out] and so on; one set of weights for both directions; gates as components, or refused."""
    w, u = torch.randn(4, 16, 2), torch.randn(4, 16, 4)
    state = {f"rnn.0.w.{name}": value for name, value in components(w, True).items()}
    state |= {f"rnn.0.u.{name}": value for name, value in components(u, True).items()}
    state |= {"rnn.0.w.bias": torch.randn(64), "rnn.0.u.bias": torch.randn(64), "rnn.0.h_init": torch.zeros(1, 16)}
    layer: Any = fnn.QuaternionLSTM(8, 16, bidirectional=bidirectional, gates="component")
    layer.load_state_dict(dict(state))
    assert torch.equal(layer.weight_ih_l0, w) and torch.equal(layer.bias_hh_l0, state["rnn.0.u.bias"])
    if bidirectional:
        assert torch.equal(layer.weight_hh_l0_reverse, u)
    with pytest.raises(RuntimeError, match='holds gates as components: construct with gates="component"'):
        fnn.QuaternionLSTM(8, 16, bidirectional=bidirectional).load_state_dict(dict(state))
    half = {key: value[..., :8] if "weight" in key else value for key, value in state.items() if "bias" not in key}
    half |= {f"rnn.0.norm.{name}": torch.rand(8) for name in ("gamma", "running_var")}
    half |= {f"rnn.0.norm.{name}": torch.rand(32) for name in ("beta", "running_mean")}
    half |= {"rnn.0.norm.num_batches_tracked": torch.tensor(1), "rnn.0.drop_masks": torch.ones(9, 16)}
    small: Any = fnn.QuaternionLiGRU(8, 16, bidirectional=bidirectional, gates="component")
    small.load_state_dict(dict(half))
    assert torch.equal(small.weight_ih_l0, w[:, :8]) and torch.equal(small.norm_l0.weight, half["rnn.0.norm.gamma"])
    with pytest.raises(RuntimeError, match='holds gates as components: construct with gates="component"'):
        fnn.QuaternionLiGRU(8, 16, bidirectional=bidirectional).load_state_dict(dict(half))


def test_an_empty_sequence_is_refused() -> None:
    for layer in (fnn.QuaternionLSTM(8, 4), fnn.QuaternionLiGRU(8, 4).eval()):
        with pytest.raises((RuntimeError, ValueError), match=r"[Ee]xpected a? ?se?q"):
            layer(torch.ones(0, 2, 8))


def test_run_recurrent_keeps_bias_free_layers() -> None:
    weights = [torch.randn(16, 8), torch.randn(16, 4)]
    twin = nn.LSTM(8, 4, bias=False)
    twin.load_state_dict(dict(zip(twin.state_dict(), weights, strict=True)))
    x = torch.randn(3, 2, 8)
    assert torch.allclose(run_recurrent("LSTM", x, None, weights, 1, bias=False)[0], twin(x)[0], atol=1e-6)
