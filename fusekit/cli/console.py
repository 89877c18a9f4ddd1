"""What the user sees: results on stdout, progress and problems on stderr, a problem in one line, and an exit code.

    0  done          1  the numbers differ          2  bad input, or a model that fails
    130  interrupted          128 + N  stopped by signal N, such as 143 by SIGTERM

With `--json`, stdout carries one JSON object and nothing else: whatever a model prints goes to stderr.
"""

import contextlib
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from fusekit.cli.stopped import Stopped
from fusekit.errors import FusekitError, VerificationError
from fusekit.report import Report

OK, DIFFERENT, BAD, INTERRUPTED = 0, 1, 2, 130
_LONGEST = 600  # characters of a message: some libraries answer with a page


@dataclass
class Screen:
    """How much is shown, and where. `verbose`: 1 shows what was refused, 2 tracebacks and warnings as well."""

    quiet: bool = False
    machine: bool = False
    verbose: int = 0

    @contextlib.contextmanager
    def progress(self, steps: int) -> Iterator["Steps"]:
        """A bar over `steps` steps on stderr, if that is a terminal; stdout is kept free of prints by others."""
        console = Console(stderr=True)
        shown = console.is_terminal and not self.quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with (
            contextlib.redirect_stdout(sys.stderr),
            self._warnings(),
            Progress(*columns, console=console, transient=True, disable=not shown) as bar,
        ):
            yield Steps(bar, bar.add_task("starting", total=steps))

    def show(self, *parts: RenderableType) -> None:
        """Tables and text for people: nothing with `--quiet` or `--json`."""
        if not (self.quiet or self.machine):
            console = Console()
            # Piped output has no width: lines of a report should not be folded at 80 for a file to keep.
            (console if console.is_terminal else Console(width=140)).print(Group(*parts))

    def emit(self, result: Mapping[str, Any]) -> None:
        """The result for machines, with `--json`."""
        if self.machine:
            print(json.dumps(result, indent=2))

    def report(self, report: Report | None) -> RenderableType:
        """The report whole, or without what was refused."""
        if report is None:
            return Text("not optimized")
        return report if self.verbose else report.brief()

    @contextlib.contextmanager
    def _warnings(self) -> Iterator[None]:
        """Our warnings are for the user, one line each; those of the libraries below are not, unless asked for."""
        logger = logging.getLogger("torch")
        level = logger.level
        with warnings.catch_warnings():
            if self.verbose < 2:
                logger.setLevel(logging.CRITICAL)
                warnings.simplefilter("ignore")
                warnings.filterwarnings("always", message="fusekit: ")
            warnings.showwarning = _show_warning
            try:
                yield
            finally:
                logger.setLevel(level)


@dataclass(frozen=True)
class Steps:
    """The steps of a command, as its progress bar counts them."""

    bar: Progress
    task: Any

    def begin(self, what: str) -> None:
        """The step before is done, this one starts."""
        if self.bar.tasks[0].description != "starting":
            self.bar.advance(self.task)
        self.bar.update(self.task, description=what)

    def say(self, what: str) -> None:
        """What the step is at."""
        self.bar.update(self.task, description=what)

    def detail(self, stage: str, done: int, total: int) -> None:
        """How far the optimizer is within its step."""
        self.bar.update(self.task, description=f"{stage} {done}/{total}")


def complain(problem: str | BaseException, verbose: int = 0) -> int:
    """Say what is wrong in one line on stderr; the exit code that goes with it."""
    if isinstance(problem, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(problem, Stopped):
        print(f"error: stopped by {problem.name}", file=sys.stderr)
        return problem.code
    if isinstance(problem, BaseException) and verbose >= 2:
        traceback.print_exception(problem, file=sys.stderr)
    if isinstance(problem, (str, FusekitError)):
        text = " ".join(str(problem).split())
    elif isinstance(problem, OSError) and problem.strerror:
        text = f"{problem.strerror}{f': {problem.filename}' if problem.filename else ''}"
    else:
        # Not one of ours, so most likely the user's model: name the type, its message may say little without.
        text = f"{type(problem).__name__}: {' '.join(str(problem).split())} (--debug shows where)"
    print(f"error: {text if len(text) <= _LONGEST else text[:_LONGEST] + ' ...'}", file=sys.stderr)
    return DIFFERENT if isinstance(problem, VerificationError) else BAD


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {' '.join(str(message).removeprefix('fusekit: ').split())}", file=sys.stderr)
