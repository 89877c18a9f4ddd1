"""What operators say of sizes where nobody gives an example: what weights fix, and nothing that is wrong."""

from typing import Any

import pytest
import torch

from fusekit.algebra.bordered import bordered_conv, geometry_of
from fusekit.algebra.conv import Conv
from fusekit.algebra.products.mixing import grouped_linear, mix
from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.capture.infer import infer
from fusekit.ir import Facts
from fusekit.ir.facts import UNKNOWN
from tests.support.graphs import X, graph_of

aten = torch.ops.aten
Sizes = tuple[int | None, ...]


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


CONV = Conv.from_torch(ones(6, 4, 3), None, padding=((1, 1),))
BORDERED = (X, ones(6, 4, 5), None, ones(4, 4, 3), None, ones(6, 4, 3), (geometry_of(CONV),) * 3)
SPECTRAL = (X, ones(6, 4, 3), None, (2,), ((1, 1),), (1,), 1)

CASES: dict[str, tuple[Any, tuple[Any, ...], Sizes, Sizes]] = {
    "blocks mixed": (mix, (X, ones(3, 4), None, 1, False, False), (None, 8, None), (None, 6, None)),
    "blocks of features": (grouped_linear, (X, ones(2, 3, 4), None), (None, 8), (None, 6)),
    "a ring": (bordered_conv, BORDERED, (None, 4, None), (None, 6, None)),
    "transforms": (spectral_conv, SPECTRAL, (None, 4, 9), (None, 6, 5)),
    "no batch": (aten.conv1d.default, (X, ones(6, 4, 3)), (4, None), (6, None)),
    "a row of known length": (aten.conv1d.default, (X, ones(6, 4, 3), None, [2]), (None, 4, 9), (None, 6, 4)),
    "windows": (aten.avg_pool2d.default, (X, [2, 2], [2, 2]), (None, 4, 6, None), (None, 4, 3, None)),
    "a pad": (aten.constant_pad_nd.default, (X, [1, 2]), (None, 4, 9), (None, 4, 12)),
    "shuffled": (aten.pixel_shuffle.default, (X, 2), (None, 8, None, 3), (None, 2, None, 6)),
    "features": (aten.flatten.using_ints, (X, 1, -1), (None, 8, 3), (None, 24)),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes_behind_a_map(name: str) -> None:
    target, arguments, given, made = CASES[name]
    graph, node = graph_of(target, arguments, known=Facts(given, torch.float32))
    assert infer(graph, node) == Facts(made, torch.float32)


def test_a_batch_is_assumed_where_a_convolution_is_fed_with_who_knows_what() -> None:
    """Not so for a linear layer, which takes any rank."""
    for target, arguments in ((aten.conv1d.default, (X, ones(6, 4, 3))), (spectral_conv, SPECTRAL)):
        graph, node = graph_of(target, arguments)
        assert infer(graph, node) == Facts((None, 6, None), torch.float32)
    graph, node = graph_of(aten.linear.default, (X, ones(6, 4)))
    assert infer(graph, node) == Facts(None, torch.float32)
    graph, node = graph_of(aten.avg_pool1d.default, (X, [2], [2]))
    assert infer(graph, node) == UNKNOWN


def test_where_a_map_has_no_value_nothing_is_known() -> None:
    graph, node = graph_of(aten.pixel_shuffle.default, (X, 2), known=Facts((None, 8), torch.float32))
    assert infer(graph, node) == Facts(None, torch.float32)
