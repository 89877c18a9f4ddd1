"""The same function in float64: the yardstick by which original and candidate are both measured.

`model.double()` is not enough. A forward that casts (`x.float() / 255`), makes tensors (`torch.zeros(...)`) or names
a dtype falls back to float32. Under `in_float64()` every operator runs in float64 whatever it was asked for:

    op(x, dtype=float32)  becomes  op(float64(x), dtype=float64)

A tensor that is not yet float64 has one float64 twin for as long as the mode lasts, and operators see the twin; so an
in-place write to it is seen by later reads, and the tensor itself is never written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from fusekit.model.long_convolution import LongConvolutions
from fusekit.model.patches import quiet

WIDENED: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_OF_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray)  # whose rounding no operator sees
# A forward that asks for the dtype of its own float32 argument is told the truth, or its assertion would fail.
_DTYPE: Any = vars(torch._C.TensorBase)["dtype"]


class _Twins:
    """The float64 twin of every narrower tensor met, and the wider dtype of every narrower dtype."""

    def __init__(self) -> None:
        # By identity; the tensor is kept beside its twin so that the identity cannot be reused.
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}

    def widen(self, arguments: Any) -> Any:
        return pytree.tree_map(self._widen, arguments)

    def _widen(self, value: object) -> object:
        if isinstance(value, torch.dtype):
            return WIDENED.get(value, value)
        if not isinstance(value, Tensor) or value.dtype not in WIDENED:
            return value
        if id(value) not in self._twins:
            self._twins[id(value)] = (value, value.detach().to(WIDENED[value.dtype]))
        return self._twins[id(value)][1]


class _WideCalls(TorchFunctionMode):
    """Widens what Python passes to torch: convolutions and others compare dtypes before any operator is dispatched."""

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
    """Widens what reaches a kernel: composite functions cast and create tensors on their way down."""

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
    """What came out in torch's default dtype, anew: made of nothing, or of integers (n / 3, n * 0.1)."""
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
def in_float64() -> Iterator[None]:
    """Within, in this thread: every floating operator runs in float64 (complex ones in complex128), and so does what
    it makes. torch's default dtype, which is the process's, stays what it is."""
    twins = _Twins()
    with alone(), _WideCalls(twins), _WideOperators(twins):
        yield


def run_float64(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output with every operator in float64; module and inputs are left as they were.

    The weights are widened beforehand: fused kernels (recurrent layers) compare dtypes before the mode sees them. A
    forward that insists on the dtype of its arguments gets them unchanged, and only the operators are widened.
    TorchScript and quantized modules, whose kernels know one dtype, run in theirs.
    """
    try:
        return _run(_copy(module, _wide_weights(module))._apply(widened), inputs.map(widened).cloned())
    except Exception:
        return _run(_copy(module), inputs.cloned())


def _copy(module: nn.Module, weights: Mapping[int, Tensor] = MappingProxyType({})) -> nn.Module:
    with quiet():
        return with_closed_apart(deep_copy(module, weights=weights))


def _wide_weights(module: nn.Module) -> dict[int, Tensor]:
    """Parameters and buffers in float64, by the identity of the narrow ones: a large model is not copied in both. Those
    of closed parts keep their dtype."""
    if why_closed(module):
        return {}
    wide: dict[int, Tensor] = {}
    for weight in (*module._parameters.values(), *module._buffers.values()):
        if weight is not None and weight.dtype in WIDENED and type(weight) in (Tensor, nn.Parameter):
            numbers = widened(weight.detach())
            wide[id(weight)] = nn.Parameter(numbers, weight.requires_grad) if type(weight) is nn.Parameter else numbers
    for part in module.children():
        wide |= _wide_weights(part)
    return wide


def _run(module: nn.Module, inputs: Inputs) -> Any:
    with alone(), torch.no_grad(), quiet(), LongConvolutions(), in_float64():
        return inputs.call(module)


def widened(tensor: Tensor) -> Tensor:
    """In float64 or complex128; what is no floating number stays."""
    return tensor.to(WIDENED.get(tensor.dtype, tensor.dtype))
