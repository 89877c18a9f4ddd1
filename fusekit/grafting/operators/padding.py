"""Which padding the attributes of a window mean.

SAME_UPPER   total = max(0, (⌈size / s⌉ - 1) s + d (k - 1) + 1 - size), the odd one behind; SAME_LOWER: before
"""

from collections.abc import Sequence

from fusekit.algebra.map import Pairs
from fusekit.grafting.meaning import Known
from fusekit.grafting.operator_node import OperatorNode


def window_padding(
    node: OperatorNode,
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    sizes: Sequence[int | None],
) -> Pairs | None:
    """A (low, high) pair for each axis; None where it hangs on a size that is not known, or is negative."""
    n = len(window)
    way = node.word("auto_pad", "NOTSET")
    if way in ("NOTSET", ""):
        pads = node.numbers("pads", [0] * 2 * n)
        pairs = tuple(zip(pads[:n], pads[n:], strict=False))
        return pairs if len(pads) == 2 * n and min(pads) >= 0 else None
    if way == "VALID":
        return ((0, 0),) * n
    if way not in ("SAME_UPPER", "SAME_LOWER") or len(sizes) != n:
        return None
    pairs = ()
    for k, s, d, size in zip(window, stride, dilation, sizes, strict=True):
        reach = d * (k - 1)
        if s == 1:
            total = reach
        elif size is None:
            return None
        else:
            total = max(0, (-(-size // s) - 1) * s + reach + 1 - size)
        small, large = total // 2, total - total // 2
        pairs = (*pairs, (small, large) if way == "SAME_UPPER" else (large, small))
    return pairs


def fits(known: Known, source: str, reach: Sequence[int], padding: Pairs) -> bool:
    """Whether a window sees no more than there is, as far as sizes are known: else runtimes do not agree on what it
    gives. `reach`: entries from its first to its last tap, on each axis."""
    example = (known.shapes.example(source) or ())[2:]
    least = [taps - sum(pair) for taps, pair in zip(reach, padding, strict=True)]
    return all(size >= needed for size, needed in zip(example, least, strict=False))
