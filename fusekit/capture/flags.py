"""Symbolic tracing of a forward with optional arguments.

A proxy is never None and never True, so `if mask is None` silently takes one branch. What a forward does with an
argument that may be None or a flag is therefore traced for the value it has, and compared with the trace in which it
is free. If they are the same program, that program stands; if not, the example inputs decide, and a check at the
entrance holds callers to it; without example inputs the model's own forward must decide, and is left as it is.
"""

import inspect
from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.capture.symbolic import DRAWS, StateChanged, TraceFailed, trace
from fusekit.ir import Graph, Known, note
from fusekit.ir.facts import facts
from fusekit.model import Inputs, evaluation_copy, on_copy
from fusekit.model.float64 import widened
from fusekit.model.random_numbers import watched
from fusekit.nn import ShapeGuard


def trace_with_flags(model: nn.Module, opaque: Iterable[str], inputs: Inputs | None) -> Graph:
    """The model's forward as a graph, right for every value of its optional arguments or guarded; TraceFailed.

    Copies are traced, for a trace may leave proxies in attributes and write into weights; parameters and opaque modules
    of the graph are the model's own.
    """
    opaque = tuple(opaque)
    kinds = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in kinds) and any(
        p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty for p in kinds
    ):
        raise TraceFailed("torch.fx has no way to write a required keyword argument behind an optional one", "")

    def traced(fixed: dict[str, Any]) -> Graph:
        def task(copied: nn.Module) -> Graph:
            graph, settled = _traced(copied, opaque, fixed, inputs)
            _give_back(graph, copied, model, settled)
            return graph

        graph, drawn = watched(lambda: on_copy(model, task))
        if drawn:
            raise TraceFailed(DRAWS, "")
        return graph

    options = {p.name: p.default for p in inspect.signature(model.forward).parameters.values() if _is_flag(p.default)}
    if inputs is None:
        return traced({}) if not options else _free(traced, options)
    bound = _bound(model, inputs)
    fixed = {name: value for name, value in bound.items() if _is_flag(value)}
    given = {name: None for name, default in options.items() if default is None and name not in fixed}
    if not fixed and not given:
        return traced({})
    graph = traced(fixed)
    if _is_the_same(traced, {}, graph, fixed) and (not given or _is_the_same(traced, given, graph, {}, given)):
        return traced({})
    conditions = [f"{k} is None" if v is None else f"{k} == {v}" for k, v in fixed.items()]
    _guard(graph, {**fixed, **given}, [*conditions, *(f"{name} is not None" for name in given)])
    return graph


def _traced(
    copied: nn.Module, opaque: tuple[str, ...], fixed: dict[str, Any], inputs: Inputs | None
) -> tuple[Graph, bool]:
    """The trace of a copy, and whether it has changed its state at first: weights that forward merges, and tables
    that it keeps, are the same ones at the next call. The same program must come of both traces."""
    try:
        return trace(copied, opaque, fixed, inputs), False
    except StateChanged as changed:
        try:
            graph = trace(copied, opaque, fixed, inputs, settled=True)
        finally:
            changed.before.restore_outside()
        if not _are_the_same(changed.graph, graph):
            raise
        return graph, True


