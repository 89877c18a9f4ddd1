"""The commands that compare two models: what differs, where their results part, and which is faster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import nn

from fusekit.bench.contenders import file_pair
from fusekit.bench.gate import verdicts
from fusekit.bench.measure import measure, running_on
from fusekit.cli.commands import check, open_model, parsed
from fusekit.cli.console import DIFFERENT, OK, Screen, Steps, complain
from fusekit.cli.options import Model, Timing
from fusekit.comparing.bisect import bisect as parting
from fusekit.comparing.diff import diff as differences
from fusekit.errors import FusekitError
from fusekit.grafting import inputs_for
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME
from fusekit.sampling.draw import draw_for_file


def diff(model: Model, other: Model, screen: Screen, *, page: Path | None = None) -> int:
    """Show how two models differ.

    Args:
        model, other: where they come from; the example inputs are those of the first.
        screen: where to show results.
        page: the file to write both graphs to as a page; None: none.
    """
    with screen.progress(3) as steps:
        ours, example = _opened(model, steps)
        theirs, _ = _opened(replace(other, input=None), steps)
        steps.begin("comparing")
        found = replace(differences(ours, theirs, example), names=_names(model, other))
    if page is not None:
        found.to_html(page)
    screen.show(found)
    if page is not None:
        screen.show(Text(f"wrote {page}", style="bold green"))
    screen.emit({"command": "diff", **parsed(found.to_json())})
    return OK


def bisect(model: Model, other: Model | None, screen: Screen, **words: Any) -> int:
    """Show where the results of two models part. The exit code is 1 if they do.

    Args:
        model, other: where they come from; None: the other is the optimized model. The inputs are those of the first.
        screen: where to show results.
        words: the other arguments of `fusekit.bisect`.
    """
    with screen.progress(3) as steps:
        check({"passes": words["passes"]})
        ours, example = _opened(model, steps)
        theirs = None if other is None else _opened(replace(other, input=None), steps)[0]
        steps.begin("looking for where they part")
        found = parting(ours, theirs, example, **words)
        if other is not None:
            found = replace(found, names=_names(model, other))
    screen.show(found)
    screen.emit({"command": "bisect", **parsed(found.to_json())})
    return OK if found.ok else DIFFERENT


def speed(model: Model, new: Path, bound: float, timing: Timing, screen: Screen) -> int:
    """Time two ONNX files on the same inputs. The exit code is 1 if the new one is slower than the bound allows.

    Args:
        model: where the old file is, and what both are fed.
        new: the new file.
        bound: the smallest speed-up over the old file that is allowed.
        timing: how to measure.
        screen: where to show results.
    """
    old = Path(model.source)
    with screen.progress(3) as steps, running_on(timing.threads):
        steps.begin("loading")
        loaded = ONNX_RUNTIME.load(old)
        inputs, names = inputs_for(loaded, draw_for_file(model.samples, loaded, model.seed) if model.samples else None)
        found = file_pair(old, new, inputs, names, notify=steps.say)
        for before, after in zip(found[::2], found[1::2], strict=True):
            if before.call is not None and after.call is None:
                raise FusekitError(f"{new} does not run in {after.runtime} as {old} does: {after.failure}")
        if all(before.call is None for before in found[::2]):
            raise FusekitError(f"{old} does not run: {found[0].failure}")
        steps.begin("measuring")
        measured = measure(found, inputs, timing.rounds, timing.seconds, turning=True)
    decided = verdicts(measured, bound)
    slower = [verdict for verdict in decided if not verdict.ok]
    screen.show(measured, "", *decided)
    result = {"command": "bench", "ok": not slower, "old": str(old), "new": str(new)}
    screen.emit({**result, "verdicts": [each.to_dict() for each in decided], "bench": measured.to_dict()})
    if not slower:
        return OK
    complain(f"{new} is slower than {old}: {'; '.join(map(str, slower))}")
    return DIFFERENT


def _opened(model: Model, steps: Steps) -> tuple[nn.Module | Path, Any]:
    """The model, or the path of the file that it is; its example inputs, or None."""
    if not model.is_file:
        module, example = open_model(model, steps)
        return module, example if model.samples else None
    path = Path(model.source)
    return path, draw_for_file(model.samples, ONNX_RUNTIME.load(path), model.seed) if model.samples else None


def _names(model: Model, other: Model) -> tuple[str, str]:
    """What both are called: as they were given, without the folders of a file."""
    ours, theirs = (source if ":" in source else Path(source).name for source in (model.source, other.source))
    return ours, theirs
