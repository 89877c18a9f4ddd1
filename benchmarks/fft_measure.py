"""Checks and times all contenders of one configuration."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fft_contenders import DIRECT, FUSEKIT, FUSEKIT_ONNX, ONNX_DIRECT, contenders
from benchmarks.fft_floor import Rates, onnx_floor, torch_floor
from benchmarks.fft_grid import Case
from fusekit.runtimes.timing import interleaved

WRONG = 1e-4  # an error in the norm, relative to the output's, that is no rounding
SLOW, TOO_SLOW = 0.1, 2.0  # seconds a call: fewer rounds; no round
HOPELESS = {True: 6e9, False: 6e10}  # multiplications, depthwise or not, that no direct convolution does in that time


@dataclass(frozen=True)
class Row:
    """One contender at one configuration. `ms` is None if it has no time; then `note` says why."""

    case: Case
    contender: str
    ms: float | None = None
    spread: float = 0.0
    rounds: int = 0
    error: float | None = None
    floor: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        case = self.case
        return {
            "family": case.family,
            "channels": case.channels,
            "groups": case.groups,
            "kernel": case.kernel,
            "size": case.size,
            "batch": case.batch,
            "contender": self.contender,
            "ms": "" if self.ms is None else f"{self.ms:.4g}",
            "spread": "" if self.ms is None else f"{self.spread:.2f}",
            "rounds": self.rounds or "",
            "error": "" if self.error is None else f"{self.error:.1e}",
            "floor ms": "" if self.floor is None else f"{self.floor:.3g}",
            "note": self.note,
        }

    @classmethod
    def of(cls, case: Case, read: Mapping[str, str]) -> "Row":
        """The inverse of `as_dict`."""
        ms, spread, rounds, error, floor = (
            float(read[name]) if read[name] else None for name in ("ms", "spread", "rounds", "error", "floor ms")
        )
        return cls(case, read["contender"], ms, spread or 0.0, int(rounds or 0), error, floor, read["note"])


def measure(case: Case, threads: int, rates: Rates, files: Path, rounds: int, seconds: float, least: bool) -> list[Row]:
    """Measure all contenders in one interleaved run. Those that take longer than SLOW are in a second run with fewer
    rounds, with fusekit again as a check; fusekit's time is that of the first run."""
    x, weight, bias = case.tensors()
    expected = case.expected(x, weight, bias)
    quick: dict[str, Callable[[], Tensor]] = {}
    slow: dict[str, Callable[[], Tensor]] = {}
    rows: dict[str, Row] = {}
    for name, make in contenders(case, x, weight, bias, threads, files):
        if name in (*DIRECT, *ONNX_DIRECT) and case.macs > HOPELESS[case.groups == case.channels]:
            rows[name] = Row(case, name, note="not tried: takes seconds")
            continue
        try:
            call = make()
            with torch.inference_mode():
                error, taken = _error(call(), expected), _seconds(call)
        except Exception as problem:
            rows[name] = Row(case, name, note=f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}")
            continue
        note = f"WRONG: error {error:.1e}" if not error < WRONG else ""
        note = note or (f"takes {taken:.1f} s" if taken > TOO_SLOW else "")
        rows[name] = Row(case, name, error=error, note=note)
        if not note:
            (slow if taken > SLOW and name != FUSEKIT else quick)[name] = call
    with torch.inference_mode():
        times = interleaved(quick, rounds, seconds, warm=True)
        if slow:
            times = interleaved({FUSEKIT: quick[FUSEKIT], **slow}, 3, seconds, least=1) | times
    floors = {FUSEKIT: torch_floor, FUSEKIT_ONNX: onnx_floor}
    found = []
    for name, row in rows.items():
        floor = floors[name](case, weight, bias, rates) if name in floors else None
        if name not in times:
            found.append(row)
            continue
        spent = times[name]
        typical = min(spent.rounds) if least else spent.median
        found.append(Row(case, name, typical, spent.spread, len(spent.rounds), row.error, floor, row.note))
    return found


def _seconds(call: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _error(y: Tensor, expected: Tensor) -> float:
    """The relative error in the Euclidean norm; infinite for another shape."""
    if y.shape != expected.shape:
        return float("inf")
    return float((y.double() - expected).norm() / expected.norm())
