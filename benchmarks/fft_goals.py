"""The goals of the benchmark: how much faster than which other, on which part of the grid."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.fft_contenders import (
    DIRECT,
    FFT_CONV,
    FFTCONV,
    FUSEKIT,
    FUSEKIT_ONNX,
    JULIUS,
    ONNX_DFT,
    ONNX_DIRECT,
    SCIPY,
    UNCACHED,
)
from benchmarks.fft_grid import Case
from benchmarks.fft_measure import Row

ByCase = dict[Case, dict[str, Row]]


def is_long(case: Case) -> bool:
    """True for kernels that are long enough for convolution by FFT."""
    return case.kernel >= {1: 31, 2: 13, 3: 9}[case.n]


def is_depthwise(case: Case) -> bool:
    return case.groups == case.channels


@dataclass(frozen=True)
class Goal:
    """The time of the best of `others` divided by that of `ours`, where `part` holds. Its geometric mean should reach
    `target`, if there is one."""

    name: str
    others: Sequence[str]
    ours: str
    part: Callable[[Case], bool]
    target: float | None = None
    nowhere_slower: bool = False


def _large_depthwise(case: Case) -> bool:
    return case.n == 2 and is_depthwise(case) and case.channels > 1 and case.kernel == 31 and case.size >= 56


def _onnx_depthwise(case: Case) -> bool:
    return case.n == 2 and case.channels > 1 and is_depthwise(case) and case.kernel >= 27


def _onnx_depthwise_1d(case: Case) -> bool:
    return case.n == 1 and case.channels > 1 and is_depthwise(case) and case.kernel >= 27


def _onnx_dense(case: Case) -> bool:
    return case.n == 1 and case.groups == 1 and case.kernel >= 129


def _home(case: Case) -> bool:
    return case.n < 3 and is_long(case)


GOALS = (
    Goal("fft-conv-pytorch, k >= 31 (1D), 13 (2D)", [FFT_CONV], FUSEKIT, _home, 5.0, True),
    Goal("the same, weight not frozen", [FFT_CONV], UNCACHED, _home, None, True),
    Goal("fft-conv-pytorch, 3D, k >= 9", [FFT_CONV], FUSEKIT, lambda case: case.n == 3 and is_long(case)),
    Goal("torch-fftconv, k >= 31 (1D), 13 (2D), 9 (3D)", [FFTCONV], FUSEKIT, is_long, 2.0, True),
    Goal("the same, weight not frozen", [FFTCONV], UNCACHED, is_long, None, True),
    Goal("julius, k >= 31", [JULIUS], FUSEKIT, is_long, 2.0, True),
    Goal("the same, weight not frozen", [JULIUS], UNCACHED, is_long, None, True),
    Goal("oaconvolve, one channel, k >= 31", [SCIPY], FUSEKIT, is_long, 2.0, True),
    Goal("the same, weight not frozen", [SCIPY], UNCACHED, is_long, None, True),
    Goal("torch direct, depthwise 31x31, 56² and larger", DIRECT, FUSEKIT, _large_depthwise, 3.0),
    Goal("torch direct, k >= 31 (1D), 13 (2D), 9 (3D)", DIRECT, FUSEKIT, is_long),
    Goal("ONNX Runtime Conv, depthwise 2D, k >= 27", ONNX_DIRECT[:1], FUSEKIT_ONNX, _onnx_depthwise, 3.0),
    Goal("ONNX Runtime Conv, depthwise 1D, k >= 27", ONNX_DIRECT[:1], FUSEKIT_ONNX, _onnx_depthwise_1d, 3.0),
    Goal("ONNX Runtime Conv, dense 1D, k >= 129", ONNX_DIRECT[:1], FUSEKIT_ONNX, _onnx_dense, 2.0),
    Goal("the same, 1D also written as 2D: depthwise", ONNX_DIRECT, FUSEKIT_ONNX, _onnx_depthwise_1d),
    Goal("the same, 1D also written as 2D: dense", ONNX_DIRECT, FUSEKIT_ONNX, _onnx_dense),
    Goal("ONNX Runtime, by the operator DFT", [ONNX_DFT], FUSEKIT_ONNX, is_long),
)
FLOORS = {"dense and grouped": (2.5, False), "depthwise and one channel": (4.0, True)}


def by_case(rows: Iterable[Row]) -> ByCase:
    found: ByCase = defaultdict(dict)
    for row in rows:
        found[row.case][row.contender] = row
    return found


def ratio(rows: dict[str, Row], others: Sequence[str], ours: str) -> float | None:
    """The best time of the others divided by ours; None if one is missing."""
    times = [row.ms for name in others if (row := rows.get(name)) is not None and row.ms is not None]
    mine = rows.get(ours)
    return min(times) / mine.ms if times and mine is not None and mine.ms is not None else None


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def goal_table(cases: ByCase) -> list[str]:
    """Markdown: one line for each goal. If fusekit must not be slower anywhere, it lists below where it is."""
    lines = ["| against | geometric mean | goal | least | at | slower at |", "|---|---|---|---|---|---|"]
    slower: list[str] = []
    for goal in GOALS:
        parts = ((case, ratio(rows, goal.others, goal.ours)) for case, rows in cases.items() if goal.part(case))
        found = {case: value for case, value in parts if value is not None}
        if not found:
            continue
        worst = min(found, key=lambda case: found[case])
        behind = sorted((case for case in found if found[case] < 1), key=lambda case: found[case])
        mean, wanted = geometric_mean(list(found.values())), f"{goal.target:.0f}" if goal.target else ""
        bold = f"**{mean:.2f}**" if goal.target is None or mean >= goal.target else f"{mean:.2f} (missed)"
        lines.append(
            f"| {goal.name} | {bold} | {wanted} | {found[worst]:.2f} | {worst.name} | {len(behind)} of {len(found)} |"
        )
        if goal.nowhere_slower and behind:
            places = ", ".join(f"{case.name} ({found[case]:.2f})" for case in behind)
            slower.append(f"- {goal.name}, {goal.ours}: slower than {goal.others[0]} at {places}")
    return [*lines, "", *slower]


def floor_table(cases: ByCase) -> list[str]:
    """Markdown: the time divided by the floor of the plan, for kernels that are long enough for FFT."""
    lines = ["| time / floor | geometric mean | goal | least | most | at | within |", "|---|---|---|---|---|---|---|"]
    for ours, where in ((FUSEKIT, "PyTorch"), (FUSEKIT_ONNX, "ONNX Runtime")):
        for name, (limit, depthwise) in FLOORS.items():
            found = {}
            for case, rows in cases.items():
                row = rows.get(ours)
                if row is None or row.ms is None or row.floor is None or is_depthwise(case) != depthwise:
                    continue
                if is_long(case):
                    found[case] = row.ms / row.floor
            if not found:
                continue
            worst = max(found, key=lambda case: found[case])
            values = list(found.values())
            within = sum(value <= limit for value in values)
            mean = geometric_mean(values)
            row_of = f"{mean:.1f} | {limit} | {min(values):.1f} | {found[worst]:.1f} | {worst.name}"
            lines.append(f"| {where}, {name} | {row_of} | {within} of {len(values)} |")
    return lines
