"""The report on one screen: grouped by law and block, the most important refusals, the numbers; at any width."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fusekit.report import Event, Measure, Outcome, Report, Totals, sum_of
from fusekit.report.measures import saved
from fusekit.report.places import block, by_law, grouped
from fusekit.report.refusals import refusals
from tests.support.pages import blocks

APPLIED, REFUSED, REJECTED = Outcome.APPLIED, Outcome.REFUSED, Outcome.REJECTED
BRANCHES = ("5 branches", "1 convolution")


def shown(report: Report, width: int, errors: tuple[float, float] | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(report.brief(errors))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def merged(where: str, change: tuple[str, ...] = BRANCHES) -> Event:
    return Event("merge-sum", where, APPLIED, change=change)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_large_model_takes_one_screen(width: int) -> None:
    events = [merged(f"stages.{s}.{b}.a + stages.{s}.{b}.b") for s in range(4) for b in range(20)]
    events += [Event("drop-identity", f"stages.{s}.{b}.drop", APPLIED) for s in range(4) for b in range(200)]
    events += [Event("use-winograd", f"s.{n}", REFUSED, 9.0 * n, reason=f"price x{n}.5, too much") for n in range(300)]
    lines = shown(Report(tuple(events), Totals(900, 10**6, 10**9), Totals(90, 10**5, 10**8)), width, (1e-7, 2e-7))
    assert len(lines) < 30 and max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "stages.2.*: 20 blocks, 5 branches each -> 1 convolution" in text
    assert "800 operators that do nothing" in text and "(300 places)" in text and "price x299.5" in text
    assert "1.0e-07 2.0e-07" in text and "-90 %" in text


def test_no_word_is_cut_at_sixty_columns() -> None:
    """What is one word stays one: no column is so narrow that it breaks a name of a law or a number."""
    text = "\n".join(shown(blocks(3), 60))
    for word in ("merge-sum", "use-winograd", "4.00x faster", "branches"):
        assert word in text, text


def test_a_report_of_nothing() -> None:
    assert shown(Report(), 60) == ["Nothing was rewritten."]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a.0.conv + a.0.norm", "a.0"),
        ("a.0.conv", "a.0.conv"),
        ("a + b", "a"),
        ("a.10 + a.1", "a"),
        ("a.0.b ... a.1.c", "a"),
    ],
)
def test_the_block_of_an_event(where: str, expected: str) -> None:
    assert block(where) == expected


def test_groups_are_as_fine_as_there_is_room() -> None:
    few = [merged(f"stages.{s}.{b}") for s in range(2) for b in range(3)]
    assert [str(group) for group in grouped(few)] == [
        "stages.0.*: 3 blocks, 5 branches each -> 1 convolution",
        "stages.1.*: 3 blocks, 5 branches each -> 1 convolution",
    ]
    many = [merged(f"stages.{s}.{b}") for s in range(9) for b in range(3)]
    assert [str(group) for group in grouped(many)] == ["stages.*.*: 27 blocks, 5 branches each -> 1 convolution"]
    assert [str(group) for group in grouped(few[:1])] == ["stages.0.0: 5 branches -> 1 convolution"]
    assert str(grouped([merged("a"), merged("a")])[0]) == "a: 2 places, 5 branches each -> 1 convolution"


PATHS = st.lists(st.sampled_from(["a", "b", "0", "1", "2", "add_1", "add_2"]), min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(PATHS, st.sampled_from(["2 branches", "3 branches"])), max_size=40), st.integers(1, 6))
def test_every_event_is_in_one_group(places: list[tuple[str, str]], most: int) -> None:
    events = [merged(where, (words, "1 convolution")) for where, words in places]
    groups = grouped(events, most)
    assert sorted(e.where for g in groups for e in g.events) == sorted(e.where for e in events)
    assert all(event.change == group.change for group in groups for event in group.events)
    assert len({(group.pattern, group.change) for group in groups}) == len(groups), "no two lines say the same"


def test_what_does_nothing_is_one_line_at_the_end() -> None:
    events = [Event("drop-identity", "a", APPLIED), merged("b"), Event("drop-identity", "c", APPLIED)]
    assert list(by_law(events).items())[-1] == ("drop-identity", ["2 operators that do nothing"])


def test_bugs_come_first_then_what_was_not_read_then_what_costs_most() -> None:
    events = [
        Event("fold-conv", "a", REFUSED, 1e9, reason="does not pay"),
        Event("fold-conv", "b", REFUSED, 2e9, reason="the weights are computed"),
        Event("capture", "model", REFUSED, reason="no trace"),
        Event("fold-pad", "c", REJECTED, 1.0, reason="float64 error 1.0e+00"),
        Event("fold-conv", "d", APPLIED, 1e12),
    ]
    order = [(each.rewrite, each.reason) for each in refusals(events)]
    assert order == [
        ("fold-pad", "float64 error 1.0e+00"),
        ("capture", "no trace"),
        ("fold-conv", "the weights are computed"),
        ("fold-conv", "does not pay"),
    ]
    alike = refusals([Event("x", f"l.{n}", REFUSED, float(n), reason=f"price x{n}.25") for n in (1, 3, 2)])
    assert [(len(each.events), each.reason, each.where) for each in alike] == [(3, "price x3.25", "l.*")]


@pytest.mark.parametrize(
    ("row", "before", "change"),
    [
        (Measure("operators", 455, 89), "455", "-80 %"),
        (Measure("operators", 20, 20), "20", "the same"),
        (Measure("parameters", 5_381_464, 5_381_000), "5.38 M", "-0.009 %"),
        (Measure("MACs", 99_999, 200_000), "99,999", "+100 %"),
        (Measure("file", 1234, None, "B"), "1.23 kB", ""),
        (Measure("file", 999_700, 5, "B"), "1 MB", "-100 %"),
        (Measure("latency", 10.0, 2.5, "ms"), "10 ms", "4.00x faster"),
        (Measure("latency", 2.0, 5.0, "ms"), "2 ms", "2.50x slower"),
        (Measure("error", 1e-7, 2e-7, "error"), "1.0e-07", ""),
        (Measure("MACs", None, 5), "-", ""),
    ],
)
def test_numbers_as_people_read_them(row: Measure, before: str, change: str) -> None:
    assert (row.spelled(row.before), row.change) == (before, change)


def test_what_is_saved() -> None:
    rows = Report(before=Totals(100, 10, 50, 9), after=Totals(50, 10, 60, 3), times=(2.0, 1.0)).measures()
    assert [row.name for row in rows] == ["operators", "parameters", "MACs", "file", "latency"]
    assert saved(rows) == "50 % of the operators"
    assert Report(before=Totals(1, 1)).measures() == []


def test_the_size_of_parts() -> None:
    assert sum_of([Totals(1, 2, 3), Totals(4, 5, 6)]) == Totals(5, 7, 9)
    assert sum_of([Totals(1, 2, 3), Totals(4, 5)]) == Totals(5, 7, None) and sum_of([]) is None


def test_json_holds_everything() -> None:
    told = json.loads(blocks(2).to_json())
    assert told["events"][0]["change"] == ["2 branches", "1 convolution"]
    assert told["events"][0]["outcome"] == "applied" and len(told["drawings"][0]["boxes"]) == 13
    assert {"events", "before", "after", "capture", "notes", "target", "seconds", "times"} <= told.keys()
