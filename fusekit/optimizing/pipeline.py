"""capture -> lower -> stages -> emit, for a whole model, or for each of its children if it cannot be traced itself."""

from dataclasses import dataclass, field, replace

from torch import nn

from fusekit.capture import capture
from fusekit.capture.only_called import only_called
from fusekit.capture.whole import why_whole
from fusekit.errors import CaptureError
from fusekit.ir import Graph
from fusekit.ir.emit import emit
from fusekit.ir.survey import mark, survey
from fusekit.model import Inputs
from fusekit.model.large import bytes_of, free_copies
from fusekit.optimizing.batch_recurrent_calls import batch_calls
from fusekit.optimizing.channels_last import relay
from fusekit.optimizing.circumstances import laws, machine
from fusekit.optimizing.equalize_channels import NAME as EQUALIZE
from fusekit.optimizing.equalize_channels import equalize_channels
from fusekit.optimizing.lower_complex import lower_complex
from fusekit.optimizing.options import Options
from fusekit.optimizing.undo_joins import unjoin
from fusekit.optimizing.write_in_place import overwrite
from fusekit.report import Drawing, Event, Outcome, Report, Totals, beside_each_other, sum_of
from fusekit.rewriting import Driver


@dataclass
class Pipeline:
    """One optimization: its options, and everything that goes into its report."""

    options: Options
    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    before: list[Totals] = field(default_factory=list)
    after: list[Totals] = field(default_factory=list)
    drawn: list[Drawing] = field(default_factory=list)  # the program as it was captured
    redrawn: list[Drawing] = field(default_factory=list)  # the result
    committed: list[Event] = field(default_factory=list)  # by drivers, in order
    left_out: set[str] = field(default_factory=set)  # passes of other packages that failed
    times: tuple[float, float] | None = None  # milliseconds of the whole model and of the result

    def run(self, module: nn.Module, inputs: Inputs | None, path: str = "") -> nn.Module:
        """The optimized module. `module` may be changed: pass a copy (`own_copy`). `path`: where it is in the model."""
        options = self.options
        if reason := why_whole(module):
            self._note_refusal(path, reason)
            self.ways.append("nothing")
            return module
        try:
            # a file may have fixed sizes; a module that replaces the model must accept the same sizes as the model
            captured = capture(module, inputs, fixed=options.runtime.reads_files)
        except CaptureError as error:
            return self._run_children(module, path, str(error))
        size = bytes_of(module)
        del module  # the graph holds what it needs of it
        free_copies(size)
        graph = captured.graph
        self.ways.append(captured.way)
        for reason in captured.reasons:
            self._note_refusal(path, reason)
        for name in captured.untraced:
            graph.modules[name] = self.run(graph.modules[name], None, _join(path, name))
        for name, opaque in graph.modules.items():
            if reason := why_whole(opaque):
                self._note_refusal(_join(path, name), reason)
        self.events += [
            Event("fold-constants", name.rpartition(".")[0] or name, Outcome.APPLIED, error=0.0, reason="while tracing")
            for name in graph.constants
            if name.rpartition(".")[2].startswith("computed_")
        ]
        prefix = f"{path}/" if path else ""
        mark(graph, prefix)
        self._survey(graph, prefix, self.before, self.drawn)
        if inputs is not None:
            self.events += lower_complex(graph, inputs, options, path or "model")
        rates = options.runtime.rates
        most = None if options.most is None else options.most - len(self.committed)
        words = (options.strict, options.progress, options.clock, options.vetoed)
        driver = Driver(graph, rates, *words, most=most, guests=options.guests, left_out=self.left_out)
        try:
            driver.run(options.stages)
        finally:
            self.events += driver.events
            self.committed += driver.committed
        unjoin(graph)
        if inputs is not None and options.stages:
            self.events += batch_calls(graph, inputs, rates)
        if options.equalizes and inputs is not None:
            self.events += equalize_channels(graph, inputs)
        elif options.equalizes:
            reason = "its inputs are not known, because the model cannot be captured as a whole"
            self.events.append(Event(EQUALIZE, path or "model", Outcome.REFUSED, reason=reason))
        if options.relays and options.clock is not None and not rates.owns_layout:
            self.events += relay(graph, options.clock, options.vetoed)
        self._survey(graph, prefix, self.after, self.redrawn)
        if not options.runtime.reads_files:
            overwrite(graph)
        return emit(graph)

    @staticmethod
    def _survey(graph: Graph, prefix: str, sizes: list[Totals], drawings: list[Drawing]) -> None:
        size, drawing = survey(graph, prefix)
        sizes.append(size)
        drawings.append(drawing)

    def _run_children(self, module: nn.Module, path: str, reason: str) -> nn.Module:
        """Optimize, in place, those children that the code of the module only calls. (Code that reads their attributes
        could notice that they were replaced.)"""
        self._note_refusal(path, f"{reason}; its sub-modules are optimized one by one")
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

    def _note_refusal(self, path: str, reason: str) -> None:
        self.events.append(Event("capture", path or "model", Outcome.REFUSED, reason=reason))

    def roll_back(self, reason: str) -> None:
        """Record that the result as a whole was not used: all applied rewrites count as rejected."""
        self.events = [
            replace(event, outcome=Outcome.REJECTED, reason="rolled back with the whole model")
            if event.outcome is Outcome.APPLIED
            else event
            for event in self.events
        ]
        self.events.append(Event("model", "model", Outcome.REJECTED, reason=reason))
        self.after, self.redrawn = self.before, self.drawn

    def report(self, seconds: float = 0.0) -> Report:
        ways = [way for way in dict.fromkeys(self.ways) if way != "nothing"] or self.ways[:1]
        return Report(
            tuple(self.events),
            sum_of(self.before),
            sum_of(self.after),
            " and ".join(ways) or "nothing",
            tuple(self.notes),
            self.options.runtime.name,
            seconds,
            self.times,
            (beside_each_other(self.drawn), beside_each_other(self.redrawn)),
            laws(self.options),
            machine(self.options.runtime),
        )


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)
