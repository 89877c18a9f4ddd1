"""How far one output is from the truth, norm-wise and relative, and how far it may be.

    error(c) = ‖c − r64‖ / ‖r64‖        r64: the reference run in float64

The original has such an error itself, from rounding. An exact rewrite only reorders roundings and was measured to cost
2 to 4 times the original's error; a wrong rewrite costs orders of magnitude. FACTOR stands between the two. The
original's error can be zero by luck (few operations, short dyadic weights), so FLOOR grants some roundings to everyone;
fewer in half precision, where kernels accumulate in float32 and only round what they store.
Never compare two float32 results with each other: their difference is neither one's error.
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
# A float64 model is its own yardstick and its own error reads as zero: it gets what verifying a rewrite grants.
FLOOR_FLOAT64 = 1e-10
# Classes and masks flip where two scores tie: the share of elements that may, even where the reference has no flip.
FLOOR_FLIPPED = 1e-4
# The quiet region of a wide range: elements that the norm does not see, as many as make a fair sample.
QUIET_BELOW = 1e-3
QUIET_ELEMENTS = 16

Outputs = list[tuple[str, Tensor]]  # of one run, each under its name, on the CPU


@dataclass(frozen=True)
class OutputError:
    """One output on one probe. `shape` is the reference's; `reason` says why it is not `ok`."""

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
    """The leaves of a nested output under the names of their places, those of dataclasses included; numbers become
    tensors, None is no output."""
    leaves = [
        (spell(path), leaf if isinstance(leaf, Tensor) else torch.tensor(leaf))
        for path, leaf in pytree.tree_leaves_with_path(_opened(result))
        if isinstance(leaf, Tensor | int | float | complex)
    ]
    return [
        (f"output_{name}" if name[:1].isdigit() else name or "output", leaf.detach().cpu()) for name, leaf in leaves
    ]


def _opened(result: Any) -> Any:
    """Dataclasses that torch does not look into, as dicts of their fields."""

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
    """The candidate's output against the reference's in its own dtype and in float64 (`exact`).

    `tolerance`: an absolute bound on the relative error, in place of the one derived from the reference's own error;
    `noise`: what else is known of the reference's own error on this output; `longest`: products in the longest sum.
    """
    shape = tuple(reference.shape)
    if reference.is_complex() and candidate.is_floating_point() and candidate.shape == (*shape, 2):
        candidate = torch.view_as_complex(candidate.contiguous())  # as ONNX files give it
    for what, ours, theirs in (
        ("shape", tuple(candidate.shape), shape),
        ("dtype", str(candidate.dtype).removeprefix("torch."), str(reference.dtype).removeprefix("torch.")),
    ):
        if ours != theirs:
            return OutputError(name, shape, math.inf, 0.0, 0.0, f"{what} {ours}, the reference has {theirs}")
    if not is_float(reference):
        flipped, own = _flipped(candidate, reference), _flipped(exact, reference)
        bound = max(FACTOR * own, FLOOR_FLIPPED) if tolerance is None else tolerance
        return _judged(name, shape, flipped, own, bound)
    own = relative_error(reference, reference, exact)
    bound = tolerance if tolerance is not None else derived_tolerance(max(own, noise), reference.dtype, longest)
    if not _kind(candidate).equal(_kind(reference)):
        reason = "NaN or infinity where the reference has none, or none where it has"
        return OutputError(name, shape, math.inf, own, bound, reason)
    return _judged(name, shape, relative_error(candidate, reference, exact), own, bound)


def compare_quiet(
    name: str, candidate: Tensor, reference: Tensor, exact: Tensor, tolerance: float
) -> OutputError | None:
    """The same over the elements alone that are small, below `QUIET_BELOW` times the largest: beside it their errors
    vanish in the norm of the whole. Bounded by `tolerance`, or by 16 times what the reference gets wrong there itself.
    None if there are too few of them to judge."""
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
    """max(16 · the reference's own error, 32 · eps, eps √K), with other floors for half precision and float64.

    K, `longest`: products in the longest sum. Added one after the other, as some kernels do, they are off by some
    eps/2 √K, however well the reference adds (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2).
    """
    eps = torch.finfo(dtype).eps
    if eps <= torch.finfo(torch.float64).eps:
        return max(FACTOR * reference_error, FLOOR_FLOAT64)
    if eps > torch.finfo(torch.float32).eps:
        return max(FACTOR * reference_error, eps * FLOOR_HALF)
    return max(FACTOR * reference_error, eps * FLOOR, eps * math.sqrt(longest))


def longest_sum(model: nn.Module) -> int:
    """How many products the longest sum in one of its convolutions and linear layers has."""
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
    """Whether it holds real or complex numbers, which round."""
    return tensor.is_floating_point() or tensor.is_complex()


def _judged(name: str, shape: tuple[int, ...], error: float, own: float, bound: float) -> OutputError:
    reason = "" if error <= bound else f"error {error:.2e} exceeds the tolerance {bound:.2e}"
    return OutputError(name, shape, error, own, bound, reason)


def _flipped(value: Tensor, reference: Tensor) -> float:
    if not reference.numel():
        return 0.0
    return 1.0 if value.shape != reference.shape else float((value != reference).double().mean())


def _kind(value: Tensor) -> Tensor:
    """0 finite, 1 NaN, 2 and 3 the infinities, element by element (real and imaginary part apart)."""
    real = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return real.isnan() * 1 + real.isposinf() * 2 + real.isneginf() * 3
