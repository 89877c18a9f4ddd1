"""What experts fold by hand, as whole models: as few layers are left as they would leave, and nothing beside them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from tests.support.architectures import randomize
from tests.support.compare import assert_same, normal, report_of
from tests.support.graphs import Calls

X = normal(2, 3, 16, 16)
MEAN, STD = normal(3, 1, 1, seed=1), normal(3, 1, 1, seed=2).abs() + 0.5
FIRST: dict[str, Any] = {"mean": MEAN, "std": STD}


def conv(*sizes: Any, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **options)


def norm(channels: int, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    return kind(channels)


Rule = Callable[[Any, Any], Any]

# what is computed, its layers, and what is left beside the activations
FOLDS: dict[str, tuple[Rule, dict[str, Any], list[str]]] = {
    "synchronized norm": (lambda m, x: m.n(m.a(x)), {"a": conv(3, 4, 3), "n": nn.SyncBatchNorm(4)}, ["a"]),
    "instance norm by running statistics": (
        lambda m, x: m.n(m.a(x)),
        {"a": conv(3, 4, 3), "n": nn.InstanceNorm2d(4, affine=True, track_running_stats=True)},
        ["a"],
    ),
    "norm of a norm": (lambda m, x: m.a(m.b(x)).relu(), {"a": norm(3), "b": norm(3)}, ["b", "relu"]),
    "y + norm(y)": (lambda m, x: (lambda y: y + m.n(y))(m.a(x)), {"a": conv(3, 4, 3), "n": norm(4)}, ["a"]),
    "norm1(y) + norm2(y)": (
        lambda m, x: (lambda y: m.n(y) + m.k(y))(m.a(x)),
        {"a": conv(3, 4, 3), "n": norm(4), "k": norm(4)},
        ["a"],
    ),
    "cat(y, norm(y))": (
        lambda m, x: (lambda y: m.b(torch.cat([y, m.n(y)], 1)))(m.a(x)),
        {"a": conv(3, 4, 3), "n": norm(4), "b": conv(8, 4, 1)},
        ["a"],
    ),
    "crops": (
        lambda m, x: m.a(x) + m.n(x[:, :, 1:-1, 1:-1]) + F.pad(x, [-1] * 4),
        {"a": conv(3, 3, 3), "n": norm(3)},
        ["a"],
    ),
    "transposed windows": (
        lambda m, x: m.a(x) + m.b(x),
        {"a": nn.ConvTranspose2d(3, 4, 4, 2, 1), "b": nn.ConvTranspose2d(3, 4, 2, 2)},
        ["a"],
    ),
    "transposed windows with output padding": (
        lambda m, x: m.a(x) + m.b(x),
        {"a": nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), "b": nn.ConvTranspose2d(3, 4, 4, 2, 1)},
        ["a"],
    ),
    "transposed of stride 1": (
        lambda m, x: m.a(x) + m.b(x),
        {"a": nn.ConvTranspose2d(3, 4, 3, 1, 1), "b": conv(3, 4, 1)},
        ["a"],
    ),
    "norm before a pool": (
        lambda m, x: m.a(F.avg_pool2d(m.n(x.relu()), 2)),
        {"a": conv(3, 4, 1), "n": norm(3)},
        ["relu", "a"],
    ),
    "norm before a global pool": (
        lambda m, x: m.l(F.adaptive_avg_pool2d(m.n(x.relu()), 1).flatten(1)),
        {"n": norm(3), "l": nn.Linear(3, 4)},
        ["relu", "adaptive_avg_pool2d", "flatten", "l"],
    ),
    "norm before a mean": (
        lambda m, x: m.l(m.n(x.relu()).mean((2, 3))),
        {"n": norm(3), "l": nn.Linear(3, 4)},
        ["relu", "mean", "l"],
    ),
    "norm before a flattened linear layer": (
        lambda m, x: m.l(torch.flatten(m.n(x.relu()), 1)),
        {"n": norm(3), "l": nn.Linear(768, 4)},
        ["relu", "flatten", "l"],
    ),
    "norm of all tokens": (
        lambda m, x: m.n(m.l(x.flatten(2)).flatten(0, 1)),
        {"l": nn.Linear(256, 5), "n": norm(5, nn.BatchNorm1d)},
        ["flatten", "l", "flatten"],
    ),
    "space to depth by slices": (
        lambda m, x: m.a(torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)),
        {"a": conv(12, 16, 3, padding=1)},
        ["a"],
    ),
    "scale of a layer norm": (lambda m, x: m.l(m.n(x)), {"n": nn.LayerNorm(16), "l": nn.Linear(16, 5)}, ["n", "l"]),
    "einsum": (
        lambda m, x: torch.einsum("bchw,oc->bohw", m.a(x), m.w),
        {"a": conv(3, 8, 3), "w": normal(4, 8)},
        ["a"],
    ),
    "linear layer between permutations": (
        lambda m, x: m.l(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {"a": conv(3, 8, 3), "l": nn.Linear(8, 4)},
        ["a"],
    ),
    "channels by an index": (
        lambda m, x: m.a(torch.index_select(x, 1, m.i)),
        {"a": conv(4, 4, 3), "i": torch.tensor([2, 0, 1, 1])},
        ["a"],
    ),
    "channels shuffled behind": (
        lambda m, x: m.s(m.a(x)).relu(),
        {"a": conv(3, 6, 3), "s": nn.ChannelShuffle(2)},
        ["a", "relu"],
    ),
    "norm before tokens": (
        lambda m, x: m.l(m.n(x.relu()).permute(0, 2, 3, 1)),
        {"n": norm(3), "l": nn.Linear(3, 4)},
        ["relu", "permute", "l"],
    ),
    "scale behind an order of the axes": (
        lambda m, x: m.a(x).permute(0, 2, 3, 1) * m.g,
        {"a": conv(3, 4, 3), "g": normal(4)},
        ["a", "permute"],
    ),
    "x / 255, BGR, mean and deviation": (
        lambda m, x: m.a((x.flip(1) / 255 - m.mean) / m.std),
        {"a": conv(3, 8, 3), **FIRST},
        ["a"],
    ),
    "mean and deviation, then BGR": (
        lambda m, x: m.a(((x * 2 / 255 - 1 - m.mean) / m.std)[:, [2, 1, 0]]),
        {"a": conv(3, 8, 3), **FIRST},
        ["a"],
    ),
    "zeros around before the mean": (
        lambda m, x: m.a((F.pad(x, [1] * 4) - m.mean) / m.std),
        {"a": conv(3, 8, 3), **FIRST},
        ["a"],
    ),
    "a value around, then all of it": (
        lambda m, x: m.a((F.pad(x, [2, 2, 1, 1], value=114.0).flip(1) / 255 - m.mean) / m.std),
        {"a": conv(3, 8, 3), **FIRST},
        ["pad", "a"],
    ),
    "a value around behind a scale": (
        lambda m, x: m.a(F.pad((x / 255)[:, [2, 1, 0]], [1] * 4, value=0.5)),
        {"a": conv(3, 8, 3)},
        ["constant_pad_nd", "a"],
    ),
    "what zero becomes around": (
        lambda m, x: m.a(F.pad(x * 2 - 1, [1] * 4, value=-1.0)),
        {"a": conv(3, 8, 3)},
        ["a"],
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folded(name: str) -> None:
    rule, layers, left = FOLDS[name]
    torch.manual_seed(0)
    model = randomize(Calls(rule, **layers)).double()
    fast: Any = fusekit.optimize(model, X, measure=False, strict=True)
    assert_same(fast, model, X)
    assert_same(fast, model, X[:1])
    assert not report_of(fast).rejected
    nodes = [node for node in fast.graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    found = [str(node.target).removeprefix("aten.").split(".")[0] for node in nodes]
    assert [word for word in found if word != "shape_guard"] == left


REFUSED: dict[str, tuple[Rule, dict[str, Any], str]] = {
    "a crop of another size": (
        lambda m, x: m.a(x)[:, :, 1:, 1:] + x[:, :, 2:-1, 2:-1],
        {"a": conv(3, 3, 3)},
        "",
    ),
    "a norm before a pool that counts zeros": (
        lambda m, x: F.avg_pool2d(m.n(x.relu()), 3, 1, 1),
        {"n": norm(3)},
        "the pool pads with zeros where the graph has the shift",
    ),
    "transposed windows of another size": (
        lambda m, x: m.a(x)[..., :32] + m.b(x)[..., :32],
        {"a": nn.ConvTranspose2d(3, 4, (2, 4), 2), "b": nn.ConvTranspose2d(3, 4, 2, 2)},
        "",
    ),
    "a value around, not that of zero in each channel": (
        lambda m, x: m.a(F.pad((x - m.mean) / m.std, [1] * 4, value=0.5)),
        {"a": conv(3, 8, 3), **FIRST},
        "another number in each channel",
    ),
    "a value around before zeros": (
        lambda m, x: m.a(F.pad(x * 2 - 1, [1] * 4, value=0.5)),
        {"a": conv(3, 8, 3, padding=1)},
        "pads with zeros where the graph has the shift",
    ),
    "a scale that others read": (
        lambda m, x: (lambda y: m.l(y).sum() + y)(m.n(x)),
        {"n": nn.LayerNorm(16), "l": nn.Linear(16, 5)},
        "also used elsewhere",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_or_right(name: str) -> None:
    """Where a reason is named, with that reason; in any case the function is the same."""
    rule, layers, reason = REFUSED[name]
    torch.manual_seed(0)
    model = randomize(Calls(rule, **layers)).double()
    fast = fusekit.optimize(model, X, measure=False, strict=True)
    assert_same(fast, model, X)
    assert not report_of(fast).rejected
    assert not reason or any(reason in event.reason for event in report_of(fast).refused)


def test_a_scale_stays_where_every_norm_has_one() -> None:
    """ONNX has no layer norm without a scale: ones would be made each time it runs."""
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 5)).eval()
    fast = fusekit.optimize(model, torch.randn(2, 7, 16), target="onnxruntime", measure=False)
    assert "does not pay" in next(e.reason for e in report_of(fast).refused if e.rewrite == "fold-scale")


def test_a_scale_of_a_tensor_that_is_not_given_stays() -> None:
    """Nothing is known of it, and nothing guessed."""
    model = Calls(lambda m, x: x[:, [2, 1, 0]] * m.g, g=torch.ones(3, 1, 1) * 2)
    fast = fusekit.optimize(model)
    y: Tensor = torch.randn(1, 3, 2, 2)
    assert torch.equal(fast(y), model(y))
