"""Quaternion layers: that they train, copy, travel, take torch.nn's options, and read the checkpoints of others."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit import nn as fnn
from fusekit.nn import functional as F
from fusekit.testing.strategies import relative_error
from tests.support import quaternion_reference as reference

Make = Callable[..., nn.Module]

# with the shape of an input that has a batch
LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "linear": (lambda **o: fnn.QuaternionLinear(8, 4, **o), (2, 8)),
    "linear, lean, bounded": (lambda **o: fnn.QuaternionLinear(8, 4, lean=True, max_norm=0.5, **o), (2, 8)),
    "linear, unitary": (lambda **o: fnn.QuaternionLinear(8, 4, bias=False, init="unitary", **o), (2, 8)),
    "conv1d": (lambda **o: fnn.QuaternionConv1d(8, 8, 3, 2, 1, groups=2, **o), (2, 8, 5)),
    "conv2d": (lambda **o: fnn.QuaternionConv2d(4, 4, (1, 3), padding="same", max_norm=1, **o), (1, 4, 3, 4)),
    "conv2d, reflect": (
        lambda **o: fnn.QuaternionConv2d(4, 4, 3, padding=1, padding_mode="reflect", **o),
        (1, 4, 3, 3),
    ),
    "conv3d": (lambda **o: fnn.QuaternionConv3d(4, 4, 2, criterion="he", **o), (1, 4, 2, 3, 2)),
    "channel groups": (lambda **o: fnn.QuaternionConv1d(8, 8, 2, groups=2, groups_of="channels", **o), (1, 8, 4)),
    "transposed 1d": (lambda **o: fnn.QuaternionConvTranspose1d(8, 8, 3, 2, 1, 1, groups=2, **o), (1, 8, 3)),
    "transposed 2d": (lambda **o: fnn.QuaternionConvTranspose2d(4, 8, 2, conjugate=True, **o), (1, 4, 2, 2)),
    "transposed 3d": (lambda **o: fnn.QuaternionConvTranspose3d(4, 4, 2, dilation=2, **o), (1, 4, 2, 2, 1)),
    "rotation": (lambda **o: fnn.QuaternionRotationLinear(8, 4, scale=True, **o), (2, 8)),
    "rotation 1d": (lambda **o: fnn.QuaternionRotationConv1d(8, 8, 2, groups=2, scale=True, **o), (1, 8, 4)),
    "rotation 2d": (lambda **o: fnn.QuaternionRotationConv2d(4, 4, 2, inverse=True, **o), (1, 4, 3, 2)),
    "rotation 3d": (lambda **o: fnn.QuaternionRotationConv3d(4, 4, 2, norm="softened", **o), (1, 4, 2, 2, 2)),
    "batch norm": (lambda **o: fnn.QuaternionBatchNorm(8, **o), (3, 8, 2)),
    "lstm": (lambda **o: fnn.QuaternionLSTM(4, 4, 1, bidirectional=True, **o), (2, 1, 4)),
    "lstm, component": (lambda **o: fnn.QuaternionLSTM(4, 4, gates="component", **o), (3, 1, 4)),
    "gru": (lambda **o: fnn.QuaternionGRU(4, 4, 2, **o), (2, 1, 4)),
    "rnn": (lambda **o: fnn.QuaternionRNN(4, 4, bias=False, **o), (3, 2, 4)),
    "light gru": (lambda **o: fnn.QuaternionLiGRU(4, 4, bidirectional=True, **o), (3, 2, 4)),
    "light gru, component": (
        lambda **o: fnn.QuaternionLiGRU(4, 4, nonlinearity="tanh", gates="component", **o),
        (2, 2, 4),
    ),
}


def first(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value[0]


def disturbed(layer: nn.Module) -> nn.Module:
    """With biases and running statistics that are not what they start as."""
    with torch.no_grad():
        for name, value in (*layer.named_parameters(), *layer.named_buffers()):
            if "bias" in name or "running" in name or "norm" in name:
                value.copy_(torch.rand_like(value) + 0.5) if value.is_floating_point() else None
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str, training: bool) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = disturbed(make(dtype=torch.float64)).train(training)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def of(x: Tensor, *values: Tensor) -> Tensor:
        return first(torch.func.functional_call(copy.deepcopy(layer), dict(zip(names, values, strict=True)), (x,)))

    assert torch.autograd.gradcheck(of, (x, *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", LAYERS)
def test_copies_travel_and_types(name: str) -> None:
    make, shape = LAYERS[name]
    layer = disturbed(make()).eval()
    x = torch.randn(shape)
    y = first(layer(x))
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), make().eval()]
    copies[2].load_state_dict(layer.state_dict())
    for other in copies:
        assert torch.equal(first(other(x)), y)
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    wide = first(copy.deepcopy(layer).double()(x.double()))
    assert wide.dtype == torch.float64 and relative_error(y.double().detach(), wide.detach()) < 1e-5
    if "lstm" not in name and "gru" not in name and "rnn" not in name:
        assert first(layer(x[:0])).shape == (0, *y.shape[1:])
    meta = make(device="meta")
    assert all(value.is_meta for value in (*meta.parameters(), *meta.buffers()))


@pytest.mark.parametrize("name", [name for name in LAYERS if "conv" in name or "transposed" in name or " 2d" in name])
def test_unbatched_and_strict(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    x = torch.randn(shape)
    assert torch.allclose(layer(x[0]), layer(x)[0], atol=1e-6)
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, shape[1] + 4, *shape[2:]))


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2, "bias": False},
    {"padding": "same"},
    {"padding": "valid"},
    *({"padding": 2, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
    {"padding": "same", "padding_mode": "reflect", "dilation": 2},
    {"padding": "same", "padding_mode": "circular"},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_options_are_torchs(n: int, options: dict[str, Any]) -> None:
    """The real layer of the same name with the block weight gives the same: every option means what it does there."""
    kinds: Any = (
        (fnn.QuaternionConv1d, nn.Conv1d),
        (fnn.QuaternionConv2d, nn.Conv2d),
        (fnn.QuaternionConv3d, nn.Conv3d),
    )
    kind, real = kinds[n - 1]
    window = (4, 3, 2)[:n]
    layer: Any = disturbed(kind(8, 4, window, **options))
    twin = real(8, 4, window, **options)
    state = {"weight": layer.real_weight().detach()}
    twin.load_state_dict(state if layer.bias is None else {**state, "bias": layer.bias.detach()})
    x = torch.randn(2, 8, *(9, 8, 7)[:n])
    assert torch.allclose(layer(x), twin(x), atol=1e-5)
    assert layer(x).shape == twin(x).shape
    assert torch.allclose(layer(x[1]), twin(x[1]), atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 3, "padding": 1, "output_padding": 2}, {"dilation": 2, "bias": False}], ids=str
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_transposed_options_are_torchs(n: int, options: dict[str, Any]) -> None:
    kinds = (fnn.QuaternionConvTranspose1d, fnn.QuaternionConvTranspose2d, fnn.QuaternionConvTranspose3d)
    layer: Any = disturbed(kinds[n - 1](8, 4, 3, **options))
    twin: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1](8, 4, 3, **options)
    state = {"weight": layer.real_weight().detach()}
    twin.load_state_dict(state if layer.bias is None else {**state, "bias": layer.bias.detach()})
    x = torch.randn(2, 8, *(4, 3, 3)[:n])
    assert torch.allclose(layer(x), twin(x), atol=1e-5)
    if "stride" in options:
        size = [s * 3 - 1 for s in x.shape[2:]]
        assert torch.allclose(layer(x, output_size=size), twin(x, output_size=size), atol=1e-5)
        with pytest.raises(ValueError, match="output_size: expected sizes from"):
            layer(x, output_size=[99] * n)


def test_layers_are_their_functions() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    linear = fnn.QuaternionLinear(8, 12, dtype=torch.float64)
    assert relative_error(linear(x).detach(), reference.linear(x, linear.weight.detach())) < 1e-14
    turning = fnn.QuaternionRotationLinear(8, 12, inverse=True, dtype=torch.float64)
    assert relative_error(turning(x).detach(), reference.rotation(x, turning.weight.detach(), inverse=True)) < 1e-14


def test_errors_name_what_was_expected() -> None:
    multiple = "expected a positive multiple of 4, one block of channels a unit, got"
    for make, message in (
        (lambda: fnn.QuaternionLinear(6, 8), f"in_features: {multiple} 6"),
        (lambda: fnn.QuaternionConv2d(8, 10, 3), f"out_channels: {multiple} 10"),
        (lambda: fnn.QuaternionConvTranspose1d(0, 8, 3), f"in_channels: {multiple} 0"),
        (
            lambda: fnn.QuaternionConv1d(8, 12, 3, groups=2),
            "out_channels: expected a multiple of 4 times groups = 2, got 12",
        ),
        (lambda: fnn.QuaternionConv1d(8, 8, 3, groups=0), "groups: expected a positive number, got 0"),
        (lambda: fnn.QuaternionConv2d(8, 8, (3, 3, 3)), "kernel_size: expected a number or 2 of them"),
        (lambda: fnn.QuaternionConv1d(8, 8, 3, 2, padding="same"), "padding='same' needs stride 1"),
        (
            lambda: fnn.QuaternionConv1d(8, 8, 3, padding="causal"),
            "padding: expected numbers, 'same' or 'valid', got 'causal'",
        ),
        (lambda: fnn.QuaternionConv1d(8, 8, 3, padding_mode="x"), "padding_mode: expected zeros"),
        (lambda: fnn.QuaternionConvTranspose1d(8, 8, 3, padding_mode="reflect"), "padding_mode: expected 'zeros'"),
        (
            lambda: fnn.QuaternionConvTranspose1d(8, 8, 3, padding="same"),  # type: ignore[arg-type]
            "padding: expected numbers for a transposed convolution, got 'same'",
        ),
        (lambda: fnn.QuaternionBatchNorm(6), "num_features: expected a multiple of 4 .* got 6"),
        (lambda: fnn.QuaternionLSTM(8, 6), "hidden_size: expected a multiple of 4 .* got 6"),
        (lambda: fnn.QuaternionGRU(7, 8), "input_size: expected a multiple of 4 .* got 7"),
        (lambda: fnn.QuaternionLSTM(8, 8, gates="x"), "gates must be 'quaternion' or 'component', got 'x'"),  # type: ignore[arg-type]
        (lambda: fnn.QuaternionLinear(8, 8, init="x"), "init must be 'chi' or 'unitary', got 'x'"),  # type: ignore[arg-type]
        (lambda: fnn.QuaternionLinear(8, 8, criterion="x"), "criterion must be 'glorot' or 'he', got 'x'"),  # type: ignore[arg-type]
        (lambda: fnn.QuaternionDropout(1.5), "between 0 and 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def components(weight: Tensor, transposed: bool = False) -> dict[str, Tensor]:
    return {f"{c}_weight": (w.mT if transposed else w).clone() for c, w in zip("rijk", weight.detach(), strict=True)}


def test_checkpoints_of_speechbrain() -> None:
    """r_weight, i_weight, j_weight, k_weight, of linear layers [in, out]; zero_kernel dropped, scale_param a scale."""
    x, image = torch.randn(2, 8), torch.randn(2, 8, 5)
    cases: Any = (
        (fnn.QuaternionLinear(8, 8), fnn.QuaternionLinear(8, 8), True, x),
        (fnn.QuaternionRotationLinear(8, 8, scale=True), fnn.QuaternionRotationLinear(8, 8, scale=True), True, x),
        (fnn.QuaternionConv1d(8, 8, 3), fnn.QuaternionConv1d(8, 8, 3), False, image),
        (
            fnn.QuaternionRotationConv1d(8, 8, 3, scale=True),
            fnn.QuaternionRotationConv1d(8, 8, 3, scale=True),
            False,
            image,
        ),
        (fnn.QuaternionConvTranspose1d(8, 8, 3), fnn.QuaternionConvTranspose1d(8, 8, 3), False, image),
    )
    for layer, twin, transposed, given in cases:
        disturbed(layer)
        state: dict[str, Tensor] = components(layer.weight, transposed)
        state["bias"] = layer.bias.detach()
        if isinstance(getattr(layer, "scale", None), Tensor):
            state["scale_param"] = layer.scale.detach().mT if transposed else layer.scale.detach()
            state["zero_kernel"] = torch.zeros(2, 2)
        nest = nn.ModuleDict({"inner": twin})  # under a prefix, as in a network
        nest.load_state_dict({f"inner.{key}": value for key, value in state.items()})
        assert torch.equal(twin(given), layer(given))
        assert "inner.r_weight" not in nest.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        fnn.QuaternionLinear(8, 8).load_state_dict({"r_weight": torch.ones(2, 2), "bias": torch.zeros(8)})
    norm = fnn.QuaternionBatchNorm(8)
    state = {"gamma": torch.rand(2), "beta": torch.rand(8), "running_mean": torch.rand(8), "running_var": torch.rand(2)}
    norm.load_state_dict({**state, "num_batches_tracked": torch.tensor(3)})
    assert norm.weight is not None and torch.equal(norm.weight, state["gamma"])


def test_frozen_layers_keep_bias_and_scale() -> None:
    for layer, x in (
        (fnn.QuaternionLinear(8, 8), torch.randn(3, 8)),
        (fnn.QuaternionLinear(8, 8, lean=True), torch.randn(3, 8)),
        (fnn.QuaternionRotationConv1d(8, 8, 3, scale=True), torch.randn(1, 8, 5)),
    ):
        before = disturbed(layer)(x).detach()
        assert torch.equal(layer.requires_grad_(False)(x), before)


def test_max_norm_is_part_of_the_function() -> None:
    """Parameters are not written in forward, so a layer may be called twice, traced and exported."""
    layer = fnn.QuaternionLinear(8, 8, max_norm=0.3, max_norm_dim=1)
    before = layer.weight.detach().clone()
    x = torch.randn(4, 8, requires_grad=True)
    (layer(layer(x)).sum()).backward()
    assert torch.equal(layer.weight, before)
    used = F.quaternion_renorm(before, 0.3, 1)
    assert torch.equal(layer.real_weight(), F.hamilton_kernel(used))
    assert not torch.equal(used, before)


@pytest.mark.parametrize("shape", [(6, 8), (4, 8, 3), (2, 8, 3, 2), (1, 8, 2, 2, 3)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    """Four means and one variance over batch and positions; running statistics as torch's; evaluation is affine."""
    norm: Any = fnn.QuaternionBatchNorm(8, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64) * 3 + 1
    y = norm(x)
    axes = [0, *range(2, x.ndim)]
    centred = x - x.mean(axes, keepdim=True)
    var = F.quaternion_modulus(centred, 1).square().mean(axes)
    assert relative_error(F.quaternion_modulus(y.detach(), 1).square().mean(axes), var / (var + norm.eps)) < 1e-12
    direction = torch.nn.functional.cosine_similarity(
        y.detach().unflatten(1, (4, 2)), centred.unflatten(1, (4, 2)), dim=1
    )
    assert relative_error(direction, torch.ones_like(direction)) < 1e-13
    count = x.numel() // 8
    assert norm.running_mean is not None and norm.running_var is not None
    assert relative_error(norm.running_mean, 0.1 * x.mean(axes)) < 1e-13
    assert relative_error(norm.running_var, 0.9 + 0.1 * var * count / (count - 1)) < 1e-13
    disturbed(norm).eval()
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).repeat(4)
    wide = (1, 8, *(1,) * (x.ndim - 2))
    wanted = (x - norm.running_mean.reshape(wide)) * scale.reshape(wide) + norm.bias.reshape(wide)
    assert relative_error(norm(x).detach(), wanted.detach()) < 1e-13


