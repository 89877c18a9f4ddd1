"""The options of the command line, each defined once, in groups that several commands share. Does not import torch.

A group is a dataclass; `flatten.py` turns its fields into arguments and options. `words()` of a group returns the
matching keyword arguments of `fusekit.optimize` and `fusekit.export`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from fusekit.cli.sample_grammar import (
    check_factory,
    check_output,
    check_tolerance,
    parse_arguments,
    parse_inputs,
    parse_numbers,
)
from fusekit.errors import closest
from fusekit.runtimes import known
from fusekit.sampling.grammar import Sample

_SOURCE = "A .pt2 archive, package.module:factory, file.py:factory, a state dict with --factory, or an .onnx file."
_INPUT = (
    "Example input: 1x3x224x224, x=1x3x224x224:uint8 (by name, with a dtype), or a .npy or .npz file. Can be repeated."
)


_IMAGES = "Preprocessing"  # a heading of the help


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is done to images before the model sees them; the fields of `fusekit.Preprocess`."""

    mean: Annotated[
        str | None,
        typer.Option(metavar="M[,M,M]", help="Subtracted from each channel.", rich_help_panel=_IMAGES),
    ] = None
    std: Annotated[
        str | None, typer.Option(metavar="S[,S,S]", help="Divides each channel.", rich_help_panel=_IMAGES)
    ] = None
    scale: Annotated[
        str | None, typer.Option(metavar="F", help="Factor, applied first: 1/255.", rich_help_panel=_IMAGES)
    ] = None
    order: Annotated[str | None, typer.Option(help="RGB, or BGR to swap.", rich_help_panel=_IMAGES)] = None
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC.", rich_help_panel=_IMAGES)] = None
    dtype: Annotated[str | None, typer.Option(help="Of the images, such as uint8.", rich_help_panel=_IMAGES)] = None
    output_layout: Annotated[str | None, typer.Option(help="Of the output: NCHW or NHWC.", rich_help_panel=_IMAGES)] = (
        None
    )

    @cached_property
    def preprocess(self) -> dict[str, Any]:
        """The arguments of `fusekit.Preprocess` that were given. Raises BadParameter for what is no number."""
        numbers = {name: parse_numbers(f"--{name}", getattr(self, name)) for name in ("mean", "std", "scale")}
        words = {name: getattr(self, name) for name in ("order", "layout", "dtype", "output_layout")}
        return {name: value for name, value in {**numbers, **words}.items() if value is not None}


@dataclass(frozen=True)
class Model(Images):
    """Where the model comes from, what is done to its images, and its example inputs."""

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE, show_default=False)]
    input: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="INPUT", help=_INPUT)] = None
    weights: Annotated[str | None, typer.Option(metavar="FILE[#ENTRY]", help="Weights to load into the model.")] = None
    factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", callback=check_factory, help="Builds the model for a state dict."),
    ] = None
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="An argument of the factory. Can be repeated."),
    ] = None
    unsafe: Annotated[bool, typer.Option("--unsafe-pickle", help="Unpickle SOURCE: this can run any code in it.")] = (
        False
    )
    seed: Annotated[int, typer.Option(min=0, help="The seed of the random inputs.")] = 0

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The example inputs, parsed but not yet made. Raises BadParameter for one that is wrong."""
        return parse_inputs(self.input or ())

    @cached_property
    def arguments(self) -> dict[str, object]:
        """The arguments of the factory by name. Raises BadParameter for one that is wrong."""
        return parse_arguments(self.arg or ())

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, by its name; what is in it is looked at when it is read."""
        return self.source.endswith(".onnx")

    def must_be_real(self) -> None:
        """BadParameter if an example input is random, where ranges of values are measured on it."""
        for sample in self.samples:
            if sample.path is None:
                told = "--equalize measures ranges on it; expected real inputs in a .npy or .npz file"
                raise typer.BadParameter(f"{told}, got {sample.text!r}", param_hint="'--input'")

    def like(self, source: str) -> "Model":
        """The same options for another source."""
        return replace(self, source=source)

    def check(self, *, fed: bool = True) -> None:
        """Raises BadParameter if an argument is wrong, or if there is no example input but one is needed (`fed`)."""
        given = {"weights": self.weights, "factory": self.factory, "arg": self.arg, "unsafe-pickle": self.unsafe}
        for option, value in {**given, **self.preprocess}.items():
            if value and self.is_file:
                told = "SOURCE is an ONNX file, which is taken as it is; this option is for PyTorch models"
                raise typer.BadParameter(told, param_hint=f"'--{option.replace('_', '-')}'")
        if fed and not self.input:
            raise typer.BadParameter("missing; give an example input such as 1x3x224x224", param_hint="'--input'")
        # Parse them now (the results are kept), so that a mistake is reported before torch is imported.
        _ = self.samples, self.arguments, self.preprocess

    def files(self) -> list[str | Path | None]:
        """The files that are read, and therefore must not be overwritten."""
        return [self.source, self.weights, *(sample.path for sample in self.samples)]


