"""Upsampling by whole factors that repeats entries.

    position of x for output q:   q / r                     asymmetric
                                  (q + 1/2) / r - 1/2       half_pixel

Rounded down the first, and to the nearest the second, it is ⌊q / r⌋ for every whole r; the first rounded to the
nearest, a half down, for r = 2 alone.
"""

from functools import partial

from fusekit.algebra import Identity, Nearest
from fusekit.grafting.meaning import Known, Linear, Reader
from fusekit.grafting.operator_node import OperatorNode

_ROUNDED = ("round_prefer_floor", "round_prefer_ceil")
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")


def _resize(node: OperatorNode, known: Known) -> Linear | None:
    """Before opset 11 positions are asymmetric and rounded down, which was called Upsample before opset 10."""
    if node.word("mode", "nearest") != "nearest" or not known.is_floating(node.input(0)):
        return None
    factors = _factors(node, known)
    if factors is None:
        return None
    largest = max(factors)
    if node.opset >= 11 and not _repeats(node, largest):
        return None
    return Linear(node.input(0), partial(Nearest, factors[2:]) if largest > 1 else Identity)


def _repeats(node: OperatorNode, largest: int) -> bool:
    """Whether every output is what stands at ⌊q / r⌋, r being at most `largest`."""
    position = node.word("coordinate_transformation_mode", "half_pixel")
    rounding = node.word("nearest_mode", "round_prefer_floor")
    if position == "asymmetric":
        return rounding == "floor" or (rounding == "round_prefer_floor" and largest == 2)
    return position in _HALF_PIXEL and rounding in _ROUNDED


def _factors(node: OperatorNode, known: Known) -> tuple[int, ...] | None:
    """Of each axis, batch and channels 1; None if they are not whole numbers, or not known."""
    sizes = known.facts(node.input(0)).shape
    if sizes is None or not 3 <= len(sizes) <= 5 or node.word("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    found = _told(node, known)
    axes = [axis % len(sizes) for axis in node.numbers("axes", list(range(len(sizes))))]
    if found is None or len(found[0]) != len(axes):
        return None
    told = dict(zip(axes, found[0], strict=True))
    factors = []
    for axis, size in enumerate(sizes):
        number = told.get(axis, 1.0) if not found[1] or axis in told else size
        if found[1]:
            number = None if not size or number is None else number / size
        if number is None or number < 1 or not float(number).is_integer():
            return None
        factors.append(int(number))
    return tuple(factors) if factors[:2] == [1, 1] else None


def _told(node: OperatorNode, known: Known) -> tuple[list[float], bool] | None:
    """(numbers, whether they are sizes and no factors)."""
    if node.opset < 9:
        return [float(scale) for scale in node.numbers("scales", [])], False
    sizes = node.input(3) if node.opset >= 11 else ""
    scales = node.input(2) if node.opset >= 11 else node.input(1)
    array = known.constants.array(sizes or scales)
    return None if array is None else ([float(number) for number in array.reshape(-1)], bool(sizes))


READERS: dict[str, Reader] = {"Resize": _resize, "Upsample": _resize}
