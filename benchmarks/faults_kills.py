"""Kills of `fusekit export` at random moments: what is left beside the target, and what the next run makes of it."""

import os
import signal
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.faults_files import CODE
from benchmarks.faults_forked import Signal, command, here

WIDE = "nn.Conv2d(4, 256, 3), nn.Conv2d(256, 256, 3), nn.ReLU(), nn.Conv2d(256, 8, 1)"  # writing it takes a while
SIGNALS = ("SIGTERM", "SIGHUP", "SIGINT", "SIGKILL")
WORDS = ("export", "nets_for_kills:Net", "out/m.onnx", "--input", "1x3x32x32", "--no-measure", "--quiet")
OLD = b"the old file"
EARLIEST = 0.02  # s: before this the child is not yet in the command


@dataclass(frozen=True)
class Row:
    """One kill. `moment`: its time as part of a whole run. `left`: entries beside the target and in the folder for
    temporary files; `file`: what stands at the target; `after`: what is left after the next run."""

    signal: str
    moment: float
    code: int
    said: str
    left: int
    file: str
    after: int
    next_code: int

    @property
    def as_promised(self) -> bool:
        """The file is whole, nothing is left where a process can clean up, and the next run removes the rest."""
        number = getattr(signal, self.signal)
        died = -number if number == signal.SIGKILL else 128 + number
        quiet = number == signal.SIGKILL or (self.left == 0 and self.said.count("\n") == 1)
        ended = self.code == 0 or (self.code == died and quiet)
        return ended and self.file != "broken" and self.after == 0 and self.next_code == 0


def rows(count: int, seed: int, folder: Path) -> Iterator[Row]:
    """`count` kills, each of a run that replaces an old file, and after each of them another run."""
    (folder / "nets_for_kills.py").write_text(CODE.replace("nn.Conv2d(4, 2, 1)", WIDE))
    out, spare = folder / "out", folder / "temporary"
    out.mkdir()
    spare.mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(spare), None
    os.chdir(folder)
    here(WORDS)
    ours = (out / "m.onnx").read_bytes()
    whole = statistics.median(command(WORDS, folder).seconds for _ in range(3))
    source = Random(seed)
    for number in range(count):
        name = SIGNALS[number % len(SIGNALS)]
        after = source.uniform(EARLIEST, whole)
        (out / "m.onnx").write_bytes(OLD)
        ended = command(WORDS, folder, stop=Signal(getattr(signal, name), after))
        left, file = _left(out, spare), _file(out / "m.onnx", ours)
        following = command(WORDS, folder)
        yield Row(name, round(after / whole, 2), ended.code, ended.err, left, file, _left(out, spare), following.code)


def _left(out: Path, spare: Path) -> int:
    entries = (entry.name for folder in (out, spare) for entry in folder.iterdir())
    return sum(name != "m.onnx" and not name.startswith("torchinductor") for name in entries)  # torch's own folder


def _file(path: Path, ours: bytes) -> str:
    content = path.read_bytes() if path.exists() else b""
    return "old" if content == OLD else "new" if content == ours else "broken"


def table(found: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of Markdown, by signal."""
    yield (
        "| signal | kills | ended before | left something | old file whole | new file whole | broken "
        "| left after the next run | as promised |"
    )
    yield "|---" * 9 + "|"
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(row.signal, []).append(row)
    for name, rows_of in groups.items():
        files = [row.file for row in rows_of]
        cells = (
            *(len(rows_of), sum(row.code == 0 for row in rows_of), sum(row.left > 0 for row in rows_of)),
            *(files.count("old"), files.count("new"), files.count("broken")),
            *(sum(row.after > 0 for row in rows_of), sum(row.as_promised for row in rows_of)),
        )
        yield f"| {name} | {' | '.join(map(str, cells))} |"