def _give_back(graph: Graph, copied: nn.Module, model: nn.Module, settled: bool) -> None:
    """Parameters and opaque modules of the graph are the model's own, but for those that forward has written to."""
    pairs = list(zip(copied.parameters(), model.parameters(), strict=True))
    written = {id(ours) for ours, theirs in pairs if settled and not _equal(ours, theirs)}
    own = {id(ours): theirs for ours, theirs in pairs if id(ours) not in written}
    graph.constants = {name: own.get(id(value), value) for name, value in graph.constants.items()}
    for path, module in graph.modules.items():
        if not isinstance(module, ShapeGuard) and not any(id(p) in written for p in module.parameters()):
            graph.modules[path] = model.get_submodule(path)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Number by number, NaN included."""
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and bool(torch.equal(one, other) or torch.allclose(one, other, 0, 0, equal_nan=True))


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _bound(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    try:
        bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    except TypeError as error:
        raise TraceFailed(f"the example inputs do not fit forward: {error}", "") from error
    bound.apply_defaults()
    return dict(bound.arguments)


def _free(traced: Any, options: dict[str, Any]) -> Graph:
    graph: Graph = traced({})
    if not _is_the_same(traced, options, graph, {}, options):
        names = ", ".join(options)
        raise TraceFailed(f"what forward does depends on whether {names} is given: pass example inputs", "")
    return graph


def _is_the_same(
    traced: Any, other: dict[str, Any], graph: Graph, fixed: dict[str, Any], mapped: dict[str, Any] | None = None
) -> bool:
    """Whether tracing with `other` fixed gives the same program, its arguments replaced by the values in `fixed` or
    the graph's by those in `mapped`; a trace that fails is no other program."""
    try:
        second = traced(other)
    except TraceFailed:
        return bool(mapped)  # the default is of no use to this forward
    return _are_the_same(graph, second, mapped or {}, fixed)


def _are_the_same(
    graph: Graph, second: Graph, mapped: dict[str, Any] | None = None, fixed: dict[str, Any] | None = None
) -> bool:
    ours, theirs = graph.constants, second.constants
    if _spelled(second, fixed or {}) != _spelled(graph, mapped or {}) or ours.keys() != theirs.keys():
        return False
    return all(value is theirs[name] or torch.equal(value, theirs[name]) for name, value in ours.items())


def _spelled(graph: Graph, values: dict[str, Any]) -> list[str]:
    numbers = {node: number for number, node in enumerate(graph.nodes)}

    def name(node: fx.Node) -> Any:
        return values[str(node.target)] if node.op == "placeholder" and node.target in values else f"%{numbers[node]}"

    lines = []
    for node in graph.nodes:
        arguments = () if node.op == "placeholder" else fx.map_arg((node.args, node.kwargs), name)
        module = graph.modules.get(str(node.target)) if node.op == "call_module" else None
        told = module.conditions if isinstance(module, ShapeGuard) else ()
        lines.append(f"{node.op} {node.target} {arguments} {told}")
    return lines


def constants_in_float64(
    graph: Graph, model: nn.Module, opaque: Iterable[str], inputs: Inputs | None
) -> dict[str, Tensor]:
    """What forward computes from the model's parameters alone, in float64, by its name in the graph; nothing where a
    trace in float64 fails, or is another program."""
    computed = set(graph.constants) - {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    try:
        wide = trace_with_flags(evaluation_copy(model).double(), opaque, inputs and inputs.map(widened))
    except Exception:  # a model that asks for its dtype
        return {}
    found = {name: wide.constants[name] for name in computed if name in wide.constants}
    alike = all(_is_near(value, graph.constants[name]) for name, value in found.items())
    return {name: value.detach() for name, value in found.items()} if alike else {}


def _is_near(precise: Tensor, value: Tensor) -> bool:
    """Whether a value is another one rounded as often as a formula of a few steps rounds."""
    if precise.shape != value.shape or not value.is_floating_point():
        return False
    bound = 64 * torch.finfo(value.dtype).eps * float(precise.detach().abs().max()) if precise.numel() else 0.0
    return bool(((precise - value).abs() <= bound).all())


def guard_ranks(graph: Graph) -> None:
    """Hold callers to the number of axes that the example inputs have."""
    nodes = [node for node in graph.nodes if node.op == "placeholder" and facts(node).rank is not None]
    names = [str(node.target) for node in nodes]
    _guard(graph, names, [f"{name}.dim() == {facts(node).rank}" for name, node in zip(names, nodes, strict=True)])


def _guard(graph: Graph, names: Container[str], conditions: list[str]) -> None:
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    guarded = [node for node in placeholders if str(node.target) in names]
    path = "shape_guard"
    while path in graph.modules:
        path += "_"
    graph.modules[path] = ShapeGuard([str(node.target) for node in guarded], conditions)
    with graph.fx.inserting_after(placeholders[-1]):
        note(graph.fx.call_module(path, tuple(guarded)), Known(where=path))
