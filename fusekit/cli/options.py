"""The words of the command line, each said once: groups of options that several commands take. Without torch.

A group is a dataclass; `flatten.py` shows its fields as arguments and options. `words()` of a group are the keyword
arguments which `fusekit.optimize` and `fusekit.export` have for it.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from fusekit.cli.sample_grammar import Sample, check_factory, check_tolerance, parse_arguments, parse_inputs
from fusekit.runtimes import known

_SOURCE = "A .pt2 archive, package.module:factory, file.py:factory, a state dict with --factory, or an .onnx file."
_INPUT = "Example input: 1x3x224x224, x=1x3x224x224:uint8 (by name, with a dtype), or a .npy or .npz file. Repeat."


@dataclass(frozen=True)
class Model:
    """Where the model comes from, and what it is fed."""

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE, show_default=False)]
    input: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="INPUT", help=_INPUT)] = None
    weights: Annotated[str | None, typer.Option(metavar="FILE[#ENTRY]", help="The weights of the factory's model.")] = (
        None
    )
    factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", callback=check_factory, help="What builds a state dict's model."),
    ] = None
    arg: Annotated[
        list[str] | None, typer.Option("--arg", metavar="NAME=VALUE", help="An argument of the factory. Repeat.")
    ] = None
    unsafe: Annotated[bool, typer.Option("--unsafe-pickle", help="Unpickle SOURCE: this can run any code in it.")] = (
        False
    )
    seed: Annotated[int, typer.Option(min=0, help="The seed of the random inputs.")] = 0

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The example inputs as they were asked for. BadParameter says which is wrong."""
        return parse_inputs(self.input or ())

    @cached_property
    def arguments(self) -> dict[str, object]:
        """The arguments of the factory by name. BadParameter says which is wrong."""
        return parse_arguments(self.arg or ())

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, by its name; what is in it is looked at when it is read."""
        return self.source.endswith(".onnx")

    def check(self, *, fed: bool = True) -> None:
        """BadParameter where a word has no meaning, or where no input is given though the model has to be fed."""
        told = {"weights": self.weights, "factory": self.factory, "arg": self.arg, "unsafe-pickle": self.unsafe}
        for option, value in told.items():
            if value and self.is_file:
                raise typer.BadParameter("an ONNX file has its weights in it", param_hint=f"'--{option}'")
        if fed and not self.input:
            raise typer.BadParameter("missing; give an example input such as 1x3x224x224", param_hint="'--input'")
        # Both are worked out here and kept, so that a slip is told before torch is imported.
        _ = self.samples, self.arguments

    def files(self) -> list[str | Path | None]:
        """What is read, and so must not be written."""
        return [self.source, self.weights, *(sample.path for sample in self.samples)]


@dataclass(frozen=True)
class Rules:
    """Which rewrites are tried, and what happens to one that fails its check."""

    only: Annotated[list[str] | None, typer.Option("--pass", metavar="NAME", help="Only these passes. Repeat.")] = None
    strict: Annotated[bool, typer.Option("--strict", help="Fail on a rewrite that does not verify.")] = False

    def words(self) -> dict[str, Any]:
        return {"passes": tuple(self.only or ()) or None, "strict": self.strict}


@dataclass(frozen=True)
class Measuring:
    """Whether realizations are timed, and for how many seconds."""

    no_measure: Annotated[bool, typer.Option("--no-measure", help="Judge by formulas alone; time nothing.")] = False
    budget: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For timing what was never timed here.")] = (
        60.0
    )

    def words(self) -> dict[str, Any]:
        return {"measure": not self.no_measure, "budget": self.budget}


@dataclass(frozen=True)
class Form:
    """The form of an ONNX file."""

    opset: Annotated[int | None, typer.Option(min=1, metavar="N", help="The ONNX operator set.")] = None
    static: Annotated[bool, typer.Option("--static", help="Fix all sizes to those of the example.")] = False

    def words(self) -> dict[str, Any]:
        return {"opset": self.opset, "dynamic": not self.static}

    def must_be_empty(self) -> None:
        """BadParameter if anything is said of a form where no ONNX file is written."""
        if self.opset is not None or self.static:
            option = "--static" if self.static else "--opset"
            raise typer.BadParameter("only ONNX files have it; SOURCE is none", param_hint=f"'{option}'")


@dataclass(frozen=True)
class Timing:
    """How `fusekit bench` measures."""

    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads; default: torch's.")] = None
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Interleaved rounds.")] = 25
    seconds: Annotated[float, typer.Option(min=0, metavar="S", help="Fewer rounds, at least 3, beyond this time.")] = (
        10.0
    )
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile as well: slow to build, needs a C++ compiler.")
    ] = False


@dataclass(frozen=True)
class Talk:
    """How much is said, and to whom."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False
    machine: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Show refusals with their reasons; -vv also tracebacks.")
    ] = 0
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks, as with -vv.")] = False


class Ends(str, Enum):
    """What stands for a complex tensor at the ends of a file."""

    interleaved = "interleaved"
    planar = "planar"
    pair = "pair"


def _known(target: str | None) -> str | None:
    """One of the runtimes that there are, ours and those of other packages."""
    if target is not None and target not in known():
        raise typer.BadParameter(f"{target!r} is not one of {', '.join(known())}.")
    return target


OnnxArgument = Annotated[str, typer.Argument(metavar="OUT.onnx", help="The ONNX file.", show_default=False)]
KeptOnnxArgument = Annotated[
    str | None, typer.Argument(metavar="[OUT.onnx]", help="Where the ONNX file is kept.", show_default=False)
]
ProgramArgument = Annotated[
    str, typer.Argument(metavar="OUT", help="The file to write: OUT.pt2, of an ONNX file OUT.onnx.", show_default=False)
]


def _target(what: str) -> Any:
    return typer.Option(help=f"The runtime {what}: {', '.join(known())}.", metavar="RUNTIME", callback=_known)


OptionalTargetOption = Annotated[str | None, _target("to optimize for (by default the usual one)")]
TargetOption = Annotated[str, _target("to optimize for")]
FileTargetOption = Annotated[str, _target("that runs the file")]
EndsOption = Annotated[Ends, typer.Option("--io", help="What stands for complex tensors at the ends of the file.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        metavar="T", callback=check_tolerance, help="Largest relative error; default: from the original's own."
    ),
]
