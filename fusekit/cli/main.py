"""The command line: words to calls. Every mistake is one line on stderr and exit code 2, before any work starts.

Torch takes seconds to import, and help, completion and slips of the keyboard do not need it. So this file and those it
imports do without, and `fusekit.cli.commands`, which does the work, is imported when there is work: the one late
import.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fusekit.cli import options as words
from fusekit.cli.console import BAD, Screen, complain
from fusekit.cli.sample_grammar import check_factory, check_output, check_tolerance, parse_arguments, parse_inputs
from fusekit.version import __version__


class OneLineGroup(TyperGroup):
    """The group of commands, complaining in one line where Typer would draw a box around the usage."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; in the end, exit with the code, or return it where the caller said so."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except KeyboardInterrupt as error:
            code = complain(error)
        except typer.Abort:
            code = complain(KeyboardInterrupt())
        except Exception as error:
            # Typer's usage errors have a base class that moved between its releases; all have this method.
            told = getattr(error, "format_message", None)
            if told is None:
                raise
            code = complain(told()) if told() else BAD  # without any words the help was shown, and is enough
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


@app.command()
def export(
    source: words.SourceArgument,
    out: words.OnnxArgument,
    input: words.InputOption = None,
    weights: words.WeightsOption = None,
    factory: words.FactoryOption = None,
    arg: words.ArgOption = None,
    unsafe: words.UnsafeOption = False,
    seed: words.SeedOption = 0,
    target: words.TargetOption = "onnxruntime",
    only: words.PassOption = None,
    opset: words.OpsetOption = None,
    static: words.StaticOption = False,
    io: words.EndsOption = words.Ends.interleaved,
    tolerance: words.ToleranceOption = None,
    strict: words.StrictOption = False,
    no_measure: words.NoMeasureOption = False,
    budget: words.BudgetOption = 60.0,
    quiet: words.QuietOption = False,
    machine: words.JsonOption = False,
    verbose: words.VerboseOption = 0,
    debug: words.DebugOption = False,
) -> None:
    """Load, optimize, export to ONNX, and validate against the original."""
    model = _model(source, factory, weights, arg, unsafe, input, seed, needed=True)
    path = check_output(out, ".onnx", _files(model))
    check_tolerance(tolerance)
    screen = _screen(quiet, machine, verbose, debug)
    options = {"opset": opset, "static": static, "tolerance": tolerance, "io": io.value}

    def work(commands: Any) -> int:
        choices = commands.Choices(target, tuple(only or ()), strict, not no_measure, budget)
        return int(commands.export(commands.Model(**model), path, choices, screen, **options))

    _run(work, screen)


@app.command()
def optimize(
    source: words.SourceArgument,
    out: words.ProgramArgument,
    input: words.InputOption = None,
    weights: words.WeightsOption = None,
    factory: words.FactoryOption = None,
    arg: words.ArgOption = None,
    unsafe: words.UnsafeOption = False,
    seed: words.SeedOption = 0,
    target: words.TargetOption = "torch",
    only: words.PassOption = None,
    tolerance: words.ToleranceOption = None,
    strict: words.StrictOption = False,
    no_measure: words.NoMeasureOption = False,
    budget: words.BudgetOption = 60.0,
    quiet: words.QuietOption = False,
    machine: words.JsonOption = False,
    verbose: words.VerboseOption = 0,
    debug: words.DebugOption = False,
) -> None:
    """Load, optimize, validate, and write the PyTorch program as a torch.export archive."""
    model = _model(source, factory, weights, arg, unsafe, input, seed, needed=True)
    path = check_output(out, ".pt2", _files(model))
    check_tolerance(tolerance)
    screen = _screen(quiet, machine, verbose, debug)

    def work(commands: Any) -> int:
        choices = commands.Choices(target, tuple(only or ()), strict, not no_measure, budget)
        return int(commands.optimize(commands.Model(**model), path, choices, screen, tolerance))

    _run(work, screen)


@app.command()
def inspect(
    source: words.SourceArgument,
    input: words.InputOption = None,
    weights: words.WeightsOption = None,
    factory: words.FactoryOption = None,
    arg: words.ArgOption = None,
    unsafe: words.UnsafeOption = False,
    seed: words.SeedOption = 0,
    target: words.TargetOption = "torch",
    quiet: words.QuietOption = False,
    machine: words.JsonOption = False,
    verbose: words.VerboseOption = 0,
    debug: words.DebugOption = False,
) -> None:
    """Layers, receptive field, MACs, and what would be rewritten and what not, and why."""
    model = _model(source, factory, weights, arg, unsafe, input, seed, needed=False)
    screen = _screen(quiet, machine, verbose, debug)
    _run(lambda commands: int(commands.inspect(commands.Model(**model), target, screen)), screen)


