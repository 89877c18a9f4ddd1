"""Complex LSTM and GRU: the cells of `cell.py` over time, in layers and directions, as torch.nn.LSTM and GRU.

Exported, a layer is one ONNX Scan, or, with `product="parts"`, one ONNX LSTM or GRU of twice the width: nothing is
unrolled, and the length of the sequence stays free. c' = f ⊙ c + i ⊙ g with complex products mixes the parts of the
state in a way no real LSTM's gates can.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan_op
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fusekit.nn.complex.cell import GATES, STEPS, Product, Step, checked_product, draw_gates_
from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.dropout import complex_dropout
from fusekit.nn.functional.complex.parts import as_complex, as_real, from_channels, real_bias, real_weight, to_channels

States = tuple[Tensor, ...]
Weights = tuple[Tensor, Tensor | None]


class _ComplexRecurrent(ComplexLayer):
    """Arguments as torch's, without `proj_size`, and `product`, that of the gates: "complex", or "parts" (`cell.py`).

    Shapes: x [T, N, input_size], [N, T, input_size] if batch_first, [T, input_size] unbatched, or packed; states
    [num_layers * directions, (N,) hidden_size]. Parameters by torch's names, all complex. `dropout` is between layers,
    with one mask for both parts. Initial weights: `complex_rayleigh_` with Glorot's criterion, gate by gate; biases 0.
    """

    _kind: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        product: Product = "complex",
    ) -> None:
        super().__init__()
        if hidden_size <= 0 or num_layers <= 0:
            raise ValueError(f"hidden_size and num_layers must be positive, got {hidden_size} and {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be between 0 and 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.product = checked_product(product)
        rows, dtype = GATES[self._kind] * hidden_size, complex_dtype(dtype)
        directions = 2 if bidirectional else 1
        for layer, suffix in self._runs():
            columns = input_size if layer == 0 else directions * hidden_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, hidden_size)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for name, shape in shapes.items():
                self.register_parameter(
                    f"{name}_{suffix}", nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                )
        self.reset_parameters()

    def _runs(self) -> list[tuple[int, str]]:
        """(layer, suffix of its parameters), both directions."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [(layer, f"l{layer}{end}") for layer in range(self.num_layers) for end in ends]

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if name.startswith("weight"):
                draw_gates_(parameter, GATES[self._kind])
            else:
                nn.init.zeros_(parameter)

    def _run(self, x: Tensor | PackedSequence, states: States | None) -> tuple[Tensor | PackedSequence, States]:
        if isinstance(x, PackedSequence):
            padded, lengths = pad_packed_sequence(PackedSequence(to_channels(x.data, 0), *x[1:]))
            outputs, states = self._over_layers(padded, states, lengths.to(padded.device))
            outputs = to_channels(outputs, 0)
            if x.sorted_indices is not None:
                outputs, lengths = outputs.index_select(1, x.sorted_indices), lengths[x.sorted_indices.cpu()]
            packed = pack_padded_sequence(outputs, lengths)
            return PackedSequence(from_channels(packed.data, 0), *x[1:]), states
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            shape = "[(N,) T, {}]" if self.batch_first else "[T, (N,) {}]"
            raise ValueError(f"expected an input {shape.format(self.input_size)}, got shape {list(x.shape)}")
        if x.ndim == 2:
            states = None if states is None else tuple(state.unsqueeze(1) for state in states)
            y, states = self._over_layers(to_channels(x, 0).unsqueeze(1), states, None)
            return y.squeeze(1), tuple(state.squeeze(1) for state in states)
        real = to_channels(x, 0)
        y, states = self._over_layers(real.transpose(0, 1) if self.batch_first else real, states, None)
        return y.transpose(0, 1) if self.batch_first else y, states

    def _over_layers(self, x: Tensor, states: States | None, lengths: Tensor | None) -> tuple[Tensor, States]:
        """x [T, N, 2 in] real -> y [T, N, directions * H] and the states, complex."""
        runs, n_states = self._runs(), 2 if self._kind == "lstm" else 1
        shape = (len(runs), x.shape[1], self.hidden_size)
        if states is None:
            pairs = [x.new_zeros(*shape, 2) for _ in range(n_states)]
        else:
            pairs = [as_real(state) for state in states]
            if any(pair.shape[:-1] != shape for pair in pairs):
                raise ValueError(f"expected states of shape {list(shape)}, got {list(pairs[0].shape[:-1])}")
        if self.product == "parts" and lengths is None:
            return self._as_real_layers(x, pairs)
        finals, step = [], STEPS[self._kind](self.product)
        for layer in range(self.num_layers):
            outputs = []
            for run in [run for run, (number, _) in enumerate(runs) if number == layer]:
                suffix = runs[run][1]
                given = F.linear(
                    x, real_weight(self._own("weight_ih", suffix)), real_bias(self._own("bias_ih", suffix))
                )
                hidden = real_weight(self._own("weight_hh", suffix)), real_bias(self._own("bias_hh", suffix))
                start = tuple(pair[run] for pair in pairs)
                backwards = suffix.endswith("reverse")
                y, last = over_time(step, given, hidden, start, backwards, lengths)
                outputs.append(y.flatten(-2))
                finals.append(last)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
            if self.training and self.dropout and layer < self.num_layers - 1:
                x = to_channels(complex_dropout(from_channels(x, 0), self.dropout), 0)
        return from_channels(x, 0), tuple(as_complex(torch.stack(s)) for s in zip(*finals, strict=True))

    def _as_real_layers(self, x: Tensor, pairs: list[Tensor]) -> tuple[Tensor, States]:
        """By torch's own real layer of twice the width, whose weights are the blocks M(w)."""
        weights: list[Any] = []
        for _, suffix in self._runs():
            weights += [real_weight(self._own(name, suffix)) for name in ("weight_ih", "weight_hh")]
            if self.bias:
                weights += [real_bias(self._own(name, suffix)) for name in ("bias_ih", "bias_hh")]
        initial = [pair.flatten(-2) for pair in pairs]
        options = (weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, False)
        y, *finals = torch.lstm(x, initial, *options) if self._kind == "lstm" else torch.gru(x, initial[0], *options)
        y, *finals = (from_channels(value, 0) for value in (y, *finals))
        return y, tuple(finals)

    def _own(self, name: str, suffix: str) -> Any:
        return getattr(self, f"{name}_{suffix}", None)

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0)):
            if getattr(self, name) != usual:
                shown += f", {name}={getattr(self, name)}"
        shown += ", bidirectional=True" if self.bidirectional else ""
        return shown + ("" if self.product == "complex" else f", product={self.product!r}")


