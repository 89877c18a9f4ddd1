"""The networks of benchmarks/families.py: networks that can be folded, and ordinary ones that have little to fold.

Blocks of re-parameterised families come from tests/support/families.py, whole networks from timm where it is installed.
Weights are random, and batch norms have statistics of their own, as after training. Neither affects the time.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support import families
from tests.support.architectures import ResNet50, randomize


@dataclass(frozen=True)
class Network:
    """A network in training form, and the merge function of its author, if there is one."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    ordinary: bool = False
    merge: Callable[[nn.Module], nn.Module] | None = None


class Heads(nn.Module):
    """Four narrow 1x1 convolutions of one wide tensor, concatenated after their activations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (head(x) for head in self.heads)
        return torch.cat([F.relu(a), torch.sigmoid(b), torch.tanh(c), F.relu(d)], 1)


class UNet(nn.Module):
    """The U-Net of Ronneberger et al., 2015, narrow, with padding and batch norms, as it is usually built today."""

    def __init__(self, inputs: int = 3, width: int = 16, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(self.double(a, b) for a, b in zip([inputs, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.joined = nn.ModuleList(self.double(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def double(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skipped else x)
            skipped.append(x)
        for up, joined, skip in zip(self.up, self.joined, reversed(skipped[:-1]), strict=True):
            x = joined(torch.cat([skip, up(x)], 1))
        result: Tensor = self.head(x)
        return result


def stack(*blocks: nn.Module) -> nn.Module:
    return randomize(nn.Sequential(*blocks))


def pruned() -> nn.Module:
    """Convolutions, one with three of four filters zero, as after pruning of channels, and one with a kernel of eight
    diagonal blocks."""
    model = nn.Sequential(
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
    )
    filters, blocks = model[0], model[4]
    assert isinstance(filters, nn.Conv2d) and isinstance(blocks, nn.Conv2d) and filters.bias is not None
    with torch.no_grad():
        dead = torch.arange(128) % 4 > 0
        filters.weight[dead], filters.bias[dead] = 0.0, 0.0
        blocks.weight *= torch.block_diag(*torch.ones(8, 8, 8))[:, :, None, None]
    return model.eval()


def separable() -> nn.Module:
    """A binomial blur of 15 x 15 taps per channel, then a 3x3 kernel that is the product of one with 8 channels and a
    1x1."""
    model = nn.Sequential(nn.Conv2d(64, 64, 15, padding=7, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    blur, narrow = model[0], model[2]
    assert isinstance(blur, nn.Conv2d) and isinstance(narrow, nn.Conv2d)
    row = torch.ones(1, dtype=torch.float64)
    for _ in range(14):
        row = (F.pad(row, (0, 1)) + F.pad(row, (1, 0))) / 2  # Pascal's row over 2^14: exact, and so is its square
    with torch.no_grad():
        blur.weight.copy_(row[:, None] * row)
        left, right = torch.randint(-4, 5, (64, 8)).float(), torch.randint(-4, 5, (8, 64, 3, 3)).float()
        narrow.weight.copy_(torch.einsum("or,riuv->oiuv", left, right) / 128)
    return model.eval()


def networks() -> dict[str, Network]:
    """The networks that need only torch, by name."""
    image, small = (1, 3, 128, 128), (1, 64, 56, 56)
    same = partial(nn.Conv2d, kernel_size=3, padding=1)
    circular = partial(same, padding_mode="circular")
    f = families
    return {
        "RepVGG blocks": Network(
            lambda: stack(f.RepVGG(3, 48), *(f.RepVGG(48, 48) for _ in range(3))), (1, 3, 112, 112)
        ),
        "MobileOne blocks": Network(lambda: stack(*(f.MobileOne(64, 64) for _ in range(4))), small),
        "ACNet blocks": Network(lambda: stack(*(f.ACNet(64, 64) for _ in range(3))), small),
        "DBB blocks": Network(lambda: stack(*(f.DiverseBranch(64, 64) for _ in range(3))), small),
        "ECB blocks": Network(lambda: stack(*(f.EdgeOriented(16, 16) for _ in range(4))), (1, 16, 128, 128)),
        "SESR blocks": Network(lambda: stack(*(f.CollapsibleLinear(16, 256) for _ in range(4))), (1, 16, 128, 128)),
        "ExpandNets blocks": Network(lambda: stack(*(f.ExpandedConv(32, 32) for _ in range(3))), (1, 32, 56, 56)),
        "DO-Conv blocks": Network(lambda: stack(*(f.DepthwiseOver(64, 64) for _ in range(3))), small),
        "large-kernel blocks": Network(lambda: stack(*(f.DilatedReparam(64) for _ in range(3))), small),
        "linear generator": Network(lambda: stack(f.LinearGenerator()), (1, 1, 128, 128)),
        "3-64-3 padded pair": Network(lambda: stack(same(3, 64), same(64, 3)), image),
        "3-64-3 circular pair": Network(lambda: stack(circular(3, 64), circular(64, 3)), image),
        "1x1 with bias, padded 3x3": Network(lambda: stack(nn.Conv2d(32, 128, 1), same(128, 32)), (1, 32, 56, 56)),
        "sibling 1x1s": Network(lambda: Heads(64, 8).eval(), small),
        "pruned": Network(pruned, small),
        "separable": Network(separable, small),
        "ResNet-50": Network(lambda: randomize(ResNet50()), (1, 3, 224, 224), ordinary=True),
        "U-Net": Network(lambda: randomize(UNet()), image, ordinary=True),
    }


_ORDINARY = {
    "ResNet-18": "resnet18",
    "MobileNetV2": "mobilenetv2_100",
    "DenseNet-121": "densenet121",
    "EfficientNet-Lite0": "efficientnet_lite0",
    "ConvNeXt-T": "convnext_tiny",
}
_MERGED = {"RepVGG-A0": "repvgg_a0", "MobileOne-S0": "mobileone_s0"}
FROM_TIMM = (*_MERGED, *_ORDINARY)
_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")


def timm_networks(timm: ModuleType) -> dict[str, Network]:
    """The networks of timm, by name. The author's merge is timm's own function."""
    merge: Callable[[nn.Module], nn.Module] = importlib.import_module("timm.utils").reparameterize_model
    square = (1, 3, 224, 224)

    def built(name: str) -> Callable[[], nn.Module]:
        return lambda: randomize(timm.create_model(name))

    merged = {shown: Network(built(name), square, merge=merge) for shown, name in _MERGED.items()}
    return merged | {shown: Network(built(name), square, ordinary=True) for shown, name in _ORDINARY.items()}


def load_timm() -> ModuleType | None:
    """timm, or None. It imports torchvision, whose compiled operators cannot be loaded with every build of torch. In
    that case they are only declared, because no network here calls one."""
    try:
        return importlib.import_module("timm")
    except ImportError:
        return None
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in ("nms", "qnms"):
            _TORCHVISION.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("timm")
