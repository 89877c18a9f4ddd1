"""Bounds the integers that a program computes from the sizes of its inputs.

A 64-bit size squared forty times does not fit in any memory. Such a program is refused before it runs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fusekit.checkpoint.archive.operators import SIZE_OPERATORS
from fusekit.checkpoint.archive.refused import Refused, shown

MOST_BITS = 8_192
MOST_POWER = 8
_BITS = 64  # of the size of an input, or of an integer read from a tensor


def check_magnitudes(nodes: Iterable[Mapping[str, Any]], where: str) -> None:
    """Raises Refused if the result of any call in `nodes` (in execution order) may have more than `MOST_BITS` bits."""
    known: dict[str, int] = {}
    for node in nodes:
        target = node["target"]
        if target not in SIZE_OPERATORS:
            continue
        given = [_bits(entry["arg"], known) for entry in node["inputs"]]
        bits = max(given, default=0) + 1
        if target == "_operator.mul":
            bits = sum(given)
        elif target == "_operator.pow":
            bits = max(given[:1], default=0) * _power(node["inputs"], where)
        if bits > MOST_BITS:
            raise Refused(f"{where}: {target} may give a number of {bits:,} bits; expected at most {MOST_BITS:,}")
        known.update(dict.fromkeys(_names(node["outputs"]), bits))


def _power(inputs: list[Any], where: str) -> int:
    exponent = inputs[-1]["arg"].get("as_int", -1)
    if not 0 <= exponent <= MOST_POWER:
        raise Refused(f"{where}: a power has the exponent {shown(exponent)}; expected an integer up to {MOST_POWER}")
    return int(exponent)


def _bits(argument: Mapping[str, Any], known: Mapping[str, int]) -> int:
    (value,) = argument.values()
    if isinstance(value, dict):
        return known.get(value.get("as_name", ""), _BITS)
    return _BITS


def _names(outputs: list[Any]) -> list[str]:
    values = [value for output in outputs for value in output.values()]
    return [value["as_name"] for value in values if isinstance(value, dict) and "as_name" in value]
