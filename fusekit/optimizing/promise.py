"""What optimizing promises of the whole model: the same function, and never slower. What breaks it is undone.

Regions are checked one by one as they are rewritten; rounding adds up, and a layout that is faster alone may be slower
among others. So the whole result is compared with the model in float64, here, and raced against it on its runtime, as
a module (`promise_module.py`) or as a file (`promise_file.py`). A result that does not hold is made again without its
realizations; one that is slower, without the one that gained least, again and again, then without all, and in the end
it is the model itself.
"""

import torch
from torch import nn

from fusekit.model.large import free_copies
from fusekit.model.own_copy import own_copy
from fusekit.optimizing.options import Options
from fusekit.optimizing.pipeline import Pipeline
from fusekit.optimizing.undo import chosen, rejected
from fusekit.validation import Reference, fault


def judged(model: nn.Module, reference: Reference | None, options: Options) -> tuple[nn.Module, Pipeline, str]:
    """The result of the passes and what is wrong with it; without realizations, if it holds only so.

    Without a reference, which takes example inputs, nothing is known to be wrong.
    """
    inputs = None if reference is None else reference.inputs
    last = not options.runtime.reads_files and inputs is not None and inputs.are_channels_last
    options = options.laid_out if last else options
    pipeline = Pipeline(options)
    result = pipeline.run(own_copy(model), inputs)
    reason = _fault(reference, result, options)
    if reason and not options.strict and chosen(pipeline.events):
        first, pipeline = pipeline, Pipeline(options.plainer)
        result = pipeline.run(own_copy(model), inputs)
        pipeline.events += rejected(chosen(first.events), f"the whole model did not hold with it: {reason}")
        reason = _fault(reference, result, options)
    # whoever brings channels last keeps them: the weights, too, would else be laid out anew at each call
    return result.to(memory_format=torch.channels_last) if last else result, pipeline, reason  # type: ignore[call-overload]


def _fault(reference: Reference | None, result: nn.Module, options: Options) -> str:
    free_copies(result)
    return "" if reference is None else fault(reference, result, options.tolerance)
