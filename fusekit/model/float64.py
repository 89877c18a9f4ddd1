"""Runs a model in float64: the reference that both the original and the optimized model are compared with.

`model.double()` is not enough. A forward that casts (`x.float() / 255`), creates tensors (`torch.zeros(...)`) or names
a dtype falls back to float32. Inside `in_float64()` every operator runs in float64, whatever dtype was asked for:

    op(x, dtype=float32)  becomes  op(float64(x), dtype=float64)

Each tensor that is not float64 gets one float64 twin for as long as the mode lasts, and operators work on the twin. So
later reads see what an in-place operator wrote, and the tensor itself is never changed. Twins of all weights would take
twice the memory of a large model: a large weight has one only while it is used, as long as nothing writes to it.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fusekit.model.alone import alone
from fusekit.model.closed import why_closed, with_closed_apart
from fusekit.model.copies import deep_copy
from fusekit.model.inputs import Inputs
from fusekit.model.lent import Watch, lent_weights, watching
from fusekit.model.long_convolution import LongConvolutions
from fusekit.model.patches import quiet

WIDENED: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_OF_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray)  # they round Python numbers without calling an operator
# `x.dtype` of a float32 argument must give float32: a forward may assert it.
_DTYPE: Any = vars(torch._C.TensorBase)["dtype"]


class _Twins:
    """Replaces tensors by their float64 twins, and narrow dtypes by the wide ones, in the arguments of a call."""

    def __init__(self, watch: Watch | None = None) -> None:
        # Keyed by id(tensor). The tensor is kept alive beside its twin, so that its id cannot be reused.
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}
        self._watch = watch
        self._latest: tuple[Tensor, Tensor] | None = None

    def widen(self, arguments: Any) -> Any:
        return pytree.tree_map(self._widen, arguments)

    def _widen(self, value: object) -> object:
        if isinstance(value, torch.dtype):
            return WIDENED.get(value, value)
        if not isinstance(value, Tensor) or value.dtype not in WIDENED:
            return value
        if self._watch is not None and self._watch.guards(value):
            return self._passing(value, self._watch)
        if id(value) not in self._twins:
            self._twins[id(value)] = (value, value.detach().to(WIDENED[value.dtype]))
        return self._twins[id(value)][1]

    def _passing(self, lent: Tensor, watch: Watch) -> Tensor:
        """The twin of a tensor that nothing may write to. Only the latest is kept."""
        if self._latest is None or self._latest[0] is not lent:
            self._latest = None  # freed before the next is made
            self._latest = lent, lent.detach().to(WIDENED[lent.dtype])
            watch.also(self._latest[1])
        return self._latest[1]


class _WideCalls(TorchFunctionMode):
    """Widens the arguments of torch functions. Convolutions and others compare dtypes before an operator is dispatched,
    so `_WideOperators` alone would be too late."""

    def __init__(self, twins: _Twins) -> None:
        super().__init__()
        self._twins = twins

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func == _DTYPE.__get__:
            return func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():  # the widening itself calls torch
            args, kwargs = self._twins.widen((args, kwargs or {}))
        result = func(*args, **kwargs)
        if func in _OF_NUMBERS and _is_narrow(result):
            return func(*args, **{**kwargs, "dtype": WIDENED[result.dtype]})
        return result


class _WideOperators(TorchDispatchMode):
    """Widens the arguments of operators. Composite functions cast and create tensors inside torch, where
    `_WideCalls` does not see them."""

    def __init__(self, twins: _Twins) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._twins = twins

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = self._twins.widen((args, kwargs or {}))
        result = func(*args, **kwargs)
        leaf = next((leaf for leaf in pytree.tree_leaves(result) if _is_narrow(leaf)), None)
        if leaf is None or torch.Tag.nondeterministic_seeded in func.tags:  # the same draws as in float32
            return result
        return _by_default(func, args, kwargs, WIDENED[leaf.dtype])


def _by_default(func: Any, args: Any, kwargs: Any, wider: torch.dtype) -> Any:
    """Repeat a call in the wider dtype, where torch's default dtype made the result float32: the call had no tensor
    arguments, or only integer ones (n / 3, n * 0.1)."""
    if not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves((args, kwargs))):
        takes_dtype = any(argument.name == "dtype" for argument in func._schema.arguments)
        return func(*args, **kwargs, **({"dtype": wider} if takes_dtype else {}))
    condition, rest = (args[:1], args[1:]) if func.overloadpacket is torch.ops.aten.where else ((), args)
    rest, kwargs = pytree.tree_map_only(Tensor, _as_floating, (rest, kwargs))
    return func(*condition, *rest, **kwargs)


def _as_floating(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(torch.float64)


def _is_narrow(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype in WIDENED


@contextmanager
def in_float64(watch: Watch | None = None) -> Iterator[None]:
    """A context manager: in this thread, every floating-point operator runs in float64, every complex one in
    complex128, and gives results of these dtypes. torch's default dtype is not changed, because it is global.

    `watch`: guards tensors whose twins are not kept.
    """
    twins = _Twins(watch)
    with alone(), _WideCalls(twins), _WideOperators(twins):
        yield


def run_float64(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output with every operator in float64. Module and inputs are not changed.

    Weights and inputs are widened first, because fused kernels (recurrent layers) compare dtypes before the mode sees
    them. If that fails, for example because a forward asserts the dtype of its arguments, the run is repeated with
    weights and inputs as they are, and only the operators are widened. TorchScript and quantized modules run in their
    own dtype: their kernels know no other.
    """
    wide = inputs.map(widened)
    kept = {id(w) for part in module.modules() if isinstance(part, nn.RNNBase) for w in part.parameters()}
    lent = {key: weight for key, weight in lent_weights(module).items() if weight.dtype in WIDENED and key not in kept}
    if lent:
        with suppress(Exception), watching(lent.values()) as watch:
            result = _run(_copy(module, lent), wide.cloned(), watch)
            if not watch.tripped:
                return result
    try:
        return _run(_copy(module), wide.cloned())
    except Exception:
        return _run(_narrow_copy(module), inputs.cloned())


