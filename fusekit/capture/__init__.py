"""From an nn.Module to a Graph in one spelling, by the first way that works.

1. symbolic tracing: names kept, free in every size; where a size decides, by the example inputs, and guarded;
2. torch.export, with example inputs: types that are asked for, writes to memory that is shared;
3. either again, once layers that loop over steps or compute their weight in a way nothing traces are plain ones;
4. symbolic tracing around the sub-modules that cannot be traced, which are called as they are.

A model whose own `forward` cannot be traced either way raises CaptureError; its children may still be captured.

Knows tracing and torch.export. Must not know what is done with the graph, or who runs it.
"""

from dataclasses import dataclass, replace

from torch import nn

from fusekit.capture.exported import export
from fusekit.capture.flags import constants_in_float64, guard_ranks, trace_with_flags
from fusekit.capture.infer import norms_of_unknown_rank, run_on_fakes, spell_and_infer
from fusekit.capture.inplace import make_functional
from fusekit.capture.items_as_pads import is_of_constants, write_items_as_pads
from fusekit.capture.loops import replace_loops
from fusekit.capture.materialise import materialise
from fusekit.capture.queries import ask_sources, drop_casts
from fusekit.capture.sizes_asked import ask_sources_for_sizes
from fusekit.capture.symbolic import TraceFailed
from fusekit.errors import CaptureError
from fusekit.ir import Graph
from fusekit.ir.operators import OPERATORS
from fusekit.ir.spelling import has_hooks
from fusekit.model import Freedom, Inputs

__all__ = ["Captured", "capture", "has_hooks"]


@dataclass(frozen=True)
class Captured:
    """A graph, the way it was come by, why not an earlier way, and the modules left whole because they cannot be
    traced."""

    graph: Graph
    way: str
    reasons: tuple[str, ...] = ()
    untraced: tuple[str, ...] = ()


def capture(model: nn.Module, inputs: Inputs | None = None, *, fixed: bool = False) -> Captured:
    """The model's forward as a Graph. The model is one's own copy, in eval mode: tracing may leave traces in it.
    `fixed`: rather whole and of the example's sizes, all but the batch or all, than in parts."""
    OPERATORS.all()  # what other packages say that their operators mean
    reasons = []
    try:
        return Captured(_symbolic(model, inputs), "symbolic trace")
    except CaptureError as error:
        reasons.append(f"no symbolic trace: {error}")
        failed = error
    if inputs is not None:
        if replaced := replace_loops(model, inputs):
            return _again(model, inputs, fixed, *reasons, f"loops over steps that are LSTMs: {', '.join(replaced)}")
        try:
            return Captured(export(model, inputs), "torch.export", tuple(reasons))
        except CaptureError as error:
            reasons.append(f"no export: {error}")
        fewer: tuple[Freedom, ...] = ("batch", False) if fixed else ()
        for freedom in fewer:
            try:
                graph = export(model, inputs, dynamic=freedom)
            except CaptureError:
                continue
            reasons.append(f"its sizes{', all but the batch,' if freedom else ''} are fixed to the example's")
            return Captured(graph, "torch.export", tuple(reasons))
        if replaced := materialise(model, inputs):
            told = f"weights that no trace follows, computed once and for all: {', '.join(replaced)}"
            return _again(model, inputs, fixed, *reasons, told)
    untraced: list[str] = []
    while isinstance(failed, TraceFailed) and failed.path and failed.path not in untraced:
        untraced.append(failed.path)
        try:
            graph = _symbolic(model, inputs, untraced)
            return Captured(graph, "symbolic trace around untraceable modules", tuple(reasons), tuple(untraced))
        except CaptureError as error:
            failed = error
    raise CaptureError("; ".join(reasons))


def _again(model: nn.Module, inputs: Inputs, fixed: bool, *reasons: str) -> Captured:
    """Once layers of it are others."""
    found = capture(model, inputs, fixed=fixed)
    return replace(found, reasons=(*reasons, *found.reasons))


def _symbolic(model: nn.Module, inputs: Inputs | None, untraced: list[str] | None = None) -> Graph:
    graph = trace_with_flags(model, untraced or (), inputs)
    make_functional(graph)
    spell_and_infer(graph)
    if inputs is not None:
        open_norms = norms_of_unknown_rank(graph)
        run_on_fakes(graph, inputs)
        spell_and_infer(graph)  # of arithmetic it is now known whether it is that of tensors
        if open_norms:
            guard_ranks(graph)
    if any(is_of_constants(graph, node) for node in graph.nodes):
        precise = constants_in_float64(graph, model, untraced or (), inputs)
        write_items_as_pads(graph, lambda node: precise.get(str(node.target), graph.constant(node)))
    else:
        write_items_as_pads(graph, graph.constant)
    ask_sources(graph)
    drop_casts(graph)
    ask_sources_for_sizes(graph)
    graph.prune()
    return graph
