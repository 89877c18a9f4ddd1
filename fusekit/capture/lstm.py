"""Two steps of a recurrent layer, whoever wrote it, read as an LSTM.

    a = W x_t + U h_{t-1} + b
    c_t = σ(a_f) ∘ c_{t-1} + σ(a_i) ∘ tanh(a_g),  h_t = σ(a_o) ∘ tanh(c_t)      (Gers et al., Learning to forget, 2000)

The products, sums and nonlinearities that made an entry of the output (`entries.py`) tell forget, input, output and
cell apart, entry by entry; W, U and b are what unit vectors bring to what stands before the gates. Quaternion and
complex LSTMs (Parcollet et al., Quaternion recurrent neural networks, 2019) are LSTMs whose W and U have a structure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fusekit.capture.entries import Entries
from fusekit.capture.exported import export
from fusekit.ir import evaluate
from fusekit.model import Inputs

ROWS = 8  # unit vectors at a time
NOTHING = 1e-9  # what a state brings to the gates if it is zero


class Recurrent(nn.Module):
    """An LSTM that is called, and answers, as the layer did that it stands for."""

    h: Tensor
    c: Tensor

    def __init__(
        self, lstm: nn.LSTM, start: tuple[Tensor, Tensor], states: Sequence[tuple[str, int]], structure: Any
    ) -> None:
        super().__init__()
        self.lstm = lstm
        self.starts_from_zero = not any(bool(state.any()) for state in start)
        for name, state in zip("hc", start, strict=True):  # [directions, 1, hidden]
            self.register_buffer(name, state)
        self.states = tuple(states)  # of each output but the first: h or c, and the axis of size 1 it has, -1 for none
        self.structure = structure

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x = [*args, *kwargs.values()][0]
        rows = x.shape[0 if self.lstm.batch_first else 1]
        start = None if self.starts_from_zero else tuple(s.expand(-1, rows, -1).contiguous() for s in (self.h, self.c))
        y, (h, c) = self.lstm(x, start)
        last = {"h": h[0], "c": c[0]}
        states = [last[name] if axis < 0 else last[name].unsqueeze(axis) for name, axis in self.states]
        return pytree.tree_unflatten([y, *states], self.structure)


@dataclass(frozen=True)
class _Cell:
    """One entry of one step: the entries before its gates, its cell and the cell before."""

    gates: tuple[int, int, int, int]  # input, forget, cell, output, as torch has them
    state: int
    before: int


def _output_of(entries: Entries, h: int) -> tuple[int, int] | None:
    """(o, c) of h = σ(o) tanh(c)."""
    kind, parts = entries.of(h)
    kinds = {entries.of(p)[0]: entries.of(p)[1] for p in parts}
    if kind != "mul" or set(kinds) != {"sigmoid", "tanh"}:
        return None
    return kinds["sigmoid"][0], kinds["tanh"][0]


def _cell_of(entries: Entries, h: int) -> _Cell | None:
    """What makes an entry of the output of one step, which goes on from a state."""
    output = _output_of(entries, h)
    if output is None or entries.of(output[1])[0] != "add":
        return None
    gates: dict[str, int] = {"o": output[0]}
    before = -1
    for product in entries.of(output[1])[1]:
        kind, parts = entries.of(product)
        made = [entries.of(part) for part in parts]
        names = [name for name, _ in made]
        if kind != "mul" or "sigmoid" not in names:
            return None
        gate = names.index("sigmoid")
        if names[1 - gate] == "tanh":
            gates["i"], gates["g"] = made[gate][1][0], made[1 - gate][1][0]
        else:
            gates["f"], before = made[gate][1][0], parts[1 - gate]
    if set(gates) != {"i", "f", "g", "o"}:
        return None
    return _Cell((gates["i"], gates["f"], gates["g"], gates["o"]), output[1], before)


def read_lstm(layer: nn.Module, width: int, batch_first: bool) -> Recurrent | None:
    """Two steps of the layer as an LSTM."""
    shape = (ROWS, 2, width) if batch_first else (2, ROWS, width)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    graph = export(layer, Inputs((x,)), dynamic=False)
    placeholder = next(node for node in graph.nodes if node.op == "placeholder")
    nodes = [node for node in graph.nodes if node.op in ("call_function", "get_attr")]
    with torch.no_grad():
        entries = Entries(graph, evaluate(graph, nodes, {placeholder: x}))
        entries.run()
        found = _Found(entries, placeholder, batch_first)
        returned, structure = pytree.tree_flatten(next(n for n in graph.nodes if n.op == "output").args[0])
        return found.lstm([entries.numbers[node] for node in returned], structure)


@dataclass
class _Found:
    """Two steps of a layer, on ROWS rows, entry by entry."""

    entries: Entries
    placeholder: fx.Node
    batch_first: bool

    def lstm(self, outputs: Sequence[Tensor], structure: Any) -> Recurrent | None:
        y = outputs[0] if self.batch_first else outputs[0].transpose(0, 1)
        if y.dim() != 3 or y.shape[:2] != (ROWS, 2):
            return None
        columns = list(range(y.shape[2]))
        ahead, behind = ([j for j in columns if self._goes_on(y, j, step)] for step in (1, 0))
        if ahead + behind != columns or len(behind) not in (0, len(ahead)):
            return None
        x = self.entries.values[self.placeholder]
        options = {"batch_first": self.batch_first, "bidirectional": bool(behind), "dtype": x.dtype, "device": "meta"}
        made = nn.LSTM(x.shape[-1], len(ahead), **options).to_empty(device=x.device)  # nothing is drawn for it
        starts = []
        for suffix, chosen, step in (("", ahead, 1), ("_reverse", behind, 0)):
            if chosen:
                w, u, b = self._weights(y[:, :, chosen], step)
                starts.append(self._start(y[:, :, chosen], step, w, u, b))
                named = {"weight_ih": w, "weight_hh": u, "bias_ih": b, "bias_hh": torch.zeros_like(b)}
                for name, value in named.items():
                    getattr(made, f"{name}_l0{suffix}").copy_(value)
        states = [self._state(numbers, y) for numbers in outputs[1:]]
        if None in states or (states and behind):
            return None
        start = tuple(torch.stack(parts).unsqueeze(1) for parts in zip(*starts, strict=True))
        return Recurrent(made, (start[0], start[1]), [state for state in states if state is not None], structure)

    def _cell(self, y: Tensor, row: int, step: int, j: int) -> _Cell | None:
        return _cell_of(self.entries, int(y[row, step, j]))

    def _goes_on(self, y: Tensor, j: int, step: int) -> bool:
        """Whether each row's entry at a step goes on from what it was at the other."""
        before = [_output_of(self.entries, int(y[row, 1 - step, j])) for row in range(ROWS)]
        cells = [self._cell(y, row, step, j) for row in range(ROWS)]
        return all(b is not None and c is not None and c.before == b[1] for b, c in zip(before, cells, strict=True))

    def _gates(self, y: Tensor, rows: int, step: int) -> Tensor:
        """The numbers of what stands before the gates, [rows, 4 hidden]."""
        cells = [[self._cell(y, row, step, j) for j in range(y.shape[2])] for row in range(rows)]
        return torch.tensor([[cell.gates[k] for k in range(4) for cell in row if cell is not None] for row in cells])

    def _weights(self, y: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """W, U and b: what comes before the gates of this step where x_t and h_{t-1} are zero, and what unit vectors
        bring to it."""
        entries, before, gates = self.entries, y[:, 1 - step], self._gates(y, ROWS, step)
        x = entries.values[self.placeholder]
        width, hidden = x.shape[-1], y.shape[2]
        starts, needed = entries.places(before), [node for node, _, _ in entries.places(gates)]
        if not all(entries.is_affine(node, {start for start, _, _ in starts}) for node in needed):
            raise ValueError("what comes before the gates is not affine")

        def before_gates(rows: Tensor) -> Tensor:
            """[ROWS, 4 hidden] for x_t and h_{t-1} one behind the other, [up to ROWS, width + hidden]."""
            given, known = torch.zeros_like(x), torch.zeros(ROWS, width + hidden, dtype=x.dtype)
            known[: len(rows)] = rows
            given.select(1 if self.batch_first else 0, step).copy_(known[:, :width])
            forced: dict[fx.Node, Any] = {self.placeholder: given}
            for node, positions, indices in starts:
                forced[node] = torch.zeros(entries.values[node].shape, dtype=x.dtype)
                forced[node].view(-1)[indices] = known[:, width:].reshape(-1)[positions]
            return entries.gathered(evaluate(entries.graph, needed, forced), gates)

        zero = before_gates(torch.zeros(1, width + hidden))[0]
        units = torch.eye(width + hidden, dtype=x.dtype).split(ROWS)
        matrix = torch.cat([before_gates(rows)[: len(rows)] - zero for rows in units]).t()
        return matrix[:, :width], matrix[:, width:], zero

    def _start(self, y: Tensor, step: int, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The states [hidden] before the first step: c as it stands there, h from U h = a - W x - b."""
        cells = [self._cell(y, 0, 1 - step, j) for j in range(y.shape[2])]
        if None in cells:
            return torch.zeros(y.shape[2], dtype=b.dtype), torch.zeros(y.shape[2], dtype=b.dtype)
        before = torch.tensor([cell.before for cell in cells if cell is not None])
        c = self.entries.gathered(self.entries.values, before)
        x = self.entries.values[self.placeholder].select(1 if self.batch_first else 0, 1 - step)[0]
        a = self.entries.gathered(self.entries.values, self._gates(y, 1, 1 - step))[0]
        left = a - w @ x - b
        if float(left.abs().max()) <= NOTHING:
            return torch.zeros_like(c), c
        return torch.linalg.lstsq(u, left.unsqueeze(1), driver="gelsd").solution.squeeze(1), c

    def _state(self, numbers: Tensor, y: Tensor) -> tuple[str, int] | None:
        """Which of the last states an output is, h or c, and the axis of size 1 it has beside [rows, hidden]."""
        axes = [axis for axis, size in enumerate(numbers.shape) if size == 1]
        last = y[:, 1]
        if numbers.numel() != last.numel() or len(axes) != numbers.dim() - 2:
            return None
        flat, axis = numbers.reshape(last.shape), axes[0] if axes else -1
        if torch.equal(flat, last):
            return "h", axis
        cells = [[self._cell(y, row, 1, j) for j in range(y.shape[2])] for row in range(ROWS)]
        states = torch.tensor([[-1 if cell is None else cell.state for cell in row] for row in cells])
        return ("c", axis) if torch.equal(flat, states) else None
