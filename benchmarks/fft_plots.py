"""Speed-up against the kernel's size, and who wins where: one panel a family, one figure a runtime."""

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

OURS, OTHERS = "#1b6ca8", ("#d95f02", "#7570b3", "#66a61e", "#e7298a", "#8c564b")
RUNTIMES = {
    "PyTorch": (
        FUSEKIT,
        {"torch direct": DIRECT, FFT_CONV: [FFT_CONV], FFTCONV: [FFTCONV], JULIUS: [JULIUS], SCIPY: [SCIPY]},
    ),
    "ONNX Runtime": (
        FUSEKIT_ONNX,
        {"Conv": ONNX_DIRECT[:1], "Conv, 1D as 2D": ONNX_DIRECT[1:], "operator DFT": [ONNX_DFT]},
    ),
}


def families(cases: ByCase) -> list[str]:
    return list(dict.fromkeys(case.family for case in cases))


def plot_speed_up(cases: ByCase, where: Path, ending: str) -> None:
    """For each other the time over fusekit's, geometric mean at each kernel size, a dot for each configuration."""
    for runtime, (ours, others) in RUNTIMES.items():
        names = [
            name for name in families(cases) if any(ours in rows for case, rows in cases.items() if case.family == name)
        ]
        figure, panels = _panels(names, f"speed-up over others in {runtime}")
        for axes, family in zip(panels, names, strict=True):
            for (label, contenders), colour in zip(others.items(), OTHERS, strict=False):
                found: dict[int, list[float]] = defaultdict(list)
                for case, rows in cases.items():
                    value = ratio(rows, contenders, ours) if case.family == family else None
                    if value is not None:
                        found[case.kernel].append(value)
                kernels = sorted(found)
                if not kernels:
                    continue
                axes.plot(
                    kernels, [geometric_mean(found[k]) for k in kernels], color=colour, label=label, linewidth=1.2
                )
                dots = [(k, value) for k in kernels for value in found[k]]
                axes.scatter(*zip(*dots, strict=True), s=9, color=colour)
            axes.set(xscale="log", yscale="log", title=family)
            axes.axhline(1.0, color="black", linewidth=0.8)
            axes.grid(True, which="major", linewidth=0.3)
        figure.supxlabel("taps an axis")
        figure.supylabel("their time / fusekit's")
        _legend(figure, panels)
        save(figure, where / f"fft-speed-up-{_short(runtime)}-{ending}.svg")


def plot_winners(cases: ByCase, where: Path, ending: str) -> None:
    """Colour: the fastest; number: the best other's time over fusekit's."""
    for runtime, (ours, others) in RUNTIMES.items():
        labels, colours = ["fusekit", *others], [OURS, *OTHERS]
        names = [
            name for name in families(cases) if any(ours in rows for case, rows in cases.items() if case.family == name)
        ]
        figure, panels = _panels(names, f"the fastest in {runtime}, and the best other's time / fusekit's", height=2.6)
        for axes, family in zip(panels, names, strict=True):
            _winners(
                axes,
                {case: rows for case, rows in cases.items() if case.family == family and ours in rows},
                ours,
                others,
                colours,
            )
            axes.set_title(family)
        for label, colour in zip(labels, colours, strict=False):
            panels[0].scatter([], [], marker="s", color=colour, label=label)
        _legend(figure, panels)
        save(figure, where / f"fft-winners-{_short(runtime)}-{ending}.svg")


def _winners(axes: Axes, cases: ByCase, ours: str, others: dict[str, Sequence[str]], colours: Sequence[str]) -> None:
    kernels = sorted({case.kernel for case in cases})
    settings = list(dict.fromkeys(case.setting for case in cases))
    grid = [[float("nan")] * len(kernels) for _ in settings]
    for case, rows in cases.items():
        ratios = [ratio(rows, contenders, ours) for contenders in others.values()]
        known = {i: value for i, value in enumerate(ratios) if value is not None}
        row, column = settings.index(case.setting), kernels.index(case.kernel)
        if not known:
            continue
        best = min(known, key=lambda i: known[i])
        grid[row][column] = 0 if known[best] >= 1 else best + 1
        axes.text(column, row, f"{known[best]:.2g}", ha="center", va="center", fontsize=7, color="white")
    axes.imshow(grid, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5, aspect="auto")
    axes.set_xticks(range(len(kernels)), map(str, kernels), fontsize=7)
    axes.set_yticks(range(len(settings)), settings, fontsize=7)


def _panels(names: list[str], title: str, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.0 * columns, height * rows + 0.9), layout="constrained")
    figure.suptitle(title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[len(names) :]:
        spare.set_axis_off()
    return figure, panels[: len(names)]


def _legend(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, object] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=6)


def _short(runtime: str) -> str:
    return runtime.split()[0].lower().replace("pytorch", "torch")
