"""Records how often each law was checked, and its largest error. The figures are printed after the tests."""

import os
from collections import defaultdict

_checks: dict[str, int] = defaultdict(int)
_worst: dict[str, float] = defaultdict(float)


def record(error: float) -> None:
    """Count one check of the running test and keep its largest relative error."""
    name = os.environ.get("PYTEST_CURRENT_TEST", "?").split("::")[-1].split(" ")[0].split("[")[0]
    _checks[name] += 1
    _worst[name] = max(_worst[name], error)


def pages() -> dict[str, tuple[int, float]]:
    """All records, in a form that can be sent to another process."""
    return {name: (_checks[name], _worst[name]) for name in _checks}


def add(pages: dict[str, tuple[int, float]]) -> None:
    """Add the records of another process."""
    for name, (checks, worst) in pages.items():
        _checks[name] += checks
        _worst[name] = max(_worst[name], worst)


def lines() -> list[str]:
    """One line for each law: the number of checks, and the largest error."""
    return [f"{name:45s} {_checks[name]:7d} checks, worst relative error {_worst[name]:.1e}" for name in _checks]
