"""The result of an examination: plain records, as text for a terminal and as JSON."""

import json
from dataclasses import asdict, dataclass
from enum import Enum

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


class State(str, Enum):
    """Whether something is as it should be; could be better, but is not needed; or keeps the core from working."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"

    def __str__(self) -> str:
        return self.value


_STYLES = {State.OK: "green", State.NOTE: "yellow", State.BAD: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        group: what it belongs to, such as "runtimes".
        name: what it is.
        state: whether it is as it should be.
        found: what was found, such as a version.
        advice: what to do, in one line; empty if there is nothing to do.
    """

    group: str
    name: str
    state: State
    found: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Examination:
    """All findings, in the order in which they were looked at."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the core works."""
        return all(each.state is not State.BAD for each in self.findings)

    def to_json(self, indent: int | None = 2) -> str:
        """Everything as one JSON object. `indent`: as for `json.dumps`."""
        return json.dumps({"ok": self.ok, "findings": [asdict(each) for each in self.findings]}, indent=indent)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        group = ""
        for each in self.findings:
            told = " - ".join(filter(None, (each.found, each.advice)))
            state = Text(str(each.state), style=_STYLES[each.state])
            table.add_row(Text("" if each.group == group else each.group, style="bold"), each.name, state, Text(told))
            group = each.group
        parts: list[RenderableType] = [table]
        told = "The core works." if self.ok else "The core does not work: see what is bad above."
        return Group(*parts, Text(told, style="bold green" if self.ok else "bold red"))
