"""Models as they come: hooks, parametrizations, kinds of layers and dtypes, children that cannot be traced."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import fusekit
from fusekit.errors import CaptureError, FusekitError
from tests.support.architectures import randomize
from tests.support.capture_room import (
    OTHER,
    Forward,
    Pair,
    X,
    both_ways,
    folds,
    host,
    parity,
    prepared,
    same_or_refused,
)
from tests.support.compare import assert_same, call, normal, report_of

# --- hooks -------------------------------------------------------------------------------------------------------


def plain_chain(m: Any, x: Tensor) -> Tensor:
    return m.b(F.relu(m.a(x)))  # type: ignore[no-any-return]


def hosts() -> list[tuple[str, Forward]]:
    return [("symbolic", plain_chain), ("export", parity)]


@pytest.mark.parametrize("forward", [f for _, f in hosts()], ids=[n for n, _ in hosts()])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.conv", "forward"),
        ("a.conv", "pre"),
        ("a.conv", "backward"),
        ("a.norm", "pre"),
        ("a", "forward"),
        ("", "pre"),
    ],
)
@pytest.mark.parametrize("example", [None, X])
def test_hooks_fire_and_are_reported(forward: Forward, path: str, kind: str, example: Tensor | None) -> None:
    """A hooked module is left alone: its hook sees, and may change, its own input and output."""
    model = prepared(host(forward))
    fired: list[str] = []
    module = model.get_submodule(path)

    def after(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        fired.append(path)
        return output * 2

    def before(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        fired.append(path)
        return (inputs[0] * 2,)

    if kind == "forward":
        module.register_forward_hook(after)
    elif kind == "pre":
        module.register_forward_pre_hook(before)
    else:
        module.register_full_backward_hook(lambda module, inputs, outputs: fired.append(path))
    result = fusekit.optimize(model, example)
    fired.clear()
    call(result, X) if kind != "backward" else result(X.clone().requires_grad_()).sum().backward()
    assert fired == [path]
    assert_same(result, model, X)
    assert any(e.where == (path or "model") and "hooks" in e.reason for e in report_of(result).refused)


# --- parametrizations and kinds of layers ------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w * 2 if w.shape[-1] > 1 else w


class Plain(nn.Conv2d):
    """A subclass that changes nothing."""


class Scaled(nn.Conv2d):
    """A subclass that does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class MaxNorm(nn.Conv2d):
    """EEGNet's: clips its own weight, in place, before each use."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.5)
        return super().forward(x)


def pruned(conv: nn.Conv2d) -> nn.Module:
    prune.l1_unstructured(conv, "weight", 0.3)
    return conv


def custom(conv: nn.Conv2d) -> nn.Module:
    parametrize.register_parametrization(conv, "weight", Doubled())
    return conv


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 3, 3)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Conv2d(3, 3, 3)),
    "custom": lambda: custom(nn.Conv2d(3, 3, 3)),
    "old weight_norm": lambda: weight_norm(nn.Conv2d(3, 3, 3)),
    "old spectral_norm": lambda: spectral_norm(nn.Conv2d(3, 3, 3)),
    "pruned": lambda: pruned(nn.Conv2d(3, 3, 3)),
    "subclass": lambda: Plain(3, 3, 3),
    "overridden": lambda: Scaled(3, 3, 3),
    "max norm": lambda: MaxNorm(3, 3, 3),
    "even same": lambda: nn.Conv2d(3, 3, (2, 4), padding="same", dilation=(1, 2)),
    **{
        f"{mode} {padding}": lambda mode=mode, padding=padding: nn.Conv2d(3, 3, 3, padding=padding, padding_mode=mode)  # type: ignore[misc]
        for mode in ("zeros", "reflect", "circular", "replicate")
        for padding in (1, "same", "valid")
    },
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_every_kind_of_convolution_folds_with_its_batch_norm(layer: Callable[[], nn.Module]) -> None:
    model = prepared(nn.Sequential(layer(), nn.BatchNorm2d(3)))
    before = copy.deepcopy(model.state_dict())
    call(model, X)
    for result in both_ways(model):
        assert folds(result) >= 1
        assert sum(isinstance(m, nn.Conv2d) for m in result.modules()) == 1
        assert not any(parametrize.is_parametrized(m) for m in result.modules())
        assert not any(isinstance(m, nn.BatchNorm2d) for m in result.modules())
    if not isinstance(model[0], MaxNorm):  # type: ignore[index]
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_batch_norms_without_statistics_or_weights() -> None:
    """Without running statistics it normalises by the batch's own, and stays; without weights it folds."""
    for result in both_ways(prepared(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)))):
        assert folds(result) == 0
    norm = nn.BatchNorm2d(3, affine=False, momentum=None)
    for result in both_ways(prepared(nn.Sequential(nn.Conv2d(3, 3, 3), norm)), X, (*OTHER, normal(0, 3, 6, 6))):
        assert folds(result) == 1


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 4)])
def test_a_norm_whose_axis_depends_on_the_rank(shape: tuple[int, ...]) -> None:
    """Linear -> BatchNorm1d acts on the last axis of (N, C), on the middle one of (N, C, L): the example says which,
    and another rank is refused."""
    model = prepared(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    x, other = normal(*shape), normal(*({(2, 4): (2, 4, 4), (2, 4, 4): (2, 4)}[shape]))
    plain, shaped = fusekit.optimize(model), fusekit.optimize(model, x)
    assert folds(plain) == 0 and folds(shaped) == (1 if len(shape) == 2 else 0)
    assert same_or_refused(shaped, model, x) and not same_or_refused(shaped, model, other)
    assert same_or_refused(plain, model, x) and same_or_refused(plain, model, other)


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Linear(3, 4), normal(2, 3)),
        (nn.Conv1d(3, 4, 3), normal(2, 3, 8)),
        (nn.ConvTranspose3d(2, 3, 2, 2), normal(1, 2, 2, 2, 2)),
        (nn.BatchNorm2d(3), X),
        (nn.ReLU(), X),
        (nn.Identity(), X),
        (nn.Sequential(), X),
        (nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1))))), X),
        (nn.Sequential(nn.Flatten(), nn.Linear(108, 3), nn.BatchNorm1d(3)), X),
        (nn.MultiheadAttention(4, 2, batch_first=True), normal(2, 3, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_single_layers_and_trivial_models(model: nn.Module, x: Tensor) -> None:
    model = prepared(model)
    arguments = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)
    for result in (fusekit.optimize(model), fusekit.optimize(model, arguments)):
        assert_same(result, model, *arguments)


def test_unbatched_inputs_are_accepted_either_way() -> None:
    """A chain of convolutions takes (C, H, W) and (N, C, H, W); folding must not decide for one of them."""
    layers = (nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.ConvTranspose2d(3, 3, 2, 2))
    model = prepared(nn.Sequential(*layers))
    for example in (None, X, X[0]):
        result = fusekit.optimize(model, example)
        assert_same(result, model, X)
        assert_same(result, model, X[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    model, x = randomize(nn.Sequential(Pair(), nn.ReLU(), Pair())).to(dtype), X.to(dtype)
    for example in (None, x):
        result = fusekit.optimize(model, example)
        assert folds(result) == 2 and {p.dtype for p in result.parameters()} == {dtype}
        ours = call(result, x)
        assert ours.dtype == dtype
        assert float((ours - call(model, x)).double().norm() / ours.double().norm()) < 8 * torch.finfo(dtype).eps


def test_complex_parameters_somewhere() -> None:
    class Rotated(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.phase = nn.Parameter(torch.randn(3, 1, 1, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.phase

    model, x = randomize(Rotated()), X.float()
    for example in (None, x):
        result = fusekit.optimize(model, example)
        assert folds(result) == 1
        ours = call(result, x)
        assert ours.dtype == torch.complex64 and torch.allclose(ours, call(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("forward", [lambda m, x: m.a(x.double() / 255), lambda m, x: m.a((x / 255).double())])
def test_integer_inputs(forward: Forward) -> None:
    """x / 255 of integers is a float32 division, whatever the model's dtype."""
    x = torch.randint(0, 255, (2, 3, 6, 6), dtype=torch.uint8)
    for result in both_ways(prepared(host(forward)), x, (x[:1, :, :5],)):
        assert folds(result) == 1


def test_lazy_layers_and_wrong_arguments_are_named() -> None:
    for example in (None, X.float()):
        lazy = nn.Sequential(nn.LazyConv2d(3, 3))
        with pytest.raises(CaptureError, match="lazy layer 0 has no weights yet"):
            fusekit.optimize(lazy, example)
        assert isinstance(lazy[0], nn.LazyConv2d)
    with pytest.raises(FusekitError, match="expected an nn.Module"):
        fusekit.optimize(torch.relu)  # type: ignore[arg-type]


# --- one odd child, and children in place ------------------------------------------------------------------------


class Odd(nn.Module):
    """Control flow on sizes around layers that fold."""

    def __init__(self) -> None:
        super().__init__()
        self.a = Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.shape[2] > 3 else x


def test_one_odd_child_in_a_traceable_root() -> None:
    """It is called as it is; what is around it and inside it is still folded."""
    model = prepared(nn.Sequential(Pair(), Odd(), nn.Sequential(Pair(), Odd()), Pair()))
    result = fusekit.optimize(model)
    assert "around untraceable modules" in report_of(result).capture and folds(result) == 5
    for x in (X, *OTHER, normal(1, 3, 2, 2)):
        assert_same(result, model, x)
    captured = fusekit.optimize(model, X)
    assert report_of(captured).capture == "symbolic trace" and folds(captured) == 5
    assert not same_or_refused(captured, model, normal(1, 3, 2, 2))


class Block(Pair):
    """A child with an attribute that others read."""

    width = 2


class Untraceable(nn.Module):
    """A root whose own forward cannot be traced, using its children in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.passed = Pair(), Pair(), Pair()
        self.listed = nn.ModuleList([Pair(), Pair()])
        self.indexed = nn.ModuleList([Pair(), Pair()])
        self.numbered = nn.ModuleList([Pair()])
        self.looked_into = nn.ModuleList([Block(), Block()])
        self.keyed = nn.ModuleDict({"one": Pair()})
        self.items_read = nn.ModuleDict({"one": Block()})

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 100:
            return x
        x = self.called(x) + F.conv2d(x, self.read.conv.weight, padding=1) + self.run(self.passed, x)
        for block in self.listed:
            x = block(x)
        for number, layer in enumerate(self.numbered):
            x = layer(x) + number
        for item in self.looked_into:
            x = item(x) * item.width
        for _, item in self.items_read.items():
            x = item(x) * item.width
        return self.indexed[0](x) + self.indexed[-1](x) + self.keyed["one"](x)  # type: ignore[no-any-return]

    def run(self, module: nn.Module, x: Tensor) -> Tensor:
        return module.forward(x)  # type: ignore[no-any-return]


def test_children_in_place() -> None:
    """Only children that are called and nothing else are replaced: called, listed, numbered, indexed, keyed."""
    model = prepared(Untraceable())
    result: Any = fusekit.optimize(model)
    assert isinstance(result, Untraceable) and folds(result) == 7
    for x in (X, *OTHER, normal(0, 3, 4, 4)):
        assert_same(result, model, x)
    assert type(result.read) is type(result.passed) is Pair
    assert {type(block) for block in (*result.looked_into, *result.items_read.values())} == {Block}
    captured = fusekit.optimize(model, X)
    assert report_of(captured).capture == "symbolic trace"
    assert_same(captured, model, OTHER[1])


class Inherited(Odd):
    """Calls the child; the base class reads it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * float(self.a.conv.weight.shape[0] > 0) if x.shape[0] else super().forward(x)


class Heir(Inherited):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + super().forward(x)  # type: ignore[no-any-return]


def test_children_that_a_base_class_reads_are_left() -> None:
    model = prepared(Heir())
    result: Any = fusekit.optimize(model)
    assert type(result.a) is Pair
    assert_same(result, model, X)


def test_modules_outside_the_tree() -> None:
    """Layers in a plain list are no children: torch.export follows them, without inputs they stay as they are."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [prepared(Pair()), prepared(Pair())]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    plain, captured = both_ways(Hidden().eval())
    assert folds(plain) == 0 and folds(captured) == 2


@pytest.mark.parametrize("factor", [1, 2])
def test_the_picture_is_added_in_place_to_shuffled_pixels(factor: int) -> None:
    """As in Real-ESRGAN's compact networks: what a pixel shuffle makes is no view, so it may be written to."""

    class Compact(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3 * factor**2, 3, padding=1))
            self.shuffle = nn.PixelShuffle(factor)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.shuffle(self.body(x))
            y += F.interpolate(x, scale_factor=factor, mode="nearest")
            return y

    model, x = Compact().double().eval(), torch.rand(1, 3, 6, 7, dtype=torch.float64)
    result = fusekit.optimize(model, x)
    assert report_of(result).capture == "symbolic trace"
    for other in (x, torch.rand(2, 3, 5, 4, dtype=torch.float64)):
        before = other.clone()
        assert_same(result, model, other)
        assert torch.equal(other, before)
