"""Tables from an operator's name to its rule on pairs.

A rule has the signature of the torch function that it replaces. The rules in `CALLS` and `THROUGH` have one more
argument, the first: the original operator, to be called on real tensors.
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
from fusekit.lower.spectra import SPECTRA
from fusekit.lower.transforms import TRANSFORMS

__all__ = [
    "ATTRIBUTES",
    "CALLS",
    "JOINTLY",
    "PARTWISE",
    "QUESTIONS",
    "RULES",
    "SEVERAL",
    "SPECTRA",
    "SUMMING",
    "THROUGH",
    "TRANSFORMS",
    "WHOLE",
]

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {**CREATION, **ARITHMETIC, **PRODUCTS, **REDUCTIONS, **ARRANGEMENT}

# Layers. Their weights may be complex, or only their input.
CALLS: dict[str, Rule] = LAYERS

THROUGH: dict[str, Rule] = {**shapes.THROUGH, **dict.fromkeys(SUMS, linear)}

PARTWISE = SHAPES

# Operators for which a part of the result may come from one operand only, and so have that operand's shape.
SUMMING = frozenset(
    (
        *("add", "sub", "subtract", "rsub", "complex", "addcmul", "addcdiv", "lerp"),
        *("addmm", "addmv", "addr", "addbmm", "baddbmm"),
    )
)

# Questions about shape and device: both parts give the same answer as the complex tensor.
QUESTIONS = frozenset(("size", "dim", "ndimension", "numel", "sym_size", "sym_numel", "get_device", "len"))

ATTRIBUTES: dict[str, Rule] = {
    **{name: RULES[name] for name in ("real", "imag", "H", "mH")},
    **dict.fromkeys(("T", "mT"), lambda z: z.map(lambda part: part.transpose(-2, -1))),
}

# Operators that a runtime with complex numbers has: called on the complex tensor, and the result is split into parts.
WHOLE = frozenset((*SPECTRA, *TRANSFORMS))
