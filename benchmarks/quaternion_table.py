"""The table in docs/hypercomplex.md: quaternion functions and layers of speechbrain, and their counterparts in fusekit.

    python benchmarks/quaternion_table.py

Columns: the largest difference from speechbrain 1.1.2 (if it is installed) relative to the largest value, with the same
weights in float64; gradcheck; the nodes of the exported file; fusekit's own verdict on the file in float32.
"""

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import fusekit
from fusekit import nn as fnn
from fusekit.nn import functional as F

try:
    from speechbrain.nnet.quaternion_networks import q_CNN, q_linear, q_normalization, q_ops, q_pooling, q_RNN
except ImportError:
    q_CNN = q_linear = q_normalization = q_ops = q_pooling = q_RNN = None

BOOKKEEPING = ("Shape", "Concat", "ConstantOfShape", "Slice", "Mul", "Reshape", "Squeeze", "Unsqueeze", "Div", "Gather")
C, H, N, T = 8, 12, 3, 5  # real channels, batch, steps


class Function(nn.Module):
    """A function of x and weights, as a layer."""

    def __init__(self, function: Callable[..., Tensor], **weights: Tensor) -> None:
        super().__init__()
        self.function, self.names = function, tuple(weights)
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **{name: getattr(self, name) for name in self.names})


@dataclass
class Row:
    theirs: str
    ours: str
    layer: nn.Module
    x: Tensor
    reference: Callable[[nn.Module, Tensor], Any] | None = None  # (our layer, x) -> what theirs gives

    def text(self) -> str:
        return f"| {self.theirs} | {self.ours} | {self._error()} | {self._gradient()} | {self._exported()} |"

    def _error(self) -> str:
        if q_ops is None or self.reference is None:
            return "–"
        with torch.no_grad():
            theirs, ours = self.reference(self.layer, self.x), first(self.layer(self.x))
        return f"{relative(ours, theirs):.1e}"

    def _gradient(self) -> str:
        x = self.x.clone().requires_grad_()
        return "ok" if torch.autograd.gradcheck(lambda x: first(self.layer(x)), (x,), atol=1e-6) else "no"

    def _exported(self) -> str:
        layer, x = self.layer.eval().float(), self.x.float()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            verdict = fusekit.export(layer, path, (x,))
            nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
        layer.double()
        given = max(output.error for output in verdict.probes[0].outputs)
        work = {name: count for name, count in nodes.items() if name not in BOOKKEEPING}
        rest = sum(nodes.values()) - sum(work.values())
        names = " + ".join(name if count == 1 else f"{count} {name}" for name, count in work.items())
        return f"{names}{f' (+ {rest})' if rest else ''} | {given:.1e}{'' if verdict.ok else ' fails'}"


def first(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value[0]


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape, f"{list(ours.shape)} against {list(theirs.shape)}"
    return float((ours - theirs).abs().max() / theirs.abs().max())


def parts(weight: Tensor, transposed: bool = False) -> tuple[Tensor, ...]:
    """The components as speechbrain expects them. They can be trained."""
    return tuple((w.mT if transposed else w).detach().clone().requires_grad_() for w in weight)


def loaded(theirs: Any, ours: nn.Module) -> Any:
    """Their layer with random values, and our layer after loading its checkpoint."""
    theirs = theirs.double().eval()
    with torch.no_grad():
        for name, value in (*theirs.named_parameters(), *theirs.named_buffers()):
            if value.is_floating_point() and "zero_kernel" not in name and "init" not in name and "mask" not in name:
                value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) / 2)
    ours.load_state_dict(theirs.state_dict())
    for module in theirs.modules():  # a plain tensor, which .double() does not reach
        if hasattr(module, "drop_mask_te"):
            module.drop_mask_te = module.drop_mask_te.double()
    return theirs


