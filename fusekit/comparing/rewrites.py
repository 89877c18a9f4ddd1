"""Finds the rewrite of an optimization after which the results differ: it is made again with the first half of them.

Each time the model is traced anew, and the driver stops after so many commits. Nothing is timed, so that the same
rewrites come in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from fusekit.capture import capture
from fusekit.comparing.halving import first_that_differs
from fusekit.comparing.parting import Parting, Place
from fusekit.errors import CaptureError
from fusekit.ir import known, where
from fusekit.model import Inputs
from fusekit.model.own_copy import own_copy
from fusekit.optimizing import Options
from fusekit.optimizing.pipeline import Pipeline
from fusekit.report import Event
from fusekit.validation import Reference
from fusekit.validation.reference import run
from fusekit.validation.tolerance import OutputError, compare


def bisect_rewrites(
    model: nn.Module, inputs: Inputs, tolerance: float | None, target: str, passes: Sequence[str] | None
) -> Parting:
    """The rewrite after which the optimized model differs from the model. The arguments are those of `bisect`."""
    options = Options.of(target, passes, False, None, tolerance, False, 0.0)
    search = _Search(Reference(model, inputs), options)
    whole, committed = search.judged(None)
    names = (type(model).__name__, "its optimized result")
    if whole.ok:
        return Parting(names, whole, search.runs, len(committed), way="rewrites")
    # step 0 is what comes before the first rewrite: reading the model, and lowering it to real numbers
    place = first_that_differs(len(committed) + 1, search.differs)
    event = committed[place - 1] if place else None
    before = () if event is None else _places(model, inputs, event)
    value = search.seen.get(place, whole)
    return Parting(
        names, whole, search.runs, len(committed), value, before=before, event=event, way="rewrites", notes=search.notes
    )


@dataclass
class _Search:
    reference: Reference
    options: Options
    runs: int = 0
    seen: dict[int, OutputError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def differs(self, most: int) -> int | None:
        """`most` if the model with so many rewrites differs."""
        error, _ = self.judged(most)
        self.seen[most] = error
        return None if error.ok else most

    def judged(self, most: int | None) -> tuple[OutputError, list[Event]]:
        """The worst error of any output with the first `most` rewrites, and these."""
        self.runs += 1
        pipeline = Pipeline(replace(self.options, most=most))
        result = pipeline.run(own_copy(self.reference.model), self.reference.inputs)
        answer = self.reference.given
        given = run(result, self.reference.inputs)
        errors = [
            compare(name, ours, theirs, exact, self.options.tolerance, 0.0, self.reference.longest_sum)
            for (name, ours), (_, theirs), (_, exact) in zip(given, answer.own, answer.exact, strict=True)
        ]
        return max(errors, key=lambda each: (not each.ok, each.error)), pipeline.committed


def _places(model: nn.Module, inputs: Inputs, event: Event) -> tuple[Place, ...]:
    """The operators of the model that a rewrite took, where it can be read as one graph."""
    try:
        nodes = capture(own_copy(model), inputs).graph.nodes
    except CaptureError:
        return ()
    taken = set(event.region)
    return tuple(Place(str(n.name), where(n), known(n).line) for n in nodes if n.name in taken and n.op != "get_attr")
