"""Convolutions that read one tensor become one, whose channels are handed out."""

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Fork
from fusekit.passes import MergeSiblings
from fusekit.report import Outcome
from fusekit.testing.strategies import forks, relative_error
from tests.support import ledger
from tests.support.architectures import randomize
from tests.support.compare import assert_same, normal, report_of


@given(forks())
def test_stacked_and_cut_again(drawn: tuple[Fork, Tensor]) -> None:
    fork, x = drawn
    split = fork.merged()
    error = relative_error(split(x), fork(x))
    ledger.record(error)
    assert error <= 1e-13
    parts = split(x).split(split.sizes, fork.convs[0].channel_axis)
    assert [part.shape for part in parts] == [conv(x).shape for conv in fork.convs]


class Heads(nn.Module):
    """Heads on one tensor, with what uses them between and behind; one of another window."""

    def __init__(self, inputs: int = 64, outputs: tuple[int, ...] = (8, 8, 16)) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(inputs, n, 1) for n in outputs)
        self.other = nn.Conv2d(inputs, 8, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.heads[0](x).relu()
        return (first, self.other(x).relu(), *(head(x).sigmoid() for head in self.heads[1:]))


@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
def test_narrow_heads_merge(target: str, tmp_path: Any) -> None:
    """The first head is used before the last one is computed: the one convolution stands before all."""
    model = randomize(Heads()).double()
    x = normal(2, 64, 14, 13)
    fast = fusekit.optimize(model, x, target=target)
    (event,) = report_of(fast).applied
    assert event.rewrite == "merge-siblings"
    assert sorted(m.out_channels for m in fast.modules() if isinstance(m, nn.Conv2d)) == [8, 32]
    for shape in ((2, 64, 14, 13), (1, 64, 3, 3), (0, 64, 5, 5)):
        assert_same(fast, model, normal(*shape))
    assert fusekit.export(model.float(), tmp_path / "heads.onnx", (torch.randn(1, 64, 14, 13),)).ok


def test_wide_outputs_are_refused_where_the_split_is_a_copy() -> None:
    model = randomize(Heads(16, (64, 64)))
    for target, outcome in (("torch", Outcome.APPLIED), ("onnxruntime", Outcome.REFUSED)):
        report = report_of(fusekit.optimize(model, torch.randn(1, 16, 56, 56), target=target))
        (event,) = (event for event in report.events if event.rewrite == "merge-siblings")
        assert event.outcome is outcome


def test_linear_heads_and_a_wrong_law() -> None:
    """Queries, keys and values; and a law that swaps the parts is rejected without a trace."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(32, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = (self.q(x) @ self.k(x).transpose(-1, -2)).softmax(-1) @ self.v(x)
            return result

    model = randomize(Attention()).double()
    x = normal(2, 5, 32)
    fast = fusekit.optimize(model, x)
    assert [event.rewrite for event in report_of(fast).applied] == ["merge-siblings"]
    assert_same(fast, model, x)

    class Swapped(MergeSiblings):
        def propose(self, fork: Fork) -> Any:
            return Fork(fork.convs[::-1]).merged()

    wrong = fusekit.optimize(model, x, passes=[Swapped()])
    assert [event.outcome for event in report_of(wrong).events] == [Outcome.REJECTED]
    assert_same(wrong, model, x)


def test_another_geometry_stays() -> None:
    """One head of stride 2 does not keep the others apart."""

    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 4, 1, stride=2), nn.Conv2d(32, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return self.a(x).relu(), self.b(x).relu(), self.c(x).sigmoid()

    model = randomize(Strided()).double()
    x = normal(2, 32, 14, 14)
    fast = fusekit.optimize(model, x)
    assert [event.rewrite for event in report_of(fast).applied] == ["merge-siblings"]
    assert sorted(m.out_channels for m in fast.modules() if isinstance(m, nn.Conv2d)) == [4, 8]
    assert_same(fast, model, x)


def test_a_layer_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.conv(x).relu(), self.conv(x)

    model = randomize(Twice()).double()
    x = normal(1, 16, 9, 9)
    assert_same(fusekit.optimize(model, x), model, x)
