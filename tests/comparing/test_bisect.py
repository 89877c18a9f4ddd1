"""Planted faults are found where they are, in few runs: in modules, in files, in the rewrites of an optimization."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Affine, Conv
from fusekit.capture import capture
from fusekit.comparing.halving import first_that_differs
from fusekit.comparing.runs import until
from fusekit.errors import FusekitError
from fusekit.ir import Graph
from fusekit.passes import FoldAffine
from fusekit.rewriting import attempt
from tests.support.cli_room import NET, SIZES, inside, room, run
from tests.support.pairs import changed, pictures, residual, write_files

__all__ = ["inside", "room"]  # fixtures: pytest finds them by name in this module

X = pictures()


def most_runs(steps: int) -> int:
    """One run to see that the outputs differ, and the halving of as many values and the outputs."""
    return 1 + math.ceil(math.log2(steps + 1))


class Chain(nn.Module):
    """Pointwise layers in a row; the norm of what passes stays about the same."""

    def __init__(self, length: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(length))
        for weight in (each for each in self.parameters() if each.dim() == 2):
            nn.init.orthogonal_(weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@given(st.integers(1, 2000), st.data())
def test_halving_finds_the_first_step_that_differs(count: int, data: st.DataObject) -> None:
    """In as many tries as halving takes, whatever is told of steps before the one that was asked for."""
    first = data.draw(st.integers(0, count - 1))
    tries = []

    def differs(place: int) -> int | None:
        tries.append(place)
        return data.draw(st.integers(first, place)) if place >= first else None

    assert first_that_differs(count, differs) == first
    assert len(tries) <= math.ceil(math.log2(count))


CHAIN, ROW = Chain(40).eval(), torch.randn(3, 4, generator=torch.Generator().manual_seed(2))


@given(st.integers(0, 39), st.sampled_from((1e-3, 1.0, math.nan)))
@settings(deadline=None, max_examples=4)
def test_a_fault_in_a_chain_is_found_where_it_is(place: int, size: float) -> None:
    other = changed(CHAIN, lambda own: own.get_parameter(f"layers.{place}.bias")[2:].add_(size))
    found = fusekit.bisect(CHAIN, other, ROW)
    (there,) = found.after
    assert there.where == f"layers.{place}" and found.before == found.after
    assert found.runs <= most_runs(40) == 7
    assert found.value is not None and found.entry is not None and not found.value.ok
    if not math.isnan(size):
        assert found.value.reference_error < found.value.tolerance < found.value.error
        assert found.entry.index[1] >= 2, "only these entries were moved"
        assert found.entry.candidate - found.entry.exact == pytest.approx(size, rel=1e-2)
    assert [each.where for each in found.agreed] == ([f"layers.{place - 1}"] if place else [])


def test_the_line_of_the_source() -> None:
    other = changed(CHAIN, lambda own: own.get_parameter("layers.9.weight").mul_(2))
    file, _, line = fusekit.bisect(CHAIN, other, ROW).after[0].line.rpartition(":")
    assert file == __file__ and Path(file).read_text().splitlines()[int(line) - 1].strip() == "x = layer(x)"


def test_models_that_agree_do_not_part() -> None:
    fast = fusekit.optimize(residual(), X, measure=False)
    for other in (residual(), fast):
        found = fusekit.bisect(residual(), other, X)
        assert found.ok and found.runs == 1 and "agree" in str(found)


def double(path: str) -> nn.Module:
    """The residual network with one weight that is twice as large."""
    return changed(residual(), lambda own: own.get_parameter(f"{path}.weight").mul_(2))


FAULTS = ("0", "1.a", "2.n", "3.b", "6")


@pytest.mark.parametrize("path", FAULTS)
def test_beside_a_branch(path: str) -> None:
    """The other branch agrees, and the sum of both does not: the operator is found, not the sum."""
    found = fusekit.bisect(residual(), double(path), X)
    assert [each.where for each in found.after] == [path]


@pytest.mark.parametrize("path", FAULTS)
def test_an_optimized_model_against_the_original(path: str) -> None:
    """The block is one convolution there; the operators of both sides are told, and the layer is among them."""
    found = fusekit.bisect(residual(), fusekit.optimize(double(path), X, measure=False), X)
    assert path in [each.where for each in found.before]
    assert len(found.after) <= 3 and not found.ok


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("files"))


def test_two_files(files: dict[str, Path]) -> None:
    found = fusekit.bisect(files["plain"], files["wrong"])
    assert [each.where for each in found.after] == ["2.b/Conv"] and found.notes == ()
    found = fusekit.bisect(files["plain"], files["wrong folded"])
    assert "2.b/Conv" in [each.where for each in found.before] and len(found.after) <= 2
    assert fusekit.bisect(files["plain"], files["folded"]).ok


def test_a_model_and_a_file(files: dict[str, Path]) -> None:
    found = fusekit.bisect(residual(), files["wrong"], X)
    assert [each.where for each in found.after] == ["2.b/Conv"] and [each.where for each in found.before] == ["2.b"]
    assert found.before[0].line.partition(":")[0].endswith("pairs.py")
    assert [each.where for each in fusekit.bisect(files["wrong"], residual(), X).after] == ["2.b"]


def test_a_file_with_notes_of_its_source(files: dict[str, Path]) -> None:
    """As torch's exporter writes them; frames of torch itself tell nothing."""
    assert fusekit.bisect(files["noted"], files["wrong"]).before[0].line == "/net.py:12"


