"""`fusekit bench OLD.onnx NEW.onnx --fail-below`: the decision on given samples, and the command on files of which one
does sixty times the work of the other."""

import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusekit.bench import Bench
from fusekit.bench.contenders import Side, Version
from fusekit.bench.gate import Outcome, decide, verdicts
from fusekit.bench.measure import Row, measure, over
from fusekit.model import Inputs
from fusekit.runtimes import timing
from fusekit.runtimes.timing import Times
from tests.support.cli_room import run
from tests.support.onnx_files import drawn, model, node, saved

QUICK = ("--rounds", "5", "--seconds", "2", "--threads", "1")
TIME = st.floats(0.1, 10.0)
ROUNDS = st.lists(st.tuples(TIME, TIME, TIME), min_size=3, max_size=9)  # the old file, the new one, the old one again
BOUND = st.floats(0.1, 3.0)


def decided(rounds: list[tuple[float, float, float]], bound: float) -> tuple[Outcome, float]:
    """The decision on samples, with the figures that `measure` makes of them."""
    old, new, again = (Times(each) for each in zip(*rounds, strict=True))
    ratio = over(old, new)
    return decide(ratio.median, ratio.spread * ratio.median, len(rounds), over(old, again).median, bound)


@given(ROUNDS, BOUND)
def test_slower_means_below_the_bound_by_more_than_the_noise(
    rounds: list[tuple[float, float, float]], bound: float
) -> None:
    outcome, noise = decided(rounds, bound)
    speedup = sorted(old / new for old, new, _ in rounds)
    below, above = speedup[(len(speedup) - 1) // 2], speedup[len(speedup) // 2]
    if below >= bound:
        assert outcome is Outcome.FAST_ENOUGH
    if above + noise < bound:
        assert outcome is Outcome.SLOWER
    if above < bound <= below + noise:
        assert outcome is Outcome.WITHIN_NOISE


@given(ROUNDS, BOUND, st.floats(1.0, 5.0))
def test_more_is_asked_of_a_higher_bound(rounds: list[tuple[float, float, float]], bound: float, factor: float) -> None:
    strictness = list(Outcome)
    (loose, noise), (strict, same) = decided(rounds, bound), decided(rounds, bound * factor)
    assert strictness.index(loose) <= strictness.index(strict)
    assert noise == same >= 0


@given(st.lists(TIME, min_size=3, max_size=9), st.floats(0.2, 5.0), BOUND)
def test_without_noise_the_bound_alone_decides(times: list[float], speedup: float, bound: float) -> None:
    outcome, noise = decided([(each, each / speedup, each) for each in times], bound)
    assert noise == pytest.approx(0.0, abs=1e-9)
    if abs(speedup - bound) > 1e-6:
        assert outcome is (Outcome.FAST_ENOUGH if speedup > bound else Outcome.SLOWER)


@given(ROUNDS, st.floats(0.01, 0.999))
def test_a_file_is_never_slower_than_itself(rounds: list[tuple[float, float, float]], bound: float) -> None:
    """Where the new file is the old one, the old one again is as good a sample of it: no bound up to 1 fails."""
    assert decided([(old, again, again) for old, _, again in rounds], bound)[0] is not Outcome.SLOWER


@pytest.mark.parametrize(
    ("spread", "again", "outcome", "noise"),
    [
        (0.01, 1.0, Outcome.SLOWER, 0.011),
        (0.06, 1.0, Outcome.WITHIN_NOISE, 0.067),
        (0.01, 1.1, Outcome.WITHIN_NOISE, 0.09),  # what disturbs all rounds alike shows in the old file alone
        (0.01, 1 / 1.1, Outcome.WITHIN_NOISE, 0.09),
    ],
)
def test_both_kinds_of_noise_count(spread: float, again: float, outcome: Outcome, noise: float) -> None:
    found = decide(0.9, spread, 25, again, 0.95)
    assert found[0] is outcome
    assert found[1] == pytest.approx(noise, rel=0.02)


def test_more_rounds_leave_less_noise() -> None:
    outcomes = [decide(0.9, 0.05, rounds, 1.0, 0.95)[0] for rounds in (3, 25, 100)]
    assert outcomes == [Outcome.WITHIN_NOISE, Outcome.WITHIN_NOISE, Outcome.SLOWER]


def test_every_runtime_is_decided_by_its_own_noise() -> None:
    rows = [
        Row(runtime, name, side, 1.0, 1.0, speedup, 0.0)
        for runtime in ("one", "two")
        for name, side, speedup in (("old", Side.ORIGINAL, 1.0), ("new", Side.OTHER, 0.9))
    ]
    rows += [Row("three", "old", Side.ORIGINAL, failure="no"), Row("three", "new", Side.OTHER, failure="no")]
    measured = Bench(tuple(rows), {"one": 1.0, "two": 1.5}, 3, 1, 1)
    told = [(each.runtime, each.outcome, each.ok) for each in verdicts(measured, 0.95)]
    assert told == [("one", Outcome.SLOWER, False), ("two", Outcome.WITHIN_NOISE, True)]


def test_a_place_in_the_round_makes_nobody_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]  # seconds, on a machine that becomes slower from call to call
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def call() -> None:
        now[0] = 1.1 * now[0] + 0.01

    found = [Version("one", "old", Side.ORIGINAL, call), Version("one", "new", Side.OTHER, call)]
    inputs = Inputs.of(torch.zeros(1))
    ratios = [measure(found, inputs, 4, math.inf, turning=turning).rows[1].speedup for turning in (False, True)]
    assert ratios == [pytest.approx(1 / 1.1), pytest.approx((1.1 + 1 / 1.1) / 2)]


