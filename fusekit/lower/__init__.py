"""Lowers complex arithmetic to real arithmetic: the graph is interpreted on pairs (re, im).

In a copy of the graph, every operator with a complex input or output is replaced by its rule (`table`). The copy is
compared with the original in complex128 before it replaces it. The graph's own inputs and outputs stay complex: inputs
are split into parts, outputs are joined again. An operator without a rule raises CaptureError with the operator, its
module and its source line.

Knows complex numbers and how operators act on them. Must not know what is folded afterwards.
"""

import inspect
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError
from fusekit.ir import Graph, Known, evaluate, known, where
from fusekit.ir.facts import facts, supply
from fusekit.ir.graph import operator_name
from fusekit.lower.linear import axis_of, joint
from fusekit.lower.pair import Pair
from fusekit.lower.parts import settled
from fusekit.lower.shapes import jointly
from fusekit.lower.table import (
    ATTRIBUTES,
    CALLS,
    JOINTLY,
    PARTWISE,
    QUESTIONS,
    RULES,
    SEVERAL,
    SPECTRA,
    SUMMING,
    THROUGH,
    TRANSFORMS,
    WHOLE,
)
from fusekit.validation.graphs_differ import is_guard

__all__ = ["Pair", "holds_complex", "holds_layers", "lowered"]


def holds_complex(graph: Graph) -> bool:
    """Whether a value of the graph is known to be complex."""
    return any(_is_complex(node) for node in graph.nodes)


def holds_layers(graph: Graph) -> bool:
    """Whether a convolution or linear layer produces a complex value. It may be one complex layer, which torch computes
    as 3 or 4 real ones, or several real layers whose results are combined."""

    def made(node: fx.Node) -> bool:
        reals = (source for source in node.all_input_nodes if not _is_complex(source))
        return operator_name(node) in CALLS or any(axis_of(source) is not None for source in reals)

    return any(_is_complex(node) and made(node) for node in graph.nodes)


def lowered(graph: Graph, *, matrices: bool = False) -> Graph:
    """A copy of the graph in real arithmetic. `matrices`: compute Fourier transforms as products with constant
    matrices, for runtimes without fast transforms. Raises CaptureError if an operator has no rule."""
    copy = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = copy.graph_copy(graph.fx, copies)
    copy.output(result)
    new = replace(graph, fx=copy, constants=dict(graph.constants), modules=dict(graph.modules))
    _Interpreter(new, matrices).run()
    new.lint()
    return new


def _is_complex(node: fx.Node) -> bool:
    dtype = facts(node).dtype
    return dtype is not None and dtype.is_complex


def _is_spread(node: fx.Node) -> bool:
    """Whether the operands have different shapes, so that broadcasting takes place."""
    return len({facts(source).shape for source in node.all_input_nodes}) > 1


