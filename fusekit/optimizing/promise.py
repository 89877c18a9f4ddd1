"""The promise for the whole model: it computes the same function and is not slower. Rewrites that break it are undone.

Each region is checked when it is rewritten. But rounding errors add up, and a layout that is faster for one layer may
be slower among others. So the whole result is compared with the model in float64 (here), and timed against it on the
runtime, as a module (`promise_module.py`) or as a file (`promise_file.py`).

If the result is not accurate enough, it is made again without realizations. If it is slower, it is made again without
the realization that gained least, several times if necessary, and then without all of them. If nothing helps, the
model itself is the result.
"""

import torch
from torch import nn

from fusekit.model.large import bytes_of, free_copies
from fusekit.model.own_copy import own_copy
from fusekit.optimizing.options import Options
from fusekit.optimizing.pipeline import Pipeline
from fusekit.optimizing.undo import chosen, rejected
from fusekit.validation import Reference, fault


def judged(model: nn.Module, reference: Reference | None, options: Options) -> tuple[nn.Module, Pipeline, str]:
    """(result, pipeline, reason): the optimized module, how it was made, and what is wrong with it ("" if nothing).

    If the result with realizations is not accurate enough, it is made again without them. Without a reference (there
    are no example inputs) the result cannot be checked, and `reason` is "".
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
        pipeline.events += rejected(chosen(first.events), f"with it, the whole model failed its check: {reason}")
        reason = _fault(reference, result, options)
    # The inputs are channels_last, so the weights must be too; otherwise torch would convert them at each call.
    return result.to(memory_format=torch.channels_last) if last else result, pipeline, reason  # type: ignore[call-overload]


def _fault(reference: Reference | None, result: nn.Module, options: Options) -> str:
    free_copies(bytes_of(result))
    return "" if reference is None else fault(reference, result, options.tolerance)
