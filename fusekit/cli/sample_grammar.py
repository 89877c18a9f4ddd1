"""Parses and checks arguments of the command line before any work starts. Does not import torch, so it is fast.

How example inputs and arguments of a factory are written: `fusekit/sampling/grammar.py`.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import typer

from fusekit.errors import FusekitError
from fusekit.files import beside, destination
from fusekit.sampling import grammar
from fusekit.sampling.grammar import Sample


def parse_inputs(texts: Iterable[str]) -> tuple[Sample, ...]:
    """Parse all example inputs, and see that their files exist. Raises BadParameter that says what is wrong."""
    try:
        samples = grammar.parse_inputs(texts)
    except FusekitError as error:
        raise _bad("--input", str(error)) from error
    for sample in samples:
        if sample.path is not None and not sample.path.is_file():
            raise _bad("--input", f"{sample.text!r}: no such file: {sample.path}")
    return samples


def parse_arguments(texts: Iterable[str]) -> dict[str, object]:
    """Parse arguments of the form name=value. Raises BadParameter for another form."""
    try:
        return grammar.parse_arguments(texts)
    except FusekitError as error:
        raise _bad("--arg", str(error)) from error


def parse_numbers(option: str, text: str | None) -> float | tuple[float, ...] | None:
    """Parse one number or several, separated by commas: 0.5, 1/255, 0.485,0.456,0.406. None stays None. Raises
    BadParameter for anything else."""
    if text is None:
        return None
    numbers = tuple(_fraction(option, word) for word in text.strip("[]() ").split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def _fraction(option: str, text: str) -> float:
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise _bad(option, f"{text!r} is no number; expected for instance 0.5, 1/255 or 0.485,0.456,0.406") from None


def check_tolerance(tolerance: float | None) -> float | None:
    """The tolerance, if it is a positive number. With 0 nothing would pass, with infinity everything."""
    if tolerance is not None and not (0 < tolerance < math.inf):
        raise _bad("--tolerance", f"{tolerance}; expected a positive number such as 1e-5")
    return tolerance


def check_factory(factory: str | None) -> str | None:
    """The name of a factory, if it has the form MODULE:NAME."""
    if factory is not None and not re.fullmatch(r".+:[A-Za-z_][\w.]*", factory):
        module, dot, name = factory.rpartition(".")
        hint = f"; did you mean {module}:{name}?" if dot and name.isidentifier() else ""
        raise _bad("--factory", f"{factory!r}; expected package.module:name or file.py:name{hint}")
    return factory


def check_output(out: str, suffix: str, sources: Iterable[str | Path | None], option: str = "OUT") -> Path:
    """The file to write. Raises BadParameter, which names the `option`, unless it has this suffix, its folder is
    writable, and it is none of the files in `sources`, which are read."""
    path = Path(out)
    if path.suffix != suffix:
        hint = (
            "; `fusekit export` writes ONNX files of PyTorch models"
            if (path.suffix, suffix) == (".onnx", ".pt2")
            else ""
        )
        raise _bad(option, f"{out!r} has the wrong suffix; expected a name ending in {suffix}{hint}")
    try:
        target = destination(path)
        with beside(target):  # try it: permission bits do not show read-only mounts and full disks
            pass
    except FusekitError as error:
        raise _bad(option, str(error)) from error
    for source in sources:
        if source and path.exists() and _read(source).exists() and path.samefile(_read(source)):
            raise _bad(option, f"{out} is also read ({source}); expected another name")
    return target


def _read(source: str | Path) -> Path:
    """The file behind a source, which may be `FILE#entry`."""
    path = Path(source)
    return path if path.exists() else Path(str(source).rpartition("#")[0] or str(source))


def _bad(option: str, why: str) -> typer.BadParameter:
    return typer.BadParameter(why, param_hint=f"'{option}'")
