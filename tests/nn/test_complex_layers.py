"""What every complex layer keeps: gradients, dtypes, copies, state, empty inputs. Convolutions against torch's own."""

import copy
import io
import pickle
import re
import warnings
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import fusekit.nn as fnn
import fusekit.nn.functional as FF
from fusekit.testing.strategies import gaussian, relative_error
from tests.support.complex_layers import CASES, DOUBLE, Case, leaves

CONVS = {1: (fnn.ComplexConv1d, nn.Conv1d), 2: (fnn.ComplexConv2d, nn.Conv2d), 3: (fnn.ComplexConv3d, nn.Conv3d)}
TRANSPOSED = {
    1: (fnn.ComplexConvTranspose1d, nn.ConvTranspose1d),
    2: (fnn.ComplexConvTranspose2d, nn.ConvTranspose2d),
    3: (fnn.ComplexConvTranspose3d, nn.ConvTranspose3d),
}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def complex_gaussian(draw: Any, *shape: int) -> Tensor:
    return torch.view_as_complex(gaussian(draw, *shape, 2))


def parts_of(conv: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = conv.state_dict()
    return {k: v.real for k, v in state.items()}, {k: v.imag for k, v in state.items()}


def fill(module: nn.Module, draw: Any) -> None:
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.copy_(complex_gaussian(draw, *parameter.shape))


@given(st.data())
@torch.no_grad()
def test_convolution_is_torchs_and_that_of_its_parts(data: st.DataObject) -> None:
    """Against torch's own complex convolution, and against four real ones, for every option."""
    n = data.draw(st.integers(1, 3))
    groups, size = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(1, 3))
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    mode = data.draw(st.sampled_from(["zeros", "zeros", "circular", "reflect", "replicate"]))
    padding: Any = data.draw(st.sampled_from(["same", "valid", 0, 1, 2] if stride == 1 else [0, 1, 2]))
    options: dict[str, Any] = {
        "dilation": dilation,
        "groups": groups,
        "bias": data.draw(st.booleans()),
        "padding_mode": mode,
    }
    ours, theirs = CONVS[n]
    conv = ours(2, 4, size, stride, padding, **options, dtype=DOUBLE)
    fill(conv, data.draw)
    real, imaginary = (theirs(2, 4, size, stride, padding, **options, dtype=torch.float64) for _ in range(2))
    for part, state in zip((real, imaginary), parts_of(conv), strict=True):
        state.pop("bias", None)
        part.bias = None
        part.load_state_dict(state)
    batch = (data.draw(st.integers(0, 2)),) if data.draw(st.booleans()) else ()
    x = complex_gaussian(data.draw, *batch, 2, *(data.draw(st.integers(5, 7)) for _ in range(n)))
    y = conv(x)
    expected = FF.apply_complex(real, imaginary, x)
    bias = conv.bias
    if bias is not None:
        expected = expected + bias.reshape(-1, *(1,) * n)
    assert relative_error(y, expected) < 1e-13
    if mode == "zeros":  # torch pads complex tensors with nothing but zeros
        native = theirs(2, 4, size, stride, padding, **options, dtype=DOUBLE)
        native.load_state_dict(conv.state_dict())
        assert relative_error(y, native(x)) < 1e-13