@dataclass(frozen=True)
class Rules:
    """Which passes are used, and what happens if a rewrite fails its check."""

    only: Annotated[
        list[str] | None, typer.Option("--pass", metavar="NAME", help="Use only this pass. Can be repeated.")
    ] = None
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a rewrite fails its check.")] = False

    def words(self) -> dict[str, Any]:
        return {"passes": tuple(self.only or ()) or None, "strict": self.strict}


NoMeasureOption = Annotated[bool, typer.Option("--no-measure", help="Time nothing; estimate costs only.")]


@dataclass(frozen=True)
class Measuring:
    """Whether realizations are timed, and for how many seconds at most."""

    no_measure: NoMeasureOption = False
    budget: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Time limit for new measurements.")] = 60.0

    def words(self) -> dict[str, Any]:
        return {"measure": not self.no_measure, "budget": self.budget}


@dataclass(frozen=True)
class Form:
    """Options of an ONNX file."""

    opset: Annotated[int | None, typer.Option(min=1, metavar="N", help="The ONNX operator set.")] = None
    static: Annotated[bool, typer.Option("--static", help="Fix all sizes to those of the example.")] = False

    def words(self) -> dict[str, Any]:
        return {"opset": self.opset, "dynamic": not self.static}

    def must_be_empty(self) -> None:
        """BadParameter if anything is said of a form where no ONNX file is written."""
        if self.opset is not None or self.static:
            option = "--static" if self.static else "--opset"
            told = "only ONNX files have it; SOURCE is none (`fusekit export` makes one)"
            raise typer.BadParameter(told, param_hint=f"'{option}'")


@dataclass(frozen=True)
class Timing:
    """How `fusekit bench` measures."""

    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads; default: torch's.")] = None
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Interleaved rounds.")] = 25
    seconds: Annotated[float, typer.Option(min=0, metavar="S", help="Time limit; at least 3 rounds are run.")] = 10.0
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also measure torch.compile: slow, needs a C++ compiler.")
    ] = False


@dataclass(frozen=True)
class Gate:
    """The bound of `fusekit bench OLD.onnx NEW.onnx --fail-below`."""

    fail_below: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            help="Compare two files: exit code 1 if OUT.onnx, which is only read, is less than RATIO times as fast as"
            " SOURCE by more than the noise.",
        ),
    ] = None

    def check(self, model: Model, new: str | None, others: Mapping[str, object]) -> None:
        """BadParameter if the bound is none, if there are not two ONNX files, or if one of the `others` is given: the
        options that say how a model is optimized, which is not done here."""
        bound = self.fail_below
        if bound is None or not 0 < bound < math.inf:
            raise typer.BadParameter(f"{bound}; expected a positive number such as 0.95", param_hint="'--fail-below'")
        if not model.is_file or new is None or not new.endswith(".onnx"):
            raise typer.BadParameter("two ONNX files are needed: OLD.onnx NEW.onnx", param_hint="'--fail-below'")
        for file in (model.source, new):
            if not Path(file).is_file():
                raise typer.BadParameter(f"no such file: {file}", param_hint="'--fail-below'")
        for option, value in others.items():
            if value:
                told = "--fail-below times two files as they are; leave this option out"
                raise typer.BadParameter(told, param_hint=f"'{option}'")


