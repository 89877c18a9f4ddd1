"""The relative error of one output in the Euclidean norm, and its tolerance.

    error(c) = ‖c − r64‖ / ‖r64‖        r64: the reference run in float64

The reference itself has such an error, from rounding. An exact rewrite only rounds in another order; its measured error
is up to 2 to 4 times the reference's. A wrong rewrite has an error that is larger by orders of magnitude. FACTOR lies
between the two. The reference's error can be zero by chance (few operations, weights with short binary fractions), so
the tolerance is at least FLOOR roundings; fewer in half precision, where kernels accumulate in float32 and round only
the stored results.

Two float32 results are never compared with each other: their difference is the error of neither.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusekit.model.inputs import spell

FACTOR = 16.0
FLOOR = 32.0
FLOOR_HALF = 4.0
# The float64 run of a float64 model is the model itself, so its error reads as zero. It gets the tolerance that the
# check of a single rewrite has.
FLOOR_FLOAT64 = 1e-10
# Integers and booleans (classes, masks) may change where two scores are equal up to rounding. This share of elements
# may differ, even if the reference in float32 and in float64 agree.
FLOOR_FLIPPED = 1e-4
# The quiet region: elements so small that they hardly change the norm. It is judged only if it has enough elements.
QUIET_BELOW = 1e-3
QUIET_ELEMENTS = 16

Outputs = list[tuple[str, Tensor]]  # (name, value on the CPU) of each output of one run


@dataclass(frozen=True)
class OutputError:
    """The error of one output on one probe. `shape` is the reference's. `reason`: why it is not `ok`; "" if it is."""

    name: str
    shape: tuple[int, ...]
    error: float
    reference_error: float
    tolerance: float
    reason: str = ""

    @property
    def ok(self) -> bool:
        return not self.reason


def outputs_of(result: Any) -> Outputs:
    """The tensors in a nested output (containers and dataclasses), each named after its place. Numbers become tensors;
    None is left out."""
    leaves = [
        (spell(path), leaf if isinstance(leaf, Tensor) else torch.tensor(leaf))
        for path, leaf in pytree.tree_leaves_with_path(_opened(result))
        if isinstance(leaf, Tensor | int | float | complex)
    ]
    return [
        (f"output_{name}" if name[:1].isdigit() else name or "output", leaf.detach().cpu()) for name, leaf in leaves
    ]


def _opened(result: Any) -> Any:
    """The result with dataclasses replaced by dicts of their fields, because pytree does not look into them."""

    def is_closed(value: Any) -> bool:
        return is_dataclass(value) and not isinstance(value, type | Mapping)

    def opened(value: Any) -> Any:
        if not is_closed(value):
            return value
        return {f.name: _opened(getattr(value, f.name, None)) for f in fields(value)}

    return pytree.tree_map(opened, result, is_leaf=is_closed)


def compare(
    name: str,
    candidate: Tensor,
    reference: Tensor,
    exact: Tensor,
    tolerance: float | None = None,
    noise: float = 0.0,
    longest: int = 1,
) -> OutputError:
    """Compare the candidate's output with the reference's, in its own dtype and in float64 (`exact`).

    `tolerance`: a fixed bound on the relative error, in place of the one derived from the reference's own error.
    `noise`: a lower bound on the reference's own error, from other measurements.
    `longest`: the number of products in the longest sum of the model.
    """
    shape = tuple(reference.shape)
    if reference.is_complex() and candidate.is_floating_point() and candidate.shape == (*shape, 2):
        candidate = torch.view_as_complex(candidate.contiguous())  # an ONNX file returns [*, 2] for complex [*]
    for what, ours, theirs in (
        ("shape", tuple(candidate.shape), shape),
        ("dtype", str(candidate.dtype).removeprefix("torch."), str(reference.dtype).removeprefix("torch.")),
    ):
        if ours != theirs:
            return OutputError(name, shape, math.inf, 0.0, 0.0, f"{what} {ours}, the reference has {theirs}")
    if not is_float(reference):
        flipped, own = _flipped(candidate, reference), max(_flipped(exact, reference), noise)
        bound = max(FACTOR * own, FLOOR_FLIPPED) if tolerance is None else tolerance
        return _judged(name, shape, flipped, own, bound)
    own = max(relative_error(reference, reference, exact), noise)
    bound = tolerance if tolerance is not None else derived_tolerance(own, reference.dtype, longest)
    if not _kind(candidate).equal(_kind(reference)):
        reason = "NaN or infinity where the reference has none, or none where it has"
        return OutputError(name, shape, math.inf, own, bound, reason)
    return _judged(name, shape, relative_error(candidate, reference, exact), own, bound)


