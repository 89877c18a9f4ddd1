"""Mutation testing: draws mutants of the laws and of what checks them, and reports which tests notice each.

    python -m tests.mutate [--count N] [--seed N] [--map FILE] [--run] [WORD ...]

draws N mutants (150), in the shares of AREAS, from files whose name contains a WORD. For each, it runs the tests that
execute its line, the fastest first, until one fails or SECONDS are spent; first with few examples of each property,
then with all. `--map`: where it is kept which test executes which line; if there is no such file, the tests of ROOMS
run once to find out. `--run`: the driver's own check is asked, too: with each mutant of a law, models are optimized
(`RUN_TIME` of tests/plant.py), and the last column tells what happened as there; `-` means that the models do not
notice, mostly because none of them comes by.

A mutant is killed by a test that fails, or by its use of processor time. A survivor computes the same, or a test is
missing. Each mutant runs in a fork of this process, in a frozen copy of the tree, so torch is imported only once.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
import pytest
import torch
from coverage import CoverageData

from tests.mutants import Mutant, drawn
from tests.plant import ROOT, RUN_TIME, copy_to

# What is mutated, and the share of the mutants drawn from it.
AREAS: dict[tuple[str, ...], float] = {
    ("fusekit/algebra/**/*.py",): 0.5,
    ("passes/*.py",): 0.2,
    ("fusekit/rewriting/verify.py",): 0.12,
    ("fusekit/ir/read*.py", "fusekit/ir/spellings/*.py"): 0.18,
}
OURS = ("fusekit", "tests", "__main__")
LAWS = ("fusekit/algebra/", "passes/")
ROOMS = ("tests/algebra", "tests/ir", "tests/passes", "tests/rewriting")
SECONDS = 30  # of tests, by the time that they took when the map was made
PATIENCE = 30  # seconds of processor time until a mutant counts as one that never ends
WAIT = 900  # seconds of the clock, on a machine that does much else
FEW = 20  # examples of each property in the first run


def preload() -> None:
    """Import what the tests import and the tree does not change, so that no child need do so."""
    code = f"import pytest, sys; pytest.main(['--collect-only', '-qq', *{ROOMS}]); print('MODULES', *sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in told.rpartition("MODULES")[2].split():
        if name.partition(".")[0] not in OURS:
            with suppress(Exception):  # some modules are only ever imported by others
                import_module(name)


@dataclass(frozen=True)
class Map:
    """Which tests execute which lines, and how long each takes: `lines[file][line]` are places in `tests`."""

    tests: list[tuple[str, float]]
    lines: dict[str, dict[str, list[int]]]

    def of(self, mutant: Mutant) -> list[str]:
        """The tests to run, the fastest first. A line that runs at import has those that execute any of its file."""
        lines = self.lines.get(mutant.file, {})
        line = next((str(n) for n in range(mutant.line, 0, -1) if str(n) in lines), "")
        places = lines.get(line) or sorted({place for each in lines.values() for place in each})
        names: list[str] = []
        spent = 0.0
        for name, seconds in sorted((self.tests[place] for place in places), key=lambda test: test[1]):
            if names and spent + seconds > SECONDS:
                break
            names.append(name)
            spent += seconds
        return names


def mapped(file: Path | None) -> Map:
    """The map in the file; if there is none, it is made and kept there."""
    if file is not None and file.exists():
        found = json.loads(file.read_text())
        return Map([(name, seconds) for name, seconds in found["tests"]], found["lines"])
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "coverage"
        words = (
            "--cov=fusekit",
            "--cov=passes",
            "--cov-context=test",
            "--cov-report=",
            "--durations=0",
            "--durations-min=0.0",
            "-vv",
        )
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words, *ROOMS]
        told = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COVERAGE_FILE": str(data)}
        )
        made = _map_of(data, told.stdout)
    if file is not None:
        file.write_text(json.dumps({"tests": made.tests, "lines": made.lines}))
    return made


def _map_of(data: Path, told: str) -> Map:
    seconds: Counter[str] = Counter()
    for took, name in re.findall(r"^([\d.]+)s (?:call|setup) +(\S.*)$", told, re.M):
        seconds[name.strip()] += float(took)  # type: ignore[assignment]
    tests = [(name, round(float(took), 3)) for name, took in sorted(seconds.items())]
    places = {name: place for place, (name, _) in enumerate(tests)}
    covered = CoverageData(str(data))
    covered.read()
    lines: dict[str, dict[str, list[int]]] = {}
    for file in covered.measured_files():
        with suppress(ValueError):  # a file outside
            name = str(Path(file).resolve().relative_to(ROOT))
            for line, contexts in covered.contexts_by_lineno(file).items():
                names = {context.split("|")[0] for context in contexts}
                lines.setdefault(name, {})[str(line)] = sorted(places[each] for each in names if each in places)
    return Map(tests, lines)


class Chosen:
    """A plugin of pytest: runs only some tests, in their order, and notes the first that fails."""

    def __init__(self, names: Iterable[str]) -> None:
        self.order = {name: place for place, name in enumerate(names)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda i: self.order[i.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def tested(names: list[str]) -> str:
    """The first test that fails; "" if none does. Called in a child."""
    hypothesis.settings.register_profile("few", max_examples=FEW, deadline=None, derandomize=True)
    files = dict.fromkeys(name.partition("::")[0] for name in names)
    for profile in ("few", "suite"):
        plugin = Chosen(names)
        words = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--hypothesis-profile={profile}")
        code = pytest.main([*words, *files], plugins=[plugin])
        if plugin.failed or code not in (0, 5):
            return plugin.failed or f"pytest ended with {int(code)}"
    return ""


def optimized(_: list[str]) -> str:
    """What the driver says, as in tests/plant.py. Called in a child."""
    names: dict[str, Any] = {"__name__": "run_time", "print": lambda text: names.update(told=text)}
    exec(RUN_TIME, names)
    return str(names["told"])


def forked(work: Callable[[list[str]], str], names: list[str], tree: Path) -> str:
    """What `work` returns in a child whose modules are those of `tree`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        told = "an error"
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
            os.chdir(tree)
            os.environ["PYTHONPATH"] = str(tree)
            sys.path[:] = [str(tree), *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
            for name in [name for name in sys.modules if name.partition(".")[0] in OURS[:2]]:
                del sys.modules[name]
            told = work(names)
        except BaseException as error:
            told = f"{type(error).__name__}: {str(error)[:100]}"
        finally:
            os.write(write, told.encode()[:2000])
            os._exit(0)
    os.close(write)
    until = time.monotonic() + WAIT
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    late = os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) in (signal.SIGXCPU, signal.SIGKILL)
    return "timed out" if late else told


