"""Interleaved timing, and what is told of the rounds."""

from fusekit.runtimes.timing import Times, interleaved


def test_interleaved_rounds() -> None:
    order: list[str] = []
    times = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, rounds=4)  # type: ignore[misc]
    assert order == ["a", "b"] * 5 and [len(t.rounds) for t in times.values()] == [4, 4]
    few = interleaved({"a": lambda: None}, rounds=100, seconds=0.0)
    assert len(few["a"].rounds) == 3


def test_times() -> None:
    times = Times((3.0, 1.0, 2.0, 10.0, 4.0))
    assert (times.median, times.p95) == (3.0, 10.0) and 0 < times.spread < 2
    assert Times((5.0,)).spread == 0.0 and Times((5.0,)).p95 == 5.0
