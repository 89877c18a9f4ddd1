"""The measurement of `fusekit bench`: latency before and after, on all runtimes, and of other tools.

    speed-up(v) = median over the rounds of  t(original) / t(v)

In each round, every version of the network runs once, so that a slow moment of the machine affects all of them. The
speed-up is measured against the original in its faster memory format. The original runs twice in each round; the ratio
of its two times shows the noise. The first call of a runtime in a round is not counted, because the threads of the
previous runtime may still occupy the cores. A call shorter than SHORT is repeated several times in a row and the mean
is taken, because a single call would mostly measure the state of the caches.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fusekit.bench import competitors
from fusekit.bench.contenders import Side, Version
from fusekit.model import Inputs, computing_threads
from fusekit.page import Timing
from fusekit.runtimes.timing import Call, Times, interleaved

SHORT = 3.0  # ms
_AGAIN, _SETTLING, _TURNING = "(the original again)", "(settling)", "(settling, backwards)"


@dataclass(frozen=True)
class Row:
    """The measurements of one version. `median`, `p95`: milliseconds. `speedup`: how many times faster it is than the
    original on the same runtime; `spread`: half the interquartile range of that. `bytes`: of the parameters and buffers
    of a module, or of a file."""

    runtime: str
    version: str
    side: Side
    median: float | None = None
    p95: float | None = None
    speedup: float | None = None
    spread: float | None = None
    bytes: int | None = None
    failure: str = ""


@dataclass(frozen=True)
class Bench:
    """The rows of the table and how they were measured. `noise`: for each runtime, the speed-up of the original over
    itself, which would be 1 without noise."""

    rows: tuple[Row, ...]
    noise: dict[str, float]
    rounds: int
    threads: int
    batch: int | None
    missing: tuple[str, ...] = ()

    def of(self, runtime: str, side: Side) -> list[Row]:
        """The versions of one runtime and one side that ran, fastest first."""
        ran = [row for row in self.rows if (row.runtime, row.side) == (runtime, side) and row.median is not None]
        return sorted(ran, key=lambda row: row.median or 0.0)

    def timings(self) -> list[Timing]:
        """The rows for a page."""
        return [
            Timing(
                row.runtime,
                row.version,
                row.median,
                row.p95,
                "" if row.speedup is None else f"{row.speedup:.2f} ± {row.spread:.2f}",
                row.side is Side.FUSEKIT,
                row.failure,
            )
            for row in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """The benchmark as a dict, for JSON."""
        return asdict(self)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False)
        table.add_column("runtime", no_wrap=True)
        table.add_column("version", no_wrap=True)
        for heading in ("median ms", "p95 ms", "speed-up", "MB"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", overflow="fold")
        for row in self.rows:
            style = "bold" if row.side is Side.FUSEKIT else None
            ratio = "" if row.speedup is None else f"{row.speedup:.2f} ± {row.spread:.2f}"
            size = "" if row.bytes is None else f"{row.bytes / 1e6:.2f}"
            cells = (row.runtime, row.version, _ms(row.median), _ms(row.p95), ratio, size)
            table.add_row(*cells, Text(row.failure, style="yellow"), style=style)
        noise = ", ".join(f"{runtime} {ratio:.2f}" for runtime, ratio in self.noise.items())
        batch = "" if self.batch is None else f"batch {self.batch}, "
        notes = [
            f"{self.threads} thread{'s' * (self.threads != 1)}, {batch}{self.rounds} interleaved rounds; "
            f"the original over itself: {noise}",
            "MB: parameters and buffers of a module, or the size of the file",
        ]
        if self.missing:
            notes.append(f"not installed: {', '.join(self.missing)}")
        return Group(table, *map(Text, notes))


@contextlib.contextmanager
def running_on(threads: int | None) -> Iterator[int]:
    """A context manager: compute with this number of threads, by default the number that torch has now."""
    with computing_threads(threads or torch.get_num_threads()):
        yield torch.get_num_threads()


def measure(
    found: Sequence[Version], inputs: Inputs, rounds: int = 25, seconds: float = 10.0, turning: bool = False
) -> Bench:
    """Time all versions in turn, `rounds` times. There are fewer rounds, but at least three, if they would take longer
    than `seconds`. `turning`: every second round goes backwards, so that no version gains by its place."""
    calls: dict[str, Call] = {}
    for runtime in dict.fromkeys(version.runtime for version in found):
        running = {v.name: v.call for v in found if v.runtime == runtime and v.call is not None}
        if not running:
            continue
        originals = [v.call for v in found if v.runtime == runtime and v.side is Side.ORIGINAL and v.call is not None]
        last = list(running.values())[-1]
        group = {_SETTLING: last, **running} | ({_AGAIN: originals[0]} if originals else {})
        group |= {_TURNING: last} if turning else {}
        calls |= {f"{runtime}: {name}": call for name, call in group.items()}
    many = {name: math.ceil(SHORT / each.median) for name, each in interleaved(calls, 1).items()}
    taken_by = interleaved(
        {name: _repeated(call, many[name]) for name, call in calls.items()}, rounds, seconds, turning=turning
    )
    times = {name: Times(tuple(ms / many[name] for ms in each.rounds)) for name, each in taken_by.items()}
    rows, noise = [], {}
    for version in found:
        row = Row(version.runtime, version.name, version.side, bytes=version.bytes, failure=version.failure)
        taken = times.get(f"{version.runtime}: {version.name}")
        if taken is not None:
            before = [times[f"{v.runtime}: {v.name}"] for v in found if _original_beside(v, version)]
            row = replace(row, median=taken.median, p95=taken.p95)
            if before:
                ratio = over(min(before, key=lambda each: each.median), taken)
                row = replace(row, speedup=ratio.median, spread=ratio.spread * ratio.median)
                noise[version.runtime] = over(before[0], times[f"{version.runtime}: {_AGAIN}"]).median
        rows.append(row)
    made = min((len(each.rounds) for each in times.values()), default=0)
    sizes = [tensor.shape[0] for tensor in inputs.tensors() if tensor.dim()]
    return Bench(
        tuple(rows), noise, made, torch.get_num_threads(), sizes[0] if sizes else None, tuple(competitors.missing())
    )


def over(original: Times, other: Times) -> Times:
    """The speed-up of `other` in each round."""
    return Times(tuple(a / b for a, b in zip(original.rounds, other.rounds, strict=True)))


def _repeated(call: Call, times: int) -> Call:
    def run() -> None:
        for _ in range(times):
            call()

    return call if times == 1 else run


def _original_beside(version: Version, other: Version) -> bool:
    return version.runtime == other.runtime and version.side is Side.ORIGINAL and version.call is not None


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
