"""The trained networks of benchmarks/int8.py: small ones, on real images that installed packages bring.

Digits are scikit-learn's 1,797 images of 8 x 8. Photographs are those in scikit-image's wheel. A patch of 16 x 16 is
classified by the photograph that it was cut from: the left parts of the photographs are for training, the right parts
for the test. Super-resolution doubles the size of grey images; whole photographs are kept for the test.

Training is as the authors of these families do it: batch norms in every branch, SGD with momentum, weight decay, cosine
learning rate (classifiers); Adam on the absolute error (super-resolution). Everything is seeded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from skimage import color, data
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tests.support.families import EdgeOriented, MobileOne, RepVGG

PATCHES = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket"),
)
TRAIN_PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "retina")
TEST_PHOTOGRAPHS = ("coins", "hubble_deep_field", "immunohistochemistry", "moon", "rocket")


@dataclass(frozen=True)
class Images:
    """Images [N, 1, H, W] with their labels [N], or with the larger images [N, 1, 2H, 2W] that they were made from."""

    train: Tensor
    train_target: Tensor
    test: Tensor
    test_target: Tensor


@dataclass(frozen=True)
class Network:
    """A network to train. `score`: accuracy in per cent, or PSNR in dB."""

    build: Callable[[], nn.Module]
    images: Callable[[], Images]
    train: Callable[[nn.Module, Images], None]
    score: Callable[[Tensor, Tensor], float]
    unit: str


class Collapsible(nn.Module):
    """3x3 to many channels, 1x1 back, a shortcut, then PReLU (SESR: Bhardwaj et al., MLSys 2022)."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, width, 3, padding=1)
        self.project = nn.Conv2d(width, channels, 1)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.project(self.expand(x)) + x)
        return y


class SuperResolution(nn.Module):
    """A head, blocks with a shortcut around them all, and a tail whose 4 channels become the pixels (after SESR)."""

    def __init__(self, block: Callable[[], nn.Module], channels: int, depth: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.PReLU(channels))
        self.body = nn.Sequential(*(block() for _ in range(depth)))
        self.tail = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x)
        return F.pixel_shuffle(self.tail(self.body(y) + y), 2)


def classifier(block: Callable[[int, int], nn.Module], widths: tuple[int, ...], classes: int) -> nn.Module:
    """Blocks of these widths; the size is halved by a max pool where the width changes."""
    layers: list[nn.Module] = []
    inputs = 1
    for width in widths:
        if inputs not in (1, width):
            layers.append(nn.MaxPool2d(2))
        layers.append(block(inputs, width))
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


@cache
def digits() -> Images:
    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1197], order[1197:]
    return Images(x[train], y[train], x[test], y[test])


def photograph(name: str) -> Tensor:
    """Grey, [H, W], between 0 and 1."""
    image = getattr(data, name)()
    grey = color.rgb2gray(image) if image.ndim == 3 else image / 255
    return torch.tensor(grey, dtype=torch.float32)


@cache
def patches(size: int = 16, train: int = 300, test: int = 250) -> Images:
    """So many patches of each photograph: from the left 60 % for training, from the right 35 % for the test."""
    generator = torch.Generator().manual_seed(0)
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name in PATCHES:
        image = photograph(name)
        width = image.shape[1]
        halves = image[:, : int(0.6 * width)], image[:, int(0.65 * width) :]
        for half, count, found in zip(halves, (train, test), parts, strict=True):
            rows = torch.randint(half.shape[0] - size, (count,), generator=generator).tolist()
            columns = torch.randint(half.shape[1] - size, (count,), generator=generator).tolist()
            found += [half[r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)]
    x, x_test = (torch.stack(found)[:, None] for found in parts)
    y, y_test = (torch.arange(len(PATCHES)).repeat_interleave(count) for count in (train, test))
    return Images(x, y, x_test, y_test)


@cache
def photographs(size: int = 96, count: int = 60) -> Images:
    """Squares of the photographs, and the same at half the size (means of 2 x 2 pixels)."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for names, each, edge in ((TRAIN_PHOTOGRAPHS, count, size), (TEST_PHOTOGRAPHS, 4, 192)):
        found = []
        for name in names:
            image = photograph(name)
            for _ in range(each):
                row, column = (int(torch.randint(n - edge + 1, (1,), generator=generator)) for n in image.shape)
                found.append(image[row : row + edge, column : column + edge])
        large = torch.stack(found)[:, None]
        parts += [F.avg_pool2d(large, 2), large]
    return Images(*parts)


def train_classifier(model: nn.Module, images: Images, epochs: int = 30, decay: float = 1e-4) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=decay)
    _train(model, images, optimizer, F.cross_entropy, epochs, 64)


def train_super_resolution(model: nn.Module, images: Images, epochs: int = 30) -> None:
    _train(model, images, torch.optim.Adam(model.parameters(), 2e-3), F.l1_loss, epochs, 16)


def _train(
    model: nn.Module,
    images: Images,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    batch: int,
) -> None:
    generator = torch.Generator().manual_seed(1)
    steps = epochs * (len(images.train) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images.train), generator=generator)
        for chosen in order[: len(order) // batch * batch].split(batch):
            optimizer.zero_grad()
            loss(model(images.train[chosen]), images.train_target[chosen]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def accuracy(given: Tensor, target: Tensor) -> float:
    return 100 * float((given.argmax(1) == target).double().mean())


def psnr(given: Tensor, target: Tensor) -> float:
    """The mean over the images; 4 pixels at the border do not count."""
    errors = (given.clamp(0, 1) - target)[..., 4:-4, 4:-4].double().square().mean((1, 2, 3))
    return float((-10 * errors.log10()).mean())


_REPVGG = (16, 16, 16, 32, 32, 32, 64, 64)
_MOBILEONE = (16, 16, 32, 32, 64, 64)
NETWORKS: dict[str, Network] = {
    "RepVGG-like, digits": Network(
        partial(classifier, RepVGG, _REPVGG, 10), digits, train_classifier, accuracy, "accuracy, %"
    ),
    "RepVGG-like, patches": Network(
        partial(classifier, RepVGG, _REPVGG, len(PATCHES)), patches, train_classifier, accuracy, "accuracy, %"
    ),
    "MobileOne-like, digits": Network(
        partial(classifier, MobileOne, _MOBILEONE, 10), digits, train_classifier, accuracy, "accuracy, %"
    ),
    "MobileOne-like, patches": Network(
        partial(classifier, MobileOne, _MOBILEONE, len(PATCHES)), patches, train_classifier, accuracy, "accuracy, %"
    ),
    "SESR-like, x2": Network(
        lambda: SuperResolution(partial(Collapsible, 16), 16, 4), photographs, train_super_resolution, psnr, "PSNR, dB"
    ),
    "ECBSR-like, x2": Network(
        lambda: SuperResolution(partial(EdgeOriented, 16, 16), 16, 4),
        photographs,
        train_super_resolution,
        psnr,
        "PSNR, dB",
    ),
}


def trained(name: str, weights: Path) -> tuple[nn.Module, Images]:
    """The network of this name, trained, in eval mode, with its images. Weights are kept in the folder `weights` and
    taken from there the next time."""
    torch.manual_seed(0)
    network, file = NETWORKS[name], weights / f"{name}.pt"
    model, images = network.build(), network.images()
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
    else:
        network.train(model, images)
        weights.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), file)
    return model.eval(), images
