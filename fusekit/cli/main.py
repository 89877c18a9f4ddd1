"""The commands and their options. A mistake in them gives one line on stderr and exit code 2, before any work starts.

Importing torch takes seconds, and help, completion and typing errors do not need it. So this file and those that it
imports do not import torch. The work is done in `fusekit.cli.commands`, which is imported only when it is needed; this
is the only late import.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fusekit.cli.console import BAD, Screen, complain
from fusekit.cli.flatten import flatten
from fusekit.cli.hints import helped
from fusekit.cli.options import (
    Ends,
    EndsOption,
    EqualizeOption,
    FileTargetOption,
    FolderArgument,
    Form,
    Gate,
    KeptOnnxArgument,
    LayerArgument,
    ManifestArgument,
    MaybeOtherArgument,
    Measuring,
    Model,
    NoMeasureOption,
    OnDataSet,
    OnnxArgument,
    OptionalTargetOption,
    OtherArgument,
    Paper,
    ProgramArgument,
    Rules,
    Talk,
    TargetOption,
    Timing,
    ToleranceOption,
    Workers,
)
from fusekit.cli.sample_grammar import check_output
from fusekit.cli.stopped import Stopped, reason, stop_cleanly
from fusekit.version import __version__


class OneLineGroup(TyperGroup):
    """The group of commands. Its error messages are one line, where Typer would print the usage in a box."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command, then exit with its code; return the code if `standalone_mode` is False."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except (KeyboardInterrupt, Stopped) as error:
            code = complain(error)
        except typer.Abort:
            code = complain(KeyboardInterrupt())
        except Exception as error:
            # The base class of Typer's usage errors moved between its releases, but all of them have this method.
            told = getattr(error, "format_message", None)
            if told is None:
                raise
            # without any arguments, the help was shown and is enough
            code = complain(helped(told())) if told() else BAD
        if standalone_mode:
            sys.exit(code or 0)
        return code


