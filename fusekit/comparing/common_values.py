"""The values that two models have in common, and cuts through a graph that only these cross."""

from collections.abc import Iterable, Mapping
from math import prod

from fusekit.comparing.matching import Matching
from fusekit.comparing.regions import Regions
from fusekit.comparing.side import Side
from fusekit.ir import known
from fusekit.ir.graph import operator_name

Pair = tuple[str, str]


def common_values(matching: Matching, regions: Regions) -> list[Pair]:
    """The pairs of operators whose results should be equal, in the order in which the first model runs them.

    These are the operators that are the same on both sides and read the same, and partners in a region in which each
    operator has one: another weight, for instance. Inputs and outputs are not among them.
    """
    whole = {a for region in regions.found if region.whole for a in region.before}
    region_of = {a: region for region in regions.found for a in region.before}
    pairs = []
    for a, box in matching.before.boxes.items():
        b = matching.partner.get(a)
        if b is None or box.operator in ("input", "output") or not (regions.is_same(a) or a in whole):
            continue
        inputs = zip(box.inputs, matching.after.boxes[b].inputs, strict=False)
        fits = matching.reads_the_same(a, b) or all(
            matching.partner.get(x) == y or (x in region_of and y in region_of[x].after) for x, y in inputs
        )
        if fits and _is_tensor(matching.before, a) and _is_tensor(matching.after, b) and _same_layout(matching, a, b):
            pairs.append((a, b))
    return pairs


def cut(side: Side, order: Mapping[str, int], most: int) -> list[str]:
    """The values that are read behind a cut: those in `order` with a number of at most `most` from which the outputs
    can be computed without any other of these. Together with inputs and constants they decide what comes after."""
    found: dict[str, None] = {}
    seen = set()
    waiting = [box.id for box in side.boxes.values() if box.operator == "output"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if order.get(name, most + 1) <= most:
            found[name] = None
        else:
            waiting += side.boxes[name].inputs
    return sorted(found, key=order.__getitem__)


def between(side: Side, last: str, known_values: Iterable[str]) -> list[str]:
    """The operators that compute the value `last` from known values, in the order in which they run."""
    stops, seen, waiting = set(known_values), set(), [last]
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in stops and side.boxes[name].operator != "input":
            seen.add(name)
            waiting += side.boxes[name].inputs
    return [name for name in side.boxes if name in seen and side.boxes[name].operator != "output"]


def _is_tensor(side: Side, name: str) -> bool:
    """Whether an operator returns one tensor, as far as is known."""
    node = side.nodes[name]
    several = any(operator_name(user) == "getitem" for user in node.users if user.op == "call_function")
    return not several and (side.path is not None or known(node).shape is not None)


def _same_layout(matching: Matching, a: str, b: str) -> bool:
    """False if both have as many entries, but other sizes: the same numbers in another order."""
    ours, theirs = known(matching.before.nodes[a]).shape, known(matching.after.nodes[b]).shape
    if ours is None or theirs is None or ours == theirs:
        return True
    return prod(ours) != prod(theirs)
