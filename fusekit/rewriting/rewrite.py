"""Rewrites: a pattern, and the right-hand side of a law. Everything else about applying a law is done by the driver."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from fusekit.algebra import Combination, Map
from fusekit.rewriting.pattern import Pattern


class Exactness(Enum):
    """What a law guarantees: the same bits; equality in real arithmetic, so that only rounding may differ; or an error
    within a stated bound (such a law must be asked for)."""

    BITWISE = "bitwise"
    REAL = "real"
    BOUNDED = "bounded"


@dataclass(frozen=True)
class Rewrite:
    """A law. Subclasses define `name`, `pattern`, `exactness` and `propose`; dataclass fields are its options.

    `gain`: the law is applied where price after / price before is below this.
    `sized`: this ratio depends so much on the size of the input that the law is not applied without example inputs.
    `hope`: where times can be measured, a realization is measured if its ratio of prices is below this; then the times
        decide.
    `by_value`: the law depends on the values of the weights, so it cannot be priced from their shapes alone.
    `realizes`: the right-hand side is the same map computed in another way. It competes with other realizations in the
        stage of choice, and is undone if the whole model is slower or less accurate with it.
    `stage`: for a pass of another package, the stage whose passes it runs with; empty: none of them, or the choice.
    """

    name: ClassVar[str]
    pattern: ClassVar[Pattern]
    exactness: ClassVar[Exactness] = Exactness.REAL
    gain: ClassVar[float] = 1.0
    sized: ClassVar[bool] = False
    hope: ClassVar[float] = 1.0
    by_value: ClassVar[bool] = False
    realizes: ClassVar[bool] = False
    stage: ClassVar[str] = ""

    def propose(self, *maps: Any) -> Map | Combination:
        """The right-hand side of the law for these maps, outermost first. Raises Inapplicable where the law does not
        hold."""
        raise NotImplementedError


@dataclass(frozen=True)
class Stage:
    """Passes that run together until nothing changes. In a `contest`, all that apply to a node compete, and the fastest
    is used."""

    name: str
    passes: tuple[Rewrite, ...]
    contest: bool = False