app = typer.Typer(
    name="fusekit",
    cls=OneLineGroup,
    help="Exact algebraic optimization of PyTorch models, and verified ONNX.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Register the function as a command; the fields of its groups become its options."""
    return app.command()(flatten(function))


@_command
def export(
    *,
    model: Model,
    out: OnnxArgument,
    target: TargetOption = "onnxruntime",
    rules: Rules,
    measuring: Measuring,
    form: Form,
    io: EndsOption = Ends.interleaved,
    equalize: EqualizeOption = False,
    tolerance: ToleranceOption = None,
    paper: Paper,
    talk: Talk,
) -> None:
    """Load, optimize, export to ONNX, and validate against the original."""
    model.check()
    if equalize:
        model.must_be_real()
    path = check_output(out, ".onnx", model.files())
    choices = {"target": target, "equalize": equalize, **rules.words(), **measuring.words()}
    page = paper.path(*model.files())
    ends = {"page": page, "io": io.value, "tolerance": tolerance, **form.words()}
    _run(talk, lambda commands, screen: commands.export(model, path, screen, **choices, **ends))


@_command
def optimize(
    *,
    model: Model,
    out: ProgramArgument,
    target: OptionalTargetOption = None,
    rules: Rules,
    measuring: Measuring,
    form: Form,
    tolerance: ToleranceOption = None,
    paper: Paper,
    talk: Talk,
) -> None:
    """Load, optimize, validate, and write the program as a torch.export archive, or an ONNX file as one again."""
    model.check(fed=not model.is_file)
    path = check_output(out, ".onnx" if model.is_file else ".pt2", model.files())
    page = paper.path(*model.files())
    choices = {"page": page, **rules.words(), **measuring.words(), **({"target": target} if target else {})}
    if model.is_file:
        ends = {"tolerance": tolerance, **form.words()}
        _run(talk, lambda commands, screen: commands.optimize(model, path, screen, **ends, **choices), of_files=True)
    form.must_be_empty()
    _run(talk, lambda commands, screen: commands.optimize(model, path, screen, tolerance=tolerance, **choices))


@_command
def inspect(*, model: Model, target: OptionalTargetOption = None, talk: Talk) -> None:
    """Show layers, receptive fields and MACs, and which rewrites would be applied or refused, and why."""
    model.check(fed=False)
    words = {"target": target} if target else {}
    _run(talk, lambda commands, screen: commands.inspect(model, screen, **words), of_files=model.is_file)


@_command
def explain(
    *, model: Model, layer: LayerArgument, target: OptionalTargetOption = None, measuring: Measuring, talk: Talk
) -> None:
    """Say why a layer was, or was not, rewritten: laws, side conditions, prices, times. Writes nothing."""
    model.check(fed=False)
    words = {**({"target": target} if target else {}), **measuring.words()}
    _run(talk, lambda commands, screen: commands.explain(model, layer, screen, **words), of_files=model.is_file)


@_command
def diff(*, model: Model, other: OtherArgument, paper: Paper, talk: Talk) -> None:
    """Compare the operators and weights of two models: ONNX files, archives, factories. Runs neither."""
    theirs = model.like(other)
    for each in (model, theirs):
        if not each.is_file or (model.is_file and theirs.is_file):
            each.check(fed=False)
    page = paper.path(*model.files(), *theirs.files())
    _run(talk, lambda commands, screen: commands.diff(model, theirs, screen, page=page), room="comparing_commands")


@_command
def bisect(
    *,
    model: Model,
    other: MaybeOtherArgument = None,
    target: FileTargetOption = "onnxruntime",
    only: Annotated[
        list[str] | None,
        typer.Option("--pass", metavar="NAME", help="Use only this pass, where rewrites are halved. Can be repeated."),
    ] = None,
    tolerance: ToleranceOption = None,
    talk: Talk,
) -> None:
    """Find where the results of two models part, by halving: the operator, or the rewrite. Exit code 1 if they do."""
    theirs = None if other is None else model.like(other)
    if theirs is None and model.is_file:
        raise typer.BadParameter("missing; SOURCE is an ONNX file, so a second one is needed", param_hint="'OTHER'")
    for each in (model, theirs):
        if each is not None and (not each.is_file or (model.is_file and theirs is not None and theirs.is_file)):
            each.check(fed=not each.is_file)
    words = {"target": target, "passes": only, "tolerance": tolerance}
    _run(talk, lambda commands, screen: commands.bisect(model, theirs, screen, **words), room="comparing_commands")


@_command
def validate(
    *,
    model: Model,
    candidate: OnnxArgument,
    target: FileTargetOption = "onnxruntime",
    tolerance: ToleranceOption = None,
    on: OnDataSet,
    paper: Paper,
    talk: Talk,
) -> None:
    """Compare a checkpoint, or an ONNX file, with an ONNX file made of it, also on a data set. Exit code 1 if the
    numbers differ."""
    on.check(model)
    model.check(fed=not model.is_file and on.data is None)
    if not Path(candidate).exists():
        raise typer.BadParameter(f"{candidate}: no such file", param_hint="'OUT.onnx'")
    page = paper.path(*model.files(), candidate)
    if on.data is not None:
        its = {"target": target, "tolerance": tolerance, "page": page, "scheduler": on.scheduler, **on.words()}
        _run(
            talk, lambda commands, screen: commands.validate(model, Path(candidate), screen, **its), room="data_command"
        )
    words = (model, Path(candidate), target)
    _run(talk, lambda commands, screen: commands.validate(*words, screen, tolerance, page), of_files=model.is_file)


@_command
def bench(
    *,
    model: Model,
    out: KeptOnnxArgument = None,
    rules: Rules,
    form: Form,
    tolerance: ToleranceOption = None,
    timing: Timing,
    gate: Gate,
    paper: Paper,
    talk: Talk,
) -> None:
    """Measure latency before and after, in PyTorch and in ONNX Runtime, and compare with other optimizers. With
    --fail-below, compare two ONNX files: exit code 1 if the second one is slower."""
    model.check(fed=not model.is_file and gate.fail_below is None)
    if gate.fail_below is not None:
        unused: dict[str, object] = {
            "--pass": rules.only,
            "--strict": rules.strict,
            "--opset": form.opset,
            "--static": form.static,
        }
        unused |= {"--tolerance": tolerance, "--compile": timing.compiled, "--report": paper.report}
        gate.check(model, out, unused)
        pair = (model, Path(str(out)), gate.fail_below, timing)
        _run(talk, lambda commands, screen: commands.speed(*pair, screen), room="comparing_commands")
    path = None if out is None else check_output(out, ".onnx", model.files())
    words = {"tolerance": tolerance, "page": paper.path(*model.files()), **form.words(), **rules.words()}
    kept = (model, path, timing)
    _run(talk, lambda commands, screen: commands.bench(*kept, screen, **words), of_files=model.is_file)


@_command
def batch(
    *,
    manifest: ManifestArgument,
    folder: FolderArgument,
    workers: Workers,
    no_measure: NoMeasureOption = False,
    talk: Talk,
) -> None:
    """Export and validate many models, by many processes or on a Dask cluster. Run it again to go on."""
    workers.check()
    words = {**workers.words(), "measure": not no_measure}
    _run(
        talk, lambda commands, screen: commands.batch(Path(manifest), Path(folder), workers.scheduler, screen, **words)
    )


@_command
def doctor(*, talk: Talk) -> None:
    """Say what is installed and what is missing, and try the core. Exit code 0 if the core works."""
    _run(talk, lambda commands, screen: commands.doctor(screen), room="doctor_command")


@_command
def passes(*, talk: Talk) -> None:
    """List the passes by stage, with their laws and options, and the runtimes."""
    _run(talk, lambda commands, screen: commands.passes(screen))


def _version(asked: bool) -> None:
    if asked:
        print(f"fusekit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass


def _run(talk: Talk, work: Callable[[Any, Screen], int], *, of_files: bool = False, room: str = "commands") -> NoReturn:
    """Do the work and exit with its code. The code of a model may raise anything, even SystemExit(0); all of it counts
    as an error. `of_files`: use the commands for ONNX files in place of those for models; `room`: the file of the
    command."""
    commands = f"fusekit.cli.{'file_commands' if of_files else room}"
    screen = Screen(talk.quiet, talk.machine, 2 if talk.debug else talk.verbose)
    try:
        code = int(work(import_module(commands), screen))
    except (Exception, SystemExit, KeyboardInterrupt, Stopped) as error:
        code = complain(reason(error), screen.verbose)
    raise typer.Exit(code)


def main() -> None:
    """The console command."""
    stop_cleanly()
    app()


if __name__ == "__main__":
    main()
