"""One row of a manifest: a model, where it comes from, what it is fed, and where the file goes."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusekit.checkpoint.factory import is_factory_name
from fusekit.checkpoint.load import split_entry
from fusekit.errors import FusekitError
from fusekit.passes import PASSES
from fusekit.runtimes import known
from fusekit.sampling.grammar import parse_arguments, parse_inputs

COLUMNS = ("name", "source", "factory", "arguments", "weights", "inputs", "output", "options")
_FOR_ALL = ("target", "passes", "strict", "tolerance", "opset", "dynamic", "budget", "seed")
_FOR_MODELS = ("io", "preprocess")
_NAME = re.compile(r"\w[\w.+-]*")


class BadCell(FusekitError):
    """What is wrong with one cell of a manifest. `column`: its column."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column = column


@dataclass(frozen=True)
class Item:
    """One model of a batch. All fields are plain values, so that it can be sent to another machine.

    Args:
        name: unlike all others; the report is called after it.
        source: as for `fusekit.load`, or an ONNX file.
        output: the ONNX file to write; "": `models/NAME.onnx` in the folder of the batch.
        factory, weights: as for `fusekit.load`; "": none.
        arguments: keyword arguments of the factory.
        inputs: example inputs as on the command line, such as "1x3x224x224".
        options: keyword arguments of `fusekit.export` (or `optimize_onnx`), and the `seed` of random inputs.
    """

    name: str
    source: str
    output: str = ""
    factory: str = ""
    weights: str = ""
    arguments: Mapping[str, Any] | None = None
    inputs: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cells: Mapping[str, object], number: int) -> "Item":
        """The item of a row, its `number` counted from 1. Raises BadCell for the first cell that is wrong."""
        for column in cells:
            if column not in COLUMNS:
                raise BadCell(str(column), f"there is no such column; expected some of {', '.join(COLUMNS)}")
        source = _text(cells, "source")
        if not source:
            raise BadCell("source", "missing; expected a model: package.module:factory, a file.pt2 or a file.onnx")
        output, factory, weights = (_text(cells, column) for column in ("output", "factory", "weights"))
        if output and not output.endswith(".onnx"):
            raise BadCell("output", f"{output!r} has the wrong suffix; expected a name ending in .onnx")
        if factory and not is_factory_name(factory):
            raise BadCell("factory", f"{factory!r}; expected package.module:name or file.py:name")
        inputs = tuple(_words(cells, "inputs"))
        _parsed("inputs", parse_inputs, inputs)
        made = cls("", source, output, factory, weights, _pairs(cells, "arguments"), inputs, _pairs(cells, "options"))
        made._check()
        name = _text(cells, "name") or made._usual_name(number)
        if not _NAME.fullmatch(name):
            raise BadCell("name", f"{name!r} is no name of a file; expected letters, digits, '.', '-', '_' and '+'")
        return replace(made, name=name)

    @property
    def is_file(self) -> bool:
        """Whether the source is an ONNX file, by its name."""
        return self.source.endswith(".onnx")

    def placed(self, root: Path, folder: Path) -> "Item":
        """The same item with absolute paths: what it reads is in `root`, what has no place is in `folder`."""
        output = root / self.output if self.output else folder / "models" / f"{self.name}.onnx"
        return replace(
            self,
            source=in_folder(root, self.source),
            output=str(output),
            factory=in_folder(root, self.factory),
            weights=in_folder(root, self.weights),
            inputs=tuple(_input_in(root, text) for text in self.inputs),
        )

    def _check(self) -> None:
        """Raises BadCell for options that do not exist, or do not fit the source."""
        options = self.options or {}
        takes = _FOR_ALL if self.is_file else (*_FOR_ALL, *_FOR_MODELS)
        for name in options:
            if name not in takes:
                kind = "an ONNX file" if self.is_file else "a model"
                raise BadCell("options", f"{kind} has no option {name!r}; expected some of {', '.join(takes)}")
        for name, kind in _KINDS.items():
            if name in options and not isinstance(options[name], kind):
                raise BadCell("options", f"{name}={options[name]!r} is not of the right type")
        if options.get("target", known()[0]) not in known():
            raise BadCell("options", f"target={options['target']!r}; expected one of {', '.join(known())}")
        for name in options.get("passes") or ():
            if name not in PASSES:
                raise BadCell("options", f"there is no pass {name!r}; `fusekit passes` lists them")
        for column in ("factory", "weights", "arguments") if self.is_file else ():
            if getattr(self, column):
                raise BadCell(column, "the source is an ONNX file, which is taken as it is; expected nothing here")
        if not self.is_file and not self.inputs:
            raise BadCell("inputs", "missing; expected an example input such as 1x3x224x224")

    def _usual_name(self, number: int) -> str:
        """The name of an item that was given none: that of its files."""
        for text in (self.output, str(split_entry(self.weights)[0]) if self.weights else ""):
            if text:
                return Path(text).stem
        return f"item-{number}" if is_factory_name(self.source) else Path(split_entry(self.source)[0]).stem


_NUMBER = (int, float, type(None))
_KINDS: dict[str, Any] = {
    "target": str,
    "passes": (list, tuple, type(None)),
    "strict": bool,
    "tolerance": _NUMBER,
    "opset": (int, type(None)),
    "dynamic": bool,
    "budget": _NUMBER,
    "seed": int,
    "io": str,
    "preprocess": Mapping,
}


def _text(cells: Mapping[str, object], column: str) -> str:
    value = cells.get(column)
    if value is not None and not isinstance(value, str | int | Path):
        raise BadCell(column, f"expected text, got {type(value).__name__}")
    return "" if value is None else str(value).strip()


def _words(cells: Mapping[str, object], column: str) -> list[str]:
    """A list of words, or words in one text, quoted as in a shell."""
    value = cells.get(column)
    if isinstance(value, str):
        return list(_parsed(column, shlex.split, value))
    words = list(value) if isinstance(value, Sequence) else [] if value is None else [value]
    for word in words:
        if not isinstance(word, str):
            raise BadCell(column, f"expected words, got {word!r}")
    return [str(word) for word in words]


def _pairs(cells: Mapping[str, object], column: str) -> Mapping[str, Any]:
    """A mapping, or words of the form name=value."""
    value = cells.get(column)
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise BadCell(column, f"expected names, got {strange[0]!r}")
        return dict(value)
    return dict(_parsed(column, parse_arguments, _words(cells, column)))


def _parsed(column: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except (FusekitError, ValueError) as error:
        raise BadCell(column, str(error)) from error


def in_folder(root: Path, text: str) -> str:
    """The text with its path made absolute. A name of a module stays, since Python looks it up."""
    if not text or (is_factory_name(text) and ".py:" not in text):
        return text
    return str(root / text)


def _input_in(root: Path, text: str) -> str:
    (sample,) = parse_inputs([text])
    if sample.path is None:
        return text
    name, dtype = (f"{sample.name}=" if sample.name else "", f":{sample.dtype}" if sample.dtype else "")
    return f"{name}{root / sample.path}{dtype}"