@given(st.data())
@torch.no_grad()
def test_transposed_convolution_is_torchs(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 3))
    size, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    padding = data.draw(st.integers(0, dilation * (size - 1) // 2))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    options: Any = (
        size,
        stride,
        padding,
        extra,
        data.draw(st.sampled_from([1, 2])),
        data.draw(st.booleans()),
        dilation,
    )
    ours, theirs = TRANSPOSED[n]
    double: Any = {"dtype": DOUBLE}
    conv, native = ours(2, 2, *options, **double), theirs(2, 2, *options, **double)  # in = out hides no layout
    fill(conv, data.draw)
    native.load_state_dict(conv.state_dict())
    batch = (data.draw(st.integers(1, 2)),) if data.draw(st.booleans()) else ()
    x = complex_gaussian(data.draw, *batch, 2, *(data.draw(st.integers(2, 4)) for _ in range(n)))
    y = native(x)
    assert relative_error(conv(x), y) < 1e-13
    wanted = [s - extra + data.draw(st.integers(0, stride - 1)) for s in y.shape[-n:]]
    assert relative_error(conv(x, wanted), native(x, wanted)) < 1e-13


@given(st.data())
@torch.no_grad()
def test_linear_is_torchs(data: st.DataObject) -> None:
    linear = fnn.ComplexLinear(data.draw(st.integers(1, 3)), 2, bias=data.draw(st.booleans()), dtype=DOUBLE)
    fill(linear, data.draw)
    x = complex_gaussian(
        data.draw, *(data.draw(st.integers(0, 2)) for _ in range(data.draw(st.integers(0, 2)))), linear.in_features
    )
    assert relative_error(linear(x), F.linear(x, linear.weight, linear.bias)) < 1e-13
    assert relative_error(FF.complex_linear(x.conj(), linear.weight), F.linear(x.conj(), linear.weight)) < 1e-13


def test_functions_are_the_layers() -> None:
    x, w, b = torch.randn(2, 4, 9, dtype=DOUBLE), torch.randn(6, 2, 3, dtype=DOUBLE), torch.randn(6, dtype=DOUBLE)
    assert relative_error(FF.complex_conv1d(x, w, b, 2, 1, 2, 2), F.conv1d(x, w, b, 2, 1, 2, 2)) < 1e-14
    v = torch.randn(4, 3, 3, dtype=DOUBLE)
    ours = FF.complex_conv_transpose1d(x, v, b, 2, 1, 1, 2, 2)
    assert relative_error(ours, F.conv_transpose1d(x, v, b, 2, 1, 1, 2, 2)) < 1e-14
    x2, w2, v2 = x.reshape(2, 4, 3, 3), w.reshape(6, 2, 3, 1), v.reshape(4, 3, 3, 1)
    assert relative_error(FF.complex_conv2d(x2, w2, b, groups=2), F.conv2d(x2, w2, b, groups=2)) < 1e-14
    ours = FF.complex_conv_transpose2d(x2, v2, b, groups=2)
    assert relative_error(ours, F.conv_transpose2d(x2, v2, b, groups=2)) < 1e-14
    x3, w3, v3 = (t.unsqueeze(-1) for t in (x2, w2, v2))
    assert relative_error(FF.complex_conv3d(x3, w3, b, groups=2), F.conv3d(x3, w3, b, groups=2)) < 1e-14
    ours = FF.complex_conv_transpose3d(x3, v3, b, groups=2)
    assert relative_error(ours, F.conv_transpose3d(x3, v3, b, groups=2)) < 1e-14


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ComplexConv2d", "ComplexConvTranspose2d", "ComplexLinear"])
def test_two_real_layers_load_as_one_complex_layer(kind: str) -> None:
    """A checkpoint of complexPyTorch's names, whose bias is br - bi + j (br + bi) in effect, for both forms of bias."""
    names = {"ComplexConv2d": "conv", "ComplexConvTranspose2d": "conv_tran", "ComplexLinear": "fc"}
    arguments = (4, 3) if kind == "ComplexLinear" else (4, 3, 2)
    plain: Any = getattr(nn, kind.removeprefix("Complex"))
    real, imaginary = plain(*arguments).double(), plain(*arguments).double()
    state = {f"0.{names[kind]}_r.{k}": v for k, v in real.state_dict().items()}
    state |= {f"0.{names[kind]}_i.{k}": v for k, v in imaginary.state_dict().items()}
    x = torch.randn(2, 4, 5, 4, dtype=DOUBLE)
    expected = FF.apply_complex(real, imaginary, x)
    for form in ("complex", "parts"):
        model = nn.Sequential(getattr(fnn, kind)(*arguments, dtype=DOUBLE, bias_form=form))
        model.load_state_dict(dict(state))
        assert relative_error(model(x), expected) < 1e-14
        if form == "parts":
            assert torch.equal(model[0].get_parameter("bias").imag, imaginary.bias)
    broken = {k: v for k, v in state.items() if "_i.bias" not in k}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(broken)


@each_case
def test_gradients(case: Case) -> None:
    """Of the input and of every parameter, against finite differences in complex128."""
    module, x = case.module(), case.input().requires_grad_()
    names = [name for name, _ in module.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, parameters, strict=True))
        return tuple(leaves(torch.func.functional_call(module, given, (x,))))

    parameters = tuple(parameter for _, parameter in module.named_parameters())
    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)
    if "BatchNorm" in case.name and "Naive" not in case.name:
        module.train()
        module.running_mean = module.running_covar = module.num_batches_tracked = None  # type: ignore[assignment]
        assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


@each_case
def test_copies_and_state(case: Case) -> None:
    module, x = case.module(), case.input()
    expected = leaves(module(x))
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    fresh = case.make(DOUBLE).eval()
    fresh.load_state_dict(torch.load(buffer))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fresh):
        assert all(map(torch.equal, leaves(other(x)), expected))
    assert repr(module)
    assert torch.equal(x, case.input())  # not written to
    frozen = module.requires_grad_(False)  # others drop a bias that does not train
    assert all(relative_error(y, e.detach()) < 1e-14 for y, e in zip(leaves(frozen(x)), expected, strict=True))