class ComplexLSTM(_ComplexRecurrent):
    """(x, (h, c)) -> (y, (h', c')), as `torch.nn.LSTM`."""

    _kind = "lstm"

    def forward(self, x: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(x, hx)
        return y, (h, c)


class ComplexGRU(_ComplexRecurrent):
    """(x, h) -> (y, h'), as `torch.nn.GRU`."""

    _kind = "gru"

    def forward(self, x: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        y, (h,) = self._run(x, None if hx is None else (hx,))
        return y, h


def over_time(
    step: Step, given: Tensor, weights: Weights, state: States, reverse: bool, lengths: Tensor | None
) -> tuple[Tensor, States]:
    """The step along the first axis of `given`, or against it: all h [T, N, H, 2], and the last state.

    `lengths` [N]: where a sequence has ended, or, against time, not begun, the state stays as it was and h reads 0.
    """
    if torch.compiler.is_exporting():
        return _scanned(step, given.flip(0) if reverse else given, weights, state, reverse)
    outputs: list[Tensor] = []
    for t in reversed(range(given.shape[0])) if reverse else range(given.shape[0]):
        new = step(given[t], state, *weights)
        if lengths is None:
            state = new
            outputs.append(state[0])
        else:
            running = (t < lengths)[:, None, None]
            state = tuple(torch.where(running, after, before) for after, before in zip(new, state, strict=True))
            outputs.append(torch.where(running, state[0], 0))
    if not outputs:
        raise ValueError("expected a sequence of at least one step, got none")
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _scanned(step: Step, given: Tensor, weights: Weights, state: States, reverse: bool) -> tuple[Tensor, States]:
    """As one scan, which becomes one ONNX Scan. The operator itself: around it torch would run its compiler."""

    def combine(*tensors: Tensor) -> list[Tensor]:
        n, own = len(state), tensors[len(state) + 1 :]
        new = step(tensors[n], tensors[:n], own[0], own[1] if len(own) > 1 else None)
        return [*new, new[0].clone()]

    *last, y = scan_op(combine, list(state), [given], tuple(w for w in weights if w is not None))
    return y.flip(0) if reverse else y, tuple(last)
