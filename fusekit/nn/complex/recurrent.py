"""Complex LSTM and GRU: the cells of `cell.py` over time, in layers and directions, as torch.nn.LSTM and GRU.

In a file, a layer is one ONNX Scan; with `product="parts"` it is one ONNX LSTM or GRU of twice the width. Nothing is
unrolled, and the length of the sequence stays free. With complex products, c' = f ⊙ c + i ⊙ g mixes the parts of the
state, which the gates of a real LSTM cannot do.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fusekit.nn.arguments import one_of
from fusekit.nn.complex.cell import GATES, STEPS, Product, shapes_of
from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.dropout import complex_dropout
from fusekit.nn.functional.complex.parts import as_complex, as_real, from_channels, real_bias, real_weight, to_channels
from fusekit.nn.functional.scan import States, over_layers, over_time
from fusekit.nn.init.complex import complex_rayleigh_
from fusekit.nn.recurrent import Recurrent, draw_gates, register


class _ComplexRecurrent(Recurrent, ComplexLayer):
    """Layers of cells of one kind: their parameters, and how they run."""

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
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        self.product = one_of(Product, "product", product)
        rows, dtype = GATES[self._kind] * hidden_size, complex_dtype(dtype)
        for columns, suffix in self._runs():
            register(self, f"_{suffix}", shapes_of(rows, columns, hidden_size, bias), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights by `fusekit.nn.init.complex_rayleigh_`, gate by gate; biases 0."""
        draw_gates(self.named_parameters(), GATES[self._kind], complex_rayleigh_)

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
        step = STEPS[self._kind](self.product)

        def run(x: Tensor, number: int, reverse: bool) -> tuple[Tensor, States]:
            suffix = runs[number][1]
            given = F.linear(x, real_weight(self._own("weight_ih", suffix)), real_bias(self._own("bias_ih", suffix)))
            hidden = real_weight(self._own("weight_hh", suffix)), real_bias(self._own("bias_hh", suffix))
            y, last = over_time(step, given, hidden, tuple(pair[number] for pair in pairs), reverse, lengths)
            return y.flatten(-2), last

        def dropped(x: Tensor) -> Tensor:
            if not (self.training and self.dropout):
                return x
            return to_channels(complex_dropout(from_channels(x, 0), self.dropout), 0)

        y, finals = over_layers(x, self.num_layers, self.directions, run, dropped)
        return from_channels(y, 0), tuple(as_complex(final) for final in finals)

    def _as_real_layers(self, x: Tensor, pairs: list[Tensor]) -> tuple[Tensor, States]:
        """Run torch's own real layer of twice the width, whose weights consist of the blocks M(w)."""
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

    def extra_repr(self) -> str:
        shown = self._shown("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        return shown + ("" if self.product == "complex" else f", product={self.product!r}")


class ComplexLSTM(_ComplexRecurrent):
    """(x, (h, c)) -> (y, (h', c')): `ComplexLSTMCell` over time, in layers and directions, as `torch.nn.LSTM`.

    Shapes: x [T, N, input_size], [N, T, input_size] if batch_first, [T, input_size] unbatched, or packed; states
    [num_layers * directions, (N,) hidden_size]; all complex. Parameters have torch's names. There is no
    `proj_size`. `bidirectional` runs in both directions; `dropout` is applied between layers, with one mask for both
    parts. `product` and initial weights as in the cell. ValueError for other shapes and for a sequence without steps.
    """

    _kind = "lstm"

    def forward(self, x: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(x, hx)
        return y, (h, c)


class ComplexGRU(_ComplexRecurrent):
    """(x, h) -> (y, h'): `ComplexGRUCell` over time, as `torch.nn.GRU`.

    Shapes: x [T, N, input_size], or the others of `ComplexLSTM`. Everything else is as in `ComplexLSTM`.
    """

    _kind = "gru"

    def forward(self, x: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        y, (h,) = self._run(x, None if hx is None else (hx,))
        return y, h
