"""What optimizing promises of the whole model: the same function, and never slower. What breaks it is undone.

Regions are checked one by one as they are rewritten; rounding adds up, and a layout that is faster alone may be slower
among others. So the whole result is compared with the model in float64, here, and raced against it on its runtime, as
a module (`promise_module.py`) or as a file (`promise_file.py`). A result that does not hold is made again without its
realizations; one that is slower, without the one that gained least, again and again, then without all, and in the end
it is the model itself.
"""

import torch
from torch import nn

from fusekit.model.float64 import run_float64
from fusekit.model.inputs import Inputs
from fusekit.model.own_copy import own_copy
from fusekit.model.program import evaluation_copy, reason_of
from fusekit.optimizing.options import Options
from fusekit.optimizing.pipeline import Pipeline
from fusekit.optimizing.undo import Place, chosen, rejected
from fusekit.validation.judge import validate
from fusekit.validation.tolerance import compare, longest_sum, outputs_of


def judged(
    model: nn.Module, inputs: Inputs | None, options: Options, vetoed: frozenset[Place]
) -> tuple[nn.Module, Pipeline, str]:
    """The result of the passes and what is wrong with it; without realizations, if it holds only so."""
    last = options.target == "torch" and inputs is not None and inputs.are_channels_last
    options = options.laid_out() if last else options
    pipeline = _pipeline(options, vetoed)
    result = pipeline.run(own_copy(model), inputs)
    reason = _fault(model, result, inputs, options.tolerance)
    if reason and not options.strict and chosen(pipeline.events):
        first, pipeline = pipeline, _pipeline(options.plainer, vetoed)
        result = pipeline.run(own_copy(model), inputs)
        pipeline.events += rejected(chosen(first.events), f"the whole model did not hold with it: {reason}")
        reason = _fault(model, result, inputs, options.tolerance)
    # whoever brings channels last keeps them: the weights, too, would else be laid out anew at each call
    return result.to(memory_format=torch.channels_last) if last else result, pipeline, reason  # type: ignore[call-overload]


def _pipeline(options: Options, vetoed: frozenset[Place]) -> Pipeline:
    clock = options.clock
    return Pipeline(options.stages, options.target, options.strict, options.progress, clock, vetoed, options.relays)


def _fault(model: nn.Module, result: nn.Module, inputs: Inputs | None, tolerance: float | None) -> str:
    """What is wrong with the whole result: its error on the example inputs against the model's own, both measured by a
    float64 run of the original; with a tolerance, on every probe. "" if nothing is, or without inputs."""
    if inputs is None:
        return ""
    original = evaluation_copy(model)
    reason = ""
    with torch.no_grad():
        reference = outputs_of(inputs.cloned().call(original))
        truth = outputs_of(run_float64(original, inputs))
        try:
            given = outputs_of(inputs.cloned().call(result if _keeps_nothing(result) else evaluation_copy(result)))
        except Exception as error:
            given, reason = [], f"the result fails on the example inputs: {reason_of(error)}"
    if not reason and len(given) != len(reference):
        reason = f"the result has {len(given)} outputs, the model {len(reference)}"
    for (name, ours), (_, theirs), (_, exact) in zip(given, reference, truth, strict=False):
        judged = compare(name, ours, theirs, exact, longest=longest_sum(model))
        if not judged.ok:
            reason = (
                f"output {name or 0} is off by {judged.error:.1e}, the model itself by {judged.reference_error:.1e}"
            )
    if reason or tolerance is None:
        return reason
    failures = validate(model, result, inputs, tolerance=tolerance).failures
    return failures[0] if failures else ""


def _keeps_nothing(module: nn.Module) -> bool:
    """Whether all its modules are of kinds known to leave no trace of a call in themselves (in eval mode)."""
    return all(type(m).__module__.startswith(("torch.nn.", "torch.fx.", "fusekit.")) for m in module.modules())
