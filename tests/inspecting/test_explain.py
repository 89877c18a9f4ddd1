"""Why a layer was, or was not, rewritten."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import fusekit
from fusekit.errors import FusekitError
from fusekit.inspecting.explain import explain, explain_file, explanation, inside
from fusekit.report import Event, Outcome, Report
from tests.support.families import RepVGG

X = torch.randn(1, 3, 34, 30)


def model() -> nn.Sequential:
    """A block that becomes one convolution; two convolutions that do not pay as one."""
    torch.manual_seed(0)
    return nn.Sequential(RepVGG(3, 4), nn.Conv2d(4, 2, 7), nn.Conv2d(2, 4, 7)).eval()


def test_a_layer_that_was_rewritten() -> None:
    told = explain(model(), "0", X, measure=False)
    assert [box.operator for box in told.before].count("conv2d") == 2
    assert [box.window for box in told.after if box.window] == [(3, 3)]
    text = str(told)
    for words in (
        "0 was rewritten: 6 operators -> 2 operators",
        "c1(x) + c2(x)",
        "2 branches -> 1 convolution",
        "float64 error",
    ):
        assert words in text, text
    assert {"fold-affine", "merge-sum"} <= {event.rewrite for event in told.events} and "fold-pool" in told.unmatched


def test_a_part_of_it_alone() -> None:
    told = explain(model(), "0.point", X, measure=False)
    assert {box.where.rpartition(".")[0] for box in told.before} == {"0.point"} and len(told.after) == 1


def test_a_layer_that_stayed() -> None:
    told = explain(model(), "2", X, measure=False)
    assert "2 is as it was" in str(told) and "does not pay" in str(told)
    assert [event.rewrite for event in told.events if event.outcome is Outcome.APPLIED] == []
    assert json.loads(told.to_json())["layer"] == "2"
    assert max(line.count("price x") for line in str(told).splitlines()) == 1, "a price is said once"


def test_a_name_is_whole() -> None:
    assert inside("a.1.conv", "a.1") and inside("a.1", "a.1")
    assert not inside("a.10", "a.1") and not inside("a", "a.1")


def test_an_unknown_layer_is_told_with_those_that_exist() -> None:
    with pytest.raises(FusekitError, match=r"no layer '0\.dens'; .* such as 0\.dense"):
        explain(model(), "0.dens", X, measure=False)
    with pytest.raises(FusekitError, match="no layer"):
        explanation(Report(), "a")


def test_a_report_without_a_graph_still_tells_its_events() -> None:
    event = Event("fold-conv", "a + b", Outcome.REFUSED, 2.0, 4.0, reason="no")
    assert explanation(Report((event, Event("fold-conv", "c", Outcome.REFUSED))), "b").events == (event,)


def test_a_node_of_a_file(tmp_path: Path) -> None:
    fusekit.export(model(), tmp_path / "net.onnx", X, optimize=False)
    name = next(node.name for node in onnx.load(tmp_path / "net.onnx").graph.node if node.op_type == "Conv")
    told = explain_file(tmp_path / "net.onnx", name, measure=False)
    assert [box.operator for box in told.before] == ["Conv"] and told.after
    assert "merge-sum" in str(told) and told.before[0].where == name
