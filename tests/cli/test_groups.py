"""Groups of options: what a command shows of them, and what it gets."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from fusekit.cli.flatten import flatten


@dataclass(frozen=True)
class Frame:
    """A group: an argument, and an option under another name than its own."""

    source: Annotated[str, typer.Argument()]
    wide: Annotated[bool, typer.Option("--wide-open")] = False
    times: int = 1


@dataclass(frozen=True)
class Other:
    times: int = 2


def test_a_command_takes_the_fields_and_gets_the_group() -> None:
    got: list[object] = []

    def command(*, last: float = 0.5, frame: Frame, out: Annotated[str, typer.Argument()]) -> None:
        """What it does."""
        got.extend((last, frame, out))

    app = typer.Typer()
    app.command()(flatten(command))
    assert CliRunner().invoke(app, ["a", "b", "--wide-open", "--times", "3"]).exit_code == 0
    assert got == [0.5, Frame("a", True, 3), "b"]
    got.clear()
    assert CliRunner().invoke(app, ["a", "b", "--last", "2"]).exit_code == 0
    assert got == [2.0, Frame("a"), "b"]
    assert CliRunner().invoke(app, ["a"]).exit_code == 2
    assert "What it does." in CliRunner().invoke(app, ["--help"]).stdout


def test_an_option_of_two_groups_is_refused() -> None:
    def command(frame: Frame, other: Other) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'times'"):
        flatten(command)
