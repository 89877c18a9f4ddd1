"""What is counted and drawn of a program, and how a rewritten node is traced back to the model."""

from itertools import pairwise
from pathlib import Path

import numpy
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import fusekit
from fusekit.capture import capture
from fusekit.ir.survey import mark, survey
from fusekit.model import Inputs
from fusekit.report import Drawing, Report, Totals
from fusekit.report.regions import regions
from fusekit.runtimes.file_size import file_size, operators_of
from tests.support.families import RepVGG


class Guarded(nn.Module):
    """Operators that run (2), and code that asks for sizes, checks them, or does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same, self.drop = nn.Conv2d(2, 3, 3, stride=2), nn.Identity(), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 4
        y = self.drop(self.same(self.conv(x)))
        return F.relu(y).reshape(x.shape[0], -1)


def drawn(model: nn.Module, *shape: int) -> tuple[Totals, Drawing]:
    graph = capture(model.eval(), Inputs.of((torch.randn(*shape),))).graph
    mark(graph)
    return survey(graph)


def report_of(module: nn.Module) -> Report:
    report = module.report
    assert isinstance(report, Report)
    return report


def test_only_what_runs_is_counted() -> None:
    size, drawing = drawn(Guarded(), 1, 2, 9, 7)
    assert [box.operator for box in drawing.boxes] == ["input", "conv2d", "relu", "reshape", "output"]
    assert (size.operators, size.parameters, drawing.hidden) == (3, 3 * 2 * 9 + 3, 2)
    conv = drawing.boxes[1]
    assert (conv.window, conv.stride, conv.padding, conv.channels) == ((3, 3), (2, 2), ((0, 0), (0, 0)), (2, 3))
    assert conv.shape == (1, 3, 4, 3) and conv.macs == size.macs == 3 * 2 * 9 * 12
    assert conv.field == (3, 3) and conv.inputs == ("x",) and drawing.boxes[2].inputs == (conv.id,)


def test_edges_go_around_what_is_not_drawn() -> None:
    _, drawing = drawn(nn.Sequential(nn.Identity(), nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Sigmoid()), 1, 2)
    ids = [box.id for box in drawing.boxes]
    assert [box.inputs for box in drawing.boxes] == [(), *((name,) for name in ids[:-1])]


@pytest.mark.parametrize("widths", [(3, 5, 5), (1, 2, 2, 2)])
def test_what_a_convolution_comes_from(widths: tuple[int, ...]) -> None:
    """Each block becomes one convolution, and its origins are all operators of the block, and no others."""
    model = nn.Sequential(*(RepVGG(a, b) for a, b in pairwise(widths))).eval()
    report = report_of(fusekit.optimize(model, torch.randn(1, widths[0], 8, 8), measure=False))
    assert report.drawings is not None
    before, after = report.drawings
    where = {box.id: box.where for box in before.boxes}
    convs = [box for box in after.boxes if box.window]
    assert len(convs) == len(widths) - 1
    for number, conv in enumerate(convs):
        inside = {name for name, path in where.items() if path.startswith(f"{number}.")}
        relu = {box.id for box in before.boxes if "relu" in box.operator}
        assert set(conv.origins) == inside - relu
    found = regions(before, after, report.events)
    assert len(set(found.after.values())) == len(convs)
    applied = {event.rewrite: event.change for event in report.applied}
    assert applied["fold-affine"] == ("1 convolution + 1 batch norm", "1 convolution")
    assert applied["merge-sum"][1] == "1 convolution"
    assert all(event.region for event in report.applied)


def test_parts_have_boxes_of_their_own() -> None:
    """A model that is captured in parts: the ids of equal parts differ."""

    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if float(x.sum()) > 0 else self.b(x)  # type: ignore[no-any-return]

    report = report_of(fusekit.optimize(Closed().eval(), measure=False))
    assert report.drawings is not None
    for drawing in report.drawings:
        ids = [box.id for box in drawing.boxes]
        assert len(set(ids)) == len(ids) and any(name.startswith("a/") for name in ids)


def test_a_whole_model_that_is_rolled_back_is_drawn_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)).eval()
    report = report_of(fusekit.optimize(model, torch.randn(1, 1, 5, 5), measure=False, tolerance=1e-30))
    assert report.rejected and report.drawings is not None
    assert report.drawings[0] == report.drawings[1]


def test_the_size_of_a_file(tmp_path: Path) -> None:
    """Constants do not run; what is inside a branch counts; weights beside the file count."""
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=value), helper.make_node("Add", ["x", "c"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    nodes = [helper.make_node("If", ["q"], ["y"], then_branch=inner, else_branch=inner)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    inputs += [helper.make_tensor_value_info("q", TensorProto.BOOL, [])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    weight = numpy_helper.from_array(numpy.ones(1000, dtype="float32"), "w")
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, [weight]))
    assert operators_of(model.graph) == 3
    onnx.save(model, str(tmp_path / "one.onnx"))
    onnx.save(model, str(tmp_path / "two.onnx"), save_as_external_data=True, location="two.data", size_threshold=0)
    one, two = (file_size(tmp_path / name, Totals(9, 8, 7)) for name in ("one.onnx", "two.onnx"))
    assert one == Totals(3, 8, 7, (tmp_path / "one.onnx").stat().st_size)
    assert two.bytes == sum((tmp_path / name).stat().st_size for name in ("two.onnx", "two.data"))
    assert two.bytes > 4000
