"""A realization of convolutions that another package brings: one kind of map, how it is spelled, a pass that proposes
it. All stands in this file, and nothing else of the package knows of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fusekit
from fusekit.algebra import Affine, Conv, Map, Rates, Shape, Work
from fusekit.algebra.pad import flat_padding
from fusekit.errors import Inapplicable
from fusekit.inspecting.inspect import inspect
from fusekit.ir import Graph
from fusekit.ir.facts import facts
from fusekit.ir.read import read
from fusekit.ir.reading import Arguments, Reading, weight_and_bias
from fusekit.ir.spellings import SPELLINGS, Layer, Spelling
from fusekit.ir.spellings.table import Call, CalledLayer, Table
from fusekit.optimizing.options import select
from fusekit.optimizing.race import Clock
from fusekit.passes import CHOOSE, PASSES, STAGES
from fusekit.report import Event, Report
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose
from tests.support.architectures import randomize
from tests.support.compare import assert_same
from tests.support.graphs import captured

# the realization: a plane's windows as columns, one product of matrices


def by_columns(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any) -> Tensor:
    """The convolution of x [B, C, H, W] with a weight [out, C, *window], as torch's unfold and one product."""
    window = weight.shape[2:]
    padded = F.pad(x, flat_padding(padding))
    columns = F.unfold(padded, window, dilation, 0, stride)  # [B, C · taps, positions]
    products = weight.flatten(1) @ columns
    height = (padded.shape[-2] - dilation[0] * (window[0] - 1) - 1) // stride[0] + 1
    y: Tensor = products.unflatten(2, (height, -1))
    return y if bias is None else y + bias[:, None, None]


