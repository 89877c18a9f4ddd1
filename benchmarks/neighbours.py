"""Runs the tests of tests/neighbours with the packages that are installed, and writes what they say as a table.

    python -m benchmarks.neighbours

A line's verdict is that of its tests: what a test declares holds only if it passed.
"""

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fusekit.runtimes.measurements import processor

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "neighbours.md"
HEAD = """# Neighbours

Written by `python -m benchmarks.neighbours`: the tests of `tests/neighbours` with the packages named here.
{machine}. What to do in each case: [neighbours.md](../neighbours.md).

"layers" are convolutions, norms and linear layers. "error" is the largest difference from the model as it was,
relative to its largest value.

| package | version | what | result | advice | figures |
|---|---|---|---|---|---|
"""


class Table:
    """A plugin of pytest: collects the lines that tests declare."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        declared = [value for name, value in report.user_properties if name == "neighbour"]
        if not declared or (report.when != "call" and report.passed):
            return
        figures = "; ".join(str(value) for name, value in report.user_properties if name == "told")
        line: Any = declared[0]
        self.lines.setdefault(line, []).append((report.outcome, figures))
        self.write()  # after each test: a run that is stopped leaves what it has seen

    def write(self) -> None:
        machine = f"{processor()}, Python {platform.python_version()}, onnx {version('onnx')}"
        PAGE.write_text(HEAD.format(machine=machine) + "\n".join(self.rows()) + "\n", encoding="utf-8")

    def rows(self) -> list[str]:
        rows = []
        for (package, what, advice, no), results in self.lines.items():
            outcomes = {outcome for outcome, _ in results}
            if "failed" in outcomes:
                result = "FAILED"
            elif "skipped" in outcomes:
                result = "not installed"
            else:
                result = "does not work" if no else "works with advice" if advice else "works"
            figures = "<br>".join(text for _, text in results if text)
            rows.append(f"| {package} | {version(package)} | {what} | {result} | {advice or no} | {figures} |")
        return rows


def version(package: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""


def main() -> int:
    os.environ.setdefault("FUSEKIT_MEASURE", "0")
    table = Table()
    files = sorted(map(str, (ROOT / "tests" / "neighbours").glob("test_*.py")), reverse=True)  # torch's own first
    code = pytest.main([*files, "--neighbours", "-p", "no:cacheprovider"], plugins=[table])
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
