"""A copy of a model that is only run, in eval mode."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn

from fusekit.model.copies import deep_copy
from fusekit.model.lent import lent_weights, watching
from fusekit.model.patches import quiet

Result = TypeVar("Result")


def evaluation_copy(module: nn.Module, weights: Mapping[int, Tensor] = MappingProxyType({})) -> nn.Module:
    """A copy in eval mode, to be run. It shares nothing with the original, so a forward may write to its weights.

    `weights`: tensors that the copy holds in place of others, by the `id` of the other.
    """
    with quiet():
        copied = deep_copy(module, weights=weights)
    with suppress(NotImplementedError):  # modules from an exported program have no train and eval mode
        copied.eval()  # its return value is not used: models that override `train` may return something else
    return copied


def on_copy(module: nn.Module, task: Callable[[nn.Module], Result]) -> Result:
    """`task(copy)`, for a task that runs a copy of the module in eval mode.

    The copy shares the large weights of the module. If the task would write to one of them, it is done again on a copy
    that shares nothing: it must be one that can be repeated. The module is not changed.
    """
    lent = lent_weights(module)
    copied = evaluation_copy(module, lent)
    if not lent:
        return task(copied)
    with watching(lent.values()) as watch:
        try:
            result = task(copied)
        except Exception:
            if not watch.tripped:
                raise
    return task(evaluation_copy(module)) if watch.tripped else result
