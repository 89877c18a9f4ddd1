"""Replaces complex arithmetic by real arithmetic (`fusekit.lower`), if the result computes the same.

This is not a pass. A copy of the whole graph is rewritten and compared with the original in complex128; then it either
replaces the original or is thrown away.
"""

from fusekit.capture.infer import run_on_fakes, spell_and_infer
from fusekit.ir import Graph
from fusekit.lower import holds_complex, holds_layers, lowered
from fusekit.model import Inputs
from fusekit.optimizing.options import Options
from fusekit.passes import CANONICALIZE
from fusekit.report import Event, Outcome
from fusekit.rewriting import Driver
from fusekit.validation.graphs_differ import difference

NAME = "lower-complex"
ERROR = 1e-10  # allowed error in complex128, relative to the largest entry


def lower_complex(graph: Graph, inputs: Inputs, options: Options, place: str) -> list[Event]:
    """Lower the graph in place if the result computes the same. Returns the events.

    If the runtime has complex kernels, a graph without complex layers is left alone: these kernels are good at
    pointwise arithmetic.
    """
    runtime = options.runtime
    worth = holds_layers if runtime.has_complex else holds_complex
    if not options.stages or (NAME, place) in options.vetoed or not worth(graph):
        return []
    # First evaluate what depends on parameters only: its operators then need no real form.
    first = [stage for stage in options.stages if stage.name == CANONICALIZE]
    events = Driver(graph, runtime.rates, options.strict).run(first)
    done = [event for event in events if event.outcome is not Outcome.REFUSED]
    try:
        real = lowered(graph, matrices=runtime.rates.by_matrices)
        error = difference(graph, real, inputs)
    except Exception as failure:  # an operator without a rule; a module that takes no float64
        return [*done, Event(NAME, place, Outcome.REFUSED, reason=str(failure))]
    if not error <= ERROR:
        reason = f"the real form differs by {error:.1e}"
        return [*done, Event(NAME, place, Outcome.REJECTED, error=error, reason=reason)]
    graph.fx, graph.constants, graph.modules = real.fx, real.constants, real.modules
    run_on_fakes(graph, inputs)
    spell_and_infer(graph)
    graph.prune()
    return [*done, Event(NAME, place, Outcome.APPLIED, error=error)]
