"""Example inputs: normalised once, resized by their own content."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError
from fusekit.model import Inputs, resize
from fusekit.model.inputs import batch_of_two, wide_range


def test_a_tensor_a_tuple_a_list_and_a_dict_are_understood() -> None:
    x, y = torch.rand(2, 3), torch.rand(4)
    assert Inputs.of(x).args == (x,)
    assert [t is u for t, u in zip(Inputs.of((x, y)).tensors(), (x, y), strict=True)] == [True, True]
    assert Inputs.of([x, y]).args[1] is y
    assert Inputs.of({"a": x}).kwargs["a"] is x
    given = Inputs.of(x)
    assert Inputs.of(given) is given


@pytest.mark.parametrize("wrong", [3, None, "x", {1: torch.rand(1)}])
def test_anything_else_is_refused_with_what_was_expected(wrong: object) -> None:
    with pytest.raises(FusekitError, match="example inputs"):
        Inputs.of(wrong)


def test_map_and_replaced_reach_nested_tensors_and_keep_the_rest() -> None:
    inputs = Inputs(([torch.ones(2), 5], {"m": torch.ones(3)}), {"k": torch.ones(1), "flag": True})
    doubled = inputs.map(lambda t: 2 * t)
    assert [float(t.sum()) for t in doubled.tensors()] == [4.0, 6.0, 2.0]
    assert doubled.args[0][1] == 5
    assert doubled.kwargs["flag"] is True
    swapped = inputs.replaced([torch.zeros(1), torch.zeros(2), torch.zeros(3)])
    assert [t.numel() for t in swapped.tensors()] == [1, 2, 3]


def test_names_follow_the_signature_of_forward() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, pair: Any, scale: float = 1.0, *, mask: Tensor) -> Tensor:
            return x * scale + mask

    inputs = Inputs((torch.rand(1), (torch.rand(1), {"b": torch.rand(1)})), {"mask": torch.rand(1)})
    assert inputs.names(Net()) == ["x", "pair_0", "pair_1_b", "mask"]
    assert Inputs((torch.rand(1),)).names(Net()) == ["input_0"]


def test_resize_crops_and_wraps_the_given_content() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    grown = resize(Inputs.of(x), {0: {0: 3, 1: 5}}).tensors()[0]
    assert grown.tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4], [0, 1, 2, 0, 1]]
    assert resize(Inputs.of(x), {0: {1: 2}}).tensors()[0].tolist() == [[0, 1], [3, 4]]
    assert x.shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_wide_range_has_a_small_background_and_a_few_spikes(dtype: torch.dtype) -> None:
    given = Inputs.of((torch.rand(3, 20, 20).to(dtype), torch.arange(4)))
    spiky, integers = wide_range(given).tensors()
    assert spiky.dtype == dtype
    assert int((spiky.abs() > 1e3).sum()) == 4
    assert float(spiky.abs().median()) < 1e-3
    assert integers.equal(torch.arange(4))
    assert wide_range(given).tensors()[0].equal(spiky)


def test_wide_range_of_tiny_and_empty_tensors() -> None:
    for shape in ((), (0, 3), (1,)):
        assert wide_range(Inputs.of(torch.zeros(shape))).tensors()[0].shape == torch.Size(shape)


def test_only_a_batch_of_one_becomes_two() -> None:
    two, changed = batch_of_two(Inputs.of((torch.rand(1, 1, 4), torch.rand(3, 1), torch.tensor(2.0))))
    assert changed
    assert [tuple(t.shape) for t in two.tensors()] == [(2, 1, 4), (3, 1), ()]
    assert not batch_of_two(Inputs.of(torch.rand(2, 1)))[1]
