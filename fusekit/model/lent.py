"""The large weights of a module, lent to a copy for as long as nothing writes to them.

A copy of a large model costs as much memory as the model, though most forwards only read their weights. So a copy that
is run once may use the same memory. A `Watch` stops the first operator that would write to it, before it does, and the
first call that would give it to code that torch does not see.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fusekit.model.closed import why_closed

LARGE = 1 << 20  # bytes of a weight, from which lending is worth the watching

_PLAIN = (Tensor, nn.Parameter)
_GIVING_AWAY = (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, torch._C._to_dlpack)


def lent_weights(module: nn.Module) -> dict[int, Tensor]:
    """For each large weight that a copy may share: its `id`, and a tensor over the same memory.

    Weights that overlap others are left out, and so are those of parts that run outside of torch's modes.
    """
    weights = {id(weight): weight for weight in _weights(module) if type(weight) in _PLAIN and not weight.is_meta}
    closed = {id(weight) for part in module.modules() if why_closed(part) for weight in _weights(part)}
    users: dict[int, int] = {}
    for weight in weights.values():
        address = _address(weight)
        users[address] = users.get(address, 0) + 1
    return {
        key: _over_the_same(weight)
        for key, weight in weights.items()
        if key not in closed and _is_large(weight) and users[_address(weight)] == 1
    }


def _weights(module: nn.Module) -> Iterable[Tensor]:
    return (*module.parameters(), *module.buffers())


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _is_large(weight: Tensor) -> bool:
    fills = weight.layout is torch.strided and weight.nbytes == weight.untyped_storage().nbytes()
    return fills and weight.nbytes >= LARGE and weight.is_leaf


def _over_the_same(weight: Tensor) -> Tensor:
    same = weight.detach()
    return nn.Parameter(same, weight.requires_grad) if isinstance(weight, nn.Parameter) else same


class Watch(TorchDispatchMode):
    """Stops the first operator that would write to one of these tensors. `tripped`: whether there was one."""

    def __init__(self, lent: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tripped = False
        self._storages: dict[int, StorageWeakRef] = {}
        for tensor in lent:
            self.also(tensor)

    def also(self, tensor: Tensor) -> None:
        """Watch one more tensor, as long as its memory lives."""
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = StorageWeakRef(storage)

    def guards(self, value: object) -> bool:
        """Whether a value is a tensor over the memory of one of them."""
        if not isinstance(value, Tensor) or type(value) not in _PLAIN:
            return False
        reference = self._storages.get(_address(value))
        if reference is not None and reference.expired():
            del self._storages[_address(value)]  # the address belongs to another tensor now
            return False
        return reference is not None

    def stop(self) -> None:
        """Raise RuntimeError. The forward may catch it, but `tripped` stays."""
        self.tripped = True
        raise RuntimeError("a lent weight would be written to")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = _written(func)
        if places:
            bound = [args[place] if place < len(args) else kwargs.get(name) for place, name in places]
            if any(map(self.guards, pytree.tree_leaves(bound))):
                self.stop()
        return func(*args, **kwargs)


@lru_cache(maxsize=10_000)
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """The arguments that an operator writes to, by its schema: (place, name)."""
    arguments = enumerate(func._schema.arguments)
    return tuple((place, a.name) for place, a in arguments if a.alias_info is not None and a.alias_info.is_write)


class _Doors(TorchFunctionMode):
    """Stops calls that give the memory of a lent tensor to numpy or another library."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _GIVING_AWAY and any(map(self._watch.guards, args)):
            self._watch.stop()
        return func(*args, **(kwargs or {}))


@contextmanager
def watching(lent: Iterable[Tensor]) -> Iterator[Watch]:
    """A context manager: in this thread, nothing writes to these tensors."""
    with Watch(lent) as watch, _Doors(watch):
        yield watch
