"""The parts of random architectures that have a forward of their own: arithmetic, branches, heads, control flow."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Arithmetic(nn.Module):
    """x * s + t in one of several spellings. s and t are numbers, or have one value per channel."""

    shift: Tensor

    def __init__(self, draw: random.Random, n: int, channels: int) -> None:
        super().__init__()
        self.kind = draw.randrange(7)
        shape = draw.choice([(), (channels, *(1,) * n), (1, channels, *(1,) * n), (1,), (1,) * n])
        self.scale = nn.Parameter(torch.randn(shape) + 2.0)
        self.register_buffer("shift", torch.randn(shape) * draw.choice([0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        s, t = self.scale, self.shift
        if self.kind == 0:
            return x * s + t
        if self.kind == 1:
            return (x - t) / s
        if self.kind == 2:
            return t - x
        if self.kind == 3:
            return torch.sub(x, t, alpha=2)
        if self.kind == 4:
            return 0.5 * x - 1
        if self.kind == 5:
            return x.mul(s).add(t, alpha=3)
        y = x * 1.5
        y += t
        y *= s
        return y


class Residual(nn.Module):
    """body(x) + x in one of several spellings, or its concatenation."""

    def __init__(self, draw: random.Random, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.kind = draw.randrange(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        if self.kind == 0:
            return y + x
        if self.kind == 1:
            y = y * 2
            y += x
            return y
        return torch.cat([x, y], 1) if self.kind == 2 else torch.add(x, y, alpha=2) + self.body(x)


class Padding(nn.Module):
    """F.pad by constant amounts, with zeros or another value. Amounts may be negative (crops)."""

    def __init__(self, draw: random.Random, n: int) -> None:
        super().__init__()
        self.amounts = [draw.choice([0, 1, 2, -1]) for _ in range(2 * n)]
        self.mode = draw.choice(["constant", "constant", "constant", "replicate"])
        self.value = draw.choice([0.0, 0.0, None, 1.5]) if self.mode == "constant" else None

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, mode=self.mode, value=self.value)


class Functional(nn.Module):
    """A convolution as a function. Its weight is computed in forward."""

    def __init__(self, n: int, layer: nn.Module) -> None:
        super().__init__()
        self.n = n
        self.layer: Any = layer

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight * 0.5 + self.layer.weight.mean()
        function = (F.conv1d, F.conv2d, F.conv3d)[self.n - 1]
        geometry = {"stride": self.layer.stride, "padding": self.layer.padding, "dilation": self.layer.dilation}
        return function(x, weight, self.layer.bias, groups=self.layer.groups, **geometry)


class Odd(nn.Module):
    """Control flow on the shape, so that symbolic tracing fails and capture uses another way."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.shape[-1] % 2 else self.body(x) * 2  # type: ignore[no-any-return]


class Branches(nn.Module):
    """The sum of branches of one tensor, or their concatenation."""

    def __init__(self, branches: Sequence[nn.Module], *, concat: bool) -> None:
        super().__init__()
        self.branches, self.concat = nn.ModuleList(branches), concat

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = [branch(x) for branch in self.branches]
        if self.concat:
            return torch.cat(values, 1)
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


class Order(nn.Module):
    """Channels in another order, some left out, some twice; or all of them turned round."""

    def __init__(self, draw: random.Random, channels: int, outputs: int) -> None:
        super().__init__()
        self.order = [draw.randrange(channels) for _ in range(outputs)]
        self.turned = outputs == channels and draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.turned else x[:, self.order]


class Scaled(nn.Module):
    """One scale and one shift for all entries."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.scale, self.shift = draw.uniform(0.5, 2.0), draw.choice([0.0, draw.uniform(-1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale - self.shift


class Crop(nn.Module):
    """The rows from `start`, without the last `left`, and of these every so many (`step`), on every spatial axis."""

    def __init__(self, n: int, start: int, left: int, step: int = 1) -> None:
        super().__init__()
        self.slices = (slice(None), slice(None), *(slice(start, -left or None, step) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return x[self.slices]


class Tokens(nn.Module):
    """Layers on the channels as the last axis."""

    def __init__(self, n: int, *layers: nn.Module, back: bool = True) -> None:
        super().__init__()
        self.there, self.layers, self.back = (0, *range(2, n + 2), 1), nn.Sequential(*layers), back
        self.return_trip = (0, n + 1, *range(1, n + 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.permute(self.there))
        return y.permute(self.return_trip) if self.back else y.mean(tuple(range(1, len(self.there) - 1)))


class Gate(nn.Module):
    """x times a function of the mean over its positions."""

    def __init__(self, draw: random.Random, n: int, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.n, self.before, self.after, self.kind = n, before, after, draw.randrange(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        pooled = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[self.n - 1]
        mean = pooled(y, 1) if self.kind else y.mean(tuple(range(-self.n, 0)), keepdim=True)
        gated: Tensor = x * torch.sigmoid(self.after(mean))
        return gated


class Halves(nn.Module):
    """Computes each half of the channels from both halves, by constants or by two layers; perhaps with a function."""

    def __init__(self, draw: random.Random, n: int, width: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.ends = draw.choice([None, torch.relu, torch.tanh])
        self.scale, self.shift = (
            nn.Parameter(torch.tensor([draw.uniform(0.5, 2) for _ in range(width)]).reshape(-1, *(1,) * n))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        if len(self.layers):
            first, second = self.layers
            a, b = first(a) - second(b), second(a) + first(b)
        else:
            a, b = (a - self.shift) * self.scale + b, 0.5 - (b * self.shift - a)
        return torch.cat([a, b] if self.ends is None else [self.ends(a), self.ends(b)], 1)


class Network(nn.Module):
    """Layers one after another. The results of some layers are returned too."""

    def __init__(self, layers: Sequence[nn.Module], tapped: Sequence[int]) -> None:
        super().__init__()
        self.layers, self.tapped = nn.ModuleList(layers), frozenset(tapped)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        kept = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.tapped:
                kept.append(x + 0.25 if index % 2 else x)
        return (x, *kept) if kept else x
