"""What a forward changes is seen on every way of capture, and nothing that is tried changes the model."""

import collections
import itertools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.capture.state import state_of
from tests.support.architectures import randomize

X = torch.randn(2, 3, 6, 6)
COUNTS = [0]
NUMBER = 0
TABLE: dict[str, Any] = {"last": None}
CLOCK = itertools.count(1)


class Config:
    uses = 0


CONFIG = Config()


class Stateful(nn.Module):
    """A convolution and a norm, and all kinds of state."""

    shared = 0

    def __init__(self, rule: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.register_buffer("k", torch.ones(()))
        self.register_buffer("average", torch.zeros(3))
        self.gain = nn.Parameter(torch.ones(()))
        self.number, self.list, self.table, self.deep = 1.0, [1.0], {"k": 1.0}, [{"k": [1.0]}]
        self.space = types.SimpleNamespace(k=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, x)


def replaced_buffer(m: Any, x: Tensor) -> Tensor:
    m.k = m.k + 1
    return m.norm(m.conv(x)) * m.k  # type: ignore[no-any-return]


def buffer_in_place(m: Any, x: Tensor) -> Tensor:
    m.k.add_(1)
    return m.norm(m.conv(x)) * m.k  # type: ignore[no-any-return]


def buffer_through_data(m: Any, x: Tensor) -> Tensor:
    m.k.data.add_(1)
    return m.norm(m.conv(x)) * m.k  # type: ignore[no-any-return]


def averaged_buffer(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.average = 0.5 * m.average + 0.5 * y.mean((0, 2, 3)).detach()
    return m.norm(y) - m.average[:, None, None]  # type: ignore[no-any-return]


def averaged_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.average.lerp_(y.mean((0, 2, 3)).detach(), 0.5)
    return m.norm(y) - m.average[:, None, None]  # type: ignore[no-any-return]


def item_of_a_buffer(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.average[0] = m.average[0] + y.mean()
    return m.norm(y) - m.average[:, None, None]  # type: ignore[no-any-return]


def sum_into_a_buffer(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.average += y.mean((0, 2, 3)).detach()
    return m.norm(y) - m.average[:, None, None]  # type: ignore[no-any-return]


def written_by_out(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    with torch.no_grad():
        torch.add(m.average, y.mean((0, 2, 3)), out=m.average)
    return m.norm(y) - m.average[:, None, None]  # type: ignore[no-any-return]


def parameter_through_data(m: Any, x: Tensor) -> Tensor:
    m.gain.data.mul_(1.5)
    return m.norm(m.conv(x)) * m.gain  # type: ignore[no-any-return]


def parameter_in_place(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.gain.mul_(1.5)
    return m.norm(m.conv(x)) * m.gain  # type: ignore[no-any-return]


def data_replaced(m: Any, x: Tensor) -> Tensor:
    m.gain.data = m.gain.data * 1.5
    return m.norm(m.conv(x)) * m.gain  # type: ignore[no-any-return]


def number(m: Any, x: Tensor) -> Tensor:
    m.number += 1
    return m.norm(m.conv(x)) * m.number  # type: ignore[no-any-return]


def item_of_a_list(m: Any, x: Tensor) -> Tensor:
    m.list[0] += 1
    return m.norm(m.conv(x)) * m.list[0]  # type: ignore[no-any-return]


def item_of_a_dict(m: Any, x: Tensor) -> Tensor:
    m.table["k"] += 1
    return m.norm(m.conv(x)) * m.table["k"]  # type: ignore[no-any-return]


def deep_container(m: Any, x: Tensor) -> Tensor:
    m.deep[0]["k"][0] += 1
    return m.norm(m.conv(x)) * m.deep[0]["k"][0]  # type: ignore[no-any-return]


def attribute_of_an_object(m: Any, x: Tensor) -> Tensor:
    m.space.k += 1
    return m.norm(m.conv(x)) * m.space.k  # type: ignore[no-any-return]


OWN = [
    *(replaced_buffer, buffer_in_place, buffer_through_data, averaged_buffer, averaged_in_place, item_of_a_buffer),
    *(sum_into_a_buffer, written_by_out),
    *(parameter_through_data, parameter_in_place, data_replaced, number, item_of_a_list, item_of_a_dict),
    *(deep_container, attribute_of_an_object),
]


def global_list(m: Any, x: Tensor) -> Tensor:
    COUNTS[0] += 1
    return m.norm(m.conv(x)) * COUNTS[0]  # type: ignore[no-any-return]


def global_number(m: Any, x: Tensor) -> Tensor:
    global NUMBER
    NUMBER += 1
    return m.norm(m.conv(x)) * NUMBER  # type: ignore[no-any-return]


def global_object(m: Any, x: Tensor) -> Tensor:
    CONFIG.uses += 1
    return m.norm(m.conv(x)) * CONFIG.uses  # type: ignore[no-any-return]


def attribute_of_the_class(m: Any, x: Tensor) -> Tensor:
    Stateful.shared += 1
    return m.norm(m.conv(x)) * Stateful.shared  # type: ignore[no-any-return]


def iterator(m: Any, x: Tensor) -> Tensor:
    return m.norm(m.conv(x)) * next(CLOCK)  # type: ignore[no-any-return]


def by_another_function(m: Any, x: Tensor) -> Tensor:
    return global_list(m, x)


def a_function_of_the_model_counts() -> Callable[[Any, Tensor], Tensor]:
    n = 0

    def rule(m: Any, x: Tensor) -> Tensor:
        nonlocal n
        n += 1
        return m.norm(m.conv(x)) * n  # type: ignore[no-any-return]

    return rule


OUTSIDE = [
    *(global_list, global_number, global_object, attribute_of_the_class, iterator, by_another_function),
    a_function_of_the_model_counts(),
]


def model_of(rule: Callable[[Any, Tensor], Tensor], *, exported: bool) -> nn.Module:
    def bent(m: Any, x: Tensor) -> Tensor:
        return rule(m, x) if x.shape[2] > 1 else x  # what no symbolic trace follows

    torch.manual_seed(0)
    return randomize(Stateful(bent if exported else rule)).eval()


@pytest.mark.parametrize("exported", [False, True], ids=["symbolic", "export"])
@pytest.mark.parametrize("example", [None, X], ids=["alone", "with inputs"])
@pytest.mark.parametrize("rule", OWN, ids=lambda rule: rule.__name__)
def test_state_goes_on_as_in_the_model(rule: Any, example: Tensor | None, exported: bool) -> None:
    """Whatever was traced and tried: three calls of the result answer as three calls of a model just made."""
    model, own = model_of(rule, exported=exported), model_of(rule, exported=exported)
    before = state_of(model)
    fast = fusekit.optimize(model, example, measure=False)
    assert before.changed() is None, "the model itself has been changed"
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(fast(X), own(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exported", [False, True], ids=["symbolic", "export"])
@pytest.mark.parametrize("rule", OUTSIDE, ids=lambda rule: rule.__name__)
def test_state_outside_the_model_is_no_constant(rule: Any, exported: bool) -> None:
    fast = fusekit.optimize(model_of(rule, exported=exported), X, measure=False)
    with torch.no_grad():
        first, second = fast(X), fast(X)
    assert not torch.allclose(first, second), "a count became a constant"


def test_a_trace_leaves_nothing_in_a_global() -> None:
    """A state kept outside: no proxy is left there, where the model's next call would meet it."""

    def recurrent(m: Any, x: Tensor) -> Tensor:
        y = m.norm(m.conv(x))
        TABLE["last"] = y
        return F.relu(y)

    TABLE["last"] = None
    fast = fusekit.optimize(model_of(recurrent, exported=False), measure=False)
    assert TABLE["last"] is None
    want = fast(X)
    last: Any = TABLE["last"]
    assert torch.equal(F.relu(last), want)


def test_a_race_counts_in_no_one_s_buffers() -> None:
    model, own = model_of(buffer_in_place, exported=False), model_of(buffer_in_place, exported=False)
    fast = fusekit.optimize(model, X, measure=True, budget=0)
    with torch.no_grad():
        torch.testing.assert_close(fast(X), own(X), rtol=1e-4, atol=1e-4)
    assert int(model.k) == 1  # type: ignore[arg-type]


def test_a_forward_without_state_is_traced() -> None:
    """What it reads, deep as it may be, is no state: nothing is refused."""

    def reads(m: Any, x: Tensor) -> Tensor:
        return m.norm(m.conv(x)) * m.deep[0]["k"][0] * m.space.k * len(COUNTS) * m.number  # type: ignore[no-any-return]

    fast = fusekit.optimize(model_of(reads, exported=False), measure=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())


@pytest.mark.parametrize(
    "value", [float("nan"), [1, {2}], collections.deque([1]), (torch.tensor(float("nan")),), {"a": object()}]
)
def test_nothing_has_changed_where_nothing_was_done(value: Any) -> None:
    model = model_of(number, exported=False)
    model.value = value
    assert state_of(model).changed() is None


BITS = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (70_000,)])
def test_every_changed_number_is_seen(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    model, buffer = nn.Module(), torch.zeros(shape, dtype=dtype)
    model.register_buffer("b", buffer)
    before = state_of(model)
    assert before.changed() is None
    if buffer.numel():
        buffer.data.view(-1)[-1:] = 1
        assert before.changed() == ""
    buffer.data = torch.zeros(shape, dtype=torch.float64 if dtype != torch.float64 else torch.int64)
    assert before.changed() == ""


class Instances(collections.OrderedDict[str, Any]):
    """Holds classes, and answers with instances."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)()


ACTIVATIONS = Instances(relu=nn.ReLU, tanh=nn.Tanh)


def test_a_dict_that_answers_with_other_values_keeps_its_own() -> None:
    class Chosen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ACTIVATIONS["tanh"](x)  # type: ignore[no-any-return]

    fast = fusekit.optimize(Chosen(), (X,))
    assert torch.equal(fast(X), X.tanh())
    assert [dict.__getitem__(ACTIVATIONS, key) for key in ACTIVATIONS] == [nn.ReLU, nn.Tanh]
    before = state_of(Chosen())
    dict.__setitem__(ACTIVATIONS, "relu", nn.GELU)
    before.restore_outside()
    assert dict.__getitem__(ACTIVATIONS, "relu") is nn.ReLU
