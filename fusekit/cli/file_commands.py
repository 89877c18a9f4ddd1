"""What the commands do where the model is an ONNX file: `commands.py` with a file in place of a module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fusekit.bench import file_versions
from fusekit.bench.measure import measure, running_on
from fusekit.cli.commands import check, conclude, parsed
from fusekit.cli.console import OK, Screen
from fusekit.cli.options import Model, Timing
from fusekit.files import scratch
from fusekit.grafting import inputs_for, optimize_onnx, validate_onnx
from fusekit.inspecting.explain import explain_file
from fusekit.inspecting.inspect import inspect_file
from fusekit.runtimes import runtime
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.sampling.draw import draw_for_file


def optimize(model: Model, out: Path, screen: Screen, *, page: Path | None = None, **words: Any) -> int:
    """ONNX file to ONNX file, folded, and compared with the original before it takes its place.

    Args:
        model: where the file is, and what it is fed.
        out: the file to write.
        screen: where to tell.
        page: the file to write the report to as a page; None: none.
        words: the other arguments of `fusekit.optimize_onnx`.
    """
    check(words, of_file=True)
    with screen.progress(2) as steps:
        example = _example(model, words.get("target", ONNX_RUNTIME.name))
        steps.begin("optimizing, validating")
        verdict = optimize_onnx(model.source, out, example, progress=steps.detail, **words)
    return conclude("optimize", out, verdict, screen, page=page)


def inspect(model: Model, screen: Screen, target: str = ONNX_RUNTIME.name) -> int:
    """What the file is made of and what would be rewritten."""
    with screen.progress(2) as steps:
        example = _example(model, target)
        steps.begin("inspecting")
        inspection = inspect_file(model.source, example, target)
    screen.show(inspection)
    screen.emit(parsed(inspection.to_json()))
    return OK


def explain(model: Model, layer: str, screen: Screen, target: str = ONNX_RUNTIME.name, **words: Any) -> int:
    """Tell what became of one node, and why. `words`: the other arguments of `explain_file`."""
    with screen.progress(2) as steps:
        example = _example(model, target)
        steps.begin("optimizing")
        explanation = explain_file(model.source, layer, example, target, **words)
    screen.show(explanation)
    screen.emit(parsed(explanation.to_json()))
    return OK


def validate(
    model: Model,
    candidate: Path,
    target: str,
    screen: Screen,
    tolerance: float | None = None,
    page: Path | None = None,
) -> int:
    """Compare two ONNX files; 1 if the numbers differ."""
    with screen.progress(2) as steps:
        example = _example(model, target)
        steps.begin("validating")
        verdict = validate_onnx(model.source, candidate, example, tolerance=tolerance, target=target)
    return conclude("validate", candidate, verdict, screen, page=page)


def bench(
    model: Model,
    out: Path | None,
    timing: Timing,
    screen: Screen,
    *,
    passes: Sequence[str] | None,
    page: Path | None = None,
    **words: Any,
) -> int:
    """Latency before and after in every runtime of files, beside the others; the file is written as by `optimize`.

    Args:
        model: where the file is, and what it is fed.
        out: where the result is kept; None: nowhere.
        timing: how to measure.
        screen: where to tell.
        page: the file to write the report to as a page; None: none.
        passes, words: other arguments of `fusekit.optimize_onnx`.
    """
    check({"passes": passes, **words}, of_file=True)
    with screen.progress(4) as steps, running_on(timing.threads), scratch() as room:
        example = _example(model, ONNX_RUNTIME.name)
        steps.begin("optimizing, validating")
        ours = out or room / "fusekit.onnx"
        verdict = optimize_onnx(model.source, ours, example, passes=passes, progress=steps.detail, **words)
        measured = None
        if verdict.ok:
            steps.begin("building the others")
            inputs, names = inputs_for(ONNX_RUNTIME.load(model.source), example)
            found = file_versions(Path(model.source), ours, inputs, names, room, notify=steps.say)
            steps.begin("measuring")
            measured = measure(found, inputs, timing.rounds, timing.seconds)
    return conclude("bench", out, verdict, screen, measured, page)


def _example(model: Model, target: str) -> dict[str, torch.Tensor] | None:
    """The inputs that were asked for; None: they are drawn from what the file declares."""
    if not model.samples:
        return None
    return draw_for_file(model.samples, runtime(target).load(model.source), model.seed)
