"""Draws single layers at random: convolutions of every geometry, norms, arithmetic, pads, residual blocks."""

import random
from typing import Any

from torch import nn

from tests.support.random_layers import Arithmetic, Functional, Padding, Residual

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.MaxPool2d, 3: nn.AvgPool3d}
MEAN: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Drawing:
    """The random generator, the number of spatial axes (drawn too if None), and the present number of channels."""

    def __init__(self, seed: int, n: int | None = None) -> None:
        self.draw = random.Random(seed)
        self.n = n or self.draw.choice([1, 2, 2, 2, 2, 3])
        self.channels = self.draw.choice([1, 2, 3, 4])

    def sizes(self, *choices: int) -> tuple[int, ...]:
        return tuple(self.draw.choice(choices) for _ in range(self.n))

    def chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    def wide(self) -> int:
        """A number of channels inside a motif. It is so large that leaving out channels pays."""
        return self.draw.choice({1: (32, 64), 2: (24, 48, 64), 3: (12, 24)}[self.n])

    def make(self, inputs: int, outputs: int, window: Any = 1, **options: Any) -> nn.Module:
        options = {"bias": self.chance(0.5)} | options
        layer: nn.Module = CONV[self.n](inputs, outputs, window, **options)
        return layer

    def ending(self, *layers: nn.Module, channels: int) -> nn.Module:
        """The layers one after another, sometimes with a batch norm after the first. `channels`: the number after the
        last."""
        self.channels = channels
        found = list(layers)
        if self.chance(0.2) and isinstance(width := getattr(layers[0], "out_channels", None), int):
            found.insert(1, NORM[self.n](width))
        return nn.Sequential(*found)

    def few(self) -> int:
        return self.draw.choice([2, 3, 4])

    def conv(self, same: bool = False) -> nn.Module:
        outputs = self.channels if same else self.draw.choice([1, 2, 3, 4, self.channels])
        groups = self.draw.choice([g for g in (1, 1, 2, 3, 4) if self.channels % g == 0 and outputs % g == 0])
        window, dilation = self.sizes(1, 1, 2, 3), self.sizes(1, 1, 2)
        options: dict[str, Any] = {"dilation": dilation, "groups": groups}
        if same:
            options |= {"padding": "same"}
        else:
            options |= {"padding": self.sizes(0, 0, 1, 2), "stride": self.sizes(1, 1, 2)}
            if self.chance(0.1):
                options |= {"padding": self.sizes(0, 1), "padding_mode": self.draw.choice(["replicate", "circular"])}
        layer = self.make(self.channels, outputs, window, **options)
        self.channels = outputs
        return layer

    def transposed(self) -> nn.Module:
        outputs = self.draw.choice([1, 2, 3, 4, self.channels])
        groups = self.draw.choice([g for g in (1, 2, 3) if self.channels % g == 0 and outputs % g == 0])
        stride, window, dilation = self.sizes(1, 2), self.sizes(1, 2, 3), self.sizes(1, 1, 2)
        extra = tuple(self.draw.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True))
        options: dict[str, Any] = {"stride": stride, "dilation": dilation, "output_padding": extra, "groups": groups}
        layer: nn.Module = TRANSPOSED[self.n](self.channels, outputs, window, padding=self.sizes(0, 0, 1), **options)
        self.channels = outputs
        return layer

    def norm(self) -> nn.Module:
        layer: nn.Module = NORM[self.n](self.channels, affine=self.chance(0.8))
        return layer

    def arithmetic(self) -> nn.Module:
        return Arithmetic(self.draw, self.n, self.channels)

    def pad(self) -> nn.Module:
        return Padding(self.draw, self.n)

    def relu(self) -> nn.Module:
        return nn.ReLU(inplace=self.chance(0.5))

    def other(self) -> nn.Module:
        choices = [nn.Dropout(0.5), nn.Identity(), POOL[self.n](2), nn.Dropout(0.5, inplace=True), nn.LeakyReLU()]
        layer: nn.Module = self.draw.choice(choices)
        return layer

    def functional(self) -> nn.Module:
        layer: Any = self.conv()
        layer.padding_mode = "zeros"
        return Functional(self.n, layer)

    def residual(self) -> nn.Module:
        body = nn.Sequential(self.conv(same=True), self.norm(), *([self.relu()] if self.chance(0.5) else []))
        layer = Residual(self.draw, body)
        self.channels *= 2 if layer.kind == 2 else 1
        return layer

    def shared(self) -> nn.Module:
        conv = self.conv(same=True)
        return nn.Sequential(conv, self.norm(), conv, *([self.relu(), conv] if self.chance(0.5) else []))
