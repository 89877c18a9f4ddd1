"""capture -> stages -> emit: a whole model or, where its own forward cannot be traced, its children in place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from fusekit.capture import capture, has_hooks
from fusekit.capture.infer import run_on_fakes, spell_and_infer
from fusekit.capture.only_called import only_called
from fusekit.errors import CaptureError
from fusekit.ir.emit import emit
from fusekit.ir.graph import Graph
from fusekit.ir.totals import totals
from fusekit.lower import holds_complex, holds_layers, lowered
from fusekit.model.inputs import Inputs
from fusekit.optimizing.batch_recurrent_calls import batch_calls
from fusekit.optimizing.channels_last import relay
from fusekit.optimizing.race import Clock
from fusekit.optimizing.undo_joins import unjoin
from fusekit.optimizing.write_in_place import overwrite
from fusekit.passes import CANONICALIZE
from fusekit.report import Event, Outcome, Report, Totals
from fusekit.rewriting.driver import Driver, Progress
from fusekit.rewriting.rewrite import Stage
from fusekit.runtimes.protocol import Runtime
from fusekit.validation.graphs_differ import difference

LOWERING = "lower-complex"
LOWERING_ERROR = 1e-10  # of the largest entry, in complex128


@dataclass
class Pipeline:
    """One optimization: its options, and what it has to report."""

    stages: Sequence[Stage]
    runtime: Runtime
    strict: bool = False
    progress: Progress | None = None
    clock: Clock | None = None
    vetoed: frozenset[tuple[str, str]] = frozenset()
    relays: bool = False
    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    before: list[Totals] = field(default_factory=list)
    after: list[Totals] = field(default_factory=list)
    times: tuple[float, float] | None = None  # milliseconds of the whole model and of the result

    def run(self, module: nn.Module, inputs: Inputs | None, path: str = "") -> nn.Module:
        """The optimized module, made of one's own copy (`own_copy`)."""
        if has_hooks(module):
            self._left(path, "it has hooks, which must see its own input and output")
            return module
        try:
            # a file may be of one size; what answers in place of a model may not
            captured = capture(module, inputs, fixed=self.runtime.reads_files)
        except CaptureError as error:
            return self._run_children(module, path, str(error))
        graph = captured.graph
        self.ways.append(captured.way)
        for reason in captured.reasons:
            self._left(path, reason)
        for name in captured.untraced:
            graph.modules[name] = self.run(graph.modules[name], None, _join(path, name))
        for name, opaque in graph.modules.items():
            if has_hooks(opaque):
                self._left(_join(path, name), "it has hooks, which must see its own input and output")
        self.events += [
            Event("fold-constants", name.rpartition(".")[0] or name, Outcome.APPLIED, error=0.0, reason="while tracing")
            for name in graph.constants
            if name.rpartition(".")[2].startswith("computed_")
        ]
        self.before.append(totals(graph))
        if inputs is not None:
            self._lower(graph, inputs, path)
        driver = Driver(graph, self.runtime.rates, self.strict, self.progress, self.clock, self.vetoed)
        try:
            driver.run(self.stages)
        finally:
            self.events += driver.events
        unjoin(graph)
        if inputs is not None and self.stages:
            self.events += batch_calls(graph, inputs, self.runtime.rates)
        if self.relays and self.clock is not None and not self.runtime.rates.owns_layout:
            self.events += relay(graph, self.clock, self.vetoed)
        self.after.append(totals(graph))
        if not self.runtime.reads_files:
            overwrite(graph)
        return emit(graph)

    def _lower(self, graph: Graph, inputs: Inputs, path: str) -> None:
        """Complex arithmetic as real arithmetic, if that computes the same; else the graph stays as it is.

        Where the runtime has complex kernels, which are good at single elements, only where there are complex layers.
        """
        place, worth = path or "model", holds_layers if self.runtime.has_complex else holds_complex
        if not self.stages or (LOWERING, place) in self.vetoed or not worth(graph):
            return
        # what is computed from parameters alone need not have a real form
        first = [stage for stage in self.stages if stage.name == CANONICALIZE]
        events = Driver(graph, self.runtime.rates, self.strict).run(first)
        self.events += [event for event in events if event.outcome is not Outcome.REFUSED]
        try:
            real = lowered(graph, matrices=self.runtime.rates.by_matrices)
            error = difference(graph, real, inputs)
        except Exception as failure:  # an operator without a rule; a module that takes no float64
            self.events.append(Event(LOWERING, place, Outcome.REFUSED, reason=str(failure)))
            return
        if not error <= LOWERING_ERROR:
            reason = f"the real form differs by {error:.1e}"
            self.events.append(Event(LOWERING, place, Outcome.REJECTED, error=error, reason=reason))
            return
        graph.fx, graph.constants = real.fx, real.constants
        run_on_fakes(graph, inputs)
        spell_and_infer(graph)
        graph.prune()
        self.events.append(Event(LOWERING, place, Outcome.APPLIED, error=error))

    def _run_children(self, module: nn.Module, path: str, reason: str) -> nn.Module:
        """Optimize in place those children that the module's code does nothing with but call them."""
        self._left(path, f"{reason}; its sub-modules are optimized one by one")
        if not any(module.children()):
            self.ways.append("nothing")
            return module
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ModuleList | nn.ModuleDict):
                items = list(child.named_children()) if only_called(module, name, items=True) else []
                for key, item in items:
                    child._modules[key] = self._run_child(item, _join(path, name, key))
            elif only_called(module, name):
                module._modules[name] = self._run_child(child, _join(path, name))
        return module

    def _run_child(self, child: nn.Module, path: str) -> nn.Module:
        return child if next(child.parameters(), None) is None else self.run(child, None, path)

    def _left(self, path: str, reason: str) -> None:
        self.events.append(Event("capture", path or "model", Outcome.REFUSED, reason=reason))

    def roll_back(self, reason: str) -> None:
        """The result was not good enough as a whole: nothing counts as applied."""
        self.events = [
            replace(event, outcome=Outcome.REJECTED, reason="rolled back with the whole model")
            if event.outcome is Outcome.APPLIED
            else event
            for event in self.events
        ]
        self.events.append(Event("model", "model", Outcome.REJECTED, reason=reason))
        self.after = self.before

    def report(self, seconds: float = 0.0) -> Report:
        ways = dict.fromkeys(self.ways)
        return Report(
            tuple(self.events),
            _total(self.before),
            _total(self.after),
            " and ".join(ways),
            tuple(self.notes),
            self.runtime.name,
            seconds,
            self.times,
        )


def _total(parts: Sequence[Totals]) -> Totals | None:
    if not parts:
        return None
    macs = [part.macs for part in parts]
    known = [m for m in macs if m is not None]
    return Totals(
        sum(part.operators for part in parts),
        sum(part.parameters for part in parts),
        sum(known) if len(known) == len(macs) else None,
    )


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)