def compare_quiet(
    name: str, candidate: Tensor, reference: Tensor, exact: Tensor, tolerance: float
) -> OutputError | None:
    """Compare only the elements below `QUIET_BELOW` times the largest one. In the norm of the whole tensor their errors
    would vanish. The bound is `tolerance`, or 16 times the reference's own error on them if that is larger. None if
    there are too few of them to judge."""
    if not is_float(reference) or candidate.shape != reference.shape:
        return None
    size = exact.abs().nan_to_num()
    quiet = (size < QUIET_BELOW * size.max()) if size.numel() else size.bool()
    if int(quiet.sum()) < QUIET_ELEMENTS:
        return None
    own = relative_error(reference[quiet], reference[quiet], exact[quiet])
    error = relative_error(candidate[quiet], reference[quiet], exact[quiet])
    return _judged(name, tuple(reference.shape), error, own, max(tolerance, FACTOR * own))


def derived_tolerance(reference_error: float, dtype: torch.dtype, longest: int = 1) -> float:
    """max(16 · reference_error, 32 · eps, eps √K), with other floors for half precision and float64.

    K (`longest`) is the number of products in the longest sum. Added one after the other, as some kernels do, they have
    an error of about eps/2 √K, even if the reference adds more accurately (Higham, Accuracy and Stability of Numerical
    Algorithms, section 4.2).
    """
    eps = torch.finfo(dtype).eps
    if eps <= torch.finfo(torch.float64).eps:
        return max(FACTOR * reference_error, FLOOR_FLOAT64)
    if eps > torch.finfo(torch.float32).eps:
        return max(FACTOR * reference_error, eps * FLOOR_HALF)
    return max(FACTOR * reference_error, eps * FLOOR, eps * math.sqrt(longest))


def longest_sum(model: nn.Module) -> int:
    """The number of products in the longest sum of any of the model's convolutions and linear layers."""
    layers = (module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd | nn.Linear))
    weights = [layer.weight for layer in layers if layer.weight.numel()]
    return max((weight[0].numel() for weight in weights), default=1)


def relative_error(value: Tensor, reference: Tensor, exact: Tensor) -> float:
    """‖value − exact‖ / ‖exact‖ over the elements that are finite in both reference runs; absolute if ‖exact‖ = 0."""
    wide = torch.complex128 if reference.is_complex() else torch.float64
    finite = reference.isfinite() & exact.isfinite()
    truth = exact.to(wide)[finite]
    norm = float(torch.linalg.vector_norm(truth))
    distance = float(torch.linalg.vector_norm(value.to(wide)[finite] - truth))
    return distance / norm if norm else distance


def is_float(tensor: Tensor) -> bool:
    """Whether the dtype is floating-point or complex, so that values are rounded."""
    return tensor.is_floating_point() or tensor.is_complex()


def _judged(name: str, shape: tuple[int, ...], error: float, own: float, bound: float) -> OutputError:
    reason = "" if error <= bound else f"error {error:.2e} exceeds the tolerance {bound:.2e}"
    return OutputError(name, shape, error, own, bound, reason)


def _flipped(value: Tensor, reference: Tensor) -> float:
    if not reference.numel():
        return 0.0
    return 1.0 if value.shape != reference.shape else float((value != reference).double().mean())


def _kind(value: Tensor) -> Tensor:
    """For each element: 0 if finite, 1 for NaN, 2 for +∞, 3 for -∞. Real and imaginary parts are separate elements."""
    real = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return real.isnan() * 1 + real.isposinf() * 2 + real.isneginf() * 3
