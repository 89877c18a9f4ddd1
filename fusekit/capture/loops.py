"""Recurrent layers written as loops over their steps, replaced by torch's own.

    a = W x_t + U h_{t-1} + b
    c_t = σ(a_f) ∘ c_{t-1} + σ(a_i) ∘ tanh(a_g),  h_t = σ(a_o) ∘ tanh(c_t)      (Gers et al., Learning to forget, 2000)

A tracer unrolls such a loop, for as many steps as the example has. But two steps of it, exported, show what it is,
whoever wrote it: each entry of the output is followed back through whatever only moves entries (views, slices, joins)
to the products, sums and nonlinearities that made it, which tell forget, input, output and cell apart, entry by entry.
W, U and b are what unit vectors bring to those. Quaternion and complex LSTMs (Parcollet et al., Quaternion recurrent
neural networks, 2019) are LSTMs whose W and U have a structure. What is found must then agree with the layer in float64
at several numbers of rows and steps.
"""

import copy
import dis
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fusekit.capture.exported import export
from fusekit.capture.spelling import has_hooks
from fusekit.float64 import WIDENED, run_float64
from fusekit.graph import Graph, evaluate
from fusekit.inputs import Inputs
from fusekit.program import evaluation_copy, quiet

ROWS = 8  # unit vectors at a time
TOLERANCE = 1e-9
_CHECKED = ((1, 1), (2, 2), (3, 5), (2, 9))  # rows, steps
_MOVES = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat"),
        *("stack", "transpose", "permute", "t", "unsqueeze", "squeeze", "expand", "flip", "narrow", "index_select"),
        *("getitem", "flatten", "unflatten", "movedim", "index", "tensor_split", "repeat", "unsafe_chunk"),
    )
)
# Linear in each argument alone; in all of them together
_PRODUCTS = frozenset(("mul", "div", "matmul", "mm", "mv", "bmm", "linear", "einsum", "conv1d", "conv2d"))
_SUMS = frozenset(("add", "sub", "rsub", "neg", "addmm", "addmv", "baddbmm"))
_STAYS = frozenset(
    ("clone", "contiguous", "detach", "alias", "to", "_to_copy", "type_as", "dropout", "lift_fresh_copy", "copy")
)


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


def replace_loops(model: nn.Module, inputs: Inputs) -> list[str]:
    """Replace such layers within the model, one's own copy; their paths."""
    paths = [path for path, module in model.named_modules() if path and _may_be_one(module)]
    try:
        calls = _calls(evaluation_copy(model), paths, inputs) if paths else {}
    except Exception:  # it has been copied before, but a trace may have left in it what cannot be
        return []
    replaced: list[str] = []
    for path, x in sorted(calls.items(), key=lambda call: -call[0].count(".")):
        if any(inner.startswith(f"{path}.") for inner in replaced):
            continue
        layer = model.get_submodule(path)
        try:
            with torch.random.fork_rng(devices=[]):  # the user's random numbers stay theirs
                found = _as_lstm(layer, x)
        except Exception:  # it is something else, in one of many ways
            continue
        if found is not None:
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = found
            replaced.append(path)
    return replaced


def _may_be_one(module: nn.Module) -> bool:
    """Whether it is of a class of the user's with a loop, with parameters, and without hooks that would be lost."""
    own = not type(module).__module__.startswith(("torch.nn.", "fusekit."))
    if not own or not _iterates(type(module)) or not any(True for _ in module.parameters()):  # type: ignore[arg-type]
        return False
    return not any(map(has_hooks, module.modules()))


