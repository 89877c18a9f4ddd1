"""Base class of all complex layers: a change of precision keeps complex parameters complex and real ones real, and two
real layers of a checkpoint load as one complex layer."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fusekit.model.patches import unwarned
from fusekit.nn.functional.complex.parts import times_one_plus_j

BiasForm = Literal["complex", "parts"]

# Names that other libraries give to the two real layers of a complex one. Any of these pairs can be loaded.
HALVES = (
    ("conv_r", "conv_i"),  # complexPyTorch
    ("conv_tran_r", "conv_tran_i"),
    ("fc_r", "fc_i"),
    ("real_conv", "imag_conv"),  # DCCRN
    ("re_module", "im_module"),  # asteroid
)


class ComplexLayer(nn.Module):
    """A layer that keeps complex parameters complex and real ones real, and loads two real layers as one complex layer.

    `.double()`, `.to(torch.float64)` and `.to(torch.complex128)` all mean double precision, for complex and real
    parameters alike. torch itself leaves complex parameters unchanged in the first case, drops their imaginary parts in
    the second, and makes real parameters complex in the third. TypeError for bfloat16.

    A state dict with `conv_r.weight`, `conv_i.weight` and the like (`HALVES`) in place of a weight [out, in, *window]
    can be loaded without changes.
    """

    bias_form: str = "complex"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(lambda tensor: kind_kept(fn, tensor), recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        join_halves(state_dict, prefix, self.bias_form)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def kind_kept(function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """function(tensor), but a change of dtype changes only the precision: complex stays complex, real stays real.
    TypeError for bfloat16, which has no complex counterpart."""
    if not tensor.is_complex() and not tensor.is_floating_point():
        return function(tensor)
    with unwarned():  # the warning that an imaginary part is dropped
        real_to = function(tensor.new_empty(0, dtype=tensor.dtype.to_real())).dtype
        own_to = function(tensor.new_empty(0)).dtype
    if not tensor.is_complex():
        return function(tensor).real if own_to.is_complex else function(tensor)
    if real_to is torch.bfloat16:
        raise TypeError("a complex layer cannot be bfloat16: no complex dtype has such parts")
    if own_to.is_complex:
        return function(tensor).to(real_to.to_complex())
    return torch.complex(function(tensor.real), function(tensor.imag))


def join_halves(state: dict[str, Any], prefix: str, bias_form: str) -> None:
    """Replace two real weights by weight = Wr + j Wi. The effective bias of two real layers is (1 + j)(br + j bi). A
    layer with the plain complex bias gets this value, so that it computes the same."""
    for real, imaginary in HALVES:
        for name in ("weight", "bias"):
            first, second = f"{prefix}{real}.{name}", f"{prefix}{imaginary}.{name}"
            if first in state and second in state and f"{prefix}{name}" not in state:
                value = torch.complex(state.pop(first), state.pop(second))
                state[f"{prefix}{name}"] = times_one_plus_j(value) if _adds_up(name, bias_form) else value


def _adds_up(name: str, bias_form: str) -> bool:
    return name == "bias" and bias_form == "complex"


def complex_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """`dtype`, or by default the complex form of torch's default dtype. TypeError for a real dtype."""
    if dtype is None:
        return torch.get_default_dtype().to_complex()
    if not dtype.is_complex:
        raise TypeError(f"a complex layer takes a complex dtype, got {dtype}; its parts are float32 in torch.complex64")
    return dtype


def effective_bias(bias: Tensor | None, form: str) -> Tensor | None:
    """b, or (1 + j) b if the bias has the form of two real layers ("parts")."""
    return bias if bias is None or form == "complex" else times_one_plus_j(bias)
