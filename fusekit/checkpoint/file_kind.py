"""Recognises the kind of a file by its content (its first bytes, the entries of a zip archive), not by its suffix.

`recognise` reads a few kilobytes, runs no code and does not import torch, so a wrong file is refused quickly. fusekit
can use the kinds `PROGRAM`, `TORCH`, `LEGACY` and `SAFETENSORS`; the others exist so that messages can name them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fusekit.checkpoint.archive.listing import open_zip
from fusekit.checkpoint.archive.refused import Refused
from fusekit.errors import CheckpointError, closest


class Kind(Enum):
    """The kinds of file that a user may pass. The value completes the sentence "it is ..."."""

    PROGRAM = "a torch.export archive (.pt2)"
    TORCH = "a torch.save file"
    LEGACY = "a torch.save file in the format before PyTorch 1.6"
    SAFETENSORS = "a safetensors file"
    ONNX = "an ONNX model"
    TORCHSCRIPT = "a TorchScript archive"
    COMPILED = "an AOTInductor package (compiled code, no graph)"
    OTHER = "a file of another kind"


@dataclass(frozen=True)
class Identity:
    """A kind and its description for messages. For a file of kind `OTHER`, `what` says more exactly what it is."""

    kind: Kind
    what: str


_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"  # the protobuf tags that can follow ir_version in a ModelProto
_HEAD = 4096


def recognise(path: Path) -> Identity:
    """The identity of the file at `path`. Raises CheckpointError if there is no file, or if it is visibly truncated."""
    if path.is_dir():
        held = sorted(
            file.name for file in path.iterdir() if file.suffix in (".safetensors", ".pt", ".pth", ".bin", ".pt2")
        )
        offer = f"; it holds {', '.join(held[:4])}: name one" if held else ", or a folder with model.safetensors"
        raise CheckpointError(f"{path} is a directory; expected a checkpoint file{offer}")
    if not path.exists():
        if re.match(r"https?:/", str(path)):
            raise CheckpointError(f"{path} is an address; fusekit downloads nothing: fetch it and give the file")
        there = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CheckpointError(f"{path}: no such file{closest(path.name, there)}")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file; expected a checkpoint")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            raise CheckpointError(f"{path} is an empty file; expected a checkpoint: copy or download it again")
        if head.startswith(b"PK\x03\x04"):
            return _zip(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(_LEGACY):
        return Identity(Kind.LEGACY, Kind.LEGACY.value)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return _safetensors(path, int.from_bytes(head[:8], "little"))
    if head[0] == 8 and head[1] < 32 and head[2:3] and head[2] in _ONNX_FIELDS:
        return Identity(Kind.ONNX, Kind.ONNX.value)
    for what, test in _OTHERS:
        if test(head):
            return Identity(Kind.OTHER, what)
    return Identity(Kind.OTHER, f"a file of unknown kind (it begins with {head[:8]!r})")


def _zip(path: Path) -> Identity:
    try:
        with path.open("rb") as file, open_zip(file) as archive:
            names = archive.namelist()
    except Refused as error:
        raise CheckpointError(
            f"{path} is not a valid zip archive (truncated, damaged or with too much content): {error}; expected a "
            "whole checkpoint: copy or download it again"
        ) from error
    # All entries are in one folder, named after the file when it was first written: ignore its name.
    inner = {name.split("/", 1)[-1] for name in names}
    if any(name.startswith("data/aotinductor/") for name in inner) and not _holds_program(inner):
        return Identity(Kind.COMPILED, Kind.COMPILED.value)
    if _holds_program(inner) or "serialized_exported_program.json" in names:
        return Identity(Kind.PROGRAM, Kind.PROGRAM.value)
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return Identity(Kind.TORCHSCRIPT, Kind.TORCHSCRIPT.value)
    if "data.pkl" in inner:
        return Identity(Kind.TORCH, Kind.TORCH.value)
    if names and all(name.endswith(".npy") for name in names):
        return Identity(Kind.OTHER, "a NumPy .npz archive")
    if "model.weights.h5" in names:
        return Identity(Kind.OTHER, "a Keras archive")
    listing = ", ".join(names[:3]) or "nothing"
    return Identity(Kind.OTHER, f"a zip archive that holds {listing}{' ...' if len(names) > 3 else ''}")


def _holds_program(inner: set[str]) -> bool:
    return any(name.startswith("models/") and name.endswith(".json") for name in inner)


def _safetensors(path: Path, header: int) -> Identity:
    size = path.stat().st_size
    if 8 + header > size:
        raise CheckpointError(
            f"{path} is a truncated safetensors file: its header needs {8 + header:,} bytes, the file has {size:,}"
        )
    return Identity(Kind.SAFETENSORS, Kind.SAFETENSORS.value)


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _is_page(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")) or b"<html" in text[:512]


# The first test that is true names the file. Failed downloads are mostly of the first four kinds.
_OTHERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("an HTML page (a failed download?)", _is_page),
    ("a Git LFS pointer, not the file itself (run `git lfs pull`)", _starts(b"version https://git-lfs")),
    ("an XML document (a failed download?)", _starts(b"<?xml")),
    ("a JSON document", lambda head: head.lstrip()[:1] == b"{" and _is_text(head)),
    ("an HDF5 file (Keras?)", _starts(b"\x89HDF\r\n\x1a\n")),
    ("a TensorFlow Lite model", lambda head: head[4:8] == b"TFL3"),
    ("a NumPy array", _starts(b"\x93NUMPY")),
    ("a GGUF model", _starts(b"GGUF")),
    (
        "a compressed file (unpack it first)",
        _starts(b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf"),
    ),
    ("a tar archive (unpack it first)", lambda head: head[257:262] == b"ustar"),
    ("an image", _starts(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")),
    ("a pickle that torch.save did not write", lambda head: head[0] == 0x80 and 2 <= head[1] <= 5),
    ("a file of zero bytes only (a broken download?)", lambda head: not any(head)),
    ("a text file", _is_text),
)
