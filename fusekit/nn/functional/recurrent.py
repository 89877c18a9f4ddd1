"""Recurrent networks, computed by torch's own kernels. In ONNX each layer is one node: LSTM, GRU, or else Scan.

A quaternion cell with split activations (σ and tanh of each component) is a real cell whose weights consist of blocks
L(w), so it needs no loop of its own. In a traced graph, each function here is one node: torch.fx does not trace into
it, and the number of steps stays free.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fusekit.nn.functional.scan import States, Step, over_layers, over_time

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def run_recurrent(
    kind: str,
    x: Any,
    state: Any,
    weights: list[Tensor],
    layers: int,
    bias: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> Any:
    """(y, state) of a real LSTM, GRU or RNN, as torch's layers return them. `weights` are in torch's order.

    x: [T, N, C], [N, T, C], unbatched [T, C], or packed. state: [D L, (N,) H], for an LSTM a pair of these; None means
    zeros.
    """
    options = (layers, bias, dropout, training, bidirectional, batch_first)
    return _recurrent(kind, x, state, weights, *options)


def _recurrent(
    kind: str,
    x: Any,
    state: Any,
    weights: list[Tensor],
    layers: int,
    bias: bool,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    hidden, rows = weights[1].shape[1], layers * (2 if bidirectional else 1)
    packed, data = isinstance(x, PackedSequence), x.data if isinstance(x, PackedSequence) else x
    if data.dim() not in ((2,) if packed else (2, 3)):
        raise ValueError(f"{kind}: expected an input of 2 axes (unbatched) or 3, got {data.dim()}")
    if data.shape[-1] != weights[0].shape[1]:
        raise ValueError(f"{kind}: expected {weights[0].shape[1]} input features, got {data.shape[-1]}")
    unbatched = not packed and data.dim() == 2
    axis = 0 if batch_first else 1
    if unbatched:
        data = data.unsqueeze(axis)
    states = _states(kind, state, x, data, unbatched, axis, (rows, hidden))
    if packed:
        order = (x.batch_sizes, states, weights, bias, layers, dropout, training, bidirectional)
        out = _kernel(kind, data, *order)
        y: Any = PackedSequence(out[0], x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        ends = [h if x.unsorted_indices is None else h.index_select(1, x.unsorted_indices) for h in out[1:]]
    else:
        out = _run(kind, data, states, weights, bias, layers, dropout, training, bidirectional, batch_first)
        y = out[0].squeeze(axis) if unbatched else out[0]
        ends = [h.squeeze(1) for h in out[1:]] if unbatched else list(out[1:])
    return y, tuple(ends) if len(ends) == 2 else ends[0]


torch.fx.wrap("_recurrent")


def run_steps(cell: str, entering: Tensor, h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Apply h' = cell(entering_t, h, weight) along the first axis of `entering` [T, N, *]. Returns all h, and the last
    one. `cell` is a key of `CELLS`. An exported file has one ONNX Scan for it."""
    return _steps(cell, entering, h, weight)  # type: ignore[no-any-return]


def _steps(cell: str, entering: Tensor, h: Tensor, weight: Tensor) -> Any:
    y, (last,) = over_time(CELLS[cell], entering, (weight, None), (h,))
    return y, last


torch.fx.wrap("_steps")


def _light(activation: Callable[[Tensor], Tensor]) -> Step:
    def step(now: Tensor, state: States, weight: Tensor, bias: Tensor | None) -> States:
        (h,) = state
        a, z = (now + F.linear(h, weight, bias)).chunk(2, -1)
        z = torch.sigmoid(z)
        return (z * h + (1 - z) * activation(a),)

    return step


def _relu_step(now: Tensor, state: States, weight: Tensor, bias: Tensor | None) -> States:
    return (torch.relu(now + F.linear(state[0], weight, bias)),)


CELLS: dict[str, Step] = {
    "RNN_RELU": _relu_step,
    "leaky_relu": _light(F.leaky_relu),
    "relu": _light(torch.relu),
    "tanh": _light(torch.tanh),
}