# --- the command --------------------------------------------------------------------------------------------------


def deep(folder: Path, name: str, layers: int, size: int = 48) -> Path:
    """A file of many 3x3 convolutions of 16 channels."""
    names = ["x", *(f"v{i}" for i in range(1, layers)), "y"]
    nodes = [node("Conv", f"{a} w", b, pads=[1] * 4) for a, b in pairwise(names)]
    shape = (1, 16, size, size)
    return saved(model(nodes, {"w": drawn(16, 16, 3, 3) / 12}, {"x": shape}, {"y": shape}), folder, name)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    deep(tmp_path, "one.onnx", 1)
    deep(tmp_path, "many.onnx", 60)
    deep(tmp_path, "other.onnx", 1, 20)
    (tmp_path / "noise.onnx").write_bytes(b"\x93\x00\x17" * 40)
    return tmp_path


def test_a_slower_file_fails_and_neither_is_touched(files: Path) -> None:
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    result = run("bench", "one.onnx", "many.onnx", "--fail-below", "0.95", "--json", *QUICK)
    assert result.code == 1, result
    assert result.stderr.startswith("error: many.onnx is slower than one.onnx: ONNX Runtime 0.")
    assert result.stderr.count("\n") == 1
    told = json.loads(result.stdout)
    assert (told["command"], told["ok"], told["old"], told["new"]) == ("bench", False, "one.onnx", "many.onnx")
    verdict = told["verdicts"][0]
    assert (verdict["runtime"], verdict["outcome"], verdict["bound"]) == ("ONNX Runtime", "slower", 0.95)
    assert verdict["speedup"] + verdict["noise"] < 0.95
    assert [row["version"] for row in told["bench"]["rows"][:2]] == ["old", "new"]
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_faster_file_passes(files: Path) -> None:
    result = run("bench", "many.onnx", "one.onnx", "--fail-below", "0.95", "--input", "1x16x48x48", *QUICK)
    assert (result.code, result.stderr) == (0, "")
    assert "fast enough: ONNX Runtime" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("one.onnx", "--fail-below", "0.95"), "OLD.onnx NEW.onnx"),
        (("net.py:make", "one.onnx", "--fail-below", "0.95"), "OLD.onnx NEW.onnx"),
        (("one.onnx", "net.pt2", "--fail-below", "0.95"), "OLD.onnx NEW.onnx"),
        (("one.onnx", "gone.onnx", "--fail-below", "0.95"), "no such file: gone.onnx"),
        (("gone.onnx", "one.onnx", "--fail-below", "0.95"), "no such file: gone.onnx"),
        (("one.onnx", "many.onnx", "--fail-below", "0"), "positive number"),
        (("one.onnx", "many.onnx", "--fail-below", "nan"), "positive number"),
        (("one.onnx", "many.onnx", "--fail-below", "inf"), "positive number"),
        (("one.onnx", "many.onnx", "--fail-below", "0.95", "--pass", "fold-affine"), "--pass"),
        (("one.onnx", "many.onnx", "--fail-below", "0.95", "--report", "page.html"), "--report"),
        (("one.onnx", "many.onnx", "--fail-below", "0.95", "--tolerance", "1e-3"), "--tolerance"),
        (("one.onnx", "many.onnx", "--fail-below", "0.95", "--input", "1x3x8x8"), "x"),
        (("one.onnx", "noise.onnx", "--fail-below", "0.95"), "noise.onnx"),
        (("noise.onnx", "one.onnx", "--fail-below", "0.95"), "noise.onnx"),
        (
            ("one.onnx", "other.onnx", "--fail-below", "0.95"),
            "other.onnx does not run in ONNX Runtime as one.onnx does",
        ),
    ],
)
def test_bad_input(words: tuple[str, ...], expected: str, files: Path) -> None:
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    result = run("bench", *words, *QUICK)
    assert (result.code, result.stdout) == (2, ""), result
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert expected in result.stderr
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before
