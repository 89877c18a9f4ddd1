"""."""

from collections.abc import Iterator
from typing import Any


def measured(*a: Any) -> Iterator[dict[str, Any]]:
    yield from ()


def table(rows: Any) -> Iterator[str]:
    yield ""


def known() -> list[Any]:
    return []
