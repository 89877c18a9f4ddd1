"""Keeps the promise for a module: it is accurate enough, and not slower than the model in PyTorch."""

from torch import nn

from fusekit.errors import VerificationError
from fusekit.model import Inputs, evaluation_copy
from fusekit.model.own_copy import own_copy
from fusekit.optimizing.options import Options
from fusekit.optimizing.pipeline import Pipeline
from fusekit.optimizing.promise import judged
from fusekit.optimizing.undo import is_slower, least_gained, ratio, rejected
from fusekit.report import Event
from fusekit.runtimes.pytorch import torch_call
from fusekit.validation import Reference


def optimized(model: nn.Module, inputs: Inputs | None, options: Options) -> tuple[nn.Module, Pipeline]:
    """The optimized model, and the pipeline that says what was done. A plain copy of the model if no result keeps the
    promise. Raises VerificationError instead if `options.strict`."""
    reference = None if inputs is None else Reference(model, inputs)
    result, pipeline, reason = judged(model, reference, options)
    if reason:
        if options.strict:
            raise VerificationError(reason)
        pipeline.roll_back(f"{reason}; a plain copy is returned")
        return own_copy(model), pipeline
    if reference is None or options.races is None or options.runtime.reads_files:
        return result, pipeline
    return _raced(reference, options, result, pipeline)


def _raced(reference: Reference, options: Options, result: nn.Module, pipeline: Pipeline) -> tuple[nn.Module, Pipeline]:
    """Undo realizations until the module is not slower than the model in PyTorch."""
    clock = options.races
    assert clock is not None
    undone: list[Event] = []
    model, inputs = reference.model, reference.inputs
    original = torch_call(evaluation_copy(model), inputs.cloned())
    while True:
        times = clock.compare(original, torch_call(evaluation_copy(result), inputs.cloned()))
        pipeline.times = times
        pipeline.events += undone
        if not is_slower(times):
            return result, pipeline
        gone = least_gained(pipeline.events, len(undone))
        if not gone:
            pipeline.roll_back(f"the result takes {ratio(times)} the model's time; a plain copy is returned")
            return own_copy(model), pipeline
        undone = [*undone, *rejected(gone, f"with it, the whole model took {ratio(times)} as long")]
        options = options.without(gone)
        result, pipeline, reason = judged(model, reference, options)
        if reason:
            pipeline.roll_back(f"{reason}; a plain copy is returned")
            return own_copy(model), pipeline
