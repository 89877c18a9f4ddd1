"""Rewrites: a pattern, and the right-hand side of a law. What else is needed to apply one is the driver's business."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from fusekit.algebra import Combination, Map
from fusekit.rewriting.pattern import Pattern


class Exactness(Enum):
    """What a law promises: the same bits, equality over the reals (rounding may differ), or a stated bound (opt-in)."""

    BITWISE = "bitwise"
    REAL = "real"
    BOUNDED = "bounded"


@dataclass(frozen=True)
class Rewrite:
    """A law. Subclasses give `name`, `pattern`, `exactness` and `propose`; dataclass fields are its options.

    `gain`: the law is applied where price after / price before is at most this. `sized`: that ratio depends so much on
    the size of the input that the law is not applied without example inputs. `hope`: where times can be measured, a
    realization is measured if its ratio of prices is at most this, and the times decide. `by_value`: the law looks at
    the numbers in the weights; from their shapes alone it can say nothing. `realizes`: the right-hand side is
    the same map computed in another way: it competes with others in the stage of choice, and is undone where the whole
    model does not hold with it, or is slower.
    """

    name: ClassVar[str]
    pattern: ClassVar[Pattern]
    exactness: ClassVar[Exactness] = Exactness.REAL
    gain: ClassVar[float] = 1.0
    sized: ClassVar[bool] = False
    hope: ClassVar[float] = 1.0
    by_value: ClassVar[bool] = False
    realizes: ClassVar[bool] = False

    def propose(self, *maps: Any) -> Map | Combination:
        """The right-hand side of the law for these maps, outermost first; raises Inapplicable where it fails."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stage:
    """Passes that run together to a fixpoint. In a `contest`, all that apply to a node compete: the fastest wins."""

    name: str
    passes: tuple[Rewrite, ...]
    contest: bool = False
