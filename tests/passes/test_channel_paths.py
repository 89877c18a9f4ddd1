"""What is computed with the parts of a tensor, as one layer: complex layers made of real ones, norms of both parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fusekit
from fusekit.report import Outcome
from tests.support.compare import normal, report_of


class Net(nn.Module):
    """A function of x and layers."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module | Tensor) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer if isinstance(layer, nn.Module) else nn.Parameter(layer))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def applied(model: nn.Module, x: Tensor, target: str = "torch") -> tuple[nn.Module, list[str]]:
    """The optimized model, which computes the same in float64, and the laws that did it."""
    model = model.eval()
    result = fusekit.optimize(model, x, measure=False, target=target)
    ours, theirs = result.double()(x.double()), model.double()(x.double())
    assert torch.allclose(ours, theirs, rtol=0, atol=3e-6 * float(theirs.abs().max()))
    return result, [event.rewrite for event in report_of(result).applied]


def c(*shape: int) -> Tensor:
    return normal(*shape).float()


def complex_by_hand(m: Any, x: Tensor) -> Tensor:
    re, im = torch.chunk(x, 2, 1)
    return torch.cat([m.a(re) - m.b(im), m.a(im) + m.b(re)], 1)


def of_stacked(m: Any, x: Tensor) -> Tensor:
    """Both weights at once on either part, the products taken from what comes out."""
    (rr, ri), (ir, ii) = (m.both(part).chunk(2, 1) for part in (x[:, :3], x[:, 3:]))
    return torch.cat([rr - ii + m.s, ir + ri - m.s], 1)


def rotated(m: Any, x: Tensor) -> Tensor:
    """A matrix of two parts, with shifts in front of and behind the sums, of which each counts once."""
    re, im = torch.split(m.conv(x), 3, 1)
    re, im = re - m.s, im * m.t + 0.5
    return torch.cat([(re * m.t + im) * 2.0 + m.s, 1.5 - (im - m.t * re)], 1)


def linear(m: Any, x: Tensor) -> Tensor:
    y = m.first(x)
    a, b = y[..., :4], y[..., 4:]
    return torch.cat([m.a(a) + m.b(b), m.b(a) - m.a(b)], -1)


def cut_and_joined(m: Any, x: Tensor) -> Tensor:
    parts = m.conv(x).split([1, 2, 3], 1)
    return torch.relu(m.conv(torch.cat([parts[0], parts[1], parts[2]], 1)))


def activated(m: Any, x: Tensor) -> Any:
    return torch.cat([torch.tanh(part) for part in m.conv(x).chunk(3, 1)], 1)


V = c(3, 1, 1)

FOLDS: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {
    "two real layers": (
        lambda: Net(complex_by_hand, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(3, 4, 3, padding=1, bias=False)),
        c(2, 6, 8, 9),
        1,
    ),
    "both weights at once": (
        lambda: Net(of_stacked, both=nn.Conv2d(3, 8, 3, padding=1), s=c(4, 1, 1)),
        c(2, 6, 8, 9),
        1,
    ),
    "strides and dilation": (
        lambda: Net(complex_by_hand, a=nn.Conv1d(2, 3, 4, 2, 3, 2), b=nn.Conv1d(2, 3, 4, 2, 3, 2)),
        c(3, 4, 31),
        1,
    ),
    "transposed": (
        lambda: Net(complex_by_hand, a=nn.ConvTranspose1d(2, 3, 4, 2, 1), b=nn.ConvTranspose1d(2, 3, 4, 2, 1)),
        c(3, 4, 31),
        1,
    ),
    "a matrix of the parts of a convolution": (
        lambda: Net(rotated, conv=nn.Conv2d(2, 6, 3, padding=1), s=V, t=V.flip(0)),
        c(2, 2, 7, 7),
        1,
    ),
    "the same behind a stride, C = H = W": (
        lambda: Net(rotated, conv=nn.Conv2d(6, 6, 2, 2), s=V, t=V.flip(0)),
        c(1, 6, 6, 6),
        1,
    ),
    "linear": (
        lambda: Net(linear, first=nn.Linear(5, 8), a=nn.Linear(4, 3), b=nn.Linear(4, 3)),
        c(2, 3, 5),
        1,
    ),
    "cut and put together": (lambda: Net(cut_and_joined, conv=nn.Conv1d(6, 6, 1)), c(2, 6, 9), 2),
    "one activation of the parts": (lambda: Net(activated, conv=nn.Conv1d(2, 6, 3)), c(2, 2, 9), 2),
}


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("target", ["torch", "onnxruntime"])
def test_parts_are_one_layer(name: str, target: str) -> None:
    make, x, operators = FOLDS[name]
    torch.manual_seed(0)
    result, laws = applied(make(), x, target)
    assert {"fold-parts", "merge-parts"} & set(laws)
    nodes: Any = result.graph.nodes  # type: ignore[union-attr]
    assert sum(node.op.startswith("call_") and "guard" not in str(node.target) for node in nodes) == operators


