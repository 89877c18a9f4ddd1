"""JSON of an archive, read with bounds: its objects are counted in the text before there are any."""

import json
from typing import Any

from fusekit.checkpoint.archive.refused import Refused, shown

MOST_MEMORY = 256 << 20  # bytes of Python objects
_OBJECT = 90  # bytes that a bracket, a colon or a comma of JSON stands for, at most


def parse_json(content: bytes | str, where: str) -> Any:
    """The value that `content` (UTF-8) stands for; raises Refused for what is no JSON, is too much, or says one key
    twice. NaN and Infinity, which JSON does not know, are refused, too."""
    data = content.encode() if isinstance(content, str) else content
    memory = len(data) + _OBJECT * sum(data.count(sign) for sign in (b"{", b"[", b",", b":"))
    if memory > MOST_MEMORY:
        raise Refused(f"{where} takes up to {memory:,} bytes once read; expected at most {MOST_MEMORY:,}")
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise Refused(f"{where} is nested too deeply") from error
    except (ValueError, Refused) as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise Refused(f"{where} is no plain JSON ({error})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(f"{shown(key)} stands twice in one object")
            seen.add(key)
    return entries


def _no_constant(name: str) -> Any:
    raise Refused(f"{name} is no number of JSON")
