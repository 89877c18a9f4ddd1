"""A deep copy of a module that shares nothing with the original: no weights, no state, no closures of functions.

`copy.deepcopy` does not copy functions. But a function that is set on a module (a replaced `forward`, a hook) may hold
modules and parameters in its closure, and the copy would then run those of the original. Such a function is rebuilt
over copies of what its closure holds. A function that finds its module by a global name cannot be rebuilt: it is
refused.
"""

import copy
import dis
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusekit.errors import CaptureError, reason_of

_OF_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL")
_LIBRARIES = frozenset((*sys.stdlib_module_names, "torch", "numpy", "fusekit")) - {"__main__"}
_OWN = ("_modules", "_parameters", "_buffers")


def overridden(module: nn.Module) -> list[str]:
    """The names of methods that are replaced on this one instance. Patches and wrappers replace `forward` that way. If
    they are removed, they may leave the method of the class behind; that replaces nothing."""
    own = vars(module).items()
    replaced = [(name, value) for name, value in own if callable(value) and callable(getattr(type(module), name, None))]
    return [name for name, value in replaced if not _is_of_the_class(module, name, value)]


def _is_of_the_class(module: nn.Module, name: str, value: object) -> bool:
    return (
        isinstance(value, MethodType)
        and value.__self__ is module
        and value.__func__ is getattr(type(module), name, None)
    )


def deep_copy(
    module: nn.Module,
    instead: Mapping[nn.Module, nn.Module] = MappingProxyType({}),
    weights: Mapping[int, Tensor] = MappingProxyType({}),
) -> nn.Module:
    """A deep copy in the same mode (training or eval). Tensors computed from parameters become constants in it.

    Args:
        module: what to copy.
        instead: sub-modules to replace. Wherever the module holds a key, the copy holds a copy of its value.
        weights: tensors to replace, by the `id` of the tensor in the module. The copy holds the value itself.

    Raises CaptureError if something that the module holds cannot be copied.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone().requires_grad_(value.requires_grad)
        for part in module.modules()
        for value in pytree.tree_leaves([v for k, v in vars(part).items() if k != "_modules"])
        if isinstance(value, Tensor) and not value.is_leaf
    } | dict(weights)
    functions = list(_holding_functions(module))
    memo |= {id(function): _with_empty_cells(function) for function in functions}
    try:
        for part in reversed([part for part in module.modules() if part in instead]):  # inner modules first
            memo[id(part)] = copy.deepcopy(instead[part], memo)
        copied: nn.Module = copy.deepcopy(module, memo)
        for function in functions:
            _fill(memo[id(function)], function, memo)
    except RecursionError:
        raise  # `told_as` in the public functions makes a clear error of it
    except Exception as error:
        raise CaptureError(f"{type(module).__name__} cannot be copied: {reason_of(error)}{_culprit(module)}") from error
    return copied


def _holding_functions(module: nn.Module) -> Iterator[FunctionType]:
    """Functions stored in the module whose closure leads to a module or a parameter. Raises CaptureError for a function
    that reads a part of the model by a global name."""
    parts = set(module.modules())
    seen: set[int] = set()
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in _OWN:
                continue
            for function in _functions(value, seen):
                if found := [
                    n for n in globals_read(function.__code__) if _is_part(function.__globals__.get(n), parts)
                ]:
                    raise CaptureError(
                        f"{name} of {path or 'the model'} finds a part of the model by the global name {found[0]}; "
                        f"in a copy it would still run the original part: pass the module to it as an argument"
                    )
                if _leads_to_modules(function, set()):
                    yield function


def _functions(value: Any, seen: set[int]) -> Iterator[FunctionType]:
    """All functions found in a value: itself, those in containers, and those in the closures of functions."""
    if id(value) in seen:
        return
    if isinstance(value, FunctionType | MethodType | partial | dict | list | tuple):
        seen.add(id(value))
    if isinstance(value, FunctionType):
        yield value
    for inner in _inside(value):
        yield from _functions(inner, seen)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, FunctionType):
        return [*_contents(value), *vars(value).values(), *(value.__defaults__ or ())]
    if isinstance(value, MethodType):
        return [value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()


def _contents(function: FunctionType) -> list[Any]:
    """The values in the closure of a function, without variables that are not bound yet."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            continue
    return found


def _leads_to_modules(value: Any, seen: set[int]) -> bool:
    if isinstance(value, nn.Module | nn.Parameter):
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, MethodType) and _leads_to_modules(value.__self__, seen):
        return True
    return any(_leads_to_modules(inner, seen) for inner in _inside(value))


def _is_part(value: Any, parts: set[nn.Module]) -> bool:
    return isinstance(value, nn.Module) and value in parts


def is_own_code(module: str | None) -> bool:
    """Whether code of a Python module of this name belongs to the user's model, and not to a library."""
    return module is not None and module.split(".")[0] not in _LIBRARIES


@lru_cache(maxsize=10_000)
def globals_read(code: CodeType) -> tuple[str, ...]:
    """The global names used by the code of a function and of the functions defined inside it."""
    names = [str(each.argval) for each in dis.get_instructions(code) if each.opname in _OF_GLOBALS]
    inner = (globals_read(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return tuple(dict.fromkeys((*names, *chain.from_iterable(inner))))


def _with_empty_cells(function: FunctionType) -> FunctionType:
    cells = tuple(CellType() if _is_own_cell(cell) else cell for cell in function.__closure__ or ())
    return FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _is_own_cell(cell: CellType) -> bool:
    """Whether the copy of a function needs a copy of this cell: only if it leads to a module or a parameter. Other
    values are shared: a hook that appends to a list of the caller appends to the same list in the copy."""
    try:
        return _leads_to_modules(cell.cell_contents, set())
    except ValueError:  # not bound yet
        return False


def _fill(made: FunctionType, function: FunctionType, memo: dict[int, Any]) -> None:
    """Fill the rebuilt function `made` with copies of the closure, defaults and attributes of `function`."""
    for new, old in zip(made.__closure__ or (), function.__closure__ or (), strict=True):
        if new is not old:
            new.cell_contents = copy.deepcopy(old.cell_contents, memo)
    made.__defaults__ = copy.deepcopy(function.__defaults__, memo)
    made.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    made.__qualname__, made.__doc__, made.__module__ = function.__qualname__, function.__doc__, function.__module__
    vars(made).update(copy.deepcopy(vars(function), memo))


def _culprit(module: nn.Module) -> str:
    """The part of the error message that names the attribute that cannot be copied; "" if none was found."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in _OWN:
                continue
            try:
                copy.deepcopy(value, {id(module): module, **{id(m): m for m in module.modules()}})
            except Exception:
                return f"; it is {f'{path}.{name}' if path else name} (remove it, or give its class __deepcopy__)"
    return ""
