"""The words for example inputs and for arguments of a factory. Does not import torch, so it is fast.

INPUT    = [NAME=] SIZES [:DTYPE]        x=1x3x224x224:uint8
         | [NAME=] FILE.npy [:DTYPE]     x=photo.npy
         | FILE.npz                      arrays by name; arr_0, arr_1 ... are positional
SIZES    = N { x N }                     every N at least 1; also 1,3,224,224 and (1, 3, 224, 224)
ARGUMENT = NAME=VALUE                    width=64
"""

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fusekit.errors import FusekitError, closest

DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64", "bool"),
    *("complex64", "complex128"),
)
_SHORT = {  # what torch calls them too
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "bf16": "bfloat16",
}
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
    """Parse one example input. Whether its file exists is not asked. Raises FusekitError that says which part is
    wrong."""
    name, _, rest = text.rpartition("=")
    rest, _, dtype = rest.strip().partition(":")
    if "=" in text and not name.isidentifier():
        raise _bad(text, f"{name!r} is no parameter name")
    dtype = _SHORT.get(dtype, dtype.removeprefix("torch."))
    if rest.endswith((".npy", ".npz")):
        if dtype:
            _check_dtype(text, dtype)
        return Sample(text, name, dtype=dtype, path=Path(rest))
    if not rest:
        raise _bad(text, "no sizes; expected for instance 1x3x224x224")
    if Path(rest).suffix and re.search(r"[A-Za-z]{2,}", rest):
        raise _bad(text, "expected sizes such as 1x3x224x224, or an array in a .npy or .npz file (numpy.save)")
    if rest.isidentifier() and dtype[:1].isdigit():
        raise _bad(text, f"a name is set off by '=': {rest}={dtype}")
    if ":" in text:
        _check_dtype(text, dtype)
    bare = rest[1:-1] if rest[0] + rest[-1] in ("()", "[]") else rest
    separator = "," if "," in bare and "x" not in bare else "x"
    sizes = tuple(_size(text, word.strip()) for word in bare.replace("X", "x").replace("×", "x").split(separator))
    if math.prod(sizes) > _LARGEST:
        raise _bad(text, f"{math.prod(sizes):,} elements are too many")
    return Sample(text, name, sizes, dtype)


def parse_inputs(texts: Iterable[str]) -> tuple[Sample, ...]:
    """Parse all example inputs. Raises FusekitError also if a name is given twice."""
    samples = tuple(parse_input(text) for text in texts)
    names = [sample.name for sample in samples if sample.name]
    for name in names:
        if names.count(name) > 1:
            raise FusekitError(f"{name!r} is given twice")
    return samples


def parse_arguments(texts: Iterable[str]) -> dict[str, object]:
    """Parse arguments of the form name=value. A value is a Python literal (3, 0.5, True, None, (1, 2)), true, false or
    none; anything else is text. Raises FusekitError for another form, and for a name that is given twice."""
    arguments: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise FusekitError(f"{text!r}; expected name=value")
        if name in arguments:
            raise FusekitError(f"{name!r} is given twice")
        arguments[name] = _literal(value)
    return arguments


def _size(text: str, word: str) -> int:
    if re.fullmatch(r"[0-9]+", word) is None or int(word) < 1:
        several = "; give each input an --input of its own" if re.search(r"\d+[ ,]+\d", word) else ""
        told = "expected positive numbers joined by x, such as 1x3x224x224"
        raise _bad(text, f"{word!r} is no size; {told}{several}")
    return int(word)


def _check_dtype(text: str, dtype: str) -> None:
    if dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise _bad(text, f"unknown dtype {dtype!r}{closest(dtype, DTYPES) or f'; known are {known}'}")


def _literal(value: str) -> object:
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _bad(text: str, why: str) -> FusekitError:
    return FusekitError(f"{text!r}: {why}")
