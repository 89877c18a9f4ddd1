"""The work of each command, after its arguments have been parsed: load, compute, validate, write, show. Imports torch.

Each function returns the exit code. A file is written only if the numbers agree.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from rich.table import Table
from rich.text import Text
from torch import nn

from fusekit import api
from fusekit.batching.batch import batch as do_batch
from fusekit.batching.cluster import connected
from fusekit.batching.summary import PAGE
from fusekit.bench import Bench, competitors, versions
from fusekit.bench.measure import measure, running_on
from fusekit.checkpoint import Kind, recognise
from fusekit.checkpoint.archive.save_program import save_program
from fusekit.checkpoint.load import load
from fusekit.cli.console import DIFFERENT, OK, Screen, Steps, complain
from fusekit.cli.options import Model, Timing
from fusekit.errors import FusekitError
from fusekit.files import scratch
from fusekit.inspecting.explain import explain as explained
from fusekit.inspecting.inspect import inspect as look_into
from fusekit.ir.operators import OPERATORS
from fusekit.model import Inputs, export_program
from fusekit.model.own_copy import own_copy
from fusekit.model.preprocess import Preprocess
from fusekit.onnx_export.write_file import check_opset
from fusekit.optimizing.channels_last import NAME as CHANNELS_LAST
from fusekit.optimizing.laws import OTHERS, stages
from fusekit.optimizing.laws import passes as passes_by_name
from fusekit.optimizing.options import select
from fusekit.passes import CHOOSE
from fusekit.report import Report
from fusekit.runtimes import RUNTIMES, runtimes
from fusekit.runtimes.onnx_runtime import SILENT
from fusekit.runtimes.pytorch import PyTorch
from fusekit.sampling.draw import Example, draw, try_out
from fusekit.validation import Validation
from fusekit.validation import validate as judge

# A session is told so itself, but some of its errors are also logged by what is shared by all; this process is ours.
onnxruntime.set_default_logger_severity(SILENT)


def export(model: Model, out: Path, screen: Screen, *, page: Path | None = None, **words: Any) -> int:
    """Optimize a checkpoint and export it to an ONNX file, which is compared with the original before it is written.

    Args:
        model: where the model comes from, and its example inputs.
        out: the file to write.
        screen: where to show results.
        page: the file to write the report to as a page; None: none.
        words: the other arguments of `fusekit.export`.
    """
    check(words)
    with screen.progress(3) as steps:
        original, example = open_model(model, steps)
        steps.begin("optimizing, exporting, validating")
        validation = api.export(original, out, example, progress=steps.detail, **words)
    return conclude("export", out, validation, screen, page=page)


def optimize(
    model: Model, out: Path, screen: Screen, *, tolerance: float | None, page: Path | None = None, **words: Any
) -> int:
    """Optimize a checkpoint and write it as a torch.export archive, after it is compared with the original.

    Args:
        model: where the model comes from, and its example inputs.
        out: the file to write.
        screen: where to show results.
        tolerance: the largest relative error of the whole model; None: derived from the original's rounding error.
        page: the file to write the report to as a page; None: none.
        words: the other arguments of `fusekit.optimize`.
    """
    check(words)
    with screen.progress(5) as steps:
        original, example = open_model(model, steps)
        steps.begin("optimizing")
        fast = api.optimize(original, example, progress=steps.detail, **words)
        steps.begin("validating")
        validation = replace(judge(original, fast, example, tolerance=tolerance), report=_report_of(fast))
        if validation.ok:
            steps.begin("writing")
            save_program(export_program(fast, Inputs.of(example)), out)
    return conclude("optimize", out, validation, screen, page=page)


def inspect(model: Model, screen: Screen, target: str = PyTorch.name) -> int:
    """Show the layers of the model and what would be rewritten."""
    with screen.progress(3) as steps:
        original, example = open_model(model, steps)
        steps.begin("inspecting")
        inspection = look_into(original, example if model.samples else None, target)
    screen.show(inspection)
    screen.emit(parsed(inspection.to_json()))
    return OK


def explain(model: Model, layer: str, screen: Screen, target: str = PyTorch.name, **words: Any) -> int:
    """Tell what became of one layer, and why. `words`: the other arguments of `fusekit.inspecting.explain.explain`."""
    with screen.progress(3) as steps:
        original, example = open_model(model, steps)
        steps.begin("optimizing")
        explanation = explained(original, layer, example if model.samples else None, target, **words)
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
    """Compare a checkpoint with an exported file. The exit code is 1 if the numbers differ."""
    identity = recognise(candidate)
    if identity.kind is not Kind.ONNX:
        raise FusekitError(f"{candidate} is {identity.what}; expected an ONNX model")
    with screen.progress(3) as steps:
        original, example = open_model(model, steps)
        steps.begin("validating")
        validation = judge(original, candidate, example, tolerance=tolerance, target=target)
    return conclude("validate", candidate, validation, screen, page=page)


def bench(
    model: Model,
    out: Path | None,
    timing: Timing,
    screen: Screen,
    *,
    passes: Sequence[str] | None,
    strict: bool,
    opset: int | None,
    dynamic: bool,
    tolerance: float | None,
    page: Path | None = None,
) -> int:
    """Measure latency before and after on all runtimes, and of other tools. The file is written as by `export`.

    Args:
        model: where the model comes from, and its example inputs.
        out: the ONNX file to keep; None: keep none.
        timing: how to measure.
        screen: where to show results.
        passes, strict, opset, dynamic, tolerance: as for `fusekit.export`.
        page: the file to write the report to as a page; None: none.
    """
    rules: dict[str, Any] = {"passes": passes, "strict": strict}
    form: dict[str, Any] = {"opset": opset, "dynamic": dynamic}
    check({**rules, **form})
    with (
        screen.progress(6) as steps,
        running_on(timing.threads),
        scratch() as room,
    ):
        original, example = open_model(model, steps)
        steps.begin("optimizing, exporting, validating")
        ours = out or room / "fusekit.onnx"
        rules["progress"] = steps.detail
        validation = api.export(original, ours, example, tolerance=tolerance, **rules, **form)
        measured = None
        if validation.ok:
            steps.begin("optimizing for PyTorch")
            fast = api.optimize(original, example, **rules)
            inputs = Inputs.of(example)
            last = own_copy(original).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            fast_last = api.optimize(last, inputs.channels_last(), **rules)
            steps.begin("building other versions")
            others: dict[str, Any] = {"compiled": competitors.COMPILED if timing.compiled else {}, "notify": steps.say}
            found = versions(original, fast, ours, inputs, room, fast_last=fast_last, **others, **form)
            steps.begin("measuring")
            measured = measure(found, inputs, timing.rounds, timing.seconds)
    return conclude("bench", out, validation, screen, measured, page)


def batch(manifest: Path, folder: Path, scheduler: str | None, screen: Screen, **words: Any) -> int:
    """Do all items of a manifest. The exit code is 1 if any of them is not valid.

    Args:
        manifest: the file that lists them.
        folder: for the results.
        scheduler: the address of a Dask scheduler; None: processes of this machine.
        screen: where to show results.
        words: the other arguments of `fusekit.batch`.
    """
    with screen.items() as tell, ExitStack() as held:
        client = None if scheduler is None else held.enter_context(connected(scheduler))
        found = do_batch(manifest, folder, client=client, progress=tell, **words)
    screen.show(found)
    screen.emit({"command": "batch", **found.to_dict()})
    if found.ok:
        return OK
    complain(f"{len(found.failures)} of {len(found.results)} items are not valid; see {found.folder / PAGE}")
    return DIFFERENT


def passes(screen: Screen) -> int:
    """Show the stages in order, each with its passes, their laws and options; then the runtimes to optimize for."""
    with screen.progress(1):  # what is broken in other packages is told in a line
        known, targets = passes_by_name(), runtimes()
        OPERATORS.all()
    table = Table(box=None, pad_edge=False)
    theirs = OTHERS.names()
    for heading in ("stage", "pass", "law", "options", *(("package",) if theirs else ())):
        table.add_column(heading, overflow="fold")
    rows: list[dict[str, Any]] = []
    for stage in stages(known):
        for rule in stage.passes:
            law = (type(rule).__doc__ or "").strip().split("\n")[0]
            options = {option.name: getattr(rule, option.name) for option in fields(rule) if option.name != "name"}
            spelled = ", ".join(f"{name}={value}" for name, value in options.items())
            package = OTHERS.package(rule.name) if rule.name in theirs else "fusekit"
            table.add_row(stage.name, rule.name, Text(law), Text(spelled), *((package,) if theirs else ()))
            texts = {name: str(value) for name, value in options.items()}
            rows.append({"stage": stage.name, "name": rule.name, "law": law, "options": texts, "package": package})
    law = "Whole regions in the memory format channels_last, where measuring shows that it is faster (torch)."
    table.add_row(CHOOSE, CHANNELS_LAST, Text(law), "")
    rows.append({"stage": CHOOSE, "name": CHANNELS_LAST, "law": law, "options": {}, "package": "fusekit"})
    listed = [{"name": r.name, "title": r.title, "missing": r.missing()} for r in targets]
    lines = [Text(f"target {t['name']}: {t['title']}{', ' * bool(t['missing'])}{t['missing']}") for t in listed]
    readers = [{"name": name, "package": OPERATORS.package(name)} for name in OPERATORS.names()]
    lines += [Text(f"operators {each['name']}: read by {each['package']}") for each in readers]
    left_out = [line for registry in (OTHERS, RUNTIMES, OPERATORS) for line in registry.left_out()]
    lines += [Text(f"left out: {line}") for line in left_out]
    screen.show(table, "", *lines)
    screen.emit({"command": "passes", "passes": rows, "targets": listed, "operators": readers, "left_out": left_out})
    return OK


def open_model(model: Model, steps: Steps) -> tuple[nn.Module, Example]:
    """Load the model, put its preprocessing before it, make its example inputs and run it once, so that an error in the
    model is reported as such."""
    steps.begin("loading")
    loaded = load(
        model.source,
        factory=model.factory,
        weights=model.weights,
        arguments=model.arguments,
        unsafe=model.unsafe,
    )
    if model.preprocess:
        loaded = Preprocess(**model.preprocess)(loaded)
    if not model.samples:
        return loaded, ()
    steps.begin("running the original")
    example = draw(model.samples, loaded, model.seed)
    try_out(loaded, example)
    return loaded, example


def _report_of(result: nn.Module) -> Report | None:
    report = getattr(result, "report", None)
    return report if isinstance(report, Report) else None


def check(words: Mapping[str, Any], *, of_file: bool = False) -> None:
    """Check the arguments that need torch before anything is loaded: whether the operator set can be written, unless
    the model is an ONNX file, which is converted, and whether the passes exist."""
    if not of_file:
        check_opset(words.get("opset"))
    select([name for name in words["passes"] or () if name != CHANNELS_LAST])


def conclude(
    command: str,
    file: Path | None,
    validation: Validation,
    screen: Screen,
    measured: Bench | None = None,
    page: Path | None = None,
) -> int:
    """Show the results, and write them to `page`. Returns the exit code: 0 if the numbers agree."""
    report = validation.report
    if page is not None:
        validation.to_html(page, () if measured is None else measured.timings(), "" if file is None else file.name)
    wrote = command != "validate" and file is not None
    if command != "validate":
        screen.show(screen.report(report, validation.errors))
    whole = screen.verbose or command == "validate"
    screen.show(*(() if command == "validate" else ("",)), validation if whole else validation.brief())
    if measured is not None:
        screen.show("", measured)
    if validation.ok and wrote and file is not None:
        screen.show(Text(f"wrote {file} ({file.stat().st_size:,} bytes)", style="bold green"))
    if page is not None:
        screen.show(Text(f"wrote {page}", style="bold green"))
    result: dict[str, Any] = {
        "command": command,
        "ok": bool(validation.ok),
        "file": None if file is None else str(file),
        "validation": parsed(validation.to_json()),
    }
    if command != "validate":
        result["report"] = parsed(report.to_json()) if report else None
    if command == "bench":
        result["bench"] = None if measured is None else measured.to_dict()
    screen.emit(result)
    if validation.ok:
        return OK
    first, *others = validation.failures or ("nothing could be compared",)
    more = f" (and {len(others)} more)" if others else ""
    complain(f"the numbers differ: {first}{more}{f'; {file} was not written' if wrote else ''}")
    return DIFFERENT


def parsed(text: str) -> Any:
    """The parsed JSON, with NaN and infinity replaced by null: they are no valid JSON, and some readers reject them."""
    return json.loads(text, parse_constant=lambda _: None)
