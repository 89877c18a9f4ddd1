"""Checks the directory of a zip archive before anything in it is unpacked.

Two readers of one zip archive may see different contents: if two entries have the same name, or names that differ only
by case; if local headers differ from the directory; if there are bytes before, between or after the entries. Such
archives are refused. So are archives that unpack to far more bytes than they have, links, encrypted entries, and names
that lead out of the folder.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from fusekit.checkpoint.archive.refused import Refused, shown

MOST_DIRECTORY = 16 << 20  # bytes of the directory; the Python objects for it need ten times as much
MOST_UNPACKED = 256 << 20  # bytes that any archive may unpack to; a large archive may unpack to twice its size
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCATOR = 20
_FLAGS = 0x080E  # allowed flags: compression level (two bits), sizes after the data, names in UTF-8
_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, LookupError)


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """The zip archive in a file, after its directory and its unpacked size were checked.

    All entries together may unpack to twice the size of the file, or to `MOST_UNPACKED` if that is more. Raises Refused
    if they unpack to more, or if the directory is too large or cannot be read.
    """
    size = file.seek(0, 2)
    length = _directory_length(file, size)
    if length > MOST_DIRECTORY:
        raise Refused(f"the zip directory has {length:,} bytes; expected at most {MOST_DIRECTORY:,}")
    try:
        archive = zipfile.ZipFile(file)
    except _ERRORS as error:
        raise Refused(f"the zip directory cannot be read ({error})") from error
    most = max(2 * size, MOST_UNPACKED)
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > most:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        raise Refused(
            f"{size:,} bytes unpack to {unpacked:,}, of which {shown(largest.filename)} is {largest.file_size:,}; "
            f"expected at most {most:,}"
        )
    return archive


class Archive:
    """The entries of a zip archive, by their names within its only folder. Raises Refused if the archive is unusual in
    one of the ways listed above."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = open_zip(file)
        self.size = file.seek(0, 2)
        infos = self._zip.infolist()
        file.seek(-_END.size, 2)
        if self._zip.comment or file.read(4) != b"PK\5\6":
            raise Refused("there are bytes after the zip directory")
        for info in infos:
            _check_kind(info)
        _check_places(infos, file, self._zip.start_dir)
        self._entries = _by_name(infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def length(self, name: str) -> int:
        """The number of bytes that an entry unpacks to."""
        return self._info(name).file_size

    def read(self, name: str) -> bytes:
        """The content of an entry."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str, step: int = 1 << 20) -> Iterator[bytes]:
        """The content of an entry in pieces of at most `step` bytes. Never unpacks more bytes than declared; checks the
        checksum. Raises Refused if the entry is damaged."""
        info = self._info(name)
        left = info.file_size
        try:
            with self._zip.open(info) as stream:
                while left:
                    piece = stream.read(min(step, left))
                    if not piece:
                        raise Refused(f"{name} is shorter than the {info.file_size:,} bytes declared")
                    left -= len(piece)
                    yield piece
        except (*_ERRORS, RuntimeError) as error:
            raise Refused(f"{name} is damaged ({error})") from error

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise Refused(f"it has no entry {name}")
        return self._entries[name]


def _directory_length(file: IO[bytes], size: int) -> int:
    """The number of bytes of the zip directory, from the end record. Only a comment may follow that record."""
    file.seek(max(0, size - (1 << 16) - _END.size - _END64.size - _LOCATOR))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise Refused("it has no zip directory")
    length: int = _END.unpack_from(tail, at)[-3]
    before = at - _LOCATOR
    if before >= _END64.size and tail[before : before + 4] == b"PK\6\7":
        length = _END64.unpack_from(tail, before - _END64.size)[-2]
    return length


def _check_kind(info: zipfile.ZipInfo) -> None:
    """Check that an entry is a plain file, stored or deflated."""
    name = shown(info.filename)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"{name} is packed by method {info.compress_type}; expected stored or deflated")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise Refused(f"{name} has two sizes, {info.file_size:,} and {info.compress_size:,}")
    if info.flag_bits & ~_FLAGS:
        raise Refused(f"{name} is encrypted or marked {info.flag_bits:#x}; expected a plain entry")
    if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        raise Refused(f"{name} is a link or a folder; expected files only")


def _check_places(infos: list[zipfile.ZipInfo], file: IO[bytes], directory: int) -> None:
    """Check that the first entry is at the start of the file, that no entries overlap, and that each local header
    agrees with the directory."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    if ordered and ordered[0].header_offset:
        raise Refused("there are bytes before the first entry")
    ends = [info.header_offset for info in ordered[1:]] + [directory]
    for info, end in zip(ordered, ends, strict=True):
        file.seek(info.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
            raise Refused(f"{shown(info.filename)} is not where the directory says")
        _, _, flags, method, _, _, _, packed, unpacked, name, extra = _LOCAL.unpack(head)
        follow = bool(flags & 8)  # the sizes are after the data, not in this header
        known = packed in (info.compress_size, 0xFFFFFFFF) and unpacked in (info.file_size, 0xFFFFFFFF)
        same = (flags, method) == (info.flag_bits, info.compress_type) and (follow or known)
        if not same or file.read(name) != info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437"):
            raise Refused(f"the header of {shown(info.filename)} differs from the zip directory")
        if info.header_offset + _LOCAL.size + name + extra + info.compress_size > end:
            raise Refused(f"{shown(info.filename)} shares its bytes with another entry")


def _by_name(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, without the folder that torch puts all of them into (its name is that of the file when it
    was first written)."""
    roots = {info.filename.partition("/")[0] for info in infos if "/" in info.filename}
    inside = len(roots) == 1 and all("/" in info.filename for info in infos)
    entries: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        name = info.filename.partition("/")[2] if inside else info.filename
        if info.orig_filename != info.filename or not _NAME.fullmatch(name):
            raise Refused(f"an entry is called {shown(info.orig_filename)}; expected letters, digits and _.-/")
        if {".", ".."} & {*name.split("/")}:
            raise Refused(f"an entry is called {shown(info.orig_filename)}, which leads out of the folder")
        if name.lower() in seen:
            raise Refused(f"there are two entries {name} (their case may differ)")
        seen.add(name.lower())
        entries[name] = info
    return entries
