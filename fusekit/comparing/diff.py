"""Compares the graphs and the weights of two models, without running them."""

from fusekit.comparing.difference import Change, Difference
from fusekit.comparing.matching import Matching, path_of
from fusekit.comparing.meaning import ROUNDING, Meaning, alike, apart, meanings
from fusekit.comparing.regions import Region, Regions
from fusekit.comparing.side import Side, Source, name_of, open_sides
from fusekit.errors import FusekitError, told_as
from fusekit.model import plain_modes
from fusekit.model.alone import alone
from fusekit.report.facts import facts_of

_GEOMETRY = ("kernel", "stride", "padding", "dilation", "groups", "channels")


@told_as(FusekitError, "comparing the models")
@alone()
@plain_modes()
def diff(before: Source, after: Source, example_inputs: object = None) -> Difference:
    """How two models differ in operators and weights. Neither is changed or judged (`fusekit.validate` does that).

    Operators are matched by their weights, by the paths of their modules, and by their neighbours.

    Args:
        before, after: any two of: a module, an ONNX file, an archive of torch.export (the last two by their path).
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments. With them, sizes and
            multiply-accumulates are known.

    Raises CheckpointError for a file of another kind, FusekitError for a model that cannot be read as one graph.
    """
    with open_sides(before, after, example_inputs) as (ours, theirs):
        matching = Matching(ours, theirs, (meanings(ours), meanings(theirs)))
        regions = Regions(matching)
        changes = tuple(_change(region, matching) for region in regions.found)
        ends = ("input", "output")
        same = sum(regions.is_same(a) and box.operator not in ends for a, box in ours.boxes.items())
        return Difference(
            (name_of(before), name_of(after)),
            (ours.size, theirs.size),
            changes,
            same,
            tuple(matching.partner.items()),
            (ours.drawing, theirs.drawing),
        )


def _change(region: Region, matching: Matching) -> Change:
    where = _where(matching.before, region.before) or _where(matching.after, region.after)
    if not region.before or not region.after:
        return Change("only in A" if region.before else "only in B", where, "", region.before, region.after)
    pair = len(region.before) == len(region.after) == 1
    ours, theirs = (each[names[0]] for each, names in zip(matching.meaning, (region.before, region.after), strict=True))
    if not pair or ours.kind != theirs.kind:
        return Change("replaced", where, "", region.before, region.after)
    if not alike(ours, theirs):
        return Change("geometry", where, _geometry(matching, region), region.before, region.after)
    return _weights(where, region, ours, theirs)


def _weights(where: str, region: Region, ours: Meaning, theirs: Meaning) -> Change:
    distance = apart(ours, theirs)
    if distance <= ROUNDING:
        return Change("replaced", where, "it reads other values", region.before, region.after)
    told = "weights of other sizes" if distance == float("inf") else f"weights differ by {distance:.1e}"
    finite = None if distance == float("inf") else distance
    return Change("weights", where, told, region.before, region.after, finite)


def _geometry(matching: Matching, region: Region) -> str:
    """stride 1×1 -> stride 2×2"""
    sides = ((matching.before, region.before), (matching.after, region.after))
    ours, theirs = (dict(facts_of(side.boxes[names[0]])) for side, names in sides)
    names = [name for name in _GEOMETRY if ours.get(name) != theirs.get(name)]
    told = (", ".join(f"{name} {each.get(name, 'none')}" for name in names) for each in (ours, theirs))
    return " -> ".join(told) if names else _fields(matching, region)


def _fields(matching: Matching, region: Region) -> str:
    """The arguments, or the fields of the map, of both sides; only those that differ where they have names."""
    ours, theirs = (each[names[0]] for each, names in zip(matching.meaning, (region.before, region.after), strict=True))
    if ours.geometry != theirs.geometry:
        return " -> ".join(" ".join(map(str, each.geometry)) or "none" for each in (ours, theirs))
    first, second = (set(each.options or ()) for each in (ours, theirs))
    return " -> ".join(", ".join(sorted(each)) or "none" for each in (first - second, second - first))


def _where(side: Side, names: tuple[str, ...]) -> str:
    """The paths of the operators; the names of those that belong to no module."""
    return " + ".join(dict.fromkeys(path_of(side, name) or side.boxes[name].where or name for name in names))
