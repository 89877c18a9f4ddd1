"""Plots the speed-up by kernel size, and who is fastest where: one panel per family, one figure per runtime."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

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
)
from benchmarks.fft_goals import ByCase, geometric_mean, ratio
from benchmarks.record import save

COLOURS = ("#1b6ca8", "#d95f02", "#7570b3", "#66a61e", "#e7298a", "#8c564b")  # fusekit first
OTHERS = COLOURS[1:]
BY_FFT = {name: (name,) for name in (FFT_CONV, FFTCONV, JULIUS, SCIPY)}
RUNTIMES: dict[str, tuple[str, dict[str, Sequence[str]]]] = {
    "PyTorch": (FUSEKIT, {"torch direct": DIRECT, **BY_FFT}),
    "ONNX Runtime": (
        FUSEKIT_ONNX,
        {"Conv": ONNX_DIRECT[:1], "Conv, 1D as 2D": ONNX_DIRECT[1:], "operator DFT": (ONNX_DFT,)},
    ),
}


def by_family(cases: ByCase, ours: str) -> dict[str, ByCase]:
    """The configurations that `ours` has run, grouped by family."""
    found: dict[str, ByCase] = defaultdict(dict)
    for case, rows in cases.items():
        if ours in rows:
            found[case.family][case] = rows
    return found


def plot_speed_up(cases: ByCase, where: Path, ending: str) -> None:
    """For each other way, its time divided by fusekit's: the geometric mean at each kernel size, and a dot for each
    configuration."""
    for runtime, (ours, others) in RUNTIMES.items():
        families = by_family(cases, ours)
        figure, panels = _panels(len(families), f"speed-up over others in {runtime}")
        for axes, (family, part) in zip(panels, families.items(), strict=True):
            for (label, contenders), colour in zip(others.items(), OTHERS, strict=False):
                found: dict[int, list[float]] = defaultdict(list)
                for case, rows in part.items():
                    value = ratio(rows, contenders, ours)
                    if value is not None:
                        found[case.kernel].append(value)
                kernels = sorted(found)
                if not kernels:
                    continue
                means = [geometric_mean(found[kernel]) for kernel in kernels]
                axes.plot(kernels, means, color=colour, label=label, linewidth=1.2)
                dots = [(kernel, value) for kernel in kernels for value in found[kernel]]
                axes.scatter(*zip(*dots, strict=True), s=9, color=colour)
            axes.set(xscale="log", yscale="log", title=family)
            kernels = sorted({case.kernel for case in part})
            axes.set_xticks(kernels, [f"{kernel:,}" for kernel in kernels], fontsize=7, rotation=45)
            axes.set_xticks([], minor=True)
            axes.axhline(1.0, color="black", linewidth=0.8)
            axes.grid(True, which="major", linewidth=0.3)
        figure.supylabel("their time / fusekit's, against taps an axis")
        _legend(figure, panels)
        save(figure, where / f"fft-speed-up-{_short(runtime)}-{ending}.svg")


def plot_winners(cases: ByCase, where: Path, ending: str) -> None:
    """The colour shows the fastest; the number is the best other time divided by fusekit's."""
    for runtime, (ours, others) in RUNTIMES.items():
        families = by_family(cases, ours)
        title = f"the fastest in {runtime}, and the best other's time / fusekit's"
        figure, panels = _panels(len(families), title, height=2.6)
        for axes, (family, part) in zip(panels, families.items(), strict=True):
            _winners(axes, part, ours, others)
            axes.set_title(family)
        for label, colour in zip(["fusekit", *others], COLOURS, strict=False):
            panels[0].scatter([], [], marker="s", color=colour, label=label)
        _legend(figure, panels)
        save(figure, where / f"fft-winners-{_short(runtime)}-{ending}.svg")


def _winners(axes: Axes, cases: ByCase, ours: str, others: dict[str, Sequence[str]]) -> None:
    kernels = sorted({case.kernel for case in cases})
    settings = list(dict.fromkeys(case.setting for case in cases))
    grid = [[float("nan")] * len(kernels) for _ in settings]
    for case, rows in cases.items():
        ratios = [ratio(rows, contenders, ours) for contenders in others.values()]
        known = {i: value for i, value in enumerate(ratios) if value is not None}
        if not known:
            continue
        row, column = settings.index(case.setting), kernels.index(case.kernel)
        best = min(known, key=lambda i: known[i])
        grid[row][column] = 0 if known[best] >= 1 else best + 1
        axes.text(column, row, f"{known[best]:.2g}", ha="center", va="center", fontsize=7, color="white")
    axes.imshow(grid, cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=len(COLOURS) - 0.5, aspect="auto")
    axes.set_xticks(range(len(kernels)), [f"{kernel:,}" for kernel in kernels], fontsize=7, rotation=45)
    axes.set_yticks(range(len(settings)), settings, fontsize=7)


def _panels(count: int, title: str, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.0 * columns, height * rows + 0.9), layout="constrained")
    figure.suptitle(title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, panels[:count]


def _legend(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, object] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=6)


def _short(runtime: str) -> str:
    return runtime.split()[0].lower().replace("pytorch", "torch")
