"""What the tests of neighbours share.

A test declares its line of the table with `@pytest.mark.neighbour(package, what, advice="", no="")`, and adds figures
with `told`. `python -m benchmarks.neighbours` runs the tests and writes the table. Without `--neighbours` they are
skipped, because other packages take long to import.
"""

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--neighbours"):
        return
    skipped = pytest.mark.skip(reason="other packages; run with --neighbours")
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(skipped)


@pytest.fixture(autouse=True)
def declared(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """The line of the table travels with the report of the test."""
    marker = request.node.get_closest_marker("neighbour")
    assert marker is not None, "a test of neighbours declares its line of the table"
    package, what = marker.args
    record_property("neighbour", (package, what, marker.kwargs.get("advice", ""), marker.kwargs.get("no", "")))


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds figures to the line of the table."""
    return lambda text: record_property("told", text)
