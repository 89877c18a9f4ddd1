"""What the file made of an item depends on: the contents of all that is read, the options, and the versions.

    key = SHA-256 of (options, contents by role, versions)

Names of files are not part of it: a checkpoint that was moved is the same checkpoint. The code of a factory counts as
far as the file that defines it, and the version of the package that it belongs to; code which that file imports from
other files of the user is not seen.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from fusekit.batching.item import Item
from fusekit.checkpoint.factory import is_factory_name
from fusekit.checkpoint.load import split_entry
from fusekit.errors import CheckpointError
from fusekit.sampling.grammar import parse_inputs
from fusekit.version import __version__

_CHUNK = 1 << 20
_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "numpy", "openvino")
_MOST_KEPT = 100_000  # digests of files that are remembered while a process runs


@dataclass(frozen=True)
class Fingerprint:
    """What a file depends on, by name: options as JSON, digests of contents, versions."""

    parts: Mapping[str, str]

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    def differs(self, other: "Fingerprint") -> str:
        """The first part in which the other is different, as "NAME: ONE, there OTHER"; "" if none is."""
        for name in sorted({*self.parts, *other.parts}):
            ours, theirs = self.parts.get(name, "none"), other.parts.get(name, "none")
            if ours != theirs:
                return f"{name}: {_short(ours)}, there {_short(theirs)}"
        return ""


def fingerprint(item: Item, root: Path, circumstances: Mapping[str, object]) -> Fingerprint:
    """The fingerprint of an item whose paths are absolute.

    `root`: where modules of the user are looked for. `circumstances`: what else the file depends on. Raises
    CheckpointError if a file that is read does not exist.
    """
    options = {
        "options": item.options,
        "arguments": item.arguments,
        "inputs": [text if sample.path is None else _shown(text) for text, sample in _samples(item)],
        "entry": [split_entry(text)[1] for text in (item.source, item.weights) if text],
        **circumstances,
    }
    parts = {"options": json.dumps(options, sort_keys=True, default=repr), **versions()}
    for role, path in _files(item, root):
        parts[role] = digest(path)
    for role, name in _factories(item):
        parts[f"name of the {role}"] = name.rpartition(":")[2]
    return Fingerprint(parts)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, computed once as long as its size and time stay. Raises CheckpointError if it cannot
    be read."""
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


@lru_cache(_MOST_KEPT)
def _digest(path: Path, size: int, time: int, node: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


@cache
def versions() -> dict[str, str]:
    """The versions of everything that decides what is written."""
    found = {"Python": platform.python_version(), "fusekit": __version__}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def code_of(factory: str, root: Path) -> Path | None:
    """The file with the code of `module:name`, found without importing anything; None if there is none, as for what is
    compiled."""
    module = factory.rpartition(":")[0]
    if module.endswith(".py"):
        return Path(module)
    return _module_file(module, root)


@lru_cache(1024)
def _module_file(module: str, root: Path) -> Path | None:
    places: Any = [str(root), *sys.path]
    found = None
    for depth in range(1, module.count(".") + 2):
        name = ".".join(module.split(".")[:depth])
        found = PathFinder.find_spec(name, places)
        if found is None:
            return None
        places = found.submodule_search_locations or []
    origin = None if found is None else found.origin
    return Path(origin) if origin and Path(origin).is_file() else None


def _samples(item: Item) -> Iterator[tuple[str, Any]]:
    return zip(item.inputs, parse_inputs(item.inputs), strict=True)


def _shown(text: str) -> str:
    """An input that is a file, without its path."""
    name, equals, rest = text.rpartition("=")
    return f"{name}{equals}{rest.rpartition('/')[2].partition(':')[2]}"


def _factories(item: Item) -> Iterator[tuple[str, str]]:
    for role in ("source", "factory"):
        if is_factory_name(text := getattr(item, role)):
            yield role, text


def _files(item: Item, root: Path) -> Iterator[tuple[str, Path]]:
    """(what it is, its path) of each file that is read."""
    for role, text in _factories(item):
        if (code := code_of(text, root)) is not None:
            yield f"code of the {role}", code
    if not is_factory_name(item.source):
        source = split_entry(item.source)[0]
        yield "source", source
        if item.is_file and (beside := source.with_name(f"{source.name}.data")).exists():
            yield "weights beside the source", beside
    if item.weights:
        yield "weights", split_entry(item.weights)[0]
    for number, (_, sample) in enumerate(_samples(item)):
        if sample.path is not None:
            yield f"input {number}", sample.path


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}..."
