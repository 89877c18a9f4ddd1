"""What is known of a node: a record that goes along with copies and is never shared by accident."""

import copy
from dataclasses import fields

import pytest
import torch
from torch import fx, nn

import fusekit
from fusekit.ir import Facts, Known, known, note, where
from fusekit.ir.facts import NOTHING, UNKNOWN, facts, sources_of, start_afresh, supply
from tests.support.graphs import captured, result_of

TENSOR = Facts((None, 3), torch.float32)
LAYER = ("a.b", ("a.b", "a.c"), "net.py:7", nn.ReLU, nn.ReLU())
FULL = Known(TENSOR, (2, 3), *LAYER, True, True, False, ("conv2d", "add"), "Conv")


def node_in(graph: fx.Graph) -> fx.Node:
    return graph.placeholder("x")


def test_of_a_new_node_nothing_is_known() -> None:
    node = node_in(fx.Graph())
    assert known(node) == NOTHING and facts(node) is UNKNOWN
    assert facts(3) is UNKNOWN and facts(None) is UNKNOWN
    assert where(node) == node.name and sources_of(node) == (node.name,)


def test_notes_add_up_and_the_last_word_holds() -> None:
    node = node_in(fx.Graph())
    note(node, Known(where="a"))
    note(node, Known(TENSOR, (2, 3)))
    assert known(node) == Known(TENSOR, (2, 3), "a")
    assert facts(node) == TENSOR and where(node) == "a" and sources_of(node) == ("a",)
    note(node, Known(where="b", sources=("a", "c")))
    assert known(node) == Known(TENSOR, (2, 3), "b", ("a", "c"))
    assert sources_of(node) == ("a", "c")


def test_what_is_supplied_does_not_replace_what_is_known() -> None:
    node = node_in(fx.Graph())
    note(node, Known(shape=(), expression=False))
    supply(node, Known(TENSOR, (2, 3), expression=True))
    assert known(node) == Known(TENSOR, (), expression=False)


@pytest.mark.parametrize("field", [field.name for field in fields(Known)])
def test_every_field_is_taken_and_left_alone(field: str) -> None:
    """A scalar's shape and a `False` are knowledge too; only the default says nothing."""
    one = Known(**{field: getattr(FULL, field)})
    assert NOTHING | one == one and one | NOTHING == one
    assert FULL | one == FULL and one | FULL == FULL
    assert one != NOTHING


def test_of_a_tensor_another_node_with_its_value_knows_as_much() -> None:
    assert FULL.of_tensor == Known(TENSOR, (2, 3))


def test_copies_know_as_much_and_keep_their_notes_to_themselves() -> None:
    graph = fx.Graph()
    node = node_in(graph)
    graph.output(node)
    note(node, FULL)
    other = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    other.graph_copy(graph, copies)
    deep = next(iter(copy.deepcopy(graph).nodes))
    for copied in (copies[node], fx.Graph().node_copy(node), deep):
        assert known(copied) == FULL
        note(copied, Known(where="elsewhere"))
        assert known(node) == FULL and where(copied) == "elsewhere"
    start_afresh(node, Known(where="here"))
    assert known(node) == Known(where="here") and list(node.meta) == ["fusekit"]


def test_what_torch_notes_is_gone_once_a_graph_is_captured() -> None:
    """Of a captured node all is in the record, by whichever way it came."""
    graph = captured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 3, 5, 5))
    assert {key for node in graph.nodes for key in node.meta} == {"fusekit"}
    found = known(result_of(graph))
    assert (found.shape, found.where, found.module) == ((2, 4, 3, 3), "1", nn.BatchNorm2d)


def test_an_optimized_module_carries_no_notes() -> None:
    """They would be copied and pickled with it, layers and all."""
    result = fusekit.optimize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    assert isinstance(result, fx.GraphModule)
    assert not any(node.meta for node in result.graph.nodes)
