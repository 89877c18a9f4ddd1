"""A pass, checked on a whole model: traced, priced, verified and judged as by `optimize`."""

from typing import Any

from torch import nn

from fusekit.api import optimize
from fusekit.report import Event
from fusekit.rewriting import Rewrite
from fusekit.validation import validate


def check_on_model(rewrite: Rewrite, model: nn.Module, example_inputs: object) -> tuple[Event, ...]:
    """Optimize the model with this pass alone, and compare the result with the model.

    Args:
        rewrite: the pass.
        model: an nn.Module in which the pass has something to do. It is not changed.
        example_inputs: as for `fusekit.optimize`.

    Returns:
        What was applied, one event for each place.

    Raises:
        AssertionError: the pass was applied nowhere (the message says what refused it), or the numbers differ.
        VerificationError: a rewrite failed its check in float64.
    """
    fast = optimize(model, example_inputs, passes=[rewrite], strict=True, measure=False)
    report: Any = fast.report
    own = [event for event in report.events if event.rewrite == rewrite.name]
    applied = tuple(event for event in own if event in report.applied)
    reasons = (
        "; ".join(dict.fromkeys(f"{event.where}: {event.reason}" for event in own)) or "its pattern matched nowhere"
    )
    assert applied, f"{rewrite.name} was applied nowhere: {reasons}"
    verdict = validate(model, fast, example_inputs)
    assert verdict.ok, f"{rewrite.name}: {verdict.failures[0]}"
    return applied