def test_batch_norm_modes() -> None:
    """Momentum None averages; without tracking the batch decides; one value has no variance; no batch, no trace."""
    x = torch.randn(5, 4, dtype=torch.float64)
    mean = fnn.QuaternionBatchNorm(4, momentum=None, dtype=torch.float64)
    mean(x)
    mean(3 * x)
    assert mean.running_mean is not None and torch.allclose(mean.running_mean, 2 * x.mean(0))
    own = fnn.QuaternionBatchNorm(4, affine=False, track_running_stats=False, dtype=torch.float64)
    assert torch.equal(own(x), own.eval()(x))
    with pytest.raises(ValueError, match=r"expected more than 1 value per channel when training, got .* \[1, 4\]"):
        fnn.QuaternionBatchNorm(4)(torch.ones(1, 4))
    empty = fnn.QuaternionBatchNorm(4)
    assert empty(torch.ones(0, 4, 3)).shape == (0, 4, 3)
    assert empty.running_mean is not None and torch.equal(empty.running_mean, torch.zeros(4))
    empty(torch.randn(3, 4))
    empty.reset_parameters()
    assert torch.equal(empty.running_mean, torch.zeros(4))


@pytest.mark.parametrize(("dim", "shape"), [(1, (60, 40, 5)), (-1, (30, 10, 40))])
def test_dropout_takes_whole_quaternions(dim: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = fnn.QuaternionDropout(0.3, dim)
    x = torch.rand(shape) + 0.5
    y = layer(x)
    kept = (y != 0).movedim(dim, -1).unflatten(-1, (4, 10)).float()
    assert torch.equal(kept.amin(-2), kept.amax(-2))
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.03)
    assert torch.allclose(y[y != 0], (x / 0.7)[y != 0])
    assert layer.eval()(x) is x
    assert torch.equal(F.quaternion_dropout(x, 0.0, dim=dim), x)
    assert torch.equal(F.quaternion_dropout(x, 1.0, dim=dim), torch.zeros(shape))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_pool_takes_whole_quaternions(n: int) -> None:
    """Of each window of each image and quaternion its own longest: by hand, over every window."""
    layer = (fnn.QuaternionMaxPool1d, fnn.QuaternionMaxPool2d, fnn.QuaternionMaxPool3d)[n - 1](2, padding=0)
    x = torch.randn(3, 8, *(4,) * n, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (3, 8, *(2,) * n)
    windows = x.unflatten(1, (4, 2))
    for axis in range(n):
        windows = windows.unfold(3 + axis, 2, 2)
    windows = windows.flatten(3 + n)  # [3, 4, 2, *2, taps]
    best = windows.square().sum(1).argmax(-1)
    wanted = windows.gather(-1, best.unsqueeze(1).unsqueeze(-1).expand(*windows.shape[:-1], 1)).squeeze(-1)
    assert torch.equal(y, wanted.flatten(1, 2))
    assert torch.equal(layer(x[1]), y[1])
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))


def test_average_pooling_is_torchs() -> None:
    """Averages of components are components of averages: torch.nn.AvgPool2d needs no counterpart."""
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    w = torch.randn(4, 2, 2, dtype=torch.float64)
    inside = F.quaternion_linear(nn.AvgPool2d(2)(x).movedim(1, -1), w)
    assert (
        relative_error(nn.AvgPool2d(2)(F.quaternion_linear(x.movedim(1, -1), w).movedim(-1, 1)).movedim(1, -1), inside)
        < 1e-14
    )
