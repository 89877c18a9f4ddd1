"""Compute once what depends on parameters only.

    f(W) = V          weights computed in `forward`: weight norm, parametrizations, merged branches

The value is computed in the dtype in which the model computes it, so that the bits are the same. An expression that is
much larger than what it is made of (an expanded bias, a table of positions) is not stored: the file would only become
larger.
"""

from dataclasses import dataclass

from torch import Tensor

from fusekit.algebra import Constant
from fusekit.errors import Inapplicable
from fusekit.rewriting import Exactness, Rewrite
from fusekit.rewriting.pattern import Deferred, Expression


@dataclass(frozen=True)
class FoldConstants(Rewrite):
    """f(W) = V: an expression of parameters is computed once.

    Args:
        growth: V is stored if it has at most so many times the entries of the parameters it is made of.
        always_below: V is stored in any case if it has at most so many entries.
    """

    name = "fold-constants"
    pattern = Expression()
    exactness = Exactness.BITWISE

    growth: float = 8.0
    always_below: int = 65_536

    def propose(self, expression: Deferred) -> Constant:
        value = expression.value()
        if not isinstance(value, Tensor):
            raise Inapplicable(f"the expression is a {type(value).__name__}, not a tensor")
        if value.numel() > max(self.always_below, self.growth * expression.entries):
            raise Inapplicable(f"the value has {value.numel():,} entries, its sources {expression.entries:,}")
        return Constant(value)
