"""A page that lists many results and links to the page of each."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fusekit.files import staged
from fusekit.page.page import render


@dataclass(frozen=True)
class IndexRow:
    """One result.

    Args:
        name, link: what it is called, and its page, relative to this one; "": none.
        status, ok: the outcome in one word, and whether it is a good one.
        error: the relative error; None if it was not measured.
        operators: how many before and after, as text.
        speedup: how many times faster; None if it was not timed.
        bytes, size: of the file, as a number and as text.
        seconds: how long it took.
        note: what else is to be said of it.
    """

    name: str
    link: str
    status: str
    ok: bool
    error: float | None = None
    operators: str = ""
    speedup: float | None = None
    bytes: int | None = None
    size: str = ""
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Index:
    """The page: its `title`, the `rows`, and `facts`: (name, value) of the circumstances."""

    title: str
    rows: tuple[IndexRow, ...]
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(status, how many), the most frequent first."""
        return Counter(row.status for row in self.rows).most_common()

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)


def write_index(index: Index, path: Path) -> None:
    """Write the page to `path`: whole, or not at all. Raises ExportError if no file can be written there."""
    text = render("index.html", index=index)
    with staged(path) as stage:
        stage.write_text(text, encoding="utf-8")
