"""Of the calls that take turns, one is loaded at a time."""

import weakref
from typing import ClassVar

from fusekit.runtimes.timing import interleaved
from fusekit.runtimes.turns import Turns


class Session:
    alive: ClassVar[weakref.WeakSet["Session"]] = weakref.WeakSet()

    def __init__(self, name: str) -> None:
        self.name = name
        assert not Session.alive, "the one before is freed first"
        Session.alive.add(self)

    def __call__(self) -> str:
        return self.name


def test_one_at_a_time_and_none_afterwards() -> None:
    with Turns() as turns:
        a, b = (turns.call(lambda name=name: Session(name)) for name in "ab")  # type: ignore[misc]
        assert [a(), a(), b(), a()] == ["a", "a", "b", "a"]
        assert len(Session.alive) == 1
    assert not Session.alive


def test_going_forwards_and_backwards_loads_few() -> None:
    loaded: list[str] = []

    def load(name: str) -> Session:
        loaded.append(name)
        return Session(name)

    with Turns() as turns:
        calls = {name: turns.call(lambda name=name: load(name)) for name in "ab"}  # type: ignore[misc]
        times = interleaved(calls, rounds=3, warm=True, turning=True)
    assert loaded == ["a", "b", "a", "b", "a"]
    assert all(len(each.rounds) == 3 for each in times.values())
