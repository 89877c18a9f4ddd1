"""Parses the JSON of an archive, with a limit on memory that is checked before any object is created."""

import json
from typing import Any

from fusekit.checkpoint.archive.refused import Refused, shown

MOST_MEMORY = 256 << 20  # bytes of Python objects
_OBJECT = 90  # at most so many bytes of Python objects for each bracket, colon or comma in the text


def parse_json(content: bytes | str, where: str) -> Any:
    """The parsed value of `content` (UTF-8). Raises Refused if it is not valid JSON (NaN and Infinity are not), needs
    too much memory, or has an object with the same key twice."""
    data = content.encode() if isinstance(content, str) else content
    memory = len(data) + _OBJECT * sum(data.count(sign) for sign in (b"{", b"[", b",", b":"))
    if memory > MOST_MEMORY:
        raise Refused(f"{where} takes up to {memory:,} bytes once read into memory; expected at most {MOST_MEMORY:,}")
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise Refused(f"{where} is nested too deeply") from error
    except (ValueError, Refused) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise Refused(f"{where} is no plain JSON ({error})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(f"the key {shown(key)} occurs twice in one object")
            seen.add(key)
    return entries


def _no_constant(name: str) -> Any:
    raise Refused(f"{name} is not a JSON number")
