"""Quaternion LSTM, GRU and RNN: real ones whose weights consist of Hamilton blocks, run by torch's kernels.

Products are quaternion products. Activations are split: σ and tanh act on each component. A gate is

    g = σ(W_g ⊗ x + U_g ⊗ h + b_g)                        W_g, U_g quaternion matrices

All gates of a layer form one real matrix. So the cell is exactly torch's, has torch's speed, and is exported as one
ONNX LSTM or GRU with a free number of steps. Source: Parcollet et al. 2019, "Quaternion recurrent neural networks"
(arXiv:1806.04418).
"""

from typing import Any, Literal

import torch
from torch import Generator, Tensor

from fusekit.nn.arguments import one_of
from fusekit.nn.functional.quaternion.hamilton import hamilton_kernel, quaternions
from fusekit.nn.functional.recurrent import GATES, run_recurrent
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.init.quaternion import quaternion_chi_, quaternion_unitary_
from fusekit.nn.quaternion.weights import Init, join_components
from fusekit.nn.recurrent import Recurrent, draw_gates, register

# Each gate is a quaternion; or the gates are the components r, i, j, k of one product of four times the width
Gates = Literal["quaternion", "component"]
Nonlinearity = Literal["tanh", "relu"]


class _QuaternionRecurrent(Recurrent):
    """The parameters of a stack of layers under torch's names: weight_ih_l0 [4, gates H, in], weight_hh_l0
    [4, gates H, H], counting quaternions, bias_ih_l0 and bias_hh_l0 [gates hidden_size], ..._reverse."""

    kind: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        self.init, self.criterion = one_of(Init, "init", init), criterion
        hidden, gates = quaternions(hidden_size, "hidden_size"), GATES[self.kind]
        for width, suffix in self._runs():
            for part, inputs in (("ih", quaternions(width, "input_size")), ("hh", hidden)):
                shift = (gates * hidden_size,) if bias else None
                shapes = {f"weight_{part}": (4, gates * hidden, inputs), f"bias_{part}": shift}
                register(self, f"_{suffix}", shapes, device, dtype)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw each gate in polar form, or as unit quaternions, as `init` says; biases are 0. `generator`: source of
        random numbers, by default torch's."""

        def draw(gate: Tensor) -> Tensor:
            if self.init == "chi":
                return quaternion_chi_(gate, self.criterion, generator=generator)
            return quaternion_unitary_(gate, generator=generator)

        draw_gates(self.named_parameters(recurse=False), GATES[self.kind], draw, axis=1)

    def real_weights(self) -> list[Tensor]:
        """The weights of the real network, in torch's order and layout."""
        return [
            self._real(self._own(f"{what}_{part}", suffix), what)
            for _, suffix in self._runs()
            for what in ("weight", "bias")[: 1 + self.bias]
            for part in ("ih", "hh")
        ]

    def _real(self, value: Tensor, what: str) -> Tensor:
        return value if what == "bias" else hamilton_kernel(value, groups=GATES[self.kind])

    def forward(self, x: Any, hx: Any = None) -> Any:
        """(y, state) as torch.nn.LSTM, GRU and RNN return them. x may have a batch, no batch, or be packed."""
        options = (self.num_layers, self.bias, self.dropout, self.training, self.bidirectional, self.batch_first)
        return run_recurrent(self.kind, x, hx, self.real_weights(), *options)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Also load speechbrain's rnn.0.w.r_weight, rnn.0.u.bias, ... There, both directions share their weights."""
        for layer in range(self.num_layers):
            theirs = f"{prefix}rnn.{layer}."
            state_dict.pop(f"{theirs}h_init", None)
            for part, name in (("ih", "w"), ("hh", "u")):
                found = join_components(state_dict, f"{theirs}{name}.", lambda w: w.mT)
                if found and getattr(self, "gates", "component") != "component":
                    args[-1].append(f'{theirs}{name} holds gates as components: construct with gates="component"')
                for what in ("weight", "bias"):
                    value = state_dict.pop(f"{theirs}{name}.{what}", None)
                    for end in ("", "_reverse")[: 1 + self.bidirectional]:
                        if value is not None:
                            state_dict[f"{prefix}{what}_{part}_l{layer}{end}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return self._shown("num_layers", "batch_first", "bidirectional", "bias", "dropout")


class QuaternionLSTM(_QuaternionRecurrent):
    """c' = f c + i tanh(g), h' = o tanh(c'), gates i, f, g, o of W ⊗ x + U ⊗ h + b; as `torch.nn.LSTM`.

    Shapes: x [T, N, input_size], [N, T, input_size] if batch_first, [T, input_size] unbatched, or packed; states
    [num_layers * directions, (N,) hidden_size]. Sizes count real channels in blocks r | i | j | k, and are multiples of
    4, else ValueError. `bidirectional` runs in both directions, `dropout` is applied between layers. weight_ih_l0 [4, 4
    H, input_size / 4], weight_hh_l0 [4, 4 H, H], H = hidden_size / 4; biases [4 hidden_size]. There is no `proj_size`.
    Source: Parcollet et al. 2019 (arXiv:1806.04418).

    Args:
        init, criterion: of each gate, as of `QuaternionLinear`.
        gates: "quaternion", or "component" as in speechbrain's QLSTM: one quaternion product of four times the width,
            whose components r, i, j, k are the gates i, f, o, g. Each gate is then only one component, and the biases
            are in that order.
    """

    kind = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
        gates: Gates = "quaternion",
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional, device, dtype)
        super().__init__(input_size, hidden_size, *options, init=init, criterion=criterion)
        self.gates = one_of(Gates, "gates", gates)

    def _real(self, value: Tensor, what: str) -> Tensor:
        if self.gates == "quaternion":
            return super()._real(value, what)
        i, f, o, g = (value if what == "bias" else hamilton_kernel(value)).chunk(4)
        return torch.cat([i, f, g, o])


class QuaternionGRU(_QuaternionRecurrent):
    """h' = (1 - z) n + z h, n = tanh(W ⊗ x + b + r (U ⊗ h + c)), gates r, z; else as `torch.nn.GRU`.

    Shapes: x [T, N, input_size], or the others of `QuaternionLSTM`. `init` and `criterion` as there. Gates multiply
    component by component.
    """

    kind = "GRU"


class QuaternionRNN(_QuaternionRecurrent):
    """h' = tanh(W ⊗ x + U ⊗ h + b), or ReLU (`nonlinearity`); else as `torch.nn.RNN`, and as speechbrain's QRNN.

    Shapes: x [T, N, input_size], or the others of `QuaternionLSTM`; options as there. In a file, a layer with tanh is
    one ONNX GRU with constant gates, and a layer with ReLU is one Scan.
    """

    kind = "RNN_TANH"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        init: Init = "chi",
        criterion: Criterion = "glorot",
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional, device, dtype)
        super().__init__(input_size, hidden_size, *options, init=init, criterion=criterion)
        self.kind = f"RNN_{one_of(Nonlinearity, 'nonlinearity', nonlinearity).upper()}"