@each_case
@torch.no_grad()
def test_precision(case: Case) -> None:
    """Every way to ask for another precision changes the precision alone; results agree as far as it reaches."""
    module, x = case.module(torch.complex64), case.input()
    single = leaves(module(x.to(torch.complex64)))
    assert all(y.dtype == torch.complex64 for y in single)
    for change in ("double", torch.float64, torch.complex128):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Complex modules")
            other = copy.deepcopy(module)
            other = other.double() if change == "double" else other.to(change)
        for (name, before), after in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
            if before.is_complex() or before.is_floating_point():
                assert after.dtype == {torch.float32: torch.float64, torch.complex64: DOUBLE}[before.dtype], name
                assert torch.equal(after, before.to(after.dtype))
        double = leaves(other(x))
        assert all(
            y.dtype == DOUBLE and relative_error(s.to(DOUBLE), y) < 1e-4 for s, y in zip(single, double, strict=True)
        )


def test_precision_of_what_is_not_a_number_and_of_what_is_none() -> None:
    conv = fnn.ComplexConv2d(2, 3, 1)
    with pytest.raises(TypeError, match="bfloat16"):
        conv.to(torch.bfloat16)
    laid_out: Any = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert laid_out.weight.dtype == torch.complex64
    assert conv.to("meta").weight.is_meta
    assert fnn.ComplexBatchNorm2d(2).double().get_buffer("num_batches_tracked").dtype == torch.int64
    with pytest.raises(TypeError, match=re.escape("complex dtype, got torch.float32")):
        fnn.ComplexConv2d(2, 3, 1, dtype=torch.float32)
    assert fnn.ComplexLinear(2, 3, device="meta").weight.is_meta


def test_the_default_dtype_is_that_of_torch() -> None:
    assert fnn.ComplexLinear(2, 3).weight.dtype == torch.complex64
    torch.set_default_dtype(torch.float64)
    try:
        assert fnn.ComplexLinear(2, 3).weight.dtype == DOUBLE
        assert fnn.ComplexBatchNorm2d(2).get_parameter("weight").dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@each_case
def test_an_empty_batch_goes_through(case: Case) -> None:
    axis = 1 if case.shape == (5, 2, 4) else 0
    shape = [0 if i == axis else size for i, size in enumerate(case.shape)]
    module = case.module()
    expected = leaves(module(case.input()))
    for y, full in zip(leaves(module(torch.zeros(shape, dtype=DOUBLE))), expected, strict=True):
        assert y.numel() == 0
        assert y.ndim == full.ndim


@each_case
def test_a_real_input_is_refused(case: Case) -> None:
    if case.name.startswith("ComplexDropout"):
        pytest.skip("in evaluation it returns what it is given")
    with pytest.raises(TypeError, match="expected a complex tensor, got torch.float64"):
        case.module()(case.input().real)


@torch.no_grad()
def test_unbatched_inputs() -> None:
    for case in CASES:
        name = case.name.split(",")[0]
        if "Norm" in name or name in ("ModReLU", "CPReLU", "ComplexUpsample", "ComplexLinear") or case.shape == (2, 4):
            continue
        module, x = case.module(), case.input()
        axis = 1 if x.shape == (5, 2, 4) else 0
        ours, batched = module(x.select(axis, 1)), module(x)
        first = ours if isinstance(ours, Tensor) else ours[0]
        whole = batched if isinstance(batched, Tensor) else batched[0]
        assert relative_error(first, whole.select(axis, 1)) < 1e-13, case.name


def test_choices_are_checked_and_shown() -> None:
    for make in (fnn.ComplexConv1d, fnn.ComplexConvTranspose1d):
        with pytest.raises(ValueError, match="bias_form must be 'complex' or 'parts', got 'real'"):
            make(1, 1, 1, bias_form="real")
    assert "bias_form='parts'" in repr(fnn.ComplexConv1d(1, 1, 1, bias_form="parts"))
    assert "bias_form='parts'" in repr(fnn.ComplexLinear(1, 1, bias_form="parts"))
    assert "bias_form" not in repr(fnn.ComplexConv1d(1, 1, 1))


@torch.no_grad()
def test_compiled_convolution() -> None:
    conv, x = fnn.ComplexConv2d(2, 3, 3, dtype=DOUBLE), torch.randn(1, 2, 5, 5, dtype=DOUBLE)
    compiled = torch.compile(conv, backend="eager", fullgraph=True)
    assert relative_error(compiled(x), conv(x)) < 1e-14
