"""Parses and checks arguments of the command line before any work starts. Does not import torch, so it is fast.

INPUT  = [NAME=] SIZES [:DTYPE]        x=1x3x224x224:uint8
       | [NAME=] FILE.npy [:DTYPE]     x=photo.npy
       | FILE.npz                      arrays by name; arr_0, arr_1 ... are positional
SIZES  = N { x N }                     every N at least 1
"""

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer

from fusekit.errors import FusekitError
from fusekit.files import beside, destination

DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool"),
    *("complex64", "complex128"),
)
_LARGEST = 1 << 31  # elements; more than this is most likely a typing error


@dataclass(frozen=True)
class Sample:
    """One example input as the user wrote it: read from a file, or random with these sizes. An empty `dtype` stands for
    the model's dtype."""

    text: str
    name: str = ""
    sizes: tuple[int, ...] = ()
    dtype: str = ""
    path: Path | None = None


def parse_input(text: str) -> Sample:
    """Parse one example input. Raises BadParameter that says which part is wrong."""
    name, _, rest = text.rpartition("=")
    rest, _, dtype = rest.strip().partition(":")
    if "=" in text and not name.isidentifier():
        raise _bad_input(text, f"{name!r} is no parameter name")
    if rest.endswith((".npy", ".npz")):
        path = Path(rest)
        if not path.is_file():
            raise _bad_input(text, f"no such file: {rest}")
        if dtype:
            _check_dtype(text, dtype)
        return Sample(text, name, dtype=dtype, path=path)
    if not rest:
        raise _bad_input(text, "no sizes; expected for instance 1x3x224x224")
    if ":" in text:
        _check_dtype(text, dtype)
    sizes = tuple(_size(text, word) for word in rest.split("x"))
    if math.prod(sizes) > _LARGEST:
        raise _bad_input(text, f"{math.prod(sizes):,} elements are too many")
    return Sample(text, name, sizes, dtype)


def parse_inputs(texts: Iterable[str]) -> tuple[Sample, ...]:
    """Parse all example inputs. Raises BadParameter also if a name is given twice."""
    samples = tuple(parse_input(text) for text in texts)
    names = [sample.name for sample in samples if sample.name]
    for name in names:
        if names.count(name) > 1:
            raise _bad("--input", f"{name!r} is given twice")
    return samples


def parse_arguments(texts: Iterable[str]) -> dict[str, object]:
    """Parse arguments of the form name=value. A value is a Python literal (3, 0.5, True, None, (1, 2)), true, false or
    none; anything else is text."""
    arguments: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise _bad("--arg", f"{text!r}; expected name=value")
        if name in arguments:
            raise _bad("--arg", f"{name!r} is given twice")
        arguments[name] = _literal(value)
    return arguments


def parse_numbers(option: str, text: str | None) -> float | tuple[float, ...] | None:
    """Parse one number or several, separated by commas: 0.5, 1/255, 0.485,0.456,0.406. None stays None. Raises
    BadParameter for anything else."""
    if text is None:
        return None
    numbers = tuple(_fraction(option, word) for word in text.split(","))
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
        raise _bad("--factory", f"{factory!r}; expected package.module:name or file.py:name")
    return factory


def check_output(out: str, suffix: str, sources: Iterable[str | Path | None], option: str = "OUT") -> Path:
    """The file to write. Raises BadParameter, which names the `option`, unless it has this suffix, its folder is
    writable, and it is none of the files in `sources`, which are read."""
    path = Path(out)
    if path.suffix != suffix:
        raise _bad(option, f"{out!r} has the wrong suffix; expected a name ending in {suffix}")
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


def _size(text: str, word: str) -> int:
    if re.fullmatch(r"[0-9]+", word) is None or int(word) < 1:
        raise _bad_input(text, f"{word!r} is no size; expected positive numbers joined by x, such as 1x3x224x224")
    return int(word)


def _check_dtype(text: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise _bad_input(text, f"unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")


def _literal(value: str) -> object:
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _bad_input(text: str, why: str) -> typer.BadParameter:
    return _bad("--input", f"{text!r}: {why}")


def _bad(option: str, why: str) -> typer.BadParameter:
    return typer.BadParameter(why, param_hint=f"'{option}'")