def _copy(module: nn.Module, lent: Mapping[int, Tensor] = MappingProxyType({})) -> nn.Module:
    """A copy with wide weights, but for those that are lent."""
    shared = set(map(id, lent.values()))
    copied = _narrow_copy(module, {**_wide_weights(module, lent), **lent})
    copied._apply(lambda tensor: tensor if id(tensor) in shared else widened(tensor))
    return copied


def _narrow_copy(module: nn.Module, weights: Mapping[int, Tensor] = MappingProxyType({})) -> nn.Module:
    with quiet():
        return with_closed_apart(deep_copy(module, weights=weights))


def _wide_weights(module: nn.Module, but: Container[int] = ()) -> dict[int, Tensor]:
    """Parameters and buffers in float64, by the `id` of the narrow ones: a model is not copied in both dtypes. Those of
    closed parts keep their dtype, and those whose `id` is in `but` are left out."""
    if why_closed(module):
        return {}
    wide: dict[int, Tensor] = {}
    for weight in (*module._parameters.values(), *module._buffers.values()):
        if weight is None or id(weight) in but:
            continue
        if weight.dtype in WIDENED and type(weight) in (Tensor, nn.Parameter):
            numbers = widened(weight.detach())
            wide[id(weight)] = nn.Parameter(numbers, weight.requires_grad) if type(weight) is nn.Parameter else numbers
    for part in module.children():
        wide |= _wide_weights(part, but)
    return wide


def _run(module: nn.Module, inputs: Inputs, watch: Watch | None = None) -> Any:
    with alone(), torch.no_grad(), quiet(), LongConvolutions(), in_float64(watch):
        return inputs.call(module)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float64 or complex128; integers and booleans stay."""
    return tensor.to(WIDENED.get(tensor.dtype, tensor.dtype))
