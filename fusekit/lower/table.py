"""From an operator's name to its rule on pairs. A rule has the signature of the torch callable it stands for; the first
argument of those in `CALLS` and `THROUGH` is the operator itself, to be called on reals with its own arguments.
"""

from collections.abc import Callable
from typing import Any

from fusekit.lower import shapes
from fusekit.lower.arithmetic import ARITHMETIC
from fusekit.lower.creation import CREATION
from fusekit.lower.layers import LAYERS
from fusekit.lower.products import PRODUCTS
from fusekit.lower.reductions import REDUCTIONS, linear
from fusekit.lower.shapes import ARRANGEMENT, JOINTLY, SEVERAL, SHAPES, SUMS
from fusekit.lower.transforms import TRANSFORMS

__all__ = [
    "ATTRIBUTES",
    "CALLS",
    "JOINTLY",
    "PARTWISE",
    "QUESTIONS",
    "RULES",
    "SEVERAL",
    "SUMMING",
    "THROUGH",
    "TRANSFORMS",
    "WHOLE",
]

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {**CREATION, **ARITHMETIC, **PRODUCTS, **REDUCTIONS, **ARRANGEMENT}

# Layers: their weights may be complex, or their input alone.
CALLS: dict[str, Rule] = LAYERS

THROUGH: dict[str, Rule] = {**shapes.THROUGH, **dict.fromkeys(SUMS, linear)}

PARTWISE = SHAPES

# Where a part of the result may be a part of one operand alone, in the shape it has there.
SUMMING = frozenset(
    (
        *("add", "sub", "subtract", "rsub", "complex", "addcmul", "addcdiv", "lerp"),
        *("addmm", "addmv", "addr", "addbmm", "baddbmm"),
    )
)

# Of a tensor's shape and place, which its parts have too.
QUESTIONS = frozenset(("size", "dim", "ndimension", "numel", "sym_size", "sym_numel", "get_device", "len"))

ATTRIBUTES: dict[str, Rule] = {
    **{name: RULES[name] for name in ("real", "imag", "H", "mH")},
    **dict.fromkeys(("T", "mT"), lambda z: z.map(lambda part: part.transpose(-2, -1))),
}

# What ONNX has an operator for (DFT): called on the complex number itself, its result taken apart again.
WHOLE = frozenset(
    (
        *(f"fft_{inverse}{kind}fft{n}" for inverse in ("", "i") for kind in ("", "r", "h") for n in ("", "2", "n")),
        *TRANSFORMS,
    )
)
