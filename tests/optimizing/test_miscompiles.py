"""What other tools were seen to get wrong, one named test each. The reference is the model itself in float64, and most
sizes are chosen equal (C_in = C_out, C = H = W), since that is where a wrong axis goes unnoticed.
"""

import copy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.report import Report
from fusekit.testing.strategies import relative_error
from tests.support import ledger
from tests.support.architectures import randomize
from tests.support.graphs import Calls

TOLERANCE = 1e-12


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def right_in_float64(model: nn.Module, x: Tensor, **options: Any) -> tuple[nn.Module, Report]:
    """The optimized float64 model, equal to the original at the given sizes, another batch and, if it can, without
    example inputs too."""
    model = randomize(model.double())
    x = x.double()
    result: Any = None
    for example in (None, x):
        result = fusekit.optimize(model, example, strict=True, **options)
        report: Report = result.report
        assert not report.rejected
        for value in (x, torch.cat([x, 2 * x - 1])):
            with torch.no_grad():
                given, expected = result(value), model(value)
            for ours, theirs in zip(_leaves(given), _leaves(expected), strict=True):
                assert ours.dtype == theirs.dtype == torch.float64
                error = relative_error(ours, theirs)
                ledger.record(error)
                assert error <= TOLERANCE
    return result, result.report


def _leaves(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [leaf for item in value for leaf in _leaves(item)]


def applied(report: Report) -> list[str]:
    return [event.rewrite for event in report.applied]


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_batch_norm_after_a_transposed_convolution_of_equal_widths(n: int, groups: int) -> None:
    """Inductor's freezing scales axis 0 of the weight, which is the input axis here, whenever C_in = C_out."""
    convs: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    norms: Any = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    model = nn.Sequential(convs[n - 1](8, 8, 3, 2, 1, 1, groups=groups), norms[n - 1](8))
    _, report = right_in_float64(model, _random(1, 8, *(5, 4, 3)[:n]))
    assert applied(report) == ["fold-affine"]


@pytest.mark.parametrize("outputs", [4, 8, 12])
def test_batch_norm_after_a_transposed_convolution_with_groups_and_other_widths(outputs: int) -> None:
    """`fuse_conv_bn_eval(transpose=True)` raises with groups, or builds a weight that cannot run."""
    model = nn.Sequential(nn.ConvTranspose2d(8, outputs, 3, 2, groups=4, bias=False), nn.BatchNorm2d(outputs))
    _, report = right_in_float64(model, _random(1, 8, 5, 4))
    assert applied(report) == ["fold-affine"]


def test_a_transposed_convolution_times_a_constant() -> None:
    for body in (lambda m, x: m.f(x) * m.g, lambda m, x: m.g * m.f(x), lambda m, x: m.f(x * m.g)):
        for groups in (1, 2):
            model = Calls(body, f=nn.ConvTranspose2d(8, 8, 3, groups=groups), g=_random(8, 1, 1))
            _, report = right_in_float64(model, _random(1, 8, 8, 8))
            assert len(applied(report)) == 1


class Shared(nn.Module):
    """One convolution called twice, its two results treated differently."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.conv(torch.relu(self.first(self.conv(x)))))
        return result


def test_a_convolution_called_twice_with_different_followers() -> None:
    """`torch.fx`'s fuse writes the first batch norm into the weight that the second call reads too."""
    torch.manual_seed(0)
    _, report = right_in_float64(Shared(), _random(1, 4, 8, 8))
    assert applied(report) == ["fold-affine", "fold-affine"]


def test_a_shared_weight_in_two_layers() -> None:
    torch.manual_seed(0)
    a, b = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    b.weight = a.weight
    right_in_float64(nn.Sequential(a, nn.BatchNorm2d(4), nn.ReLU(), b), _random(1, 4, 8, 8))


class Followed(nn.Module):
    """One result of a convolution, read by a batch norm and as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        result: Tensor = self.norm(y) + y.relu()
        return result


def test_one_result_with_two_readers() -> None:
    torch.manual_seed(0)
    _, report = right_in_float64(Followed(), _random(1, 4, 8, 8))
    assert applied(report) == []


def test_a_forward_hook_on_the_convolution_sees_its_own_output() -> None:
    """`torch.fx`'s fuse drops the hook with the module."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output)
        return output * 3

    model[0].register_forward_hook(hook)
    result, report = right_in_float64(model, _random(1, 4, 8, 8))
    assert applied(report) == ["fold-affine"]  # the other one, which has no hook
    assert any("hook" in event.reason and event.where == "0" for event in report.refused)
    seen.clear()
    x = _random(1, 4, 8, 8)
    with torch.no_grad():
        result(x)
        model(x)
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])