class _Interpreter:
    """Visits the nodes in order. `values` holds the pair (or list or dict of pairs) of each node that was complex."""

    def __init__(self, graph: Graph, matrices: bool) -> None:
        self.graph = graph
        self.matrices = matrices
        self.tracer = fx.proxy.GraphAppendingTracer(graph.fx)
        self.values: dict[fx.Node, Any] = {}
        self.real: set[fx.Node] = set()  # nodes with complex inputs that were replaced by a real node
        self.made: set[fx.Node] = set()  # new nodes
        self.layers: dict[str, str] = {}  # how a new layer is written, and its name

    def run(self) -> None:
        last = [node for node in self.graph.nodes if node.op == "placeholder"][-1:]
        for node in list(self.graph.nodes):
            touched = _is_complex(node) or any(source in self.values for source in node.all_input_nodes)
            if not touched or is_guard(self.graph, node):
                continue
            if node.op == "output":
                self._join_outputs(node)
                continue
            here = last[0].next if node.op == "placeholder" else node
            start = here.prev
            with self.graph.fx.inserting_before(here):
                value = self._value(node)
                if type(value) is Pair:
                    spread = operator_name(node) in SUMMING and _is_spread(node) and not self._is_full(node)
                    value = joint(settled(value, facts(node), spread))
                    value = settled(value, facts(node), spread=False)  # the halves of a joint need these facts too
            while (start := start.next) is not here:
                supply(start, Known(where=where(node), origins=known(node).origins))
                self.made.add(start)
            if isinstance(value, fx.Proxy):
                supply(value.node, known(node).of_tensor)
                node.replace_all_uses_with(value.node)
                self.real.add(node)
            else:
                self.values[node] = value
        for node in reversed(list(self.graph.nodes)):
            replaced = node in self.values or node in self.made or node in self.real
            if replaced and not node.users and node.op != "placeholder":
                self.graph.fx.erase_node(node)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            proxy: Any = self._proxy(node)
            return Pair(torch.real(proxy), torch.imag(proxy))
        if node.op == "get_attr":
            value = self.graph.constants[str(node.target)].detach().resolve_conj()
            parts = (value.real.contiguous(), value.imag.contiguous())
            names = (f"{node.target}_re", f"{node.target}_im")
            trains = self.graph.constants[str(node.target)].requires_grad
            values = [part.clone().requires_grad_(trains) for part in parts]
            nodes = [self.graph.add_constant(v, name) for v, name in zip(values, names, strict=True)]
            re, im = map(self._proxy, nodes)
            return Pair(re, im)
        if node.op == "call_module":
            raise self._refusal(node, f"the module {node.target}")
        args, kwargs = pytree.tree_map_only(fx.Node, self._given, (node.args, node.kwargs))
        name = operator_name(node)
        kwargs = {key: value for key, value in kwargs.items() if (key, value) != ("out", None)}
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        try:
            return self._interpret(node, name, args, kwargs)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._refusal(node, name, str(error)) from error

    def _interpret(self, node: fx.Node, name: str, args: Any, kwargs: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = pytree.tree_map_only(fx.Proxy, lambda proxy: proxy.node, (args, kwargs))
            return self._proxy(self.graph.fx.create_node(node.op, node.target, *arguments))

        first = args[0] if args else None
        if name == "getitem" and isinstance(first, dict | list):
            return first[args[1]]
        if name == "getattr" and isinstance(first, Pair):
            if args[1] in ATTRIBUTES:
                return ATTRIBUTES[args[1]](first)
            if args[1] == "dtype":
                return facts(node.args[0]).dtype
            if args[1] not in ("shape", "ndim", "device"):
                raise self._refusal(node, f"the attribute {args[1]}")
        if (name == "getattr" or name in QUESTIONS) and isinstance(first, Pair):
            return call(first.re if first.re is not None else first.im, *args[1:], **kwargs)
        if name in CALLS:
            return CALLS[name](call, *args, **kwargs)
        if name in RULES:
            return RULES[name](*args, **kwargs)
        if name in THROUGH:
            return THROUGH[name](call, *args, **kwargs)
        if name in JOINTLY:
            return jointly(call, JOINTLY[name], args, kwargs)
        if name in PARTWISE and isinstance(first, Pair):
            return first.map(lambda part: call(part, *args[1:], **kwargs))
        if name in SEVERAL and isinstance(first, Pair):
            indices: list[Any] = [user.args[1] for user in node.users if operator_name(user) == "getitem"]
            if len(indices) < len(node.users):
                return self._pieces(node, first)
            several = first.map(lambda part: call(part, *args[1:], **kwargs))
            return {i: Pair(*(None if p is None else p[i] for p in (several.re, several.im))) for i in indices}
        if self.matrices and name in TRANSFORMS:
            return TRANSFORMS[name](self._constant, **_by_name(node, args, kwargs))
        if self.matrices and name in SPECTRA:
            return SPECTRA[name](self._layer, *args, **_torch_names(kwargs))
        if name in WHOLE:
            whole = pytree.tree_map_only(Pair, lambda z: torch.complex(*z.full()), (args, kwargs))
            result = call(*whole[0], **whole[1])
            return Pair(torch.real(result), torch.imag(result)) if _is_complex(node) else result
        raise self._refusal(node, name)

    def _pieces(self, node: fx.Node, whole: Pair) -> list[Pair]:
        """The results of split, chunk or unbind as a list, where the graph uses the whole list and not single items.
        Their number is that of the example, so this is done only for files, whose sizes are fixed the same way."""
        source: Any = node.args[0]
        shape = known(source).shape
        if not self.matrices or shape is None:
            raise TypeError("its results are used as a list of unknown length, not one by one")
        values = {source: torch.empty(shape, device="meta")}
        found = evaluate(self.graph, [node], values)[node]
        place = 1 if operator_name(node) == "unbind" else 2
        dim: Any = node.kwargs.get("dim", node.args[place] if len(node.args) > place else 0)
        if operator_name(node) == "unbind":
            return [whole.map(partial(torch.select, dim=dim, index=i)) for i in range(len(found))]
        sizes = [piece.shape[dim] for piece in found]
        return [
            whole.map(partial(torch.narrow, dim=dim, start=start, length=size))
            for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False)
        ]

    def _is_full(self, node: fx.Node) -> bool:
        """Whether each operand has both parts or the shape of the result. Then both parts of the result have the same
        shape, whatever is broadcast."""

        def full(operand: fx.Node) -> bool:
            value = self.values.get(operand)
            both = isinstance(value, Pair) and value.re is not None and value.im is not None
            shape = facts(operand).shape
            return both or (shape is not None and shape == facts(node).shape)

        return all(map(full, node.all_input_nodes))

    def _given(self, node: fx.Node) -> Any:
        return self.values[node] if node in self.values else self._proxy(node)

    def _proxy(self, node: fx.Node) -> fx.Proxy:
        return fx.Proxy(node, self.tracer)

    def _constant(self, value: Tensor) -> fx.Proxy:
        return self._proxy(self.graph.add_constant(value, "transform"))

    def _layer(self, module: nn.Module, *args: Any) -> fx.Proxy:
        """A call of a layer; two that are written alike are one."""
        told = repr(module)
        if told not in self.layers:
            name = f"fourier_{len(self.layers)}"
            while name in self.graph.modules:
                name = f"{name}_"
            self.graph.modules[name], self.layers[told] = module.eval(), name
        arguments = pytree.tree_map_only(fx.Proxy, lambda proxy: proxy.node, args)
        return self._proxy(self.graph.fx.call_module(self.layers[told], arguments))

    def _join_outputs(self, node: fx.Node) -> None:
        def whole(source: fx.Node) -> Any:
            value = self.values.get(source)
            if value is None:
                return source
            if isinstance(value, list):
                return tuple(complex_of(source, each) for each in value)
            return complex_of(source, value)

        def complex_of(source: fx.Node, value: Any) -> fx.Node:
            if not isinstance(value, Pair):
                raise self._refusal(source, operator_name(source))
            if (untouched := _original_of(value)) is not None:
                return untouched
            return torch.complex(*value.full()).node  # type: ignore[attr-defined,no-any-return]

        with self.graph.fx.inserting_before(node):
            node.args = (fx.map_arg(node.args[0], whole),)

    def _refusal(self, node: fx.Node, name: str, detail: str = "") -> CaptureError:
        line = f", {known(node).line}" if known(node).line else ""
        why = f" ({detail})" if detail else ""
        return CaptureError(f"no real form of {name} on complex numbers at {where(node)}{line}{why}")


def _original_of(value: Pair) -> fx.Node | None:
    """The complex node of which the pair holds the unchanged real and imaginary part; None if they were changed."""
    if not (isinstance(value.re, fx.Proxy) and isinstance(value.im, fx.Proxy)):
        return None
    re, im = value.re.node, value.im.node
    apart = (re.target, im.target) == (torch.real, torch.imag) and re.args == im.args
    return re.args[0] if apart else None  # type: ignore[return-value]


def _torch_names(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of torch's Python functions; ATen calls the input `self`."""
    return {"input" if name == "self" else name: value for name, value in kwargs.items()}


def _by_name(node: fx.Node, args: Any, kwargs: Any) -> dict[str, Any]:
    """All arguments by their names in torch's Python functions. ATen's stft has no argument `center`, because its input
    is padded already: False is filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        names = list(inspect.signature(TRANSFORMS[operator_name(node)]).parameters)[1:]
        return {**dict(zip(names, args, strict=False)), **kwargs}
    names = ["input", *(argument.name for argument in node.target._schema.arguments[1:])]
    centred = {"center": False} if operator_name(node) == "stft" and "center" not in names else {}
    return {**dict(zip(names, args, strict=False)), **kwargs, **centred}
