"""Random graphs, folded: `tests/fuzz_onnx.py` on a fixed sample."""

from pathlib import Path

import onnx
import pytest
from onnx import helper

import fusekit
from tests.fuzz_onnx import failure_of
from tests.support.onnx_files import drawn, model, node, operators, saved


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_the_same_function_the_same_names_and_nothing_the_second_time(first: int, tmp_path: Path) -> None:
    found = {seed: failure_of(seed, tmp_path)[0] for seed in range(first, first + 10)}
    assert {seed: failure for seed, failure in found.items() if failure not in ("", "skipped")} == {}


def test_outputs_that_are_left_out(tmp_path: Path) -> None:
    """A dropout may list a mask that it does not make."""
    nodes = [node("Softplus", "x", "a"), node("Dropout", "a", "d _"), node("Conv", "d w", "y")]
    proto = model(nodes, {"w": drawn(4, 8, 3, 3)}, {"x": ("n", 8, "h", "w")}, {"y": None})
    assert fusekit.optimize_onnx(saved(proto, tmp_path), tmp_path / "small.onnx", measure=False).ok
    assert operators(onnx.load(tmp_path / "small.onnx")) == ["Softplus", "Conv"]


def test_attributes_that_make_no_sense_are_the_runtimes_to_refuse(tmp_path: Path) -> None:
    bad = helper.make_node("Conv", ["x", "w"], ["y"], strides=[1])
    proto = model([bad], {"w": drawn(4, 8, 3, 3)}, {"x": (1, 8, 9, 9)}, {"y": None})
    with pytest.raises(fusekit.FusekitError, match="cannot load|cannot run|runs on no inputs"):
        fusekit.optimize_onnx(saved(proto, tmp_path), tmp_path / "small.onnx", measure=False)
