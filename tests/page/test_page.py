"""The page as text: everything is in it, nothing is loaded, and nothing that a model names is taken for HTML."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from torch import nn

import fusekit
from fusekit.errors import ExportError
from fusekit.page import Check, Content, page
from fusekit.report import Beside, Box, Drawing, Event, Outcome, Report
from fusekit.report.regions import regions
from fusekit.validation import Validation
from fusekit.validation.tolerance import OutputError
from fusekit.validation.verdict import ProbeResult
from tests.support.pages import LAW, blocks

EVIL = "</script><script>alert('x')</script><b title=\"&amp;"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its scripts' text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def written(report: Report, path: Path, beside: Beside | None = None) -> str:
    report.to_html(path, beside or Beside())
    return path.read_text(encoding="utf-8")


def picture(text: str) -> dict[str, list[dict[str, object]]]:
    found = re.search(r'<script type="application/json" id="picture">(.*?)</script>', text, re.S)
    assert found
    assert not {"<", ">", "&"} & set(found[1]), "it would depend on what follows whether the script ends"
    told: dict[str, list[dict[str, object]]] = json.loads(found[1])
    return told


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    elements = Elements(written(blocks(3), tmp_path / "page.html")).found
    links = [each for _, each in elements if {"src", "href", "srcset", "action", "data"} & each.keys()]
    assert links == []
    policy = next(each["content"] for _, each in elements if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")


def test_the_library_comes_with_its_licence(tmp_path: Path) -> None:
    text = written(blocks(1), tmp_path / "page.html")
    assert "Permission is hereby granted" in text and "Chris Pettitt" in text
    version = re.search(r"dagre (\d+\.\d+\.\d+)", text)
    assert version and version[1] in text.partition("var dagre=")[2], "the version that is named is the one inside"


def test_names_of_a_model_are_text(tmp_path: Path) -> None:
    """A layer, an operator, a reason, an output, a note: each may hold anything."""
    report = blocks(2, name=EVIL)
    named = Report(
        (*report.events, Event(EVIL, EVIL, Outcome.REJECTED, reason=EVIL)),
        report.before,
        report.after,
        EVIL,
        (EVIL,),
        EVIL,
        drawings=report.drawings,
        laws=(("merge-sum", EVIL),),
        machine=((EVIL, EVIL),),
    )
    beside = Beside(False, EVIL, None, (Check(EVIL, EVIL, 1.0, 1.0, 1.0, False, EVIL), Check(EVIL, note=EVIL)))
    plain = Elements(written(report, tmp_path / "plain.html")).found
    text = written(named, tmp_path / "page.html", beside)
    found = Elements(text).found
    assert sum(tag == "script" for tag, _ in found) == sum(tag == "script" for tag, _ in plain)
    assert not any(tag == "b" for tag, _ in found)
    assert "alert('x')" not in re.sub(r"<script.*?</script>", "", text, flags=re.S).replace("&#39;", "")
    assert picture(text)["before"][1]["where"] == f"{EVIL}.0.0.conv"


def test_what_a_page_tells(tmp_path: Path) -> None:
    checks = (Check("given", "output", 1e-7, 2e-7, 3e-6), Check("odd sizes", note="skipped: too small"))
    beside = Beside(True, "error 2e-07", (1e-7, 2e-7), checks)
    text = written(blocks(20), tmp_path / "page.html", beside)
    for told in ("Valid", "stages.*: 20 blocks, 2 branches each → 1 convolution", LAW, "not clearly faster", "2.0e-07"):
        assert told in text, told
    assert "4.00× faster" in text and "−60 %" in text and "skipped: too small" in text


def test_a_report_without_a_graph_is_a_page_without_one(tmp_path: Path) -> None:
    text = written(Report(), tmp_path / "page.html")
    assert "Nothing was rewritten" in text and "dagre" not in text and "<svg" not in text


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no folder"):
        Report().to_html(tmp_path / "missing" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_each_check_has_its_place_on_the_scale() -> None:
    places = [Check.place(value) for value in (0.0, 1e-17, 1e-10, 1e-3, 1.0, 1e9, float("inf"), None)]
    assert places == sorted(places) and places[0] == 0 and places[-1] == 100
    assert page(Content("t")).count("<h1>") == 1


def test_boxes_are_linked_by_regions(tmp_path: Path) -> None:
    told = picture(written(blocks(3), tmp_path / "page.html"))
    assert [box["region"] for box in told["after"]] == [-1, 0, -1, 1, -1, 2, -1]
    each = [region for k in range(3) for region in (k, k, k, k, k, -1)]
    assert [box["region"] for box in told["before"]] == [-1, *each]
    assert told["after"][1]["origins"] == [1, 2, 3, 4, 5] and told["after"][1]["inputs"] == [0]


def test_what_came_out_as_it_was_is_no_region() -> None:
    same = Box("a", "relu", "act", ("x",), ("a",))
    moved = Box("b", "relu", "act", ("x",), ("a",))
    other = Box("b", "sigmoid", "act", ("x",), ("a",))
    assert regions(Drawing((same,)), Drawing((moved,)), ()).after == {}
    assert regions(Drawing((same,)), Drawing((other,)), ()).after == {"b": 0}
    gone = Event("drop", "act", Outcome.APPLIED, region=("a",))
    assert regions(Drawing((same,)), Drawing(()), (gone,)).before == {"a": 0}


def test_a_refusal_joins_nothing() -> None:
    report = blocks(2)
    refused = Event("fold-conv", "both", Outcome.REFUSED, region=("c0_0", "c1_0"))
    assert report.drawings is not None
    found = [regions(*report.drawings, (*report.events, *more)) for more in ((), (refused,))]
    assert found[0] == found[1] and len(set(found[1].after.values())) == 2


def test_a_notebook_shows_small_tables() -> None:
    report = blocks(20, name=EVIL)
    shown = report._repr_html_()
    assert "20 blocks, 2 branches each → 1 convolution" in shown and "picture" not in shown
    assert "<script" not in shown and "&lt;script" in shown
    probe = ProbeResult("given", (OutputError(EVIL, (1,), 1.0, 1e-7, 1e-6, "it differs"),))
    verdict = Validation((probe,), {}, report)._repr_html_()
    assert "✗ Not valid" in verdict and "it differs" in verdict and "<script" not in verdict
    model = fusekit.optimize(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval(), measure=False)
    assert "fold-affine" in model._repr_html_()  # type: ignore[operator]