@dataclass(frozen=True, eq=False)
class ColumnConv(Map):
    """`conv`, dense and of a plane, by columns."""

    conv: Conv

    def __call__(self, x: Tensor) -> Tensor:
        c = self.conv
        bias = None if c.bias is None else c.bias.to(x.dtype)
        return by_columns(x, c.weight.to(x.dtype), bias, c.stride, c.padding, c.dilation)

    def plain(self) -> Conv:
        return self.conv

    def output_shape(self, shape: Shape) -> Shape:
        return self.conv.output_shape(shape)

    def macs(self, shape: Shape) -> int:
        return self.conv.macs(shape)

    def constants(self) -> tuple[Tensor, ...]:
        return self.conv.constants()

    def work(self, shape: Shape, itemsize: int, rates: Rates) -> Work:
        """As if it took half the multiplications: the tests want it chosen."""
        direct = self.conv.work(shape, itemsize, rates)
        return replace(direct, macs=direct.macs // 2)

    def on_meta(self) -> "ColumnConv":
        return ColumnConv(self.conv.on_meta())


# its spelling: the call, and a layer of its own


class ColumnConv2d(nn.Module):
    """What the emitted model holds."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.geometry = (conv.stride, conv.padding, conv.dilation)
        self.weight = nn.Parameter(torch.empty(conv.weight.shape, device="meta"))
        self.bias = None if conv.bias is None else nn.Parameter(torch.empty(conv.bias.shape, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        return by_columns(x, self.weight, self.bias, *self.geometry)


def _write(graph: Graph, value: ColumnConv, source: fx.Node, name: str) -> list[fx.Node]:
    c = value.conv
    weight = graph.add_constant(c.weight, f"{name}.weight")
    bias = None if c.bias is None else graph.add_constant(c.bias, f"{name}.bias")
    return [graph.fx.call_function(by_columns, (source, weight, bias, c.stride, c.padding, c.dilation))]


def _value(graph: Graph, node: fx.Node) -> ColumnConv | None:
    arguments: Any = node.args
    _, weight, bias, stride, padding, dilation = arguments
    weights = weight_and_bias(graph, weight, bias)
    if weights is None:
        return None
    return ColumnConv(Conv.from_torch(*weights, stride=stride, padding=padding, dilation=dilation))


def _read(graph: Graph, node: fx.Node, a: Arguments) -> Reading | None:
    value, source = _value(graph, node), node.args[0]
    return None if value is None or not isinstance(source, fx.Node) else Reading(value, source)


def _emit(graph: Graph, node: fx.Node) -> Layer | None:
    value = _value(graph, node)
    if value is None:
        return None
    tensors = {"weight": graph.constant(node.args[1]), "bias": graph.constant(node.args[2])}
    return Layer(ColumnConv2d(value.conv), {name: t for name, t in tensors.items() if t is not None})


def _call(call: CalledLayer) -> Call:
    return by_columns, (call.x, call.own("weight"), call.own("bias"), *call.module.geometry)


SPELLING = Spelling(
    written={ColumnConv: _write}, read={by_columns: _read}, emitted={by_columns: _emit}, called={ColumnConv2d: _call}
)


# the pass that proposes it


@dataclass(frozen=True)
class UseColumns(Rewrite):
    """c = product ∘ columns, for a dense convolution of a plane."""

    name = "use-columns"
    pattern = Compose(Conv, when=lambda c: c.n == 2 and c.groups == 1 and not c.transposed)
    gain = 0.95
    realizes = True

    def propose(self, c: Conv) -> ColumnConv:
        return ColumnConv(c)


@pytest.fixture(autouse=True)
def spelled() -> Iterator[None]:
    """For this test alone: afterwards nobody knows of it."""
    with SPELLINGS.extended(SPELLING):
        yield
    assert SPELLINGS.reader(by_columns) is None


ALL: tuple[str | Rewrite, ...] = (*PASSES, UseColumns())
X = torch.randn(2, 3, 24, 20, dtype=torch.float64)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, (3, 1), dilation=2, padding=(2, 0)), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 10 * 8, 4)),
    )
    return randomize(nn.Sequential(*layers)).eval().double()


CHOSEN = ["ColumnConv2d", "ReLU", "ColumnConv2d", "ReLU", "Conv2d", "ReLU", "Flatten", "Linear"]
CONV = Conv.from_torch(torch.randn(4, 3, 3, 3), None)


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules() if not list(module.children())]


def optimized() -> Any:
    return fusekit.optimize(network(), X, passes=ALL, strict=True)


def columns_in(events: Iterable[Event]) -> list[tuple[str, str]]:
    return [(event.where, str(event.outcome)) for event in events if event.rewrite == "use-columns"]


def test_is_chosen_where_it_applies_and_computes_the_same() -> None:
    """Of the layers that are there when all is folded; in float64, at another batch too, and it trains."""
    model, result = network(), optimized()
    assert kinds(result) == CHOSEN
    assert_same(result, model, X)
    assert_same(result, model, torch.randn(5, *X.shape[1:], dtype=torch.float64))
    names = [name for name, _ in result.named_parameters()]
    assert {"0.weight", "0.bias", "3.weight", "3.bias"} <= set(names)
    result(X).sum().backward()
    assert all(parameter.grad is not None for parameter in result.parameters())


def test_the_report_tells_of_it() -> None:
    """The pass, the places, the price on both sides, and the size of the program with it."""
    report: Report = optimized().report
    assert columns_in(report.events) == [("0 + 1", "applied"), ("3", "applied")]
    assert all(event.cost_after < event.cost_before for event in report.applied if event.rewrite == "use-columns")  # type: ignore[operator]
    assert "use-columns" in str(report) and "use-columns" in report.to_json()
    plain: Any = fusekit.optimize(network(), X, passes=tuple(PASSES))
    assert report.after == plain.report.after, "as many multiplications, parameters and operators"


def test_a_layer_of_it_is_read_back() -> None:
    """With an example and without: sizes go on behind it, nothing is done twice, and it is inspected as what it is."""
    first = optimized()
    again: Any = fusekit.optimize(first, X, passes=ALL, strict=True)
    assert again.code == first.code and kinds(again) == CHOSEN and not again.report.applied
    assert_same(again, first, X)
    graph = captured(first)
    maps = {node: reading for node in graph.nodes if (reading := read(graph, node)) is not None}
    found = [facts(node).shape for node, reading in maps.items() if isinstance(reading.map, ColumnConv)]
    assert found == [(None, 8, None, None)] * 2
    ours, theirs = inspect(first, X).layers, inspect(network(), X).layers
    assert [(x.where, x.kind, x.channels, x.window, x.macs) for x in ours] == [
        (x.where, x.kind, x.channels, x.window, x.macs) for x in theirs
    ]
    assert [layer.field for layer in ours[:3]] == [(3, 3), (11, 3), (15, 7)]


def test_a_norm_behind_it_finds_the_axis_of_its_channels() -> None:
    """Nobody gives an example: the rank comes from the realization."""
    model = nn.Sequential(ColumnConv2d(CONV), nn.BatchNorm2d(4))
    model[0].load_state_dict({"weight": CONV.weight}, assign=True)
    graph = captured(randomize(model).eval().double())
    assert [type(reading.map) for node in graph.nodes if (reading := read(graph, node))] == [ColumnConv, Affine]


def test_becomes_a_file_that_is_validated(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    verdict = fusekit.export(network().float(), path, X.float(), passes=ALL, strict=True)
    assert verdict.ok and verdict.report is not None
    assert columns_in(verdict.report.applied) == [("0 + 1", "applied"), ("3", "applied")]
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("Conv") == 1, "the depthwise one alone"


def test_has_a_label_and_is_undone_where_the_whole_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock has a label for it, which holds what its time depends on; what it chose it takes back."""
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    seen: list[str] = []

    def race(self: Clock, key: Any, modules: Any, inputs: Any) -> dict[str, float]:
        seen.extend(label for label in modules if label.startswith("ColumnConv"))
        return {label: 0.5 if label.startswith("ColumnConv") else 1.0 for label in modules}

    monkeypatch.setattr(Clock, "race", race)
    monkeypatch.setattr(Clock, "compare", lambda self, before, after: (1.0, 1.0))
    chosen: Any = fusekit.optimize(network(), X, passes=ALL)
    assert kinds(chosen) == CHOSEN
    assert len(set(seen)) == 2 and all("1x8x" in label and "stride" in label for label in seen)
    times = iter([(1.0, 2.0), (1.0, 2.0), (1.0, 1.0)])
    monkeypatch.setattr(Clock, "compare", lambda self, before, after: next(times))
    undone: Any = fusekit.optimize(network(), X, passes=ALL)
    assert "ColumnConv2d" not in kinds(undone)
    assert [outcome for _, outcome in columns_in(undone.report.events)].count("rejected") == 2
    assert "fold-affine" in [event.rewrite for event in undone.report.applied], "what is no realization stays"


def test_is_rejected_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number of its kernel, by a millionth."""

    def off(self: UseColumns, c: Conv) -> ColumnConv:
        kernel = c.kernel.clone()
        if not kernel.is_meta:
            kernel[0, 0, 0, 0, 0] += 1e-6
        return ColumnConv(replace(c, kernel=kernel))

    monkeypatch.setattr(UseColumns, "propose", off)
    result: Any = fusekit.optimize(network(), X, passes=ALL)
    assert "ColumnConv2d" not in kinds(result)
    assert {outcome for _, outcome in columns_in(result.report.events)} == {"rejected"}
    assert_same(result, network(), X)


def test_competes_in_the_choice_and_other_new_laws_stand_before_it() -> None:
    @dataclass(frozen=True)
    class Nothing(Rewrite):
        name = "nothing"
        pattern = Compose(Conv)

        def propose(self, c: Conv) -> Conv:
            raise Inapplicable("nothing to do")

    stages = select([*ALL, Nothing()])
    names = [stage.name for stage in stages]
    assert names[names.index(CHOOSE) - 1] == "added"
    assert [name for name in names if name != "added"] == [stage.name for stage in STAGES]
    contests = [stage for stage in stages if stage.contest]
    assert [stage.name for stage in contests] == [CHOOSE] and contests[0].passes[-1] == UseColumns()
    assert all(law.realizes == stage.contest for stage in stages for law in stage.passes)


def test_afterwards_nobody_knows_of_it() -> None:
    """Two may not have one word for it; and what is taken out can be put in again."""
    with pytest.raises(ValueError, match="there is a spelling of ColumnConv already"):
        SPELLINGS.add(SPELLING)
    for _ in range(2):
        table = Table()
        with table.extended(SPELLING):
            assert table.reader(by_columns) is _read and table.caller(ColumnConv2d) is _call
        assert table.operators == [] and table.maker(by_columns) is None and table.caller(ColumnConv2d) is None