def test_weights_beside_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("plain", "wrong"):
        proto = onnx.load(files[name])
        onnx.save(
            proto, tmp_path / f"{name}.onnx", save_as_external_data=True, size_threshold=64, location=f"{name}.data"
        )
    found = fusekit.bisect(tmp_path / "plain.onnx", tmp_path / "wrong.onnx")
    assert [each.where for each in found.after] == ["2.b/Conv"]


def test_another_operator_in_the_place_of_one(files: dict[str, Path], tmp_path: Path) -> None:
    proto = onnx.load(files["plain"])
    place = next(node for node in proto.graph.node if node.name == "2.act/Relu")
    place.op_type = "Sigmoid"
    onnx.save(proto, tmp_path / "other.onnx")
    found = fusekit.bisect(files["plain"], tmp_path / "other.onnx")
    assert [each.operator for each in found.after] == ["Sigmoid"] and found.after[0].where == "2.act/Relu"


def test_a_tolerance_of_ones_own(files: dict[str, Path]) -> None:
    assert fusekit.bisect(files["plain"], files["wrong"], tolerance=10.0).ok


class Wrong(FoldAffine):
    """A law with a mistake, where the convolution is pointwise."""

    def propose(self, a: Affine, c: Conv) -> Any:
        right = super().propose(a, c)
        return replace(right, kernel=right.kernel * 1.01) if right.in_channels == 3 else right


def test_the_rewrite_after_which_results_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own check is turned off, or it would be rolled back."""
    model = nn.Sequential(
        *(layer for k in range(6) for layer in (nn.Conv2d(4 - (k == 3), 3 + (k != 2), 3), nn.BatchNorm2d(3 + (k != 2))))
    ).eval()
    x = torch.randn(1, 4, 20, 20)
    assert fusekit.bisect(model, None, x, passes=["fold-affine"]).ok
    monkeypatch.setattr(attempt, "region_error", lambda *_: 0.0)
    found = fusekit.bisect(model, None, x, passes=[Wrong()])  # type: ignore[list-item]
    assert found.event is not None and found.way == "rewrites"
    assert (found.event.rewrite, found.event.where) == ("fold-affine", "6 + 7")
    assert [each.where for each in found.before] == ["6", "7"]
    assert found.steps == 6 and found.runs <= most_runs(6)
    assert found.value is not None and found.value.error > found.value.tolerance
    assert "after fold-affine at 6 + 7" in str(found)


def test_json(files: dict[str, Path]) -> None:
    other = changed(CHAIN, lambda own: own.get_parameter("layers.9.bias")[0].fill_(math.nan))
    told = json.loads(fusekit.bisect(CHAIN, other, ROW).to_json())
    assert not told["ok"] and told["after"][0]["where"] == "layers.9" and told["value"]["error"] == "inf"


def test_what_cannot_be_halved(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FusekitError, match="second model"):
        fusekit.bisect(files["plain"])
    with pytest.raises(FusekitError, match="example inputs"):
        fusekit.bisect(residual())
    with pytest.raises(FusekitError, match="example inputs"):
        fusekit.bisect(residual(), files["plain"])
    with pytest.raises(FusekitError, match=r"no values in common.*fusekit diff"):
        fusekit.bisect(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.Sequential(nn.AvgPool2d(1), nn.Sigmoid(), nn.Tanh()), X)


def test_a_part_of_a_graph_has_all_inputs() -> None:
    """Arguments are passed in their order, whether the part needs them or not."""

    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x + 1) * y.exp()

    graph = capture(Two(), None).graph
    part = until(graph, [next(node for node in graph.nodes if "add" in node.name)])
    assert isinstance(part, Graph)
    assert [node.name for node in part.nodes if node.op == "placeholder"] == ["x", "y"]
    assert not any("exp" in node.name for node in part.nodes)


@pytest.mark.usefixtures("inside")
def test_on_the_command_line(files: dict[str, Path]) -> None:
    told = run("bisect", str(files["plain"]), str(files["wrong"]))
    assert told.code == 1 and "part at Conv 2.b/Conv" in told.stdout
    told = run("bisect", str(files["plain"]), str(files["folded"]), "--json")
    assert told.code == 0 and json.loads(told.stdout)["ok"]
    told = run("bisect", NET, *SIZES, "--pass", "fold-affine")
    assert told.code == 0 and "agree" in told.stdout
    for words, expected in (
        ((str(files["plain"]),), "OTHER"),
        ((NET,), "--input"),
        ((NET, *SIZES, "--pass", "fold-all"), "fold-all"),
        ((NET, "missing.onnx", *SIZES), "no such file"),
    ):
        told = run("bisect", *words)
        assert told.code == 2 and expected in told.stderr and len(told.stderr.splitlines()) == 1