@dataclass(frozen=True)
class Talk:
    """How much is printed, and in which form."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False
    machine: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Show refused rewrites and reasons; -vv also tracebacks.")
    ] = 0
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, as with -vv.")] = False


@dataclass(frozen=True)
class Paper:
    """Where the report is written as a page."""

    report: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE.html", help="Also write the report as a page, with the graphs."),
    ] = None

    def path(self, *others: str | Path | None) -> Path | None:
        """The file to write; None if none was asked for. Raises BadParameter if it cannot be written, or is one of
        `others`, which are read or written."""
        return None if self.report is None else check_output(self.report, ".html", others, option="--report")


_DATA = "On a data set"  # a heading of the help


@dataclass(frozen=True)
class OnDataSet:
    """A data set to compare on, and who does it."""

    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Compare on these samples: a folder of images or .npy files, a .npy, .npz or .parquet file.",
            rich_help_panel=_DATA,
        ),
    ] = None
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples run together, at most.", rich_help_panel=_DATA)
    ] = 32
    worst: Annotated[
        int, typer.Option(min=0, metavar="N", help="Samples furthest off to show.", rich_help_panel=_DATA)
    ] = 5
    save: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Save these samples here, as .npz.", rich_help_panel=_DATA)
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes; by default this one.", rich_help_panel=_DATA),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use the workers of this Dask scheduler.", rich_help_panel=_DATA),
    ] = None

    def check(self, model: Model) -> None:
        """BadParameter if the options do not fit each other."""
        if self.data is None:
            for name in ("save", "workers", "scheduler"):
                if getattr(self, name) is not None:
                    raise typer.BadParameter("only with --data; expected a data set", param_hint=f"'--{name}'")
        elif model.input:
            raise typer.BadParameter(
                "the samples of --data are the inputs; expected one of both", param_hint="'--input'"
            )
        if self.scheduler is not None and self.workers is not None:
            raise typer.BadParameter("a cluster has its own workers; expected no number", param_hint="'--workers'")

    def words(self) -> dict[str, Any]:
        names = ("batch", "worst", "save", "workers")
        return {"data": self.data, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class Workers:
    """Who does the items of a batch."""

    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; by default as many as the cores allow.")
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads of each worker; by default 1, on a cluster what it was given."),
    ] = None
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the workers of this Dask scheduler: tcp://host:8786.")
    ] = None
    tries: Annotated[int, typer.Option(min=1, metavar="N", help="How often an item is begun if workers die.")] = 3

    def check(self) -> None:
        """BadParameter if the options do not fit each other."""
        if self.scheduler is not None and self.workers is not None:
            raise typer.BadParameter("a cluster has its own workers; expected no number", param_hint="'--workers'")

    def words(self) -> dict[str, Any]:
        return {"workers": self.workers, "threads": self.threads, "tries": self.tries}


class Ends(str, Enum):
    """How the inputs and outputs of a file represent a complex tensor."""

    interleaved = "interleaved"
    planar = "planar"
    pair = "pair"


def _known(target: str | None) -> str | None:
    """The name of a runtime, if it is known. Raises BadParameter if not."""
    if target is not None and target not in known():
        raise typer.BadParameter(f"{target!r} is not one of {', '.join(known())}{closest(target, known())}")
    return target


OnnxArgument = Annotated[str, typer.Argument(metavar="OUT.onnx", help="The ONNX file.", show_default=False)]
KeptOnnxArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[OUT.onnx]",
        help="Keep the ONNX file here; with --fail-below: the file to compare.",
        show_default=False,
    ),
]
ManifestArgument = Annotated[
    str, typer.Argument(metavar="MANIFEST", help="A .csv, .jsonl or .yaml file (docs/batch.md).", show_default=False)
]
FolderArgument = Annotated[
    str, typer.Argument(metavar="FOLDER", help="For the results, and to go on from.", show_default=False)
]
OtherArgument = Annotated[
    str, typer.Argument(metavar="OTHER", help="The other model: as SOURCE, with the same options.", show_default=False)
]
MaybeOtherArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[OTHER]",
        help="The model that differs: as SOURCE, with the same options. Without it: what `optimize` makes of SOURCE.",
        show_default=False,
    ),
]
LayerArgument = Annotated[
    str, typer.Argument(metavar="LAYER", help="The path of a layer, such as stages.2.3.", show_default=False)
]
ProgramArgument = Annotated[
    str, typer.Argument(metavar="OUT", help="The file to write: OUT.pt2, of an ONNX file OUT.onnx.", show_default=False)
]


def _target(what: str) -> Any:
    return typer.Option(help=f"The runtime {what}: {', '.join(known())}.", metavar="RUNTIME", callback=_known)


OptionalTargetOption = Annotated[str | None, _target("to optimize for (by default the usual one)")]
TargetOption = Annotated[str, _target("to optimize for")]
FileTargetOption = Annotated[str, _target("that runs the file")]
EqualizeOption = Annotated[
    bool, typer.Option("--equalize", help="Narrow the ranges of channels, for int8 (docs/int8.md). Needs real inputs.")
]
EndsOption = Annotated[Ends, typer.Option("--io", help="Form of complex inputs and outputs.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        metavar="T", callback=check_tolerance, help="Largest relative error; default: derived from the original."
    ),
]
