"""Extensions that a script registers, without a package."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import fusekit
from fusekit.algebra import Conv, Elementwise
from fusekit.errors import FusekitError, Inapplicable
from fusekit.grafting.meaning import FileReaders
from fusekit.grafting.operators import READERS
from fusekit.ir.spellings import SPELLINGS, Spelling
from fusekit.optimizing.laws import OTHERS, passes
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose
from fusekit.runtimes import known
from fusekit.runtimes.onnx_runtime import OnnxRuntime


@dataclass(frozen=True)
class ReluOnce(Rewrite):
    """relu ∘ relu = relu."""

    name = "relu-once"
    pattern = Compose(Elementwise, Elementwise)

    def propose(self, outer: Elementwise, inner: Elementwise) -> Elementwise:
        if {type(outer.function), type(inner.function)} != {nn.ReLU}:
            raise Inapplicable("one of them is no ReLU")
        return outer


class Mine(OnnxRuntime):
    name = "mine"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ReLU()).eval()


def applied() -> list[str]:
    fast: Any = fusekit.optimize(network(), torch.randn(1, 3, 8, 8))
    return [event.rewrite for event in fast.report.applied]


def test_a_pass_until_it_is_taken_out() -> None:
    handle = fusekit.register(ReluOnce())
    try:
        assert applied() == ["relu-once"] and OTHERS.package("relu-once") == "this process"
        with pytest.raises(FusekitError, match="there is a pass of the name 'relu-once' already"):
            fusekit.register(ReluOnce())
    finally:
        handle.undo()
    handle.undo()
    assert applied() == [] and "relu-once" not in passes()


def test_a_runtime_within_a_block() -> None:
    with fusekit.register(Mine()):
        assert known()[-1] == "mine"
        assert fusekit.optimize(network(), target="mine") is not None
    assert "mine" not in known()


def test_readers_of_operators() -> None:
    cos = torch.ops.aten.cos.default
    with (
        fusekit.register(Spelling(read={cos: lambda graph, node, a: None}), "cosine"),
        fusekit.register(FileReaders({"Cos": lambda node, known: None}), "cosine-in-files"),
    ):
        assert SPELLINGS.reader(cos) is not None and "Cos" in READERS
    assert SPELLINGS.reader(cos) is None and "Cos" not in READERS


@pytest.mark.parametrize(
    ("thing", "name", "message"),
    [
        (3, None, "expected a pass .Rewrite., a runtime, a Spelling or FileReaders, got int"),
        (Spelling(), None, "readers of operators have no name of their own"),
        (ReluOnce(), "fold-affine", "there is a pass of the name 'fold-affine' already"),
        (ReluOnce(), "other", "cannot be registered: its `name` must be 'other'"),
        (OnnxRuntime(), None, "there is a runtime of the name 'onnxruntime' already"),
        (FileReaders({"Conv": lambda node, known: None}), "mine", "there is a reader of Conv already"),
    ],
)
def test_what_is_wrong_is_said(thing: Any, name: str | None, message: str) -> None:
    with pytest.raises(FusekitError, match=message):
        fusekit.register(thing, name)


def test_a_pass_that_always_refuses_fails_the_law_test() -> None:
    from fusekit.testing import check_law

    class Never(ReluOnce):
        pattern = Compose(Conv, Conv)

        def propose(self, outer: Any, inner: Any) -> Any:
            raise Inapplicable("never")

    with pytest.raises(AssertionError, match="the law of relu-once was exercised 0 times in 120 instances"):
        check_law(Never())