def test_a_forward_pre_hook_still_changes_the_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    model[1].register_forward_pre_hook(lambda module, args: (args[0] * 2 + 1,))
    _, report = right_in_float64(model, _random(1, 4, 8, 8))
    assert applied(report) == []


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4, 4), (3, 4, 4)])
def test_batch_norm_of_three_dimensional_linear_features(shape: tuple[int, ...]) -> None:
    """(N, C, L): the norm acts on C, the linear layer on L. With C = L nothing but the axis tells."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    _, report = right_in_float64(model, _random(*shape))
    assert applied(report) == []
    assert any("axis -2" in event.reason for event in report.refused)


def test_batch_norm_of_two_dimensional_linear_features() -> None:
    torch.manual_seed(0)
    _, report = right_in_float64(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), _random(4, 4))
    assert applied(report) == ["fold-affine"]


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6), (1, 1, 6), (6, 6), (6, 1, 1), (1, 6, 1, 1), (1,), ()])
@pytest.mark.parametrize("left", [False, True])
def test_a_convolution_times_a_constant_with_as_many_columns_as_channels(shape: tuple[int, ...], left: bool) -> None:
    """A graph slimmer takes a (W,) constant for one number per channel when W = C. Here C = H = W = 6."""
    torch.manual_seed(0)
    body = (lambda m, x: m.g * m.f(x)) if left else (lambda m, x: m.f(x) * m.g)
    model = Calls(body, f=nn.Conv2d(3, 6, 3), g=_random(*shape))
    _, report = right_in_float64(model, _random(1, 3, 8, 8))
    channels = (6, 1, 1) in (shape, shape[1:]) or all(size == 1 for size in shape)
    assert applied(report) == (["fold-affine"] if channels else [])


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6), (6, 1, 1)])
def test_a_convolution_of_a_constant_product_with_as_many_columns_as_channels(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for body in (lambda m, x: m.f(x * m.g), lambda m, x: m.f(x + m.g), lambda m, x: m.f(m.g - x)):
        _, report = right_in_float64(Calls(body, f=nn.Conv2d(6, 4, 3), g=_random(*shape)), _random(1, 6, 6, 6))
        assert applied(report) == (["fold-affine-in"] if shape == (6, 1, 1) else [])


class TwoBranches(nn.Module):
    """The start of a RepVGG block."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.point = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.wide(x) + self.point(x))