@app.command()
def validate(
    source: words.SourceArgument,
    candidate: words.OnnxArgument,
    input: words.InputOption = None,
    weights: words.WeightsOption = None,
    factory: words.FactoryOption = None,
    arg: words.ArgOption = None,
    unsafe: words.UnsafeOption = False,
    seed: words.SeedOption = 0,
    tolerance: words.ToleranceOption = None,
    quiet: words.QuietOption = False,
    machine: words.JsonOption = False,
    verbose: words.VerboseOption = 0,
    debug: words.DebugOption = False,
) -> None:
    """Compare a checkpoint with an exported file. Exit code 1 if the numbers differ."""
    model = _model(source, factory, weights, arg, unsafe, input, seed, needed=True)
    check_tolerance(tolerance)
    if not Path(candidate).exists():
        raise typer.BadParameter(f"{candidate}: no such file", param_hint="'OUT.onnx'")
    screen = _screen(quiet, machine, verbose, debug)
    _run(lambda commands: int(commands.validate(commands.Model(**model), Path(candidate), screen, tolerance)), screen)


@app.command()
def bench(
    source: words.SourceArgument,
    out: words.KeptOnnxArgument = None,
    input: words.InputOption = None,
    weights: words.WeightsOption = None,
    factory: words.FactoryOption = None,
    arg: words.ArgOption = None,
    unsafe: words.UnsafeOption = False,
    seed: words.SeedOption = 0,
    only: words.PassOption = None,
    opset: words.OpsetOption = None,
    static: words.StaticOption = False,
    tolerance: words.ToleranceOption = None,
    strict: words.StrictOption = False,
    threads: words.ThreadsOption = None,
    rounds: words.RoundsOption = 25,
    seconds: words.SecondsOption = 10.0,
    compiled: words.CompileOption = False,
    quiet: words.QuietOption = False,
    machine: words.JsonOption = False,
    verbose: words.VerboseOption = 0,
    debug: words.DebugOption = False,
) -> None:
    """Latency before and after, in PyTorch and in ONNX Runtime, beside other optimizers."""
    model = _model(source, factory, weights, arg, unsafe, input, seed, needed=True)
    path = None if out is None else check_output(out, ".onnx", _files(model))
    check_tolerance(tolerance)
    screen = _screen(quiet, machine, verbose, debug)
    options = {"opset": opset, "static": static, "tolerance": tolerance}

    def work(commands: Any) -> int:
        choices = commands.Choices("onnxruntime", tuple(only or ()), strict)
        timing = commands.Timing(threads, rounds, seconds, compiled)
        return int(commands.bench(commands.Model(**model), path, choices, screen, timing, **options))

    _run(work, screen)


@app.command()
def passes(quiet: words.QuietOption = False, machine: words.JsonOption = False) -> None:
    """The passes by stage, with their laws and options."""
    screen = Screen(quiet, machine)
    _run(lambda commands: int(commands.passes(screen)), screen)


def _version(asked: bool) -> None:
    if asked:
        print(f"fusekit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    pass


def _model(
    source: str,
    factory: str | None,
    weights: str | None,
    arguments: list[str] | None,
    unsafe: bool,
    inputs: list[str] | None,
    seed: int,
    *,
    needed: bool,
) -> dict[str, Any]:
    """The fields of `commands.Model`, checked: as a dict, because the class lives where torch is."""
    if needed and not inputs:
        raise typer.BadParameter("missing; give an example input such as 1x3x224x224", param_hint="'--input'")
    return {
        "source": source,
        "factory": check_factory(factory),
        "weights": weights,
        "arguments": parse_arguments(arguments or ()),
        "unsafe": unsafe,
        "samples": parse_inputs(inputs or ()),
        "seed": seed,
    }


def _files(model: dict[str, Any]) -> list[str | Path | None]:
    return [model["source"], model["weights"], *(sample.path for sample in model["samples"])]


def _screen(quiet: bool, machine: bool, verbose: int, debug: bool) -> Screen:
    return Screen(quiet, machine, 2 if debug else verbose)


def _run(work: Callable[[Any], int], screen: Screen) -> NoReturn:
    """Do the work. A model is anyone's code and may raise anything, even SystemExit: none of it passes for success."""
    try:
        code = work(import_module("fusekit.cli.commands"))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        code = complain(error, screen.verbose)
    raise typer.Exit(code)


def main() -> None:
    """The console command."""
    app()


if __name__ == "__main__":
    main()
