"""Turns a module into a `torch.export` program whose batch and spatial sizes may vary wherever the model allows it.

`torch.export` treats the sizes 0 and 1 as constants, so a batch of 1 is traced as 2. A model that needs a batch of 1 is
traced as given. Other sizes of 1 (for example one channel) are most likely constants of the model, and stay so.
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
from fusekit.model.evaluation import evaluation_copy
from fusekit.model.inputs import Inputs, batch_of_two
from fusekit.model.lent import lent_weights
from fusekit.model.patches import free_steps, quiet, symbolic_len, traced_here
from fusekit.model.torch_notes import user_inputs, value_at

# Which sizes may vary. True: all that the model allows; "batch": only the first of every tensor; False: none.
Freedom = bool | Literal["batch"]


def export_program(
    module: nn.Module,
    inputs: Inputs,
    *,
    dynamic: Freedom = True,
    double: bool = True,
    seconds: float = math.inf,
) -> ExportedProgram:
    """The module in eval mode as a program of ATen operators.

    Args:
        module: not changed. Tracing may leave fake tensors in attributes, so a copy is traced.
        inputs: the example inputs.
        dynamic: which sizes may vary (see `Freedom`).
        double: trace a batch of 1 as 2, so that it may vary.
        seconds: how long the trace may take, in processor time of this thread.

    Raises CaptureError if torch.export cannot trace the module, or not in time.
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
    copied = _traced_copy(module)
    doubled, changed = batch_of_two(inputs)
    if dynamic and changed and double:
        try:
            program = _trace(copied, doubled, dynamic)
            if not _batch_was_fixed(program, inputs, doubled) and _accepts(program, copied, inputs):
                return program
        except TimeoutError:
            raise
        except Exception:  # the model may need its batch of 1: trace the example as it is
            copied = _traced_copy(module)
    try:
        return _trace(copied, inputs, dynamic)
    except Exception as error:
        if not dynamic:  # the strict mode, which traces bytecode, finds parameters in the model's own containers
            with suppress(Exception):
                return _trace(_traced_copy(module), inputs, dynamic, strict=True)
        raise _untraced(module, error) from error


def _traced_copy(module: nn.Module) -> nn.Module:
    """A copy that may share large weights: a trace computes with fakes of them, which have no memory to write to."""
    return evaluation_copy(module, lent_weights(module))


def _untraced(module: nn.Module, error: Exception) -> CaptureError:
    return CaptureError(f"torch.export could not trace {type(module).__name__}: {reason_of(error)}")


def _trace(module: nn.Module, inputs: Inputs, dynamic: Freedom, *, strict: bool = False) -> ExportedProgram:
    inputs = inputs.cloned()  # torch marks free sizes on the tensors; if the trace fails, the marks stay there
    shapes = _free_sizes(module, inputs, dynamic) if dynamic else None
    with alone(), torch.no_grad(), quiet(), traced_here(), nullcontext() if strict else symbolic_len(), free_steps():
        return torch.export.export(module, inputs.args, inputs.kwargs, dynamic_shapes=shapes, strict=strict)


def _free_sizes(module: nn.Module, inputs: Inputs, dynamic: Freedom) -> tuple[Any, ...]:
    """`Dim.AUTO` for every size that may vary, nested like the arguments that `forward` binds."""

    def free(value: object) -> object:
        if not isinstance(value, Tensor):
            return None
        return dict.fromkeys(range(min(1, value.dim()) if dynamic == "batch" else value.dim()), Dim.AUTO)

    bound = inspect.signature(module.forward).bind(*inputs.args, **inputs.kwargs).arguments
    return tuple(pytree.tree_map(free, value) for value in bound.values())


def conditions_of(program: ExportedProgram) -> list[str]:
    """The conditions on the inputs that the trace assumed, as Python expressions over `L`, the arguments by name.

    A strict trace numbers its arguments (`flat_args`) instead. Its sizes are fixed and its conditions only repeat
    them, so they are left out.
    """
    return [code for code in getattr(program, "_guards_code", None) or () if "flat_args" not in code]


def _accepts(program: ExportedProgram, module: nn.Module, inputs: Inputs) -> bool:
    """Whether the inputs meet the conditions of a program that was traced on other inputs. The trace may have fixed a
    product of sizes, for example."""
    bound = torch.export.dynamic_shapes._combine_args(module, inputs.args, inputs.kwargs)
    scope = {"L": bound, "torch": torch, "math": math}
    return all(eval(condition, scope) for condition in conditions_of(program))


def _batch_was_fixed(program: ExportedProgram, given: Inputs, doubled: Inputs) -> bool:
    """Whether a batch that is 1 in the example became the constant 2. Such a program would reject the example."""
    traced = map(value_at, user_inputs(program))
    shapes = [value.shape for value in traced if isinstance(value, Tensor)]
    pairs = zip(given.tensors(), doubled.tensors(), shapes, strict=True)
    return any(old.shape != new.shape and is_concrete_int(shape[0]) for old, new, shape in pairs)
