"""Finds the first of many steps after which something differs, by halving: log2 of them are tried.

    agrees      at the beginning, before the first step
    differs     at the end, after the last one

Nothing else is asked for. If it differs and agrees by turns, one of the steps at which it begins to differ is found.
"""

from collections.abc import Callable


def first_that_differs(count: int, differs: Callable[[int], int | None]) -> int:
    """The number of a step, from 0 to count - 1: with all steps before it the results agree, with it they differ.

    `differs(n)`: the number of a step, at most n, after which the results are seen to differ; None if those after step
    n agree. It is known, and not asked again, that they differ after the last step.
    """
    low, high = -1, count - 1  # they agree after `low` and differ after `high`
    while high - low > 1:
        middle = (low + high) // 2
        found = differs(middle)
        if found is None:
            low = middle
        else:
            high = max(found, low + 1)
    return high