def swapped(m: Any, x: Tensor) -> Any:
    a, b = m.conv(x).chunk(2, 1)
    return torch.cat([b, a], 1) * a.mean()


def several(m: Any, x: Tensor) -> Tensor:
    return torch.cat([m.a(x).relu(), m.b(torch.tanh(x)).relu()], 1)


def different(m: Any, x: Tensor) -> Tensor:
    return torch.cat([F.elu(part, k) for k, part in enumerate(m.conv(x).chunk(2, 1), 1)], 1)


def broadcast(m: Any, x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([m.a(a) + m.b(b), m.a(b) - m.b(a)], 1)


def along_another_axis(m: Any, x: Tensor) -> Tensor:
    return torch.cat([part * 2 for part in m.conv(x).chunk(2, 1)], 2)


def elementwise(m: Any, x: Tensor) -> Any:
    a, b = x[:, :256], x[:, 256:]
    return torch.cat([a - b, a + b], 1) + m.w


LEAVES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "activations of several tensors": (lambda: Net(several, a=nn.Conv1d(2, 2, 1), b=nn.Conv1d(2, 2, 1)), c(2, 2, 9)),
    "activations that differ": (lambda: Net(different, conv=nn.Conv1d(2, 4, 1)), c(2, 2, 9)),
    "a sum that broadcasts": (lambda: Net(broadcast, a=nn.Conv1d(2, 4, 1), b=nn.Conv1d(2, 4, 9)), c(2, 4, 9)),
    "along another axis": (lambda: Net(along_another_axis, conv=nn.Conv1d(4, 4, 1)), c(2, 4, 4)),
    "parts of an input": (lambda: Net(elementwise, w=c(1)), c(2, 512, 9)),
    "a value that others read": (lambda: Net(swapped, conv=nn.Conv2d(16, 16, 3, padding=1)), c(1, 16, 12, 12)),
}


@pytest.mark.parametrize("name", LEAVES)
def test_others_are_left_alone(name: str) -> None:
    make, x = LEAVES[name]
    result, _ = applied(make(), x)
    events = [e for e in report_of(result).events if e.rewrite in ("fold-parts", "merge-parts", "join-parts")]
    assert not [e for e in events if e.outcome is not Outcome.REFUSED]


def test_random_networks_of_parts() -> None:
    """Sums, shifts, cuts and joints at random, against the model itself."""
    merged = 0
    for seed in range(16):
        generator = torch.Generator().manual_seed(seed)

        def number(low: int, high: int, generator: torch.Generator = generator) -> int:
            return int(torch.randint(low, high + 1, (), generator=generator))

        n, width = number(1, 2), number(1, 3)
        conv = (nn.Conv1d, nn.Conv2d)[n - 1](2, 2 * width, 3, padding=number(0, 1))
        plan = [
            (number(0, 4), number(0, 3), number(0, 3), normal(width, *(1,) * n).float()) for _ in range(number(2, 7))
        ]

        def run(m: Any, x: Tensor, plan: list[tuple[int, int, int, Tensor]] = plan) -> Tensor:
            values = list(m.conv(x).chunk(2, 1))
            for kind, i, j, v in plan:
                a, b = values[i % len(values)], values[j % len(values)]
                values.append((a + b, a - b, a * v, v - a, -a + 0.25)[kind])
            return torch.cat(values[-2:], 1)

        _, laws = applied(Net(run, conv=conv), normal(2, 2, *(7, 8)[:n]).float())
        merged += bool({"fold-parts", "merge-parts"} & set(laws))
    assert merged > 4


