"""The same function in float64: the yardstick by which original and candidate are both measured.

`model.double()` is not enough. A forward that casts (`x.float() / 255`), makes tensors (`torch.zeros(...)`) or names
a dtype falls back to float32. Under `in_float64()` every operator runs in float64 whatever it was asked for:

    op(x, dtype=float32)  becomes  op(float64(x), dtype=float64)

A tensor that is not yet float64 has one float64 twin for as long as the mode lasts, and operators see the twin; so an
in-place write to it is seen by later reads, and the tensor itself is never written.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fusekit.model.inputs import Inputs
from fusekit.model.long_convolution import LongConvolutions
from fusekit.model.program import quiet

WIDENED: dict[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
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
        return func(*args, **(kwargs or {}))


class _WideOperators(TorchDispatchMode):
    """Widens what reaches a kernel: composite functions cast and create tensors on their way down."""

    def __init__(self, twins: _Twins) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._twins = twins

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = self._twins.widen((args, kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def in_float64() -> Iterator[None]:
    """Within: every floating operator runs in float64 (complex ones in complex128), and so does what it makes."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        twins = _Twins()
        with _WideCalls(twins), _WideOperators(twins):
            yield
    finally:
        torch.set_default_dtype(default)


def run_float64(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output with every operator in float64; module and inputs are left as they were.

    The weights are widened beforehand: fused kernels (recurrent layers) compare dtypes before the mode sees them. A
    forward that insists on the dtype of its arguments gets them unchanged, and only the operators are widened.
    """
    try:
        return _run(_copy(module)._apply(widened), inputs.map(widened).cloned())
    except Exception:
        return _run(_copy(module), inputs.cloned())


def _copy(module: nn.Module) -> nn.Module:
    with quiet():
        return copy.deepcopy(module)


def _run(module: nn.Module, inputs: Inputs) -> Any:
    with torch.no_grad(), quiet(), LongConvolutions(), in_float64():
        return inputs.call(module)


def widened(tensor: Tensor) -> Tensor:
    """In float64 or complex128; what is no floating number stays."""
    return tensor.to(WIDENED.get(tensor.dtype, tensor.dtype))
