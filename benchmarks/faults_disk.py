"""Disks that are full at every write, files that may not grow, no room for another file: exit code 2, one line, and the
old file whole.

A small tmpfs has room for one page more each time, until the command succeeds; the same with the number of files. Where
no tmpfs can be mounted, only the size of files is limited.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults_files import CODE
from benchmarks.faults_forked import Ended, forked, here
from fusekit.cli.main import main

PAGE = 4096
OLD = b"the old file"
WIDE = "nn.Conv2d(4, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)"  # a file of some pages
MOST = 80  # pages, or files, that are tried
WRITTEN, REFUSED = GOOD = ("written", "one line, exit code 2, old file whole")


@dataclass(frozen=True)
class Row:
    """One run. `limit`: what is limited; `room`: pages, files or bytes."""

    command: str
    limit: str
    room: int
    outcome: str
    said: str


def rows(folder: Path) -> Iterator[Row]:
    """Every command that writes a file, under every limit, until it has room enough."""
    (folder / "nets_for_disks.py").write_text(CODE.replace("nn.Conv2d(4, 2, 1)", WIDE))
    ends = ("--input", "2x3x12x16", "--no-measure", "--quiet")
    commands = {
        "export to .onnx": ("export", "nets_for_disks:Net", "m.onnx", *ends),
        "optimize to .pt2": ("optimize", "nets_for_disks:Net", "m.pt2", *ends),
        "optimize .onnx": ("optimize", str(folder / "good.onnx"), "m.onnx", "--no-measure", "--quiet"),
    }
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    disk, spare = folder / "disk", folder / "temporary"
    disk.mkdir()
    spare.mkdir()
    os.chdir(spare)
    here(["export", "nets_for_disks:Net", str(folder / "good.onnx"), *ends])
    for name, words in commands.items():
        here([*words[:2], f"warm{Path(words[2]).suffix}", *words[3:]])
        largest = (spare / f"warm{Path(words[2]).suffix}").stat().st_size
        for size in (0, 1, 100, *range(1024, largest + 1024, max(512, largest // 16))):
            yield _row(name, "bytes of a file", size, _run(words, disk, spare, file_size=size), disk, words[2])
        for limit, temporary in (("pages of the disk", spare), ("pages, temporary files too", disk)):
            yield from _mounted(name, words, disk, temporary, limit, "size", PAGE)
        yield from _mounted(name, words, disk, spare, "files on the disk", "nr_inodes", 1)


def _mounted(
    name: str, words: tuple[str, ...], disk: Path, temporary: Path, limit: str, option: str, unit: int
) -> Iterator[Row]:
    """Runs on a tmpfs whose size, or number of files, grows by one until the command succeeds."""
    for room in range(2, MOST):  # the old file and the root of the disk take two
        mount = ["mount", "-t", "tmpfs", "-o", f"{option}={room * unit}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return
        try:
            row = _row(name, limit, room, _run(words, disk, temporary), disk, words[2])
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        yield row
        if row.outcome == WRITTEN:
            return


def _run(words: tuple[str, ...], disk: Path, temporary: Path, file_size: int | None = None) -> Ended:
    for earlier in disk.iterdir():
        earlier.unlink()
    (disk / words[2]).write_bytes(OLD)
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None

    def work() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        sys.argv = ["fusekit", *words]
        main()

    return forked(work, disk)


def _row(name: str, limit: str, room: int, ended: Ended, disk: Path, target: str) -> Row:
    left = sorted(path.name for path in disk.iterdir())
    content = (disk / target).read_bytes()
    whole = "old" if content == OLD else "new" if ended.code == 0 else "broken"
    said = " ".join(ended.err.split())
    if left != [target]:
        outcome = f"left {', '.join(left)}"
    elif ended.code == 0 and whole == "new":
        outcome = WRITTEN
    elif ended.refused and whole == "old":
        outcome = REFUSED
    else:
        outcome = f"exit code {ended.code}, {whole} file"
    return Row(name, limit, room, outcome, said)


def table(found: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of Markdown, by command and limit."""
    yield f"| command | what is short | runs | {WRITTEN} | {REFUSED} | anything else |"
    yield "|---|---|---:|---:|---:|---:|"
    groups: dict[tuple[str, str], list[str]] = {}
    for row in found:
        groups.setdefault((row.command, row.limit), []).append(row.outcome)
    for (command, limit), outcomes in groups.items():
        written, refused = outcomes.count(WRITTEN), outcomes.count(REFUSED)
        yield f"| {command} | {limit} | {len(outcomes)} | {written} | {refused} | {len(outcomes) - written - refused} |"
