"""The graph before and after, and what links them, as the page's script reads it."""

import json
from dataclasses import asdict, dataclass

from fusekit.page.words import OF_AN_OPTIMIZATION, Words


@dataclass(frozen=True)
class PicturedBox:
    """One operator.

    Args:
        operator, where: what it is called, and the path of its module.
        inputs: the numbers of the boxes that it reads, in its own graph.
        region: the number of its region; -1 if it is as it was.
        origins: of a box of the result, the numbers of the boxes of the model that it stands for.
        facts: (name, value) to show of it: kernel, stride, padding, ...
    """

    operator: str
    where: str
    inputs: tuple[int, ...]
    region: int = -1
    origins: tuple[int, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PicturedEvent:
    """A rewrite that was applied, or a candidate that was not. `boxes`: the numbers of the boxes of the model."""

    rewrite: str
    outcome: str
    change: str
    price: str
    error: str
    reason: str
    boxes: tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """Both graphs, the events that concern their boxes, the law of each rewrite, and the words to tell it with."""

    before: tuple[PicturedBox, ...]
    after: tuple[PicturedBox, ...]
    events: tuple[PicturedEvent, ...]
    laws: dict[str, str]
    hidden: tuple[int, int] = (0, 0)
    words: Words = OF_AN_OPTIMIZATION

    def to_script(self) -> str:
        """JSON that may stand inside <script>: nothing in it can end the element or open another one."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
