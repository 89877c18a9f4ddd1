"""The constants of a graph: shared where they are the same numbers, and gone soon after nothing reads them."""

import pytest
import torch
from torch import fx

from fusekit.ir import Graph
from fusekit.ir import graph as graphs
from fusekit.ir.spellings.conv import constant_of


def test_a_realization_shares_the_numbers_that_are_there() -> None:
    weight = torch.rand(4, 3, 3, 3)
    graph = Graph(fx.Graph(), {"conv.weight": weight})
    found = constant_of(graph, weight, "new")
    assert found is not None and found.target == "conv.weight"
    others = {"part": weight[:, :, :2], "bits": weight.view(torch.int32), "turned": weight.transpose(2, 3)}
    for name, other in others.items():  # over the same memory, but not the same numbers
        found = constant_of(graph, other, name)
        assert found is not None and found.target == name
    assert constant_of(graph, None, "none") is None


@pytest.mark.parametrize(("most", "kept"), [(0, False), (1 << 20, True)])
def test_large_constants_that_nothing_reads_are_dropped(most: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_UNREAD", most)
    graph = Graph(fx.Graph())
    x = graph.fx.placeholder("x")
    old, tied, new = (graph.add_constant(torch.rand(3), name) for name in ("old", "tied", "new"))
    again = graph.fx.get_attr("tied")
    region = [graph.fx.call_function(torch.mul, (x, each)) for each in (old, tied)]
    graph.fx.output((graph.fx.call_function(torch.mul, (x, new)), graph.fx.call_function(torch.mul, (x, again))))
    graph.erase_dead(region)
    assert ("old" in graph.constants) == kept
    assert {"tied", "new"} <= graph.constants.keys()
    graph.lint()
