"""The words of the command line, each spelled once: what its commands take. Without torch."""

from enum import Enum
from typing import Annotated

import typer

from fusekit.runtimes import known


class Ends(str, Enum):
    """What stands for a complex tensor at the ends of a file."""

    interleaved = "interleaved"
    planar = "planar"
    pair = "pair"


_SOURCE = "A .pt2 archive, package.module:factory, file.py:factory, or a state dict with --factory."
_INPUT = "Example input: [name=]1x3x224x224[:dtype], or a .npy or .npz file. Repeat for more."
SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE, show_default=False)]
KeptOnnxArgument = Annotated[
    str | None, typer.Argument(metavar="[OUT.onnx]", help="Where the ONNX file is kept.", show_default=False)
]
OnnxArgument = Annotated[str, typer.Argument(metavar="OUT.onnx", help="The ONNX file.", show_default=False)]
ProgramArgument = Annotated[str, typer.Argument(metavar="OUT.pt2", help="The file to write.", show_default=False)]
InputOption = Annotated[list[str] | None, typer.Option("--input", "-i", metavar="INPUT", help=_INPUT)]
WeightsOption = Annotated[str | None, typer.Option(metavar="FILE[#ENTRY]", help="The weights of the factory's model.")]
FactoryOption = Annotated[str | None, typer.Option(metavar="MODULE:NAME", help="What builds a state dict's model.")]
ArgOption = Annotated[list[str] | None, typer.Option("--arg", metavar="NAME=VALUE", help="An argument of the factory.")]
UnsafeOption = Annotated[bool, typer.Option("--unsafe-pickle", help="Unpickle SOURCE: this can run any code in it.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The seed of the random inputs.")]


def _known(target: str) -> str:
    """One of the runtimes that there are, ours and those of other packages."""
    if target not in known():
        raise typer.BadParameter(f"{target!r} is not one of {', '.join(known())}.")
    return target


_TARGET = f"The runtime to optimize for: {', '.join(known())}."
TargetOption = Annotated[str, typer.Option(help=_TARGET, metavar="RUNTIME", callback=_known)]
PassOption = Annotated[list[str] | None, typer.Option("--pass", metavar="NAME", help="Only these passes. Repeat.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail on a rewrite that does not verify.")]
ToleranceOption = Annotated[
    float | None, typer.Option(metavar="T", help="Largest relative error; default: from the original's own.")
]
OpsetOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="The ONNX operator set.")]
EndsOption = Annotated[Ends, typer.Option("--io", help="What stands for complex tensors at the ends of the file.")]
StaticOption = Annotated[bool, typer.Option("--static", help="Fix all sizes to those of the example.")]
NoMeasureOption = Annotated[bool, typer.Option("--no-measure", help="Judge by formulas alone; time nothing.")]
BudgetOption = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For timing what was never timed here.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
VerboseOption = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="Show refusals with their reasons; -vv also tracebacks.")
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads; default: torch's.")]
RoundsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Interleaved rounds.")]
SecondsOption = Annotated[float, typer.Option(min=0, metavar="S", help="Fewer rounds, at least 3, beyond this time.")]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="torch.compile as well: slow to build, needs a C++ compiler.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Tracebacks, as with -vv.")]
