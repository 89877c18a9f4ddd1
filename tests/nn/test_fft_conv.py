"""Layers and functions by FFT: torch's surface and torch's refusals, gradients of any order."""

import inspect
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.prune import l1_unstructured

import fusekit.nn as fnn
import fusekit.nn.functional as fF
from fusekit.testing.strategies import relative_error
from tests.support.compare import normal
from tests.support.fft_grid import draw, mismatch
from tests.support.fft_layers import EXACT, FFT, X, layer_of, small


def test_a_sample_of_the_grid() -> None:
    """Forward and all gradients, or the same refusal in the same words."""
    rng = random.Random(5)
    torch.manual_seed(5)
    cases = [draw(rng) for _ in range(300)]
    assert [(problem, case) for case in cases if (problem := mismatch(case))] == []


@pytest.mark.parametrize("name", FFT)
def test_the_classes_are_torchs_own(name: str) -> None:
    """A subclass with the constructor, the parameters' names and the representation of the plain layer."""
    plain, ours = getattr(nn, name.removeprefix("FFT")), FFT[name]
    assert issubclass(ours, plain) and inspect.signature(ours) == inspect.signature(plain)
    layer = ours(2, 4, 3, groups=2, device="meta", dtype=torch.float64)
    assert layer.weight.device.type == "meta" and layer.weight.dtype == torch.float64
    same = plain(2, 4, 3, groups=2)
    assert list(ours(2, 4, 3, groups=2).state_dict()) == list(same.state_dict())
    assert repr(ours(2, 4, 3, groups=2)) == repr(same).replace(plain.__name__, name, 1)


@pytest.mark.parametrize("name", [name for name in fF.__all__ if name.startswith("fft_")])
def test_the_functions_take_what_torchs_take(name: str) -> None:
    """The arguments of the namesake, by position and by name; the documented order of F.conv*."""
    theirs = getattr(F, name.removeprefix("fft_"))
    order = ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    if "transpose" in name:
        order = ["input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"]
    assert list(inspect.signature(getattr(fF, name)).parameters) == order
    n = int(name[-2])
    x, w, b = normal(1, 4, *(7,) * n), normal(4, 2, *(3,) * n), normal(4)
    values: list[Any] = [2, 1, 2, 2] if "transpose" not in name else [2, 1, 1, 2, 2]
    ours, expected = getattr(fF, name), theirs(x, w, b, *values)
    for given in (ours(x, w, b, *values), ours(**dict(zip(order, (x, w, b, *values), strict=True)))):
        assert relative_error(given, expected) < EXACT


GRADIENTS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "stride, dilation, groups": (
        fF.fft_conv2d,
        (2, 4, 9, 8),
        (6, 2, 3, 2),
        {"stride": (2, 3), "padding": (1, 2), "dilation": (3, 1), "groups": 2},
    ),
    "depthwise": (fF.fft_conv1d, (1, 3, 9), (3, 1, 4), {"groups": 3, "padding": "same"}),
    "dilation shared with the stride": (
        fF.fft_conv1d,
        (1, 2, 17),
        (2, 2, 3),
        {"stride": 4, "dilation": 6, "padding": 6},
    ),
    "many inputs": (fF.fft_conv1d, (2, 10, 5), (2, 10, 3), {}),
    "three axes": (fF.fft_conv3d, (1, 1, 4, 3, 4), (2, 1, 2, 2, 3), {"stride": (1, 2, 1)}),
    "transposed": (
        fF.fft_conv_transpose2d,
        (1, 4, 4, 3),
        (4, 2, 3, 2),
        {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "groups": 2, "dilation": (1, 2)},
    ),
    "transposed, output padding beyond the stride": (
        fF.fft_conv_transpose1d,
        (1, 2, 4),
        (2, 2, 3),
        {"stride": 2, "dilation": 4, "output_padding": 3},
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_of_first_and_second_order(name: str, dtype: torch.dtype) -> None:
    function, x_shape, w_shape, options = GRADIENTS[name]
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in (x_shape, w_shape))
    outputs = w_shape[1] * options.get("groups", 1) if "transposed" in name else w_shape[0]
    b = torch.randn(outputs, dtype=dtype, generator=generator).requires_grad_()
    call = lambda x, w, b: function(x, w, b, **options)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, w, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, w, b), fast_mode=True)


