"""Parses the nesting of the arguments and results of a program: tuples, lists and dicts, but no other classes.

The text contains names of classes, and torch imports some of them when it reads the text. Here it is parsed as data and
written anew.
"""

import json
from collections import OrderedDict
from typing import Any

from fusekit.checkpoint.archive.grammar import list_of, matching, record
from fusekit.checkpoint.archive.refused import Refused, shown
from fusekit.checkpoint.archive.strict_json import parse_json

MOST_DEPTH = 32
_VERSION = 1
_CONTAINERS = {"builtins.tuple": tuple, "builtins.list": list}
_MAPPINGS = {"builtins.dict": dict, "collections.OrderedDict": OrderedDict}
_KEY = matching(r"[A-Za-z0-9_ .\-]{1,100}", "a key of ASCII letters, digits, blanks and _.-")


def rewrite_treespec(value: Any, where: str) -> str:
    """The same nesting, written anew. Raises Refused if it has anything but built-in containers."""
    return json.dumps([_VERSION, _read(_tree(value, where), where, MOST_DEPTH)])


def example_of(text: str) -> Any:
    """Containers with the nesting of a text from `rewrite_treespec`, and 0 for each leaf."""
    return _fill(json.loads(text)[1])


def _tree(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise Refused(f"{where} is {shown(value)}; expected JSON in a string")
    parsed = parse_json(value, where)
    if not isinstance(parsed, list) or len(parsed) != 2 or parsed[0] != _VERSION:
        raise Refused(f"{where} is {shown(value)}; expected a nesting of version {_VERSION}")
    return parsed[1]


def _read(value: Any, where: str, depth: int) -> dict[str, Any]:
    if depth == 0:
        raise Refused(f"{where} is nested deeper than {MOST_DEPTH}")
    fields: dict[str, Any] = record({"type": _any, "context": _any, "children_spec": list_of(_any)})(value, where)
    kind, context, children = fields["type"], fields["context"], fields["children_spec"]
    if kind is None and context is None and not children:
        return fields
    if kind in _MAPPINGS and isinstance(context, str):
        keys = list_of(_key)(parse_json(context, f"{where}: keys"), f"{where}: keys")
        if len(keys) != len(children) or len({*keys}) != len(keys):
            raise Refused(f"{where}: a dict has the keys {shown(keys)} for {len(children)} values")
        context = json.dumps(keys)
    elif kind not in _CONTAINERS or context != "null":
        raise Refused(
            f"{where} holds a container {shown(kind)} ({shown(context)}), whose class is not in the file; "
            "expected tuple, list, dict or OrderedDict"
        )
    inner = [_read(child, where, depth - 1) for child in children]
    return {"type": kind, "context": context, "children_spec": inner}


def _any(value: Any, where: str) -> Any:
    return value


def _key(value: Any, where: str) -> str | int:
    return value if type(value) is int and abs(value) < 1 << 31 else str(_KEY(value, where))


def _fill(tree: dict[str, Any]) -> Any:
    if tree["type"] is None:
        return 0
    children = [_fill(child) for child in tree["children_spec"]]
    if tree["type"] in _CONTAINERS:
        return _CONTAINERS[tree["type"]](children)
    return _MAPPINGS[tree["type"]](zip(json.loads(tree["context"]), children, strict=True))