def _calls(model: nn.Module, paths: Sequence[str], inputs: Inputs) -> dict[str, Tensor]:
    """What each layer is called on, by its path: where that is one batch of sequences, and nothing else, and where it
    answers as many steps of numbers below 1, as |σ tanh| is: no other layer is traced in vain."""
    found: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        def after(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            values = [*args, *kwargs.values()]
            x: Any = next(iter(values), None)
            y: Any = next(iter(pytree.tree_leaves(result)), None)
            sequences = all(isinstance(t, Tensor) and t.dim() == 3 and t.is_floating_point() for t in (x, y))
            alone = all(value is None for value in values[1:])
            if sequences and alone and x.shape[:2] == y.shape[:2] and bool((y.abs() <= 1).all()):
                found.setdefault(path, x)

        return after

    hooks = [model.get_submodule(path).register_forward_hook(note(path), with_kwargs=True) for path in paths]
    try:
        with torch.no_grad(), quiet():
            inputs.cloned().call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@cache
def _iterates(kind: type) -> bool:
    """Whether a method of the class has a loop."""
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    codes = (getattr(method, "__code__", None) for base in own for method in vars(base).values())
    return any(step.opname == "FOR_ITER" for code in codes if code for step in dis.get_instructions(code))


def _as_lstm(layer: nn.Module, x: Tensor) -> Recurrent | None:
    """The layer as torch's, if it is one; of batches first, or of steps first."""
    wide = copy.deepcopy(layer)._apply(_widened)
    for batch_first in (True, False):
        found = _read(wide, x.shape[-1], batch_first)
        if found is not None and all(_agree(found, layer, given) for given in (x, *_sequences(x, batch_first))):
            for parameter in found.parameters():
                parameter.requires_grad_(any(p.requires_grad for p in layer.parameters()))
            return found.to(x.dtype).eval()
    return None


def _agree(found: nn.Module, layer: nn.Module, x: Tensor) -> bool:
    """Whether both answer alike, in float64."""
    with torch.no_grad():
        ours, theirs = (pytree.tree_flatten(run_float64(m, Inputs((x,)))) for m in (found, layer))
    if ours[1] != theirs[1] or [t.shape for t in ours[0]] != [t.shape for t in theirs[0]]:
        return False
    return all(torch.allclose(a, b, rtol=0, atol=TOLERANCE) for a, b in zip(ours[0], theirs[0], strict=True))


def _sequences(x: Tensor, batch_first: bool) -> Iterator[Tensor]:
    """Of other numbers of rows and steps than x."""
    for rows, steps in _CHECKED:
        shape = (rows, steps, x.shape[-1]) if batch_first else (steps, rows, x.shape[-1])
        yield torch.randn(shape, dtype=torch.float64)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.to(WIDENED.get(tensor.dtype, tensor.dtype))


def _name(node: fx.Node) -> str:
    schema: Any = getattr(node.target, "_schema", None)
    return str(schema.name.split("::")[-1] if schema is not None else getattr(node.target, "__name__", ""))


@dataclass
class _Entries:
    """Every entry of every value that hangs on the input has a number: those that a node makes are numbered anew, those
    it only moves keep theirs."""

    graph: Graph
    values: dict[fx.Node, Any]
    numbers: dict[fx.Node, Any] = field(default_factory=dict)
    made: list[tuple[int, fx.Node, str, tuple[Tensor, ...]]] = field(default_factory=list)
    hanging: set[fx.Node] = field(default_factory=set)  # on the input
    count: int = 0

    def run(self) -> None:
        for node in self.graph.nodes:
            if node.op == "placeholder" or any(source in self.hanging for source in node.all_input_nodes):
                self.hanging.add(node)
            if node.op == "placeholder":
                self._number(node, "input")
            elif node.op == "call_function" and any(source in self.numbers for source in node.all_input_nodes):
                self._follow(node)

    def _follow(self, node: fx.Node) -> None:
        name = _name(node)
        sources = [source for source in node.all_input_nodes if source in self.numbers]
        if name in _MOVES:
            known = {source: self._numbers(source) for source in node.all_input_nodes}
            self.numbers[node] = evaluate(self.graph, [node], known)[node]
        elif name in _STAYS or self._changes_nothing(node, name):
            self.numbers[node] = self.numbers[sources[0]]
        elif name in ("sigmoid", "tanh") and len(sources) == 1:
            self._number(node, name, self.numbers[sources[0]])
        elif name in ("mul", "add") and len(node.args) == 2 and len(node.all_input_nodes) == 2 and not node.kwargs:
            shape = self.values[node].shape
            self._number(node, name, *(self._numbers(source).broadcast_to(shape) for source in node.all_input_nodes))
        else:
            self._number(node, "other")

    def _changes_nothing(self, node: fx.Node, name: str) -> bool:
        """Times one, plus zero."""
        if name not in ("mul", "add") or node.kwargs or len(node.args) != 2:
            return False
        moved = [source for source in node.all_input_nodes if source in self.numbers]
        if len(moved) != 1 or self.values[moved[0]].shape != self.values[node].shape:
            return False
        other = next((self.values[a] if isinstance(a, fx.Node) else a for a in node.args if a is not moved[0]), None)
        return isinstance(other, Tensor | float | int) and bool((torch.as_tensor(other) == (name == "mul")).all())

    def _numbers(self, source: fx.Node) -> Any:
        if source not in self.numbers and isinstance(self.values.get(source), Tensor):
            if not self.values[source].is_floating_point():
                return self.values[source]  # an index
            self._number(source, "constant")
        return self.numbers.get(source, self.values.get(source))

    def _number(self, node: fx.Node, kind: str, *operands: Tensor) -> None:
        value = self.values[node]
        self.made.append((self.count, node, kind, tuple(o.flatten() for o in operands)))
        self.numbers[node] = torch.arange(value.numel()).reshape(value.shape) + self.count
        self.count += value.numel()

    def of(self, number: int) -> tuple[str, tuple[int, ...]]:
        """What made an entry, and of which entries."""
        start, _, kind, operands = self._record(number)
        return kind, tuple(int(o[number - start]) for o in operands)

    def is_affine(self, node: fx.Node, ends: set[fx.Node]) -> bool:
        """Whether a value is an affine function of the input and of these values."""
        if node.op == "placeholder" or node in ends:
            return True
        sources = [source for source in node.all_input_nodes if source in self.hanging]
        name = _name(node)
        allowed = name in _MOVES | _STAYS | _SUMS or (name in _PRODUCTS and len(sources) == 1)
        divides = name == "div" and sources[:1] != [node.args[0]]
        product = name in ("addmm", "addmv", "baddbmm") and sum(a in sources for a in node.args[1:3]) > 1
        return allowed and not divides and not product and all(self.is_affine(source, ends) for source in sources)

    def value(self, number: int) -> float:
        node, index = self.place(number)
        return float(self.values[node].reshape(-1)[index])

    def place(self, number: int) -> tuple[fx.Node, int]:
        """The node that made an entry, and where it stands in its value."""
        start, node, _, _ = self._record(number)
        return node, number - start

    def _record(self, number: int) -> tuple[int, fx.Node, str, tuple[Tensor, ...]]:
        low, high = 0, len(self.made)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.made[middle][0] <= number else (low, middle)
        return self.made[low]


@dataclass(frozen=True)
class _Cell:
    """One entry of one step: the entries before its gates, its cell and the cell before."""

    gates: tuple[int, int, int, int]  # input, forget, cell, output, as torch has them
    state: int
    before: int


def _output_of(entries: _Entries, h: int) -> tuple[int, int] | None:
    """(o, c) of h = σ(o) tanh(c)."""
    kind, parts = entries.of(h)
    kinds = {entries.of(p)[0]: entries.of(p)[1] for p in parts}
    if kind != "mul" or set(kinds) != {"sigmoid", "tanh"}:
        return None
    return kinds["sigmoid"][0], kinds["tanh"][0]


def _cell_of(entries: _Entries, h: int) -> _Cell | None:
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


def _read(layer: nn.Module, width: int, batch_first: bool) -> Recurrent | None:
    """Two steps of the layer as an LSTM."""
    x = torch.randn((ROWS, 2, width) if batch_first else (2, ROWS, width), dtype=torch.float64)
    graph = export(layer, Inputs((x,)), dynamic=False)
    placeholder = next(node for node in graph.nodes if node.op == "placeholder")
    nodes = [node for node in graph.nodes if node.op in ("call_function", "get_attr")]
    with torch.no_grad():
        entries = _Entries(graph, evaluate(graph, nodes, {placeholder: x}))
        entries.run()
        found = _Found(entries, placeholder, batch_first)
        returned, structure = pytree.tree_flatten(next(n for n in graph.nodes if n.op == "output").args[0])
        return found.lstm([entries.numbers[node] for node in returned], structure)


@dataclass
class _Found:
    """Two steps of a layer, on ROWS rows, entry by entry."""

    entries: _Entries
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
        options = {"batch_first": self.batch_first, "bidirectional": bool(behind), "dtype": x.dtype}
        made = nn.LSTM(x.shape[-1], len(ahead), **options)
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

    def _gates(self, y: Tensor, row: int, step: int) -> list[int]:
        """The entries before the gates, [4 hidden]."""
        cells = [self._cell(y, row, step, j) for j in range(y.shape[2])]
        return [cell.gates[k] for k in range(4) for cell in cells if cell is not None]

    def _weights(self, y: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """W, U and b: what comes before the gates of this step where x_t and h_{t-1} are zero, and what unit vectors
        bring to it."""
        values, place = self.entries.values, self.entries.place
        starts = [[place(int(number)) for number in row] for row in y[:, 1 - step]]
        places = [[place(number) for number in self._gates(y, row, step)] for row in range(ROWS)]
        x = values[self.placeholder]
        width, hidden = x.shape[-1], y.shape[2]
        ends = {node for row in starts for node, _ in row}
        if not all(self.entries.is_affine(node, ends) for row in places for node, _ in row):
            raise ValueError("what comes before the gates is not affine")

        def before_gates(rows: Tensor) -> Tensor:
            """[ROWS, 4 hidden] for x_t and h_{t-1} one behind the other, [up to ROWS, width + hidden]."""
            given, known = torch.zeros_like(x), torch.zeros(ROWS, width + hidden, dtype=x.dtype)
            known[: len(rows)] = rows
            given.select(1 if self.batch_first else 0, step).copy_(known[:, :width])
            forced: dict[fx.Node, Any] = {self.placeholder: given}
            for row, entries in enumerate(starts):
                for (node, index), value in zip(entries, known[row, width:], strict=True):
                    forced.setdefault(node, torch.zeros_like(values[node])).view(-1)[index] = value
            evaluate(self.entries.graph, {node for row in places for node, _ in row}, forced)
            return torch.stack([torch.stack([forced[node].reshape(-1)[i] for node, i in row]) for row in places])

        zero = before_gates(torch.zeros(1, width + hidden))[0]
        units = torch.eye(width + hidden, dtype=x.dtype).split(ROWS)
        matrix = torch.cat([before_gates(rows)[: len(rows)] - zero for rows in units]).t()
        return matrix[:, :width], matrix[:, width:], zero

    def _start(self, y: Tensor, step: int, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The states [hidden] before the first step: c as it stands there, h from U h = a - W x - b."""
        cells = [self._cell(y, 0, 1 - step, j) for j in range(y.shape[2])]
        if None in cells:
            return torch.zeros(y.shape[2], dtype=b.dtype), torch.zeros(y.shape[2], dtype=b.dtype)
        c = torch.tensor([self.entries.value(cell.before) for cell in cells if cell is not None], dtype=b.dtype)
        x = self.entries.values[self.placeholder].select(1 if self.batch_first else 0, 1 - step)[0]
        a = torch.tensor([self.entries.value(number) for number in self._gates(y, 0, 1 - step)], dtype=b.dtype)
        left = a - w @ x - b
        if float(left.abs().max()) <= TOLERANCE:
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