@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
def test_gradients_flow_to_those_who_ask(wanted: str) -> None:
    gradients = []
    for layer in small():
        x = X.clone()
        asked = x if wanted == "x" else getattr(layer, wanted)
        asked.requires_grad_()
        gradients.append(torch.autograd.grad(layer(x).pow(2).sum(), asked)[0])
        asked.requires_grad_(False)
    assert relative_error(gradients[1], gradients[0]) < EXACT


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x, w: f(x, w[:, :1]),
        lambda f, x, w: f(x[..., :2], w),
        lambda f, x, w: f(x, w, dilation=9),
        lambda f, x, w: f(x, w.float()),
        lambda f, x, w: f(x, w, torch.ones(3)),
        lambda f, x, w: f(x, w, torch.ones(4).double()),
        lambda f, x, w: f(x, w, stride=0),
        lambda f, x, w: f(x, w, dilation=0),
        lambda f, x, w: f(x, w, padding=-1),
        lambda f, x, w: f(x, w, groups=0),
        lambda f, x, w: f(x, w, groups=2),
        lambda f, x, w: f(x[None], w),
        lambda f, x, w: f(x[0, 0], w),
        lambda f, x, w: f(x, w[None]),
        lambda f, x, w: f(x, w, stride=(1, 2)),
        lambda f, x, w: f(x, w, stride=2, padding="same"),
        lambda f, x, w: f(x, w, padding="full"),
        lambda f, x, w: f(x[..., :0], w),
        lambda f, x, w: f(x[:0, :, :3], w),
        lambda f, x, w: f(x, w[..., :0]),
    ],
)
def test_refusals_are_torchs_own(call: Any) -> None:
    w = normal(3, 2, 5)
    with pytest.raises((RuntimeError, TypeError)) as theirs:
        call(F.conv1d, X, w)
    with pytest.raises(type(theirs.value)) as ours:
        call(fF.fft_conv1d, X, w)
    assert str(ours.value) == str(theirs.value)


def test_a_fractional_stride_is_refused() -> None:
    with pytest.raises(TypeError, match="invalid combination of arguments"):
        fF.fft_conv1d(X, normal(3, 2, 5), stride=1.5)  # type: ignore[arg-type]


def test_nothing_to_compute_and_integers() -> None:
    w = normal(3, 2, 5)
    assert fF.fft_conv1d(X[:0], w, padding=2).shape == (0, 3, 20)
    assert torch.equal(fF.fft_conv1d(X.long(), w.long()), F.conv1d(X.long(), w.long()))
    plain, ours = layer_of("ConvTranspose1d", in_channels=2, out_channels=3, kernel_size=5)
    assert ours(X[:0]).shape == plain(X[:0]).shape


def test_output_size_of_a_transposed_convolution() -> None:
    plain, ours = layer_of("ConvTranspose2d", in_channels=2, out_channels=3, kernel_size=3, stride=3)
    x = normal(1, 2, 4, 5)
    for size in ([12, 15], [1, 3, 14, 17]):
        assert relative_error(ours(x, output_size=size), plain(x, output_size=size)) < EXACT
    with pytest.raises(ValueError, match="requested an output size"):
        ours(x, output_size=[11, 15])


def test_autocast_as_torch() -> None:
    plain, ours = (layer.float() for layer in small())
    with torch.autocast("cpu", torch.bfloat16):
        given, expected = ours(X.float()), plain(X.float())
    assert given.dtype == expected.dtype == torch.bfloat16
    assert relative_error(given.double(), plain(X.float()).double()) < 2e-2


def test_long_kernels_round_no_worse_than_direct_convolution() -> None:
    """float32 against float64, kernels of 129 to 1025 taps: flat in the length, where direct summation grows."""
    for taps in (129, 513, 1025):
        plain, ours = layer_of("Conv1d", in_channels=4, out_channels=4, kernel_size=taps, padding="same")
        x = normal(1, 4, 2048)
        exact = plain(x)
        direct, spectral = (layer.float()(x.float()).double() for layer in (plain, ours))
        error = relative_error(spectral, exact)
        assert error < 6e-7 and error < 2 * relative_error(direct, exact)


# from_conv


