"""The bugs to plant fit the code as it is: `python -m tests.plant` takes long, and a text that has moved is no bug."""

from collections import Counter

from tests import plant


def test_each_stands_once_in_its_file() -> None:
    counts = {bug.name: (plant.ROOT / bug.file).read_text().count(bug.right) for bug in plant.BUGS}
    assert {name: count for name, count in counts.items() if count != 1} == {}


def test_each_changes_something_and_is_called_otherwise() -> None:
    assert all(bug.right != bug.wrong for bug in plant.BUGS)
    assert max(Counter(bug.name for bug in plant.BUGS).values()) == 1


def test_their_nets_exist() -> None:
    nets = {net for bug in plant.BUGS for net in bug.nets}
    assert {net for net in nets if len(list((plant.ROOT / "tests").glob(f"*/{net}.py"))) != 1} == set()
