"""The branches of a forward on sizes 0 and 1, which torch.export forgets.

torch.export assumes that a free size is 2 or more. What a forward decides by comparing sizes it writes down as a
condition only if a size of 2 or more could decide otherwise: `if x.shape[0] == 1` leaves no trace, and the program
answers wrongly for a batch of one. The comparisons that code outside torch makes are therefore noted while the trace
runs, and those that come out differently at size 0 or 1 become conditions of the program.
"""

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils._sympy.printers import PythonPrinter

from fusekit.model.patches import comparisons_noted
from fusekit.model.torch_notes import user_inputs, value_at

Branch = tuple[str, Any, Any]  # a comparison's operator, and its two sides: sympy expressions or numbers

_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "__eq__": ("==", operator.eq),
    "__ne__": ("!=", operator.ne),
    "__lt__": ("<", operator.lt),
    "__le__": ("<=", operator.le),
    "__gt__": (">", operator.gt),
    "__ge__": (">=", operator.ge),
}
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_HOLDS = dict(_COMPARISONS.values())
_MOST_SIZES = 4  # sizes in one comparison whose smallness is tried in all combinations


@contextmanager
def noted_branches() -> Iterator[list[Branch]]:
    """Within: every comparison of a symbolic size made outside torch is noted."""
    branches: list[Branch] = []

    def note(method: str, size: Any, other: Any, asker: str) -> None:
        if not asker.startswith(("torch.", "sympy.")) and isinstance(other, int | torch.SymInt):
            right = other.node.expr if isinstance(other, torch.SymInt) else other
            branches.append((_COMPARISONS[method][0], size.node.expr, right))

    with comparisons_noted(note):
        yield branches


def conditions_at_small_sizes(
    program: ExportedProgram, branches: Sequence[Branch], conditions: Sequence[str]
) -> list[str]:
    """The comparisons that hold otherwise at some size 0 or 1 which the given conditions let through."""
    names, shapes = _inputs(program)
    symbols: dict[Any, tuple[str, int, int]] = {}  # sympy symbol -> how Python spells it, and its example
    for name, shape in zip(names, shapes, strict=True):
        for axis, size in enumerate(shape):
            if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                spelled = f"L['{name}'].size()[{axis}]"
                symbols.setdefault(size.node.expr, (spelled, axis, int(size.node.hint)))
    found: dict[str, None] = {}
    for name, left, right in branches:
        free = sorted({s for side in (left, right) for s in getattr(side, "free_symbols", ())}, key=str)
        if not free or len(free) > _MOST_SIZES or any(symbol not in symbols for symbol in free):
            continue
        hints = {symbol: hint for symbol, (_, _, hint) in symbols.items()}
        held = _holds(name, left, right, hints)
        for values in itertools.product((None, 1, 0), repeat=len(free)):
            sizes = {**hints, **{s: v for s, v in zip(free, values, strict=True) if v is not None}}
            if _holds(name, left, right, sizes) != held and _lets_through(conditions, names, shapes, sizes):
                found[f"{_spelled(left, symbols)} {name if held else _NEGATED[name]} {_spelled(right, symbols)}"] = None
                break
    return list(found)


def _inputs(program: ExportedProgram) -> tuple[list[str], list[tuple[Any, ...]]]:
    tensors = [node for node in user_inputs(program) if isinstance(value_at(node), Tensor)]
    return [node.name for node in tensors], [tuple(value_at(node).shape) for node in tensors]


def _value(side: Any, sizes: dict[Any, int]) -> int | None:
    try:
        return int(side if isinstance(side, int) else side.xreplace(sizes))
    except Exception:  # a division by zero
        return None


def _holds(name: str, left: Any, right: Any, sizes: dict[Any, int]) -> bool | None:
    a, b = _value(left, sizes), _value(right, sizes)
    return None if a is None or b is None else bool(_HOLDS[name](a, b))


def _lets_through(
    conditions: Sequence[str], names: list[str], shapes: list[tuple[Any, ...]], sizes: dict[Any, int]
) -> bool:
    def concrete(size: Any) -> int | None:
        return _value(size.node.expr, sizes) if isinstance(size, torch.SymInt) else int(size)

    def tensor(shape: tuple[Any, ...]) -> SimpleNamespace:
        return SimpleNamespace(size=lambda: [concrete(size) for size in shape])

    scope = {"L": {name: tensor(shape) for name, shape in zip(names, shapes, strict=True)}}
    try:
        return all(eval(condition, dict(scope)) for condition in conditions)
    except Exception:  # a condition on something else: let it through
        return True


def _spelled(side: Any, symbols: dict[Any, tuple[str, int, int]]) -> str:
    if isinstance(side, int):
        return str(side)
    text = PythonPrinter().doprint(side)
    for symbol, (spelled, _, _) in sorted(symbols.items(), key=lambda item: -len(str(item[0]))):
        text = text.replace(str(symbol), spelled)
    return f"({text})" if not side.is_Symbol else str(text)
