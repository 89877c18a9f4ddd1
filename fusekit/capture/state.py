"""What a forward may change and a trace would lose: weights, buffers, attributes, containers, globals, closures.

    before = state_of(model);  a forward or a trace runs;  before.changed()

Values are compared bit by bit, for a write through `.data` leaves no mark on a tensor. What a forward reads outside the
model is found by the global names in the code of its functions, and of those that they call.
"""

import argparse
import itertools
import random
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusekit.ir.spelling import HOOKS
from fusekit.model.copies import globals_read, is_own_code

_REGISTRIES = ("_modules", "_parameters", "_buffers", *HOOKS)
_AT_ONCE = (bool, int, complex, str, bytes, type(None), torch.dtype, torch.device, type, range)
_OPEN = (SimpleNamespace, argparse.Namespace)  # of the standard library, and nothing but attributes
_DEPTH = 6  # of objects within objects
_MOST = 20_000  # objects looked into
_SMALL = 4096  # entries of a tensor that is no weight, up to which it is compared by value


def state_of(root: nn.Module) -> "State":
    """The state as it is now."""
    state = State(root)
    state.look()
    return state


@dataclass
class State:
    """The state of a module, and of what its code reads outside it, at one time."""

    root: nn.Module
    parts: dict[str, Any] = field(default_factory=dict)
    _undo: list[Callable[[], None]] = field(default_factory=list)
    _kept: list[Any] = field(default_factory=list)  # alive, so that no other object takes over the identity of one
    _seen: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        for path, module in self.root.named_modules():
            self.parts[path] = (self._of_module(module), [self._of_class(c) for c in _own_classes(type(module))])

    def changed(self, *, by_value: bool = False) -> str | None:
        """The path of the first module whose state is another by now; None if none is. `by_value`: tensors of the same
        numbers are the same."""
        now = state_of(self.root).parts
        before = self.parts
        if by_value:
            now, before = ({path: _by_value(part) for path, part in parts.items()} for parts in (now, before))
        return next((path for path in now if now[path] != before.get(path)), None)

    def restore_outside(self) -> None:
        """Lists, dicts, sets and names outside the model hold again what they held."""
        for undo in self._undo:
            undo()

    def _of_module(self, module: nn.Module) -> Any:
        own = {k: v for k, v in vars(module).items() if k not in _REGISTRIES}
        tensors = {**module._parameters, **module._buffers}
        if isinstance(module, torch.jit.ScriptModule):
            own, tensors = {}, dict((*module.named_parameters(), *module.named_buffers()))
        weights = {name: self._of_tensor(value, whole=True) for name, value in tensors.items()}
        plain = {
            name: self._of_tensor(value, whole=True) if isinstance(value, Tensor) else self._of(value)
            for name, value in own.items()
        }
        return weights, plain

    def _of_class(self, cls: type) -> Any:
        """Attributes that all instances share, and what the methods read."""
        state = []
        for name, value in list(vars(cls).items()):
            value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            value = value.fget if isinstance(value, property) else value
            if name.startswith("__") and not callable(value):
                continue
            state.append((name, self._of(value)))
            if not callable(value):
                self._undo.append(partial(_set_back, cls, name, value))
        return state

    def _of(self, value: Any, depth: int = 0) -> Any:
        """Something to compare later: numbers and words by value, the rest by identity and by what it holds."""
        if isinstance(value, _AT_ONCE):
            return value
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        number = self._seen.setdefault(id(value), len(self._seen))
        known = number < len(self._seen) - 1 or depth > _DEPTH or number > _MOST
        self._kept.append(value)
        return (id(value), None if known else self._inside(value, depth + 1))

    def _of_tensor(self, value: object, whole: bool = False) -> Any:
        if value is None:
            return None
        self._kept.append(value)
        if not isinstance(value, Tensor):  # a trace can leave a proxy there
            return _Held(id(value), None, None)
        version = None if value.is_inference() else value._version
        readable = type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_meta
        readable = readable and not value.is_quantized
        small = readable and (whole or value.numel() <= _SMALL)
        return _Held(id(value), version, _Value.of(value) if small else None)

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, FunctionType):
            return self._of_function(value, depth)
        if isinstance(value, MethodType):
            return self._of(value.__func__, depth), self._of(value.__self__, depth)
        if isinstance(value, partial):
            return [self._of(v, depth) for v in (value.func, *value.args, *value.keywords.values())]
        if isinstance(value, nn.Module):
            return self._of_module(value)
        if isinstance(value, dict):
            held = _entries(value)
            self._undo.append(partial(_refill_dict, value, held))
            return [(self._of(k, depth), self._of(v, depth)) for k, v in held.items()]
        if isinstance(value, list | deque):
            self._undo.append(partial(_refill_list, value, list(value)))
            return [self._of(v, depth) for v in value]
        if isinstance(value, set):
            self._undo.append(partial(_refill_set, value, set(value)))
            return frozenset(value)
        if isinstance(value, tuple):
            return [self._of(v, depth) for v in value]
        if isinstance(value, np.ndarray):
            return value.tobytes() if value.size <= _SMALL else None
        if isinstance(value, torch.Generator):
            return value.get_state().tolist()
        if isinstance(value, random.Random):
            return value.getstate()
        if isinstance(value, itertools.count):
            return repr(value)
        if isinstance(value, _OPEN) or (hasattr(value, "__dict__") and not callable(value) and _is_own(type(value))):
            self._undo.append(partial(_refill_dict, vars(value), dict(vars(value))))
            return [(name, self._of(v, depth)) for name, v in vars(value).items()]
        return None

    def _of_function(self, function: FunctionType, depth: int) -> Any:
        """What its code reads beyond its arguments."""
        if not is_own_code(function.__module__):
            return None
        held = []
        for cell in function.__closure__ or ():
            try:
                held.append(self._of(cell.cell_contents, depth))
            except ValueError:  # not bound yet
                held.append(None)
        held += [self._of(v, depth) for v in function.__defaults__ or ()]
        held += [(name, self._of(v, depth)) for name, v in vars(function).items()]
        for name in globals_read(function.__code__):
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            if isinstance(value, ModuleType) and is_own_code(value.__name__):
                read = [n for n in function.__code__.co_names if n in vars(value)]
                held += [(n, self._of(vars(value)[n], depth)) for n in read]
            elif isinstance(value, type):
                held += [self._of_class(c) for c in _own_classes(value) if self._is_new(c)]
            else:
                held.append((name, self._of(value, depth)))
            if not callable(value):
                self._undo.append(partial(function.__globals__.__setitem__, name, value))
        return held

    def _is_new(self, value: Any) -> bool:
        known = id(value) in self._seen
        self._seen.setdefault(id(value), len(self._seen))
        return not known


