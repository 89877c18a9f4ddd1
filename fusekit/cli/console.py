"""Output and exit codes: results go to stdout, progress and errors to stderr; an error is one line.

    0  done          1  the numbers differ, or a file is too slow          2  bad input, or a model that fails
    130  interrupted          128 + N  stopped by signal N, such as 143 by SIGTERM

With `--json`, stdout has one JSON object and nothing else; what a model prints goes to stderr.
"""

import contextlib
import json
import logging
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fusekit.cli.stopped import Stopped
from fusekit.errors import FusekitError, VerificationError
from fusekit.report import Report

OK, DIFFERENT, BAD, INTERRUPTED = 0, 1, 2, 130
_LONGEST = 600  # characters of a message; some libraries raise errors of a whole page


@dataclass
class Screen:
    """What is shown. `quiet`: only errors. `machine`: JSON instead of text. `verbose`: 1 also shows refused rewrites, 2
    also tracebacks and warnings."""

    quiet: bool = False
    machine: bool = False
    verbose: int = 0

    @contextlib.contextmanager
    def progress(self, steps: int) -> Iterator["Steps"]:
        """A progress bar of `steps` steps on stderr, if that is a terminal. Meanwhile, prints of other code to stdout
        go to stderr."""
        console = Console(stderr=True)
        shown = console.is_terminal and not self.quiet
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with (
            contextlib.redirect_stdout(sys.stderr),
            self._warnings(),
            Progress(*columns, console=console, transient=True, disable=not shown) as bar,
        ):
            yield Steps(bar, bar.add_task("starting", total=steps))

    @contextlib.contextmanager
    def items(self) -> Iterator[Callable[[Any, int, int], None]]:
        """A function to call with (result, how many are done, of how many) after each of many items. It moves a bar on
        stderr; if that is no terminal, it prints a line for each item that is not valid, and for every tenth part."""
        console = Console(stderr=True)
        counts: Counter[str] = Counter()
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        with (
            contextlib.redirect_stdout(sys.stderr),
            self._warnings(),
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal or self.quiet) as bar,
        ):
            task = bar.add_task("starting", total=None)

            def tell(result: Any, done: int, total: int) -> None:
                counts[result.status] += 1
                told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
                bar.update(task, description=f"{told}; last {result.name}", completed=done, total=total)
                if (
                    bar.disable
                    and not self.quiet
                    and (not result.ok or done == total or done % max(1, total // 10) == 0)
                ):
                    reason = f": {result.reason}" if result.reason else ""
                    print(f"{done}/{total} {result.name} {result.status}{reason}", file=sys.stderr)

            yield tell

    def show(self, *parts: RenderableType) -> None:
        """Show tables and text; with `--quiet` or `--json`, show nothing."""
        if not (self.quiet or self.machine):
            console = Console()
            # Piped output has no width. 140 columns instead of the default 80 keep the lines of a report whole.
            (console if console.is_terminal else Console(width=140)).print(Group(*parts))

    def emit(self, result: Mapping[str, Any]) -> None:
        """Print the result as JSON, with `--json` only."""
        if self.machine:
            print(json.dumps(result, indent=2))

    def report(self, report: Report | None, errors: tuple[float, float] | None = None) -> RenderableType:
        """The report on one screen; every line of it if `verbose`. `errors`: as for `Report.brief`."""
        if report is None:
            return Text("not optimized")
        return report if self.verbose else report.brief(errors)

    @contextlib.contextmanager
    def _warnings(self) -> Iterator[None]:
        """Show fusekit's own warnings in one line each. Hide warnings and logs of other libraries, unless `verbose` is
        2."""
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
    """The steps of a command on its progress bar."""

    bar: Progress
    task: Any

    def begin(self, what: str) -> None:
        """Start the next step; the previous one is finished."""
        if self.bar.tasks[0].description != "starting":
            self.bar.advance(self.task)
        self.bar.update(self.task, description=what)

    def say(self, what: str) -> None:
        """Show what the present step is doing."""
        self.bar.update(self.task, description=what)

    def detail(self, stage: str, done: int, total: int) -> None:
        """Show how far the optimizer is in the present step."""
        self.bar.update(self.task, description=f"{stage} {done}/{total}")


def complain(problem: str | BaseException, verbose: int = 0) -> int:
    """Print a problem in one line on stderr. Returns the exit code for it."""
    if isinstance(problem, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(problem, Stopped):
        print(f"error: {problem.told}", file=sys.stderr)
        return problem.code
    if isinstance(problem, BaseException) and verbose >= 2:
        traceback.print_exception(problem, file=sys.stderr)
    if isinstance(problem, (str, FusekitError)):
        text = " ".join(str(problem).split())
    elif isinstance(problem, OSError) and problem.strerror:
        text = f"{problem.strerror}{f': {problem.filename}' if problem.filename else ''}"
    else:
        # Not an error of fusekit, so most likely one of the user's model. Its message may be unclear without its type.
        text = f"{type(problem).__name__}: {' '.join(str(problem).split())} (--debug shows where)"
    print(f"error: {text if len(text) <= _LONGEST else text[:_LONGEST] + ' ...'}", file=sys.stderr)
    return DIFFERENT if isinstance(problem, VerificationError) else BAD


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {' '.join(str(message).removeprefix('fusekit: ').split())}", file=sys.stderr)
