"""Which operators of two models are the same, and where they differ: modules, files of several exporters, archives."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fusekit
from fusekit.comparing.difference import Change
from fusekit.comparing.matching import torch_path
from fusekit.errors import CheckpointError, FusekitError
from tests.support.cli_room import NET, SIZES, inside, room, run
from tests.support.pairs import changed, pictures, residual, write_files

__all__ = ["inside", "room"]  # fixtures: pytest finds them by name in this module

X = pictures()
BLOCKS = ("1", "2", "3")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as it is and folded, and by torch's older exporter, which names nodes in another way."""
    there = tmp_path_factory.mktemp("files")
    torch.onnx.export(residual(), (X,), there / "older.onnx", dynamo=False, verbose=False)
    return {**write_files(there), "older": there / "older.onnx"}


def kinds(found: fusekit.Difference) -> dict[str, str]:
    return {change.where: change.kind for change in found.changes}


def test_a_model_is_the_same_as_itself() -> None:
    found = fusekit.diff(residual(), residual(), X)
    assert found.equal and found.same == found.sizes[0].operators
    assert "no difference" in str(found)


PLACES = st.sampled_from(("0", "1.a", "2.b", "3.n", "6"))


@given(PLACES, st.floats(1e-3, 10.0), st.integers(0, 4))
@settings(deadline=None, max_examples=15)
def test_another_weight_is_found_where_it_is(path: str, factor: float, row: int) -> None:
    """At its layer and nowhere else, with ‖a − b‖ / ‖a‖ of that layer."""
    model = residual()

    def scale(own: nn.Module) -> None:
        own.get_parameter(f"{path}.weight")[row] *= 1 + factor

    other = changed(model, scale)
    found = fusekit.diff(model, other, X)
    ours, theirs = (each.get_parameter(f"{path}.weight").detach().double() for each in (model, other))
    (change,) = found.changes
    assert (change.kind, change.where) == ("weights", path)
    if path != "3.n":  # the scale of a norm is γ / σ, so its distance is another
        assert change.apart == pytest.approx(float((ours - theirs).norm() / ours.norm()), rel=1e-5)


def test_rounding_is_no_difference() -> None:
    model = residual()
    other = changed(model, lambda own: own.get_parameter("1.a.weight").mul_(1 + 2**-23))
    assert fusekit.diff(model, other, X).equal


def test_geometry_and_kind() -> None:
    def change(own: nn.Module) -> None:
        own.get_submodule("0").stride = (2, 2)  # type: ignore[assignment]
        own.get_submodule("2").act = nn.Sigmoid()

    found = fusekit.diff(residual(), changed(residual(), change), X)
    assert kinds(found) == {"0": "geometry", "2.act": "replaced"}
    assert found.changes[0].what == "stride 1×1 -> stride 2×2"
    assert "1 ReLU -> 1 Sigmoid" in str(found)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), "negative_slope=0.1 -> negative_slope=0.2"),
        (nn.AvgPool2d(2), nn.AvgPool2d(2, 1), "stride"),
        (nn.MaxPool2d(2), nn.MaxPool2d(3), "kernel_size"),
        (nn.Softmax(1), nn.Softmax(2), "dim=1 -> dim=2"),
    ],
    ids=str,
)
def test_arguments(ours: nn.Module, theirs: nn.Module, words: str) -> None:
    nets = [nn.Sequential(nn.Conv2d(3, 4, 1), each, nn.Conv2d(4, 4, 1)) for each in (ours, theirs)]
    nets[1].load_state_dict(nets[0].state_dict())
    (change,) = fusekit.diff(nets[0], nets[1], X).changes
    assert (change.kind, change.where) == ("geometry", "1") and words in change.what, change


def test_what_only_one_has() -> None:
    longer = nn.Sequential(residual(), nn.Softmax(1)).eval()
    found = fusekit.diff(residual(), longer, X)
    assert [(change.kind, change.where) for change in found.changes] == [("only in B", "1")]
    assert [change.kind for change in fusekit.diff(longer, residual(), X).changes] == ["only in A"]