def _kernel(kind: str, *arguments: Any) -> Any:
    kernels: dict[str, Any] = {"LSTM": torch.lstm, "GRU": torch.gru}
    kernels |= {"RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
    return kernels[kind](*arguments)


def _run(kind: str, x: Tensor, states: Any, weights: list[Tensor], bias: bool, *options: Any) -> Any:
    """Run torch's kernel; during an export, run a form for which ONNX has a node."""
    if not torch.compiler.is_exporting() or kind in ("LSTM", "GRU"):
        return _kernel(kind, x, states, weights, bias, *options)
    if kind == "RNN_TANH":
        return _kernel("GRU", x, states, _as_gru(weights, bias, states.shape[-1]), True, *options)
    layers, _, _, bidirectional, batch_first = options
    per_run = 4 if bias else 2

    def run(y: Tensor, number: int, reverse: bool) -> tuple[Tensor, States]:
        w_ih, w_hh, *biases = weights[number * per_run : (number + 1) * per_run]
        entering = F.linear(y, w_ih, biases[0] + biases[1] if biases else None)
        out, last = run_steps(kind, entering.flip(0) if reverse else entering, states[number], w_hh)
        return out.flip(0) if reverse else out, (last,)

    y, ends = over_layers(x.transpose(0, 1) if batch_first else x, layers, 2 if bidirectional else 1, run)
    return y.transpose(0, 1) if batch_first else y, *ends


def _states(kind: str, state: Any, x: Any, data: Tensor, unbatched: bool, axis: int, shape: tuple[int, int]) -> Any:
    """The initial state in the form that the kernels expect: with a batch, in the order of a packed sequence."""
    pair = kind == "LSTM"
    count: Any = x.batch_sizes[0] if isinstance(x, PackedSequence) else data.shape[axis]
    if state is None:
        zeros = data.new_zeros(shape[0], count, shape[1])
        return (zeros, zeros) if pair else zeros
    if pair != isinstance(state, tuple | list) or (pair and len(state) != 2):
        raise ValueError(f"{kind}: expected {'a pair (h, c)' if pair else 'one tensor'} for the state")
    wanted = shape if unbatched else (shape[0], count, shape[1])
    given = list(state) if pair else [state]
    for value in given:
        if value.dim() != len(wanted) or any(size != other for size, other in zip(value.shape, wanted, strict=True)):
            raise ValueError(f"{kind}: expected a state of shape {list(wanted)}, got {list(value.shape)}")
    given = [value.unsqueeze(1) if unbatched else value for value in given]
    if torch.compiler.is_exporting():  # a width given by an equation of symbols cannot be written to ONNX
        given = [value.reshape(shape[0], count, shape[1]) for value in given]
    if isinstance(x, PackedSequence) and x.sorted_indices is not None:
        given = [value.index_select(1, x.sorted_indices) for value in given]
    return tuple(given) if pair else given[0]


def _as_gru(weights: list[Tensor], bias: bool, hidden: int) -> list[Tensor]:
    """h = tanh(W x + U h + b) as a GRU with constant gates: r = 1 and z = 0 exactly, because σ(±1000) are.

    Only for export: torch's exporter writes a node for a GRU, but unrolls an RNN.
    """
    per_layer = 4 if bias else 2
    out = []
    for at in range(0, len(weights), per_layer):
        w_ih, w_hh, *biases = weights[at : at + per_layer]
        b_ih, b_hh = biases or [w_ih.new_zeros(hidden)] * 2
        out += [F.pad(w, (0, 0, 2 * hidden, 0)) for w in (w_ih, w_hh)]
        stay = torch.cat([w_ih.new_full((hidden,), 1000.0), w_ih.new_full((hidden,), -1000.0)])
        out += [torch.cat([stay, b_ih]), F.pad(b_hh, (2 * hidden, 0))]
    return out
