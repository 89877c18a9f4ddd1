"""What another thread sees."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def elsewhere(ask: Callable[[], Any]) -> Any:
    """What the function returns in a thread of its own."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(ask).result()
