"""From a module to a `torch.export` program whose batch and spatial sizes stay free wherever the model lets them.

`torch.export` specialises the sizes 0 and 1, so a batch of 1 is traced as 2; a model that insists on its own batch is
traced as given. Every other size of 1 (channels, say) stays the constant it most likely is.
"""

import inspect
import math
import time
from contextlib import nullcontext, suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError, reason_of
from fusekit.model.alone import alone
from fusekit.model.copies import deep_copy
from fusekit.model.inputs import Inputs, batch_of_two
from fusekit.model.patches import free_steps, quiet, symbolic_len, traced_here
from fusekit.model.torch_notes import user_inputs, value_at

# Which sizes may stay free: all that the model allows, the first of every tensor, none.
Freedom = bool | Literal["batch"]


def export_program(
    module: nn.Module,
    inputs: Inputs,
    *,
    dynamic: Freedom = True,
    double: bool = True,
    seconds: float = math.inf,
) -> ExportedProgram:
    """The module in eval mode as an ATen program; `dynamic`: free in every size (or batch) that the model leaves free.
    `double=False`: a batch of 1 is traced as it is. `seconds`: of this thread's computing, after which it is given up.

    The module is not touched: tracing may leave fake tensors in attributes, so a copy is traced.
    """
    try:
        with _Deadline(seconds) if seconds < math.inf else nullcontext():
            return _program(module, inputs, dynamic, double)
    except TimeoutError as error:
        raise _untraced(module, error) from error


class _Deadline(TorchFunctionMode):
    """TimeoutError at the first call of torch after so many seconds of this thread's computing. What torch proves of
    free sizes can take time without end, all of it between two calls that a forward makes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self._until = seconds, time.thread_time() + seconds

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if time.thread_time() > self._until:
            raise TimeoutError(f"with free sizes it takes more than {self._seconds:.0f} s")
        return func(*args, **(kwargs or {}))


def _program(module: nn.Module, inputs: Inputs, dynamic: Freedom, double: bool) -> ExportedProgram:
    copied = evaluation_copy(module)
    doubled, changed = batch_of_two(inputs)
    if dynamic and changed and double:
        try:
            program = _trace(copied, doubled, dynamic)
            if not _batch_was_fixed(program, inputs, doubled) and _accepts(program, copied, inputs):
                return program
        except TimeoutError:
            raise
        except Exception:  # the model may insist on its batch of 1: then the example is traced as it is
            copied = evaluation_copy(module)
    try:
        return _trace(copied, inputs, dynamic)
    except Exception as error:
        if not dynamic:  # by the bytecode: follows parameters in containers of the model's own
            with suppress(Exception):
                return _trace(evaluation_copy(module), inputs, dynamic, strict=True)
        raise _untraced(module, error) from error


def _untraced(module: nn.Module, error: Exception) -> CaptureError:
    return CaptureError(f"torch.export could not trace {type(module).__name__}: {reason_of(error)}")


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode to be run: whatever a forward may write is its own, its weights included."""
    with quiet():
        copied = deep_copy(module)
    with suppress(NotImplementedError):  # modules unpacked from an exported program have no modes
        copied.eval()  # what it returns is not to be relied on: models override `train`
    return copied


def _trace(module: nn.Module, inputs: Inputs, dynamic: Freedom, *, strict: bool = False) -> ExportedProgram:
    inputs = inputs.cloned()  # torch marks the free sizes at the tensors, and a trace that fails leaves the marks
    shapes = _free_sizes(module, inputs, dynamic) if dynamic else None
    with alone(), torch.no_grad(), quiet(), traced_here(), nullcontext() if strict else symbolic_len(), free_steps():
        return torch.export.export(module, inputs.args, inputs.kwargs, dynamic_shapes=shapes, strict=strict)


def _free_sizes(module: nn.Module, inputs: Inputs, dynamic: Freedom) -> tuple[Any, ...]:
    """`Dim.AUTO` for every size that may stay free, in the nesting of the arguments as `forward` binds them."""

    def free(value: object) -> object:
        if not isinstance(value, Tensor):
            return None
        return dict.fromkeys(range(min(1, value.dim()) if dynamic == "batch" else value.dim()), Dim.AUTO)

    bound = inspect.signature(module.forward).bind(*inputs.args, **inputs.kwargs).arguments
    return tuple(pytree.tree_map(free, value) for value in bound.values())


def conditions_of(program: ExportedProgram) -> list[str]:
    """What the trace assumed of its inputs, as Python expressions over `L`, the arguments by name.

    A trace by the bytecode, of fixed sizes, counts its arguments instead and says nothing more than these sizes."""
    return [code for code in getattr(program, "_guards_code", None) or () if "flat_args" not in code]


def _accepts(program: ExportedProgram, module: nn.Module, inputs: Inputs) -> bool:
    """Whether inputs meet the conditions of a program traced on others (a product of sizes may have been fixed)."""
    bound = torch.export.dynamic_shapes._combine_args(module, inputs.args, inputs.kwargs)
    scope = {"L": bound, "torch": torch, "math": math}
    return all(eval(condition, scope) for condition in conditions_of(program))


def _batch_was_fixed(program: ExportedProgram, given: Inputs, doubled: Inputs) -> bool:
    """Whether some batch that is 1 in the example came out as the constant 2: such a program refuses the example."""
    traced = map(value_at, user_inputs(program))
    shapes = [value.shape for value in traced if isinstance(value, Tensor)]
    pairs = zip(given.tensors(), doubled.tensors(), shapes, strict=True)
    return any(old.shape != new.shape and is_concrete_int(shape[0]) for old, new, shape in pairs)
