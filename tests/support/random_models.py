"""Random architectures: random layers, and motifs in which each law finds its pattern, or almost finds it.

There are few channels outside a motif, and many inside, where folding pays. What the law does not fix is drawn.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.architectures import randomize
from tests.support.compare import normal
from tests.support.random_drawing import MEAN, NORM, TRANSPOSED, Drawing
from tests.support.random_layers import Branches, Crop, Gate, Halves, Network, Odd, Order, Padding, Scaled, Tokens

ADAPTIVE: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

PLAIN = ["conv"] * 5 + ["norm"] * 4 + ["transposed", "arithmetic", "arithmetic", "pad", "pad", "relu", "other"]
PLAIN += ["residual", "functional", "shared"]
MOTIFS = ["bordered", "pointwise_first", "row", "inception", "stacked", "split_norm", "heads", "circle", "edged"]
MOTIFS += ["pooled", "gate", "shuffled", "parallel", "upsampled", "shifted", "cut_window", "blocks", "low_rank"]
MOTIFS += ["pruned", "padded", "halves", "itself", "reordered", "cropped", "tokens", "averaged", "valued", "normed"]
MOTIFS += ["repeated", "packed"]


class Builder(Drawing):
    """Draws layers and keeps track of the channels. With increasing seeds, all motifs are used in turn. `long`: an
    example input must be long so that some law pays."""

    def __init__(self, seed: int) -> None:
        self.motif = MOTIFS[seed % len(MOTIFS)]
        self.long = seed % 65 == 0
        super().__init__(seed, 1 if self.long else None)
        self.inputs = self.channels

    def model(self) -> nn.Module:
        layers = [self.long_window()] if self.long else []
        turn, count = self.draw.randrange(4), self.draw.randint(0, 3)
        layers += [getattr(self, self.motif)() if k == min(turn, count) else self.layer() for k in range(count + 1)]
        for _ in range(self.draw.randint(0, 2)):
            place = self.draw.randint(0, len(layers))  # in place on the input: seldom, for capture is slow then
            layers.insert(place, nn.ReLU(inplace=self.chance(0.3 if place else 0.03)))
        if self.draw.random() < 0.25:
            layers += self.tail()
        if self.chance(0.012):
            layers[0] = Odd(layers[0])
        tapped = [i for i in range(len(layers) - 1) if self.draw.random() < 0.07]
        return randomize(Network(layers, tapped), self.draw.randrange(1000)).double()

    def layer(self) -> nn.Module:
        layer: nn.Module = getattr(self, self.draw.choice(MOTIFS if self.chance(0.5) else PLAIN))()
        return layer

    def inputs_of_other_sizes(self) -> list[Tensor]:
        """Inputs with several batches and sizes, an empty batch and the smallest size among them. If `long`, the first
            is
        long."""
        sizes = [(2, 9), (1, 9), (3, 12), (2, 15), (1, 4), (1, 2), (0, 9)]
        found = [normal(1, self.inputs, 6000)] if self.long else []
        for k, (batch, size) in enumerate(sizes):
            spatial = [size + self.draw.randrange(3) * (k > 1) for _ in range(self.n)]
            found.append(normal(batch, self.inputs, *spatial, seed=k))
        return found

    # rows

    def bordered(self) -> nn.Module:
        """Two convolutions, the second with padding: a ring."""
        wide, few = self.wide(), self.few()
        first = {"padding": self.sizes(0, 1, 1, 2), "stride": self.sizes(1, 1, 2), "dilation": self.sizes(1, 1, 2)}
        second = {"padding": self.sizes(0, 1, 1, 2), "stride": self.sizes(1, 1, 2), "dilation": self.sizes(1, 1, 2)}
        layers = [self.make(self.channels, wide, self.sizes(1, 2, 3), **first)]
        if self.chance(0.2):
            layers.append(Padding(self.draw, self.n))
        layers.append(self.make(wide, few, self.sizes(2, 3, 3), **second))
        return self.ending(*layers, channels=few)

    def pointwise_first(self) -> nn.Module:
        """A bias before padding, for the law with a channel of ones."""
        wide, few = self.wide(), self.few()
        first = self.make(self.channels, wide, 1, stride=self.sizes(1, 1, 2), bias=self.chance(0.9))
        second = self.make(wide, few, self.sizes(1, 2, 3), padding=self.sizes(0, 1, 2), stride=self.sizes(1, 1, 2))
        return self.ending(first, second, channels=few)

    def row(self) -> nn.Module:
        """A row of three or more convolutions, which is cut somewhere."""
        widths = [self.channels, *(self.draw.choice([2, 4, 16, self.wide()]) for _ in range(self.draw.randint(2, 4)))]
        widths.append(self.few())
        padded, layers = self.chance(0.3), []
        for inputs, outputs in itertools.pairwise(widths):
            options = {"padding": self.sizes(0, 1)} if padded and self.chance(0.5) else {}
            groups = 2 if inputs % 2 == outputs % 2 == 0 and self.chance(0.2) else 1
            layers.append(self.make(inputs, outputs, self.sizes(1, 1, 1, 2), groups=groups, **options))
        return self.ending(*layers, channels=widths[-1])

    def padded(self) -> nn.Module:
        """A pad before a convolution that may pad too."""
        few, low, high = self.few(), self.sizes(0, 1, 2), self.sizes(0, 1)
        high = low if self.chance(0.7) else high
        amounts = [amount for pair in zip(low, high, strict=True) for amount in pair]
        pad = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)[self.n - 1](tuple(amounts), 0.0)  # type: ignore[arg-type]
        conv = self.make(self.channels, few, self.sizes(1, 2, 3), padding=self.sizes(0, 0, 1))
        return self.ending(nn.ReLU(), pad, conv, channels=few)

    def circle(self) -> nn.Module:
        """Convolutions with circular padding."""
        wide, few = self.wide(), self.few()
        options = {"padding": "same", "padding_mode": "circular", "dilation": self.draw.choice([1, 1, 2])}
        last = options if self.chance(0.5) else options | {"padding": self.sizes(0, 1, 2), "stride": self.sizes(1, 2)}
        windows = [self.sizes(1, 3, 3) for _ in range(2)]
        layers = [self.make(self.channels, wide, windows[0], **options), self.make(wide, few, windows[1], **last)]
        return self.ending(*layers, channels=few)

    def edged(self) -> nn.Module:
        """A shift or a pointwise convolution before padding that repeats values; sometimes a wider one, which is
        refused."""
        mode = self.draw.choice(["circular", "reflect", "replicate"])
        wide, few = self.wide(), self.few()
        before: list[nn.Module] = [self.relu(), self.norm()]
        if inner := self.chance(0.6):
            before = [self.make(self.channels, wide, self.draw.choice([1, 1, 1, 2]))]
        width = wide if inner else self.channels
        outer = self.make(width, few, self.sizes(2, 3), padding=self.sizes(0, 1, 1), padding_mode=mode)
        return self.ending(*before, outer, channels=few)

    def upsampled(self) -> nn.Module:
        """A pointwise convolution before or after a transposed one."""
        wide, few = self.wide(), self.few()
        if self.chance(0.5):
            first = TRANSPOSED[self.n](self.channels, wide, 2, self.sizes(1, 2))
            return self.ending(first, self.make(wide, few), channels=few)
        first = self.make(self.channels, wide, 1, bias=self.chance(0.2))
        return self.ending(first, TRANSPOSED[self.n](wide, few, 2, self.sizes(1, 2)), channels=few)

    def shifted(self) -> nn.Module:
        """A shift of many channels before a convolution that pads and keeps few."""
        wide, few = 2 * self.wide(), self.few()
        first, norm = self.make(self.channels, wide), NORM[self.n](wide)
        outer = self.make(wide, few, self.sizes(1, 2, 2), padding=self.sizes(0, 1))
        return self.ending(first, nn.ReLU(), norm, outer, channels=few)

    def pooled(self) -> nn.Module:
        wide, few = self.wide(), self.few()
        size = self.draw.choice([1, 2, 2, 2, 3])
        pool = MEAN[self.n](size, self.draw.choice([1, 2, 2, 2]), self.draw.choice([0, 0, size // 2]))
        if self.chance(0.5):
            return self.ending(self.make(self.channels, wide), pool, channels=wide)
        return self.ending(self.make(self.channels, wide), nn.ReLU(), pool, self.make(wide, few), channels=few)

    def shuffled(self) -> nn.Module:
        """A convolution, a pixel shuffle and layers after it, as at the end of an upsampling network."""
        if self.n != 2:
            return self.upsampled()
        wide, few = 16, self.few()
        tail: list[nn.Module] = [nn.BatchNorm2d(wide)] if self.chance(0.5) else []
        tail += [] if tail and self.chance(0.5) else [self.make(wide, few, self.draw.choice([1, 1, 1, 2]))]
        first = self.make(self.channels, 4 * wide, self.sizes(1, 3), padding=self.sizes(0, 1))
        return self.ending(first, nn.PixelShuffle(2), *tail, channels=few if len(tail) == 1 or tail[1:] else wide)

    # branches

    def same_size(self, outputs: int, *, windows: Sequence[int] = (1, 3, 3, 5)) -> nn.Module:
        """A branch whose output has the size of its input. It has no stride, because the strides of branches must
        agree."""
        window, dilation = self.sizes(*windows), self.sizes(1, 1, 2)
        padding = tuple(d * (k - 1) // 2 for k, d in zip(window, dilation, strict=True))
        return self.make(self.channels, outputs, window, padding=padding, dilation=dilation)

    def inception(self) -> nn.Module:
        """Linear branches that are concatenated and read by a convolution."""
        wide, few = self.wide(), self.few()
        parts = [self.same_size(wide, windows=(1, 1, 3)), self.same_size(wide, windows=(1, 3))]
        width = 2 * wide
        if self.chance(0.3):
            parts.insert(self.draw.randrange(3), nn.Identity())
            width += self.channels
        if self.chance(0.2):
            parts[0] = nn.Sequential(parts[0], nn.ReLU()) if not isinstance(parts[0], nn.Identity) else parts[0]
        outer = self.make(width, few, self.sizes(1, 1, 2), stride=self.sizes(1, 1, 2))
        return self.ending(Branches(parts, concat=True), outer, channels=few)

    def stacked(self) -> nn.Module:
        """Convolutions with the same geometry, concatenated."""
        window, dilation = self.sizes(1, 2, 3), self.draw.choice([1, 2])
        options = {"dilation": dilation, "padding": self.sizes(0, 1), "stride": self.sizes(1, 2)}
        outputs = [self.draw.choice([1, 2, 4]) for _ in range(self.draw.randint(2, 3))]
        parts = [self.make(self.channels, width, window, **options) for width in outputs]
        return self.ending(Branches(parts, concat=True), nn.LeakyReLU(), channels=sum(outputs))

    def split_norm(self) -> nn.Module:
        """A batch norm after a concatenation."""
        outputs = [self.draw.choice([2, 3, 4]) for _ in range(2)]
        parts = [self.same_size(outputs[0], windows=(1,)), self.same_size(outputs[1], windows=(3, 5))]
        norm = NORM[self.n](sum(outputs))
        return self.ending(Branches(parts, concat=True), norm, nn.ReLU(), channels=sum(outputs))

    def parallel(self) -> nn.Module:
        """A sum of branches: windows, dilations, pools, norms, the input itself, more than one layer."""
        choices = ["conv", "conv", "conv", "norm", "identity", "pool", "deep", "function"]
        parts = [self.same_size(self.channels)]
        for kind in [self.draw.choice(choices) for _ in range(self.draw.randint(1, 3))]:
            if kind == "pool":
                parts.append(MEAN[self.n](3, 1, 1))
            elif kind == "deep":
                inner = self.make(self.channels, self.few())
                parts.append(nn.Sequential(inner, self.make(inner.out_channels, self.channels, 3, padding=1)))  # type: ignore[arg-type]
            elif kind == "conv":
                parts.append(nn.Sequential(self.same_size(self.channels), self.norm()))
            else:
                parts.append({"norm": self.norm(), "identity": nn.Identity(), "function": nn.Tanh()}[kind])
        self.draw.shuffle(parts)
        return self.ending(Branches(parts, concat=False), channels=self.channels)

    def heads(self) -> nn.Module:
        """Convolutions of one tensor, each followed by a function of its own."""
        wide = self.wide()
        window, options = self.sizes(1, 1, 3), {"padding": self.sizes(0, 1), "stride": self.sizes(1, 1, 2)}
        first, self.channels = self.make(self.channels, wide), wide
        outputs = [self.draw.choice([1, 2, 4]) for _ in range(self.draw.randint(2, 3))]
        functions = [nn.ReLU(), nn.Sigmoid(), nn.Tanh()]
        parts = [nn.Sequential(self.make(wide, k, window, **options), self.draw.choice(functions)) for k in outputs]
        return self.ending(first, nn.ReLU(), Branches(parts, concat=True), channels=sum(outputs))

    def halves(self) -> nn.Module:
        """The channels are split in two, computed with, and concatenated again."""
        few = self.few()
        layers = [self.make(few, few, 1) for _ in range(self.draw.choice([0, 0, 2]))]
        return self.ending(self.make(self.channels, 2 * few), Halves(self.draw, self.n, few, layers), channels=2 * few)

    def itself(self) -> nn.Module:
        """Norms of one tensor, added to it or put beside it, and norms in a row."""
        parts = [nn.Sequential(*(self.norm() for _ in range(self.draw.randint(0, 2)))) for _ in range(2)]
        concat = self.chance(0.3)
        channels = (1 + concat) * self.channels
        return self.ending(nn.ReLU(), self.norm(), Branches(parts, concat=concat), channels=channels)

    def reordered(self) -> nn.Module:
        """Channels in another order before or behind a convolution."""
        few = self.few()
        order = Order(self.draw, self.channels, self.draw.choice([self.channels, few]))
        width = self.channels if order.turned else len(order.order)
        window = self.sizes(1, 3)
        if self.chance(0.5):
            return self.ending(nn.ReLU(), order, self.make(width, few, window), channels=few)
        return self.ending(self.make(self.channels, self.channels, window), order, channels=width)

    def cropped(self) -> nn.Module:
        """Rows that are cut off, or left out, beside, before or behind a convolution."""
        few = self.few()
        if self.chance(0.5):
            branches = [self.make(self.channels, self.channels, 3), Crop(self.n, 1, 1)]
            return self.ending(nn.ReLU(), Branches(branches, concat=False), channels=self.channels)
        conv = self.make(self.channels, few, self.sizes(1, 3), padding=self.sizes(0, 1))
        crop = Crop(self.n, self.draw.randrange(2), self.draw.randrange(2), self.draw.choice([1, 2]))
        return self.ending(nn.ReLU(), *([crop, conv] if self.chance(0.5) else [conv, crop]), channels=few)

    def tokens(self) -> nn.Module:
        """Linear layers on the channels, behind a convolution or a norm."""
        few = self.few()
        before = self.norm() if self.chance(0.5) else self.make(self.channels, self.channels)
        linear = nn.Linear(self.channels, few, bias=self.chance(0.5))
        return self.ending(nn.ReLU(), before, Tokens(self.n, linear), channels=few)

    def repeated(self) -> nn.Module:
        """Each entry several times, before a norm or a convolution."""
        few = self.few()
        behind = self.make(self.channels, few, self.sizes(1, 3), padding=self.sizes(0, 1))
        between = [self.norm()] if self.chance(0.3) else []
        return self.ending(
            nn.ReLU(), nn.Upsample(scale_factor=self.draw.choice([2, 3])), *between, behind, channels=few
        )

    def packed(self) -> nn.Module:
        """Channels that come last, or blocks of positions as channels, before a convolution."""
        few, window = self.few(), self.sizes(1, 3)
        if self.n == 2 and self.chance(0.5):
            blocks = [nn.Upsample(scale_factor=2), nn.ReLU(), nn.PixelUnshuffle(2)]
            return self.ending(nn.ReLU(), *blocks, self.make(4 * self.channels, few, window), channels=few)
        return self.ending(nn.ReLU(), Tokens(self.n, nn.ReLU()), self.make(self.channels, few, window), channels=few)

    def normed(self) -> nn.Module:
        """A layer norm before a linear layer."""
        few = self.few()
        layers = [nn.LayerNorm(self.channels, elementwise_affine=self.chance(0.8)), nn.Linear(self.channels, few)]
        return self.ending(nn.ReLU(), Tokens(self.n, *layers), channels=few)

    def averaged(self) -> nn.Module:
        """A norm before a pool or before the mean of all."""
        pool = MEAN[self.n](self.draw.choice([2, 3]), 1) if self.chance(0.6) else ADAPTIVE[self.n](1)
        few = self.few()
        return self.ending(nn.ReLU(), self.norm(), pool, self.make(self.channels, few), channels=few)

    def valued(self) -> nn.Module:
        """A pad of a value between a scale, a shift or another order and a convolution."""
        few = self.few()
        pad = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)[self.n - 1](1, 0.5)
        before = Scaled(self.draw) if self.chance(0.6) else Order(self.draw, self.channels, self.channels)
        return self.ending(nn.ReLU(), before, pad, self.make(self.channels, few, 3), channels=few)

    def gate(self) -> nn.Module:
        few = self.few()
        return Gate(self.draw, self.n, self.make(self.channels, few), self.make(few, self.channels))

    # structure in the weights

    def cut_window(self) -> nn.Module:
        """A kernel with zeros along some edges of the window."""
        few = self.few()
        options = {"padding": self.sizes(0, 1, 1, 2), "stride": self.sizes(1, 1, 2), "dilation": self.sizes(1, 1, 2)}
        conv = self.make(self.channels, few, self.sizes(3, 3, 4), **options).double()
        for axis in range(self.n):
            for edge in self.draw.choice([(), (0,), (-1,), (0, -1), (0, -1), (0, -1)]):
                conv.get_parameter("weight").data.select(2 + axis, edge).zero_()
        return self.ending(nn.ReLU(), conv, nn.ReLU(), channels=few)

    def blocks(self) -> nn.Module:
        """A dense kernel that is block-diagonal."""
        groups, each = self.draw.choice([2, 4]), self.draw.choice([4, 8])
        width = groups * each
        conv = self.make(width, width, self.sizes(1, 3), padding=self.sizes(0, 1)).double()
        mask = torch.block_diag(*(torch.ones(each, each),) * groups)
        conv.get_parameter("weight").data.mul_(mask.reshape(width, width, *(1,) * self.n))
        return self.ending(self.make(self.channels, width), nn.ReLU(), conv, nn.ReLU(), channels=width)

    def low_rank(self) -> nn.Module:
        """A kernel that is a product: of channels, or of the axes of the window."""
        options = {"padding": self.sizes(0, 1, 2), "stride": self.sizes(1, 1, 2), "dilation": self.sizes(1, 1, 2)}
        width = self.draw.choice([16, 24])
        if self.n > 1 and self.chance(0.5):
            groups = self.draw.choice([1, width])
            conv = self.make(width, width, (7, 5, 3)[: self.n], groups=groups, **options).double()
            rows = torch.randn(width, width // groups, 7, 1).double()
            columns = torch.randn(width // groups, 1, 5).double()
            kernel = rows * columns if self.n == 2 else (rows * columns)[..., None] * torch.randn(3).double()
        else:
            conv = self.make(width, width, self.sizes(1, 3), **options).double()
            rank = self.draw.choice([1, 2])
            inner = torch.randn(rank, *conv.get_parameter("weight").shape[1:]).double()
            kernel = torch.einsum("or,r...->o...", torch.randn(width, rank).double(), inner)
        conv.get_parameter("weight").data.copy_(kernel)
        return self.ending(self.make(self.channels, width), nn.ReLU(), conv, nn.ReLU(), channels=width)

    def pruned(self) -> nn.Module:
        """Two convolutions, with channels between them that are not read, or not computed."""
        width, few = self.draw.choice([20, 24]), self.few()
        first = self.make(self.channels, width, self.sizes(1, 3), padding=self.sizes(0, 1), stride=self.sizes(1, 2))
        functions = [nn.ReLU(), nn.Sigmoid(), nn.LeakyReLU(0.1, inplace=True), nn.Hardtanh(-0.5, 0.5)]
        between = [self.draw.choice(functions)] if self.chance(0.6) else []
        padding = self.sizes(0, 1) if between else self.sizes(1)  # else the two may fold, channels and all
        second = self.make(width, few, self.sizes(1, 3), padding=padding)
        mute, unread = (torch.tensor([self.chance(0.4) for _ in range(width)]) for _ in range(2))
        first.get_parameter("weight").data[mute] = 0
        if first.bias is not None and self.chance(0.5):
            first.get_parameter("bias").data[mute] = 0
        second.get_parameter("weight").data[:, unread] = 0
        return self.ending(first, *between, second, channels=few)

    # ends

    def tail(self) -> list[nn.Module]:
        """From positions to features: by the mean, or by flattening at a fixed size."""
        if self.chance(0.4):
            linear = nn.Linear(self.channels, 3)
            return [ADAPTIVE[self.n](1), nn.Flatten(), linear, nn.BatchNorm1d(3)]
        size, wide = self.draw.choice([2, 3]) if self.n < 3 else 2, self.wide()
        window = self.draw.choice([1, 2])
        options = {"padding": self.draw.choice([0, 1]), "stride": self.draw.choice([1, 1, 2])} if window > 1 else {}
        conv = self.make(self.channels, wide, window, **options)
        features = conv(torch.zeros(1, self.channels, *(size,) * self.n)).flatten(1).shape[1]
        norm = [NORM[self.n](wide)] if self.chance(0.5) else []
        return [ADAPTIVE[self.n](size), conv, *norm, nn.Flatten(), nn.Linear(features, 3)]

    def long_window(self) -> nn.Module:
        """A convolution with enough taps for FFT."""
        conv: nn.Module = nn.Conv1d(self.channels, self.channels, 2049, groups=self.channels, padding=1024)
        return conv