def test_two_branches_of_convolution_and_norm_through_onnx(tmp_path: Path) -> None:
    """An ONNX optimizer gives both folded biases one name, and the file fails the checker."""
    torch.manual_seed(0)
    model = randomize(TwoBranches())
    x = _random(1, 4, 8, 8).float()
    path = tmp_path / "branches.onnx"
    judged = fusekit.export(model, path, (x,))
    assert judged.ok, judged.failures
    file = onnx.load(str(path))
    onnx.checker.check_model(file, full_check=True)
    written = [name for node in file.graph.node for name in node.output] + [i.name for i in file.graph.initializer]
    assert len(written) == len(set(written))
    assert not [node.op_type for node in file.graph.node if node.op_type == "BatchNormalization"]
    assert fusekit.validate(model, path, (x,)).ok
    right_in_float64(TwoBranches(), _random(1, 4, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_model_keeps_its_dtype(dtype: torch.dtype) -> None:
    """Reparameterisation helpers make float32 biases in float64 models, which then cannot run."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), TwoBranches())
    randomize(model).to(dtype)
    x = _random(1, 4, 8, 8).to(dtype)
    for example in (None, x):
        result: Any = fusekit.optimize(model, example, strict=True)
        assert len(result.report.applied) >= 3
        assert {value.dtype for value in result.state_dict().values() if value.is_floating_point()} == {dtype}
        with torch.no_grad():
            given, exact = result(x), copy.deepcopy(model).double()(x.double())
            assert given.dtype == dtype
            assert relative_error(given.double(), exact) < 40 * torch.finfo(dtype).eps


def test_half_precision_is_folded_in_double_and_rounded_once() -> None:
    """The folded weight is the nearest half precision number to the exact product."""
    torch.manual_seed(0)
    model = randomize(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))).half()
    result: Any = fusekit.optimize(model)
    conv: Any = model.get_submodule("0")
    norm: Any = model.get_submodule("1")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    exact = conv.weight.double() * scale.reshape(-1, 1, 1, 1)
    (weight,) = (value for name, value in result.state_dict().items() if name.endswith("weight"))
    assert torch.equal(weight, exact.half())


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-3, 0.5, 10.0])
def test_an_eps_other_than_the_default(eps: float) -> None:
    torch.manual_seed(0)
    _, report = right_in_float64(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, eps=eps)), _random(1, 4, 8, 8))
    assert applied(report) == ["fold-affine"]


def test_arguments_given_by_name() -> None:
    f = nn.functional
    norm = {"mean": _random(4), "var": _random(4).abs() + 0.1, "s": _random(4), "b": _random(4)}
    w, wt = _random(4, 2, 3, 3), _random(4, 4, 3, 3)
    bodies: list[tuple[Any, dict[str, Tensor]]] = [
        (lambda m, x: f.conv2d(x, m.w, bias=None, stride=2, groups=2) * 2, {"w": w}),
        (lambda m, x: f.conv2d(weight=m.w, input=x, dilation=(1, 2), padding=(2, 1), groups=2) / 3, {"w": w}),
        (lambda m, x: f.conv2d(x, m.w, groups=2, padding="same", bias=m.s).mul(other=0.5), {"w": w, "s": _random(4)}),
        (lambda m, x: f.conv_transpose2d(x, m.w, stride=2, output_padding=1) * 2, {"w": wt}),
        (lambda m, x: f.conv_transpose2d(x, weight=m.w, dilation=2, padding=1, groups=1) - 2, {"w": wt}),
        (
            lambda m, x: f.batch_norm(
                f.conv2d(x, m.w, groups=2), bias=m.b, weight=m.s, running_var=m.var, running_mean=m.mean, eps=0.3
            ),
            {"w": w, **norm},
        ),
        (lambda m, x: torch.add(input=f.conv2d(x, m.w, groups=2), other=1.5, alpha=2), {"w": w}),
        (lambda m, x: torch.sub(3, f.conv2d(x, m.w, groups=2)), {"w": w}),
        (lambda m, x: f.linear(input=x, weight=m.l, bias=m.s) * 2, {"l": _random(4, 8), "s": _random(4)}),
    ]
    for index, (body, parts) in enumerate(bodies):
        _, report = right_in_float64(Calls(body, **parts), _random(1, 4, 8, 8))
        assert "fold-affine" in applied(report), index


def test_no_bias_anywhere_stays_no_bias() -> None:
    torch.manual_seed(0)
    model = Calls(lambda m, x: m.f(x) * m.g, f=nn.Conv2d(4, 4, 3, bias=False), g=_random(4, 1, 1))
    result, _ = right_in_float64(model, _random(1, 4, 8, 8))
    assert [tuple(value.shape) for value in result.state_dict().values()] == [(4, 4, 3, 3)]


def test_batch_norm_without_weights_or_bias() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.ReLU())
    _, report = right_in_float64(model, _random(1, 4, 8, 8))
    assert applied(report) == ["fold-affine"]


def test_batch_norm_in_front_of_padding_is_right_at_the_border() -> None:
    """The shift of the norm must not leak into the zeros of the padding."""
    torch.manual_seed(0)
    right_in_float64(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)), _random(1, 4, 8, 8))


def test_zeros_that_broadcast_up_are_not_dropped() -> None:
    """x + 0 is x only if it keeps the shape of x."""
    for shape in ((4, 1, 1, 1), (1, 1, 1, 1, 1), (4, 1, 8, 8)):
        model = Calls(lambda m, x: (x.mean(1, keepdim=True) + m.z).relu(), z=torch.zeros(shape).double())
        fast: Any = fusekit.optimize(model.eval(), _random(1, 4, 8, 8))
        with torch.no_grad():
            assert fast(_random(1, 4, 8, 8)).shape == model(_random(1, 4, 8, 8)).shape
    model = Calls(lambda m, x: x.mean() + m.z, z=torch.zeros(1).double())
    fast = fusekit.optimize(model.eval(), _random(2, 3))
    assert fast(_random(2, 3)).shape == (1,)
    assert not fast.report.events  # not even tried
    model = Calls(lambda m, x: x * m.g + 1, g=torch.ones(5).double())
    fast = fusekit.optimize(model.eval(), _random(2, 5))
    assert fast(_random(2, 1)).shape == model(_random(2, 1)).shape == (2, 5)  # the example's five columns are no law


def test_a_training_model_is_optimized_as_in_evaluation() -> None:
    """Batch statistics of the example must not enter the fold; the report says so."""
    torch.manual_seed(0)
    model = randomize(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = _random(2, 4, 8, 8).float()
    result: Any = fusekit.optimize(model, x, strict=True)
    assert any("training mode" in note for note in result.report.notes)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert relative_error(result(x), model.eval()(x)) < 1e-6
