"""From a module to a `torch.export` program whose batch and spatial sizes stay free wherever the model lets them.

`torch.export` specialises the sizes 0 and 1, so a batch of 1 is traced as 2; a model that insists on its own batch is
traced as given. Every other size of 1 (channels, say) stays the constant it most likely is.
"""

import builtins
import copy
import inspect
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from io import StringIO
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch._dynamo import trace_rules
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError
from fusekit.model.inputs import Inputs, batch_of_two
from fusekit.model.torch_notes import user_inputs, value_at

REASON_LENGTH = 300


# Which sizes may stay free: all that the model allows, the first of every tensor, none.
Freedom = bool | Literal["batch"]


def export_program(
    module: nn.Module, inputs: Inputs, *, dynamic: Freedom = True, double: bool = True
) -> ExportedProgram:
    """The module in eval mode as an ATen program; `dynamic`: free in every size (or batch) that the model leaves free.
    `double=False`: a batch of 1 is traced as it is.

    The module is not touched: tracing may leave fake tensors in attributes, so a copy sharing its weights is traced.
    """
    copied = evaluation_copy(module)
    doubled, changed = batch_of_two(inputs)
    if dynamic and changed and double:
        try:
            program = _trace(copied, doubled, dynamic)
            if not _batch_was_fixed(program, inputs, doubled) and _accepts(program, copied, inputs):
                return program
        except Exception:  # the model may insist on its batch of 1: then the example is traced as it is
            copied = evaluation_copy(module)
    try:
        return _trace(copied, inputs, dynamic)
    except Exception as error:
        if not dynamic:  # by the bytecode: follows parameters in containers of the model's own
            with suppress(Exception):
                return _trace(evaluation_copy(module), inputs, dynamic, strict=True)
        raise CaptureError(f"torch.export could not trace {type(module).__name__}: {reason_of(error)}") from error


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode: parameters shared, everything that a forward may write (buffers, attributes) its own."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    kept = pytree.tree_leaves([{k: v for k, v in vars(m).items() if k != "_modules"} for m in module.modules()])
    computed = (value for value in kept if isinstance(value, Tensor) and not value.is_leaf)
    shared |= {id(value): value.detach().clone() for value in computed}  # torch does not copy these by itself
    with quiet():
        copied = copy.deepcopy(module, shared)
    with suppress(NotImplementedError):  # modules unpacked from an exported program have no modes
        copied.eval()  # what it returns is not to be relied on: models override `train`
    return copied


def reason_of(error: BaseException) -> str:
    """The first line of an error that says something, with its kind, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 3] + "..."


@contextmanager
def quiet() -> Iterator[None]:
    """What torch warns, logs and prints while it traces is about its own insides; errors still raise."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def _symbolic_len() -> Iterator[None]:
    """Within: `len(tensor)` is `tensor.shape[0]`, the size as a symbol.

    Python makes `__len__` return an int, so torch.export takes the traced size there for a constant, without a guard:
    the program then computes something else at every other size. Nothing changes for what is not traced.
    """
    trace_rules.is_builtin_callable(len)  # torch.compile makes its table of builtins once: with the plain one in it
    plain = builtins.len

    def symbolic(value: Any, /) -> int:
        return value.shape[0] if isinstance(value, FakeTensor) and value.dim() else plain(value)

    builtins.len = symbolic
    try:
        yield
    finally:
        builtins.len = plain


@contextmanager
def free_steps() -> Iterator[None]:
    """Within: the output of an LSTM or GRU takes its shape from its arguments.

    torch works it out by running over the example's steps, which makes a constant of their number.
    """
    key: Any = torch._C.DispatchKey.CompositeImplicitAutograd
    operators: list[Any] = [torch.ops.aten.lstm.input, torch.ops.aten.gru.input]
    # torch asks one or the other
    tables = [(operator.py_kernels, key, operator) for operator in operators]
    tables += [(decomposition_table, operator, operator) for operator in operators]
    plain = [(table, entry, operator, table[entry]) for table, entry, operator in tables if entry in table]

    def shaped(kernel: Any) -> Any:
        def output(x: Tensor, state: Any, weights: Any, bias: bool, layers: int, *rest: Any) -> Any:
            if type(x) in (Tensor, nn.Parameter):  # a constant of the model, of which the values are wanted
                return kernel(x, state, weights, bias, layers, *rest)
            states = [state] if isinstance(state, Tensor) else state
            width = states[0].shape[-1] * (2 if rest[2] else 1)
            return x.new_empty(*x.shape[:-1], width), *map(torch.empty_like, states)

        return output

    for table, entry, operator, kernel in plain:
        table[entry] = shaped(kernel)
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for table, entry, operator, kernel in plain:
            table[entry] = kernel
            operator._dispatch_cache.clear()


def _trace(module: nn.Module, inputs: Inputs, dynamic: Freedom, *, strict: bool = False) -> ExportedProgram:
    inputs = inputs.cloned()  # torch marks the free sizes at the tensors, and a trace that fails leaves the marks
    shapes = _free_sizes(module, inputs, dynamic) if dynamic else None
    with torch.no_grad(), quiet(), nullcontext() if strict else _symbolic_len(), free_steps():
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