def functions() -> list[Row]:
    w, b = torch.randn(4, 3, 2), torch.randn(12)
    k1, k2, k2g = torch.randn(4, 3, 2, 3), torch.randn(4, 3, 2, 3, 3), torch.randn(4, 2, 1, 3)
    x, x1, x2 = torch.randn(N, C), torch.randn(N, C, 9), torch.randn(N, C, 6, 7)

    def linear(layer: Any, x: Tensor) -> Tensor:
        return q_ops.quaternion_linear_op(x, *parts(layer.weight, True), layer.bias)

    def lean(layer: Any, x: Tensor) -> Tensor:
        return q_ops.QuaternionLinearCustomBackward.apply(x, *parts(layer.weight, True), layer.bias)

    def conv(layer: Any, x: Tensor, groups: int = 1) -> Tensor:
        geometry = {"stride": 2, "padding": 1, "dilation": 1, "groups": groups, "conv1d": x.ndim == 3}
        return q_ops.quaternion_conv_op(x, *parts(layer.weight), layer.bias, **geometry)

    def rotated(layer: Any, x: Tensor) -> Tensor:
        zero = torch.zeros_like(layer.weight[0].mT)
        scale = layer.scale.mT if hasattr(layer, "scale") else zero.detach()
        return q_ops.quaternion_linear_rotation_op(x, *parts(layer.weight, True), layer.bias, scale, zero)

    def rotated_conv(layer: Any, x: Tensor) -> Tensor:
        zero = torch.zeros_like(layer.weight[0])
        geometry = {"stride": 2, "padding": 1, "dilation": 1, "groups": 1, "conv1d": x.ndim == 3}
        scale = layer.scale if hasattr(layer, "scale") else zero.detach()
        return q_ops.quaternion_conv_rotation_op(x, *parts(layer.weight), layer.bias, scale, zero, **geometry)

    def strided(function: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
        return lambda x, **weights: function(x, **weights, stride=2, padding=1, **options)

    def turned(function: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
        return lambda x, **weights: function(x, **weights, **options)

    shifted, softened = {"inverse": True, "norm": "shifted"}, {"norm": "softened"}
    rotation, rotation_conv = F.quaternion_rotation_linear, F.quaternion_rotation_conv
    groups = {"groups": 2, "groups_of": "channels"}
    return [
        Row("quaternion_linear_op", "quaternion_linear", Function(F.quaternion_linear, weight=w, bias=b), x, linear),
        Row("QuaternionLinearCustomBackward", "quaternion_linear_lean", LeanInTraining(w, b), x, lean),
        Row(
            "quaternion_linear_rotation_op",
            'quaternion_rotation_linear(inverse=True, norm="shifted")',
            Function(turned(rotation, **shifted), weight=w, bias=b),
            x,
            rotated,
        ),
        Row(
            "the same, scale",
            "the same, scale",
            Function(turned(rotation, **shifted), weight=w, bias=b, scale=torch.randn(3, 2)),
            x,
            rotated,
        ),
        Row(
            "quaternion_conv_op, 1d",
            "quaternion_conv",
            Function(strided(F.quaternion_conv), weight=k1, bias=b),
            x1,
            conv,
        ),
        Row(
            "quaternion_conv_op, 2d",
            "quaternion_conv",
            Function(strided(F.quaternion_conv), weight=k2, bias=b),
            x2,
            conv,
        ),
        Row(
            "quaternion_conv_op, groups",
            'quaternion_conv(groups_of="channels")',
            Function(strided(F.quaternion_conv, **groups), weight=k2g, bias=torch.randn(8)),
            x1,
            lambda layer, x: conv(layer, x, 2),
        ),
        Row(
            "quaternion_conv_rotation_op, 1d",
            'quaternion_rotation_conv(norm="softened")',
            Function(strided(rotation_conv, **softened), weight=k1, bias=b),
            x1,
            rotated_conv,
        ),
        Row(
            "quaternion_conv_rotation_op, 2d, scale",
            'quaternion_rotation_conv(norm="softened")',
            Function(strided(rotation_conv, **softened), weight=k2, bias=b, scale=torch.randn(3, 2, 3, 3)),
            x2,
            rotated_conv,
        ),
        Row(
            "renorm_quaternion_weights_inplace",
            "quaternion_renorm, quaternion_renorm_",
            Function(lambda x, weight: F.quaternion_linear(x, F.quaternion_renorm(weight, 0.5, dim=1)), weight=w),
            x,
            renormed,
        ),
    ]


class LeanInTraining(nn.Module):
    """As `QuaternionLinear(lean=True)`: the custom backward in training, the ordinary product in evaluation."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        product = F.quaternion_linear_lean if self.training else F.quaternion_linear
        return product(x, self.weight, self.bias)


def renormed(layer: Any, x: Tensor) -> Tensor:
    components = parts(layer.weight, True)
    q_ops.renorm_quaternion_weights_inplace(*components, max_norm=0.5)
    return q_ops.quaternion_linear_op(x, *components, torch.zeros(12))


def layers() -> list[Row]:
    """Rows for layers. Theirs have channels last. If ours have them second, the axis is moved."""
    flat, long, image = torch.randn(N, T, C), torch.randn(N, 9, C), torch.randn(N, 7, 6, C)
    rows = []

    def add(theirs: str, ours: str, layer: nn.Module, x: Tensor, make: Callable[[], Any], move: str = "") -> None:
        other = loaded(make(), layer) if q_ops is not None else None
        layer = layer.double()
        layer.train(theirs.endswith("training"))
        if other is not None:
            other.train(layer.training)
        inside = x.transpose(1, -1) if move else x
        back = (lambda y: first(y).transpose(1, -1)) if move else first
        rows.append(
            Row(theirs, ours, layer, inside.contiguous(), lambda _, x: back(other(x.transpose(1, -1) if move else x)))
        )

    add("QLinear", "QuaternionLinear", fnn.QuaternionLinear(C, H), flat, lambda: q_linear.QLinear(3, flat.shape))
    add(
        "QLinear(autograd=False), training",
        "QuaternionLinear(lean=True)",
        fnn.QuaternionLinear(C, H, lean=True),
        flat,
        lambda: q_linear.QLinear(3, flat.shape, autograd=False),
    )
    add(
        "QLinear(max_norm)",
        "QuaternionLinear(max_norm, max_norm_dim=1)",
        fnn.QuaternionLinear(C, H, max_norm=0.5, max_norm_dim=1),
        flat,
        lambda: q_linear.QLinear(3, flat.shape, max_norm=0.5),
    )
    add(
        "QLinear(spinor, vector_scale)",
        'QuaternionRotationLinear(scale=True, inverse=True, norm="shifted")',
        fnn.QuaternionRotationLinear(C, H, scale=True, inverse=True, norm="shifted"),
        flat,
        lambda: q_linear.QLinear(3, flat.shape, spinor=True, vector_scale=True),
    )
    same = {"padding": "same", "padding_mode": "reflect"}
    add(
        "QConv1d",
        "QuaternionConv1d",
        fnn.QuaternionConv1d(C, H, 3, **same),
        long,
        lambda: q_CNN.QConv1d(3, 3, long.shape),
        "y",
    )
    add(
        "QConv1d(spinor, vector_scale)",
        'QuaternionRotationConv1d(scale=True, norm="softened")',
        fnn.QuaternionRotationConv1d(C, H, 3, **same, scale=True, norm="softened"),
        long,
        lambda: q_CNN.QConv1d(3, 3, long.shape, spinor=True, vector_scale=True),
        "y",
    )
    add(
        "QConv2d",
        "QuaternionConv2d",
        fnn.QuaternionConv2d(C, H, 3, **same),
        image,
        lambda: q_CNN.QConv2d(3, 3, image.shape),
        "y",
    )
    add(
        "QBatchNorm",
        "QuaternionBatchNorm",
        fnn.QuaternionBatchNorm(C, eps=1e-4),
        flat[:, 0],
        lambda: q_normalization.QBatchNorm(C),
    )
    add(
        "QBatchNorm, training",
        "QuaternionBatchNorm",
        fnn.QuaternionBatchNorm(C, eps=1e-4),
        flat[:, 0],
        lambda: q_normalization.QBatchNorm(C),
    )
    for name, ours, options, theirs in (
        ("QRNN", fnn.QuaternionRNN, {}, lambda **o: q_RNN.QRNN(3, flat.shape, **o)),
        ("QLSTM", fnn.QuaternionLSTM, {"gates": "component"}, lambda **o: q_RNN.QLSTM(3, flat.shape, **o)),
        ("QLiGRU", fnn.QuaternionLiGRU, {"gates": "component"}, lambda **o: q_RNN.QLiGRU(3, flat.shape, **o)),
    ):
        for stacked in ({}, {"num_layers": 2, "bidirectional": True}):
            said = ", ".join(f"{key}={value}" for key, value in stacked.items())
            spelled = ", ".join(f'{key}="{value}"' for key, value in options.items())
            layer = ours(C, H, batch_first=True, **options, **stacked)
            add(
                f"{name}({said})" if said else name,
                f"{ours.__name__}({spelled})" if spelled else ours.__name__,
                layer,
                flat,
                lambda theirs=theirs, stacked=stacked: theirs(**stacked),
            )
    pool = fnn.QuaternionMaxPool2d(2)
    one = torch.randn(1, 6, 6, 4)  # one image, one quaternion: where theirs is right
    add(
        "QPooling2d(max), N = C = 1", "QuaternionMaxPool2d", pool, one, lambda: q_pooling.QPooling2d("max", (2, 2)), "y"
    )
    add("QPooling2d(avg)", "torch.nn.AvgPool2d", nn.AvgPool2d(2), one, lambda: q_pooling.QPooling2d("avg", (2, 2)), "y")
    return rows


def others() -> list[Row]:
    """Rows for layers that speechbrain does not have."""
    x1, x2, x3 = torch.randn(N, C, 9), torch.randn(N, C, 6, 7), torch.randn(N, C, 4, 4, 5)
    steps = torch.randn(T, N, C)
    algebra = fusekit.algebra
    made = [
        ("QuaternionConv3d", fnn.QuaternionConv3d(C, H, 2), x3),
        ("QuaternionConv2d(groups=2)", fnn.QuaternionConv2d(C, 16, 3, groups=2), x2),
        ("QuaternionConvTranspose1d", fnn.QuaternionConvTranspose1d(C, H, 3, stride=2), x1),
        ("QuaternionConvTranspose2d", fnn.QuaternionConvTranspose2d(C, H, 3, stride=2), x2),
        ("QuaternionConvTranspose3d", fnn.QuaternionConvTranspose3d(C, H, 2), x3),
        ("QuaternionRotationConv3d", fnn.QuaternionRotationConv3d(C, H, 2), x3),
        ('QuaternionLSTM(gates="quaternion")', fnn.QuaternionLSTM(C, H), steps),
        ("QuaternionGRU", fnn.QuaternionGRU(C, H), steps),
        ('QuaternionRNN(nonlinearity="relu")', fnn.QuaternionRNN(C, H, nonlinearity="relu"), steps),
        ('QuaternionLiGRU(nonlinearity="tanh")', fnn.QuaternionLiGRU(C, H, nonlinearity="tanh"), steps),
        ("QuaternionDropout", fnn.QuaternionDropout(), x2),
        ("HypercomplexLinear, dual quaternions", fnn.HypercomplexLinear(C, 16, algebra.DUAL_QUATERNION), x1.mT),
        ("HypercomplexLinear, 4 learned units", fnn.HypercomplexLinear(C, H, 4), x1.mT),
        ("HypercomplexConv2d, 4 learned units", fnn.HypercomplexConv2d(C, H, 3, 4), x2),
        ("HypercomplexConv1d, octonions", fnn.HypercomplexConv1d(C, 16, 3, algebra.OCTONION), x1),
        (
            "HypercomplexConvTranspose2d, split-complex",
            fnn.HypercomplexConvTranspose2d(C, H, 3, algebra.SPLIT_COMPLEX),
            x2,
        ),
        ("conv, batch norm, ReLU, dropout, conv, pool, linear", network(), x2),
    ]
    return [Row("", name, layer.double().eval(), x) for name, layer, x in made]


def network() -> nn.Sequential:
    norm = fnn.QuaternionBatchNorm(16)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    first, last = fnn.QuaternionConv2d(C, 16, 3, padding=1), fnn.QuaternionConv2d(16, C, 3)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(first, norm, nn.ReLU(), fnn.QuaternionDropout(), last, *pool, fnn.QuaternionLinear(C, 4))


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    print("| speechbrain 1.1.2 | fusekit | error | gradcheck | ONNX nodes (+ shapes) | ONNX Runtime, float32 |")
    print("|---|---|---|---|---|---|")
    for row in (*functions(), *layers(), *others()):
        print(row.text(), flush=True)


if __name__ == "__main__":
    main()
