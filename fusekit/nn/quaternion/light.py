"""The light GRU: one gate, no reset, batch norm of the input. Ravanelli et al. 2018 (arXiv:1803.10225)."""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fusekit.nn.arguments import one_of
from fusekit.nn.functional.quaternion.hamilton import hamilton_kernel, quaternions
from fusekit.nn.functional.recurrent import run_recurrent, run_steps
from fusekit.nn.functional.scan import States, over_layers
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.init.quaternion import quaternion_chi_
from fusekit.nn.quaternion.normalization import QuaternionBatchNorm
from fusekit.nn.quaternion.recurrent import Gates
from fusekit.nn.quaternion.weights import join_components
from fusekit.nn.recurrent import Recurrent, draw_gates, register

Nonlinearity = Literal["leaky_relu", "relu", "tanh"]


class QuaternionLiGRU(Recurrent):
    """h' = z h + (1 - z) act(a), (a, z) = norm(W ⊗ x) + U ⊗ h, σ on z; (x, h) -> (y, h') as `torch.nn.GRU`.

    Shapes: x [T, N, input_size], or [N, T, input_size] if batch_first; h [num_layers * directions, N, hidden_size].
    Sizes count real channels in blocks r | i | j | k, and are multiples of 4. `bidirectional` runs in both directions.
    There is no bias and no dropout. In evaluation, with tanh, it is a GRU whose reset gate is 1, run by torch's kernel
    and exported as one ONNX GRU. With the others it is a loop, exported as one Scan. Source: Ravanelli et al. 2018
    (arXiv:1803.10225).

    Args:
        nonlinearity: act: "leaky_relu", "relu" or "tanh".
        criterion: "glorot" or "he", for each gate in polar form.
        gates: "quaternion", or "component" as in speechbrain's QLiGRU: one product of twice the width, whose
            components r and i are a, and whose components j and k are z.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "leaky_relu",
        batch_first: bool = False,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        criterion: Criterion = "glorot",
        gates: Gates = "quaternion",
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, False, batch_first, 0.0, bidirectional)
        self.nonlinearity = one_of(Nonlinearity, "nonlinearity", nonlinearity)
        self.criterion, self.gates = criterion, one_of(Gates, "gates", gates)
        hidden = quaternions(hidden_size, "hidden_size")
        for width, suffix in self._runs():
            inputs = quaternions(width, "input_size")
            shapes = {"weight_ih": (4, 2 * hidden, inputs), "weight_hh": (4, 2 * hidden, hidden)}
            register(self, f"_{suffix}", shapes, device, dtype)
            norm = QuaternionBatchNorm(2 * hidden_size, eps=1e-4, device=device, dtype=dtype)
            self.add_module(f"norm_{suffix}", norm)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw each gate in polar form. `generator`: source of random numbers, by default torch's."""
        draw = partial(quaternion_chi_, criterion=self.criterion, generator=generator)
        draw_gates(self.named_parameters(recurse=False), 2, draw, axis=1)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`hx`: [D num_layers, N, hidden_size]; None means zeros."""
        runs = self._runs()

        def run(x: Tensor, number: int, reverse: bool) -> tuple[Tensor, States]:
            state = None if hx is None else hx[number]
            y, last = self._run(x.flip(0) if reverse else x, state, runs[number][1])
            return y.flip(0) if reverse else y, (last,)

        y, (last,) = over_layers(x.transpose(0, 1) if self.batch_first else x, self.num_layers, self.directions, run)
        return y.transpose(0, 1) if self.batch_first else y, last

    def _run(self, x: Tensor, state: Tensor | None, suffix: str) -> tuple[Tensor, Tensor]:
        w, u = (hamilton_kernel(self._own(f"weight_{part}", suffix)) for part in ("ih", "hh"))
        norm: QuaternionBatchNorm = self._own("norm", suffix)
        h = x.new_zeros(x.shape[1], self.hidden_size) if state is None else state
        u = self._sorted(u.mT).mT.contiguous()
        if self.training:
            entering = self._sorted(norm(F.linear(x, w).flatten(0, 1)).unflatten(0, x.shape[:2]))
            return run_steps(self.nonlinearity, entering, h, u)
        shift = norm(torch.zeros_like(w[:, :1]).mT)
        folded, offset = self._sorted(norm(w.mT) - shift).mT.contiguous(), self._sorted(shift.squeeze(0))
        if self.nonlinearity != "tanh":
            return run_steps(self.nonlinearity, F.linear(x, folded, offset), h, u)
        y, last = run_recurrent("GRU", x, h.unsqueeze(0), self._as_gru(folded, offset, u), 1)
        return y, last[0]

    def _sorted(self, value: Tensor) -> Tensor:
        """Reorder the last axis: from r | i | j | k of both gates to a | z, each in the order r | i | j | k."""
        if self.gates == "component":
            return value
        parts: Tensor = value.unflatten(-1, (4, 2, -1))
        return parts.transpose(-3, -2).flatten(-3)

    def _as_gru(self, w: Tensor, offset: Tensor, u: Tensor) -> list[Tensor]:
        """The weights of a GRU in torch's order r, z, n, with n = a. A bias of 1000 makes r exactly 1."""
        zero = torch.zeros_like(offset[: self.hidden_size])
        weights = []
        for value, held in ((w, 0.0), (u, 0.0), (offset, 1000.0)):
            a, z = value.chunk(2)
            weights.append(torch.cat([torch.zeros_like(a) + held, z, a]))
        return [*weights, torch.cat([zero, zero, zero])]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Also load speechbrain's rnn.0.w.r_weight, rnn.0.norm.gamma, ... There, both directions share all weights."""
        ends = ("", "_reverse")[: self.directions]
        for layer in range(self.num_layers):
            theirs = f"{prefix}rnn.{layer}."
            for buffer in ("h_init", "drop_masks"):
                state_dict.pop(theirs + buffer, None)
            for part, name in (("ih", "w"), ("hh", "u")):
                if join_components(state_dict, f"{theirs}{name}.", lambda w: w.mT):
                    if self.gates != "component":
                        args[-1].append(f'{theirs}{name} holds gates as components: construct with gates="component"')
                    value = state_dict.pop(f"{theirs}{name}.weight")
                    state_dict |= {f"{prefix}weight_{part}_l{layer}{end}": value for end in ends}
            for key in [key for key in state_dict if key.startswith(f"{theirs}norm.")]:
                value = state_dict.pop(key)
                own = key.removeprefix(f"{theirs}norm.")
                state_dict |= {f"{prefix}norm_l{layer}{end}.{own}": value for end in ends}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, {self.nonlinearity}"