def test_from_conv_shares_parameters_mode_and_hooks() -> None:
    plain = nn.Conv2d(2, 4, (3, 5), (2, 1), (1, 2), (1, 2), 2, padding_mode="circular")
    plain.weight.requires_grad_(False)
    seen: list[int] = []
    plain.register_forward_hook(lambda *_: seen.append(1))
    ours = fnn.FFTConv2d.from_conv(plain)
    assert ours.weight is plain.weight and ours.bias is plain.bias and ours.training
    assert not fnn.FFTConv2d.from_conv(plain.eval()).training
    x = torch.randn(2, 2, 9, 9)
    assert relative_error(ours(x), plain(x)) < 1e-6 and seen == [1, 1]


def test_from_conv_refuses_what_it_cannot_keep() -> None:
    with pytest.raises(TypeError, match="FFTConv2d is made from Conv2d, not from Conv1d"):
        fnn.FFTConv2d.from_conv(nn.Conv1d(1, 1, 3))
    with pytest.raises(TypeError, match="parametrized"):
        fnn.FFTConv1d.from_conv(parametrizations.weight_norm(nn.Conv1d(1, 1, 3)))
    with pytest.raises(ValueError, match="call it once before"):
        fnn.FFTConv1d.from_conv(nn.LazyConv1d(1, 3))


def test_weights_computed_before_each_call() -> None:
    """Parametrized and pruned weights are other tensors at every call; no stale spectrum is used."""
    ours = parametrizations.weight_norm(fnn.FFTConv1d(2, 3, 5)).double().requires_grad_(False)
    for _ in range(3):
        assert relative_error(ours(X), F.conv1d(X, ours.weight, ours.bias)) < EXACT
        ours.parametrizations.weight.original0.mul_(1.5)
    pruned: Any = l1_unstructured(fnn.FFTConv1d(2, 3, 5).double(), "weight", 0.5)
    with torch.no_grad():
        for _ in range(2):
            assert relative_error(pruned(X), F.conv1d(X, pruned.weight_orig * pruned.weight_mask, pruned.bias)) < EXACT
            pruned.weight_orig.mul_(2)


# compilers and tracers


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_compiles_whole_at_any_size_and_sees_new_weights(name: str) -> None:
    plain, ours = layer_of(name, in_channels=2, out_channels=3, kernel_size=5, stride=2)
    torch._dynamo.reset()
    compiled: Any = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for size in (12, 13, 17):
        x = normal(2, 2, size, size)
        assert relative_error(compiled(x), plain(x)) < EXACT
    assert ours.spectrum_bytes  # kept by the compiled program too
    ours.weight.mul_(3)  # which is plain.weight
    assert relative_error(compiled(x), plain(x)) < EXACT
    ours.requires_grad_()
    x.requires_grad_()
    wanted = [x, *plain.parameters()]
    given, expected = (torch.autograd.grad(f(x).pow(2).sum(), wanted) for f in (compiled, plain))
    for a, b in zip(given, expected, strict=True):
        assert relative_error(a, b) < EXACT


def test_the_operator_is_sound() -> None:
    """Schema, fake kernel, autograd registration: torch's own checks."""
    x, w, b = normal(2, 4, 9), normal(6, 2, 3), normal(6)
    packed: Any = ([2], [1], [1], [3], 2, False, [], 0)
    tensors = [t.requires_grad_() for t in (x, w, b)]
    torch.library.opcheck(torch.ops.fusekit.spectral_conv.default, (*tensors, *packed))


def test_exports_with_free_sizes() -> None:
    plain, ours = layer_of("Conv1d", in_channels=2, out_channels=3, kernel_size=9, padding=4)
    free = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    program = torch.export.export(ours, (normal(2, 2, 40),), dynamic_shapes=(free,)).module()
    for size in (40, 41, 100):
        x = normal(3, 2, size)
        assert relative_error(program(x), plain(x)) < EXACT
    with pytest.raises(NotImplementedError, match="complex"):
        torch.export.export(ours.to(torch.complex128), (normal(2, 2, 40).to(torch.complex128),))


def test_traces_symbolically() -> None:
    plain, ours = small(padding_mode="reflect")
    traced = torch.fx.symbolic_trace(nn.Sequential(ours, nn.ReLU()))
    assert relative_error(traced(X), torch.relu(plain(X))) < EXACT