def tried(mutant: Mutant, tests: list[str], tree: Path, number: int, *, run: bool) -> tuple[str, str]:
    """The test that kills it, or ""; and what the driver says of it."""
    file = tree / mutant.file
    source, times = file.read_text(encoding="utf-8"), file.stat()
    try:
        file.write_text(mutant.applied(source), encoding="utf-8")
        later = times.st_mtime + 100 + number  # compiled files are told apart by whole seconds
        os.utime(file, (later, later))
        killed = forked(tested, tests, tree) if tests else ""
        said = forked(optimized, [], tree) if run and mutant.file.startswith(LAWS) else ""
    finally:
        file.write_text(source, encoding="utf-8")
        os.utime(file, (times.st_atime, times.st_mtime))
    return killed, said


def chosen(count: int, seed: int, words: list[str]) -> list[Mutant]:
    """The mutants that are tried, in a random order."""
    found = []
    for patterns, share in AREAS.items():
        files = [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]
        files = [file for file in files if not words or any(word in str(file.relative_to(ROOT)) for word in words)]
        found += drawn(files, ROOT, round(count * share), seed)
    Random(seed).shuffle(found)  # a run that is stopped has a fair sample, too
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--map", type=Path)
    parser.add_argument("--run", action="store_true")
    given = parser.parse_args(arguments)
    preload()
    torch.set_num_threads(1)
    known = mapped(given.map)
    survivors, said = [], Counter[str]()
    found = chosen(given.count, given.seed, given.words)
    print("| mutant | tests | killed by | at run time |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_to(tree)
        for number, mutant in enumerate(found):
            tests = known.of(mutant)
            killed, told = tried(mutant, tests, tree, number, run=given.run)
            name = str(mutant).replace("|", "\\|").replace("\n", " ")
            print(f"| {name} | {len(tests)} | {killed.split('::', 1)[-1] or 'NONE'} | {told} |", flush=True)
            survivors += [] if killed else [mutant]
            said[told] += bool(told)
    print(f"{len(found) - len(survivors)} of {len(found)} killed")
    print("\n".join(f"{count:4} at run time: {told}" for told, count in said.most_common() if told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