@dataclass(frozen=True)
class _Value:
    """The bits of a tensor, as a checksum: a copy of all weights would double what a large model takes. Every change
    of up to 32 bits in a row is seen, any other but for one in 2^32."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    checksum: int

    @classmethod
    def of(cls, tensor: Tensor) -> "_Value":
        numbers = tensor.detach().resolve_conj().resolve_neg().cpu().reshape(-1)
        if numbers.is_complex():
            numbers = torch.view_as_real(numbers).reshape(-1)
        with torch._C.DisableTorchFunction():  # they are only read
            checksum = zlib.crc32(numbers.view(torch.uint8).numpy().data)
        return cls(tuple(tensor.shape), tensor.dtype, tensor.device, checksum)


@dataclass(frozen=True, eq=True)
class _Held:
    """A tensor that something holds: which it is, how often it was written to, and its numbers if they are compared."""

    identity: int
    version: int | None
    value: _Value | None


def _by_value(part: Any) -> Any:
    """A part of the state in which tensors are their numbers, where these are known."""
    if isinstance(part, _Held):
        return part if part.value is None else part.value
    if isinstance(part, dict):
        return {key: _by_value(value) for key, value in part.items()}
    return type(part)(map(_by_value, part)) if isinstance(part, tuple | list) else part


def _own_classes(cls: type) -> Iterator[type]:
    return (each for each in cls.__mro__ if _is_own(each))


def _is_own(cls: type) -> bool:
    return is_own_code(cls.__module__)


def _set_back(cls: type, name: str, value: Any) -> None:
    if vars(cls).get(name) is not value:
        setattr(cls, name, value)


def _plain(container: dict[Any, Any]) -> Any:
    return OrderedDict if isinstance(container, OrderedDict) else dict


def _entries(container: dict[Any, Any]) -> dict[Any, Any]:
    """What a dict holds. A class of dicts may answer with other values: transformers has one that holds classes and
    answers with instances."""
    return {key: dict.__getitem__(container, key) for key in _plain(container).__iter__(container)}


def _refill_dict(container: dict[Any, Any], held: dict[Any, Any]) -> None:
    if [(k, id(v)) for k, v in _entries(container).items()] != [(k, id(v)) for k, v in held.items()]:
        kind = _plain(container)
        kind.clear(container)
        for key, value in held.items():
            kind.__setitem__(container, key, value)


def _refill_list(container: Any, held: list[Any]) -> None:
    if [id(v) for v in container] != [id(v) for v in held]:
        container.clear()
        container.extend(held)


def _refill_set(container: set[Any], held: set[Any]) -> None:
    container.clear()
    container.update(held)