class Whitening(nn.Module):
    """Complex batch norm in evaluation mode (Trabelsi et al. 2018): γ V^(-1/2) (z - μ) + β, 2x2 for each channel."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(channels, dtype=torch.complex64))
        root = torch.randn(channels, 2, 2)
        self.register_buffer("matrix", torch.linalg.inv(torch.linalg.cholesky(root @ root.mT + torch.eye(2))))
        self.shift = nn.Parameter(torch.randn(channels, 2))

    def forward(self, z: Tensor) -> Any:
        z = z - self.mean[:, None, None]
        m, shift = self.matrix[..., None, None], self.shift[..., None, None]
        re = m[:, 0, 0] * z.real + m[:, 0, 1] * z.imag + shift[:, 0]
        return re + 1j * (m[:, 1, 0] * z.real + m[:, 1, 1] * z.imag + shift[:, 1])


class OfTwo(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(inputs, outputs, 3, padding=1) for _ in range(2))

    def forward(self, z: Tensor) -> Any:
        return (self.a(z.real) - self.b(z.imag)) + 1j * (self.a(z.imag) + self.b(z.real))


class OfStacked(nn.Module):
    """As cplxmodule has it: the weights one behind the other, on either part."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.re, self.im = (nn.Parameter(torch.randn(outputs, inputs, 3, 3)) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(2, outputs, 1, 1))

    def forward(self, z: Tensor) -> Any:
        both, n = torch.cat([self.re, self.im]), self.re.shape[0]
        a, b = (F.conv2d(part, both, padding=1) for part in (z.real, z.imag))
        return torch.complex(a[:, :n] - b[:, n:] + self.bias[0], a[:, n:] + b[:, :n] + self.bias[1])


class Split(nn.Module):
    def forward(self, z: Tensor) -> Any:
        return torch.relu(z.real) + 1j * torch.relu(z.imag)


def own(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1, dtype=torch.complex64)


@pytest.mark.parametrize("layer", [own, OfTwo, OfStacked])
def test_a_complex_network_is_convolutions_and_activations(layer: Callable[..., nn.Module], tmp_path: Path) -> None:
    """conv - whitening - split activation - conv - whitening, whoever wrote the convolution: Conv, Relu, Conv."""
    torch.manual_seed(0)
    model = nn.Sequential(layer(2, 4), Whitening(4), Split(), layer(4, 3), Whitening(3)).eval()
    z = torch.randn(2, 2, 8, 9, dtype=torch.complex64)
    assert fusekit.export(model, tmp_path / "model.onnx", z, measure=False).ok
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    first, last = operators.index("Conv"), len(operators) - operators[::-1].index("Conv")
    assert operators[first:last] == ["Conv", "Relu", "Conv"]
    assert len(operators) <= 10
    result = fusekit.optimize(model, z, measure=False)
    assert torch.allclose(result(z), model(z), atol=1e-4)
    assert "lower-complex" in [event.rewrite for event in report_of(result).applied]
    assert not any(parameter.is_complex() for parameter in result.parameters())


@pytest.mark.parametrize("layer", [own, OfTwo])
def test_norms_fold_into_wide_layers_too(layer: Callable[..., nn.Module]) -> None:
    """However little they are beside such a convolution."""
    torch.manual_seed(0)
    model = nn.Sequential(layer(64, 64), Whitening(64), Split(), layer(64, 64)).eval()
    z = torch.randn(1, 64, 12, 12, dtype=torch.complex64)
    result = fusekit.optimize(model, z, measure=False, target="onnxruntime")
    kinds = [type(module).__name__ for module in result.modules()]
    assert kinds.count("Conv2d") == 2
    assert not any(node.target in (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor) for node in result.graph.nodes)  # type: ignore[union-attr]


def test_parts_that_no_law_joined_stay_apart() -> None:
    """The lowering's joints are gone where nothing came of them."""
    layers = {"a": nn.Conv2d(2, 64, 1), "b": nn.Conv2d(2, 64, 5, padding=2)}
    model = Net(lambda m, z: torch.complex(m.a(z.real), m.b(z.real)).abs(), **layers)
    z = torch.randn(1, 2, 9, 9, dtype=torch.complex64)
    result = fusekit.optimize(model.eval(), z, measure=False, target="onnxruntime")
    assert torch.allclose(result(z), model(z), atol=1e-5)
    assert not any("cat" in str(node.target) for node in result.graph.nodes)  # type: ignore[union-attr]
