"""What all complex layers share: a change of precision keeps a number's kind, and two real halves load as one layer."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fusekit.model.patches import unwarned
from fusekit.nn.functional.complex.parts import times_one_plus_j

BiasForm = Literal["complex", "parts"]

# What others call the two real layers of a complex one; the halves of any of these pairs load.
HALVES = (
    ("conv_r", "conv_i"),  # complexPyTorch
    ("conv_tran_r", "conv_tran_i"),
    ("fc_r", "fc_i"),
    ("real_conv", "imag_conv"),  # DCCRN
    ("re_module", "im_module"),  # asteroid
)


class ComplexLayer(nn.Module):
    """A change of precision keeps a number's kind, and two real halves load as one complex layer.

    `.double()`, `.to(torch.float64)` and `.to(torch.complex128)` all mean double precision, of complex and real
    parameters alike. torch itself leaves complex parameters as they are in the first case, drops their imaginary parts
    in the second and makes real parameters complex in the third. TypeError for bfloat16.

    A state dict with `conv_r.weight`, `conv_i.weight` and the like (`HALVES`) in place of a weight [out, in, *window]
    loads as it stands.
    """

    bias_form: str = "complex"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(lambda tensor: kind_kept(fn, tensor), recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        join_halves(state_dict, prefix, self.bias_form)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def kind_kept(function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """function(tensor) where a change of dtype is one of precision only. TypeError for bfloat16, which has no complex
    counterpart."""
    if not tensor.is_complex() and not tensor.is_floating_point():
        return function(tensor)
    with unwarned():  # that the imaginary part of nothing is dropped
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
    """weight = Wr + j Wi in place of two real weights. Two real layers have the bias (1 + j)(br + j bi) in effect: that
    is what a layer with the plain complex bias gets, so that it computes the same."""
    for real, imaginary in HALVES:
        for name in ("weight", "bias"):
            first, second = f"{prefix}{real}.{name}", f"{prefix}{imaginary}.{name}"
            if first in state and second in state and f"{prefix}{name}" not in state:
                value = torch.complex(state.pop(first), state.pop(second))
                state[f"{prefix}{name}"] = times_one_plus_j(value) if _adds_up(name, bias_form) else value


def _adds_up(name: str, bias_form: str) -> bool:
    return name == "bias" and bias_form == "complex"


def complex_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """The dtype asked for, by default the complex one of torch's default dtype. TypeError for a real one."""
    if dtype is None:
        return torch.get_default_dtype().to_complex()
    if not dtype.is_complex:
        raise TypeError(f"a complex layer takes a complex dtype, got {dtype}; its parts are float32 in torch.complex64")
    return dtype


def effective_bias(bias: Tensor | None, form: str) -> Tensor | None:
    """b, or (1 + j) b where the bias has the form of two real layers' ("parts")."""
    return bias if bias is None or form == "complex" else times_one_plus_j(bias)
