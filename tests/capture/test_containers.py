"""What a forward returns keeps its containers, whichever way it is captured; parameters are the model's own."""

import dataclasses
from collections import Counter, OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fusekit
from fusekit.validation import outputs_of
from tests.support.capture_room import X, folds, host, prepared
from tests.support.compare import assert_same, call, report_of

Two = namedtuple("Two", "first second")


@dataclasses.dataclass
class Answer:
    score: Tensor
    rest: Any = None


@dataclasses.dataclass
class Late:
    score: Tensor
    size: int = dataclasses.field(init=False, default=0)


KEPT = [
    lambda m, x: OrderedDict(b=m.a(x), a=[x, {"k": m.b(x)}]),
    lambda m, x: Two(m.a(x), (x, None)),
    lambda m, x: [Two(m.a(x), OrderedDict(k=x))],
    lambda m, x: torch.topk(m.a(x), 2),
    lambda m, x: (m.a(x), None, 3, 2.5, True),
    lambda m, x: None,
    lambda m, x: 3,
    lambda m, x: (),
]


def types_of(value: Any) -> Any:
    """The structure, with types that compare as equal kept apart."""
    inner = list(value.values()) if isinstance(value, dict) else value
    is_open = isinstance(value, dict | list | tuple)
    return type(value), list(value) if isinstance(value, dict) else None, is_open and [types_of(v) for v in inner]


def bent(forward: Any, exported: bool) -> nn.Module:
    return prepared(host((lambda m, x: forward(m, x) if x.shape[3] > 1 else x) if exported else forward))


@pytest.mark.parametrize("exported", [False, True], ids=["symbolic", "export"])
@pytest.mark.parametrize("forward", KEPT)
def test_containers_are_kept(forward: Any, exported: bool) -> None:
    model = bent(forward, exported)
    for example in (None, X):
        fast = fusekit.optimize(model, example, measure=False)
        assert types_of(call(fast, X)) == types_of(call(model, X))
        assert_same(fast, model, X)
        assert not report_of(fast).rejected
        in_parts = any("one by one" in event.reason for event in report_of(fast).events)
        assert in_parts == (exported and example is None)


@pytest.mark.parametrize("kind", [Answer, lambda y, **_: Late(y), lambda y, **_: defaultdict(list, y=y), Counter])
def test_others_are_kept_or_the_forward_is(kind: Any) -> None:
    """A dataclass is carried; what cannot be made again by its fields or values is left to the model's own forward."""
    model = prepared(host(lambda m, x: kind(m.a(x)) if kind is not Counter else Counter(a=1)))
    for example in (None, X):
        fast = fusekit.optimize(model, example, measure=False)
        ours, theirs = call(fast, X), call(model, X)
        assert type(ours) is type(theirs)
        for (_, a), (_, b) in zip(outputs_of(ours), outputs_of(theirs), strict=True):
            torch.testing.assert_close(a, b)
    assert (folds(fast) > 0) == (kind is Answer)


def test_a_dataclass_that_torch_knows_is_exported() -> None:
    torch.export.register_dataclass(Answer)
    try:
        fast = fusekit.optimize(bent(lambda m, x: Answer(m.a(x), x), True), X, measure=False)
        assert type(call(fast, X)) is Answer and folds(fast) == 1
    finally:
        pytree._deregister_pytree_node(Answer)


def test_the_outputs_in_a_dataclass_are_judged() -> None:
    """Torch takes a dataclass for one leaf: nothing of it would be compared."""
    answer = Answer(torch.ones(2), {"k": Answer(torch.zeros(1))})
    assert [name for name, _ in outputs_of(answer)] == ["score", "rest_k_score"]


@pytest.mark.parametrize("exported", [False, True], ids=["symbolic", "export"])
def test_a_parameter_that_is_returned_stays_one(exported: bool) -> None:
    model = bent(lambda m, x: (m.a(x), m.scale, m.a.conv.weight, m.kernel), exported)
    fast = fusekit.optimize(model, X, measure=False)
    scale, weight, kernel = fast(X)[1:]
    assert type(scale) is type(weight) is nn.Parameter and type(kernel) is Tensor
    assert any(p is scale for p in fast.parameters()) and any(p is weight for p in fast.parameters())
    assert_same(fast, model, X)


@pytest.mark.parametrize("exported", [False, True], ids=["symbolic", "export"])
def test_what_is_computed_of_parameters_is_the_caller_s_own(exported: bool) -> None:
    """Written to in place, it must not change what the next call returns."""
    model = bent(lambda m, x: (m.a(x), m.scale * 2), exported)
    fast = fusekit.optimize(model, X, measure=False)
    first = fast(X)[1]
    assert type(first) is Tensor and first.requires_grad
    with torch.no_grad():
        first.zero_()
    assert_same(fast, model, X)