def test_a_folded_model_stands_beside_its_original(files: dict[str, Path]) -> None:
    """Each block became one convolution; the ends are the same."""
    fast = fusekit.optimize(residual(), X, measure=False)
    for other in (fast, files["folded"]):
        found = fusekit.diff(residual(), other, X)
        blocks = [change for change in found.changes if change.kind == "replaced" and len(change.after) == 1]
        assert [len(change.before) for change in blocks] == [5, 5, 5], found
        assert found.sizes[1].operators < found.sizes[0].operators
    assert "3 blocks, 2 conv2d, 1 batch_norm, 2 add each -> 1 Conv" in str(found)


def test_the_names_of_every_exporter_are_read(files: dict[str, Path]) -> None:
    """Nothing differs between a model and the file of it but the batch norms, which exporters fold."""
    for name in ("plain", "older"):
        found = fusekit.diff(residual(), files[name], X)
        assert all(len(change.before) == 2 and len(change.after) == 1 for change in found.changes), found
    assert fusekit.diff(files["plain"], files["older"]).equal


def test_paths_in_names_of_nodes() -> None:
    assert torch_path("/layer1/layer1.0/conv1/Conv") == "layer1.0.conv1"
    assert torch_path("features.0/Conv") == "features.0"
    assert torch_path("Conv_12") == ""


def test_an_archive(tmp_path: Path) -> None:
    """A program that fusekit writes, as the second model."""
    torch.export.save(torch.export.export(residual(), (X,)), tmp_path / "net.pt2")
    found = fusekit.diff(residual(), tmp_path / "net.pt2", X)
    assert found.sizes[1].bytes == (tmp_path / "net.pt2").stat().st_size
    assert not [change for change in found.changes if change.kind == "weights"]


def test_commuted_operators_differ() -> None:
    """Everything has a partner of the same name, and yet other values go in."""

    class Net(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.first, self.act, self.pool = first, nn.GELU(), nn.AvgPool2d(2)
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            y: Tensor = self.act(self.pool(x)) if self.first else self.pool(self.act(x))
            return y

    a, b = Net(True), Net(False)
    b.load_state_dict(a.state_dict())
    found = fusekit.diff(a, b, X)
    assert [(change.kind, change.where) for change in found.changes] == [("only in B", "act"), ("only in A", "act")]


def test_json_and_page(files: dict[str, Path], tmp_path: Path) -> None:
    found = fusekit.diff(files["plain"], files["folded"])
    told = json.loads(found.to_json())
    assert told["same"] == found.same and len(told["changes"]) == len(found.changes) == 3
    found.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for words in ("plain.onnx and folded.onnx", "What differs", "of A stand against", "<h2", "MACs in A"):
        assert words in text, words
    assert "Nothing was rewritten" not in text
    assert "<table>" in found._repr_html_()


def test_bad_sources(tmp_path: Path) -> None:
    (tmp_path / "page.pt2").write_text("<html>")
    with pytest.raises(CheckpointError, match="HTML"):
        fusekit.diff(residual(), tmp_path / "page.pt2")

    class Untraceable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(FusekitError, match="compare ONNX files"):
        fusekit.diff(Untraceable(), residual())


def test_a_change_is_a_plain_record() -> None:
    assert Change("weights", "a", "", ("x",), ("y",)) == Change("weights", "a", "", ("x",), ("y",))


@pytest.mark.usefixtures("inside")
def test_on_the_command_line(files: dict[str, Path]) -> None:
    told = run("diff", str(files["plain"]), str(files["folded"]), "--report", "out/page.html")
    assert told.code == 0 and "A = plain.onnx, B = folded.onnx" in told.stdout and Path("out/page.html").exists()
    told = run("diff", NET, "good.pt", "--factory", NET, *SIZES)
    assert told.code == 2 and "two factories" in told.stderr
    told = run("diff", "good.pt", "good.pt", "--factory", NET, *SIZES, "--json")
    assert told.code == 0 and json.loads(told.stdout)["equal"]
    told = run("diff", str(files["plain"]), "missing.onnx")
    assert told.code == 2 and "no such file" in told.stderr
