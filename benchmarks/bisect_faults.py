"""The networks and the planted faults of `bisect_table.py`.

A fault is planted in a module, before it is exported; in a file, it is the same fault of the file's weights. A wrong
rewrite is planted in the law that folds batch norms, and its check is turned off.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from fusekit.algebra import Affine, Conv
from fusekit.passes import FoldAffine
from fusekit.rewriting import attempt
from tests.support.architectures import ResNet50, conv_chain, randomize


def pairs(count: int = 500, width: int = 32) -> nn.Module:
    """count × (convolution, ReLU): with 500, 1,000 operators."""
    layers: list[nn.Module] = []
    for _ in range(count):
        conv = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight)
        layers += [conv, nn.ReLU()]
    return nn.Sequential(*layers)


def triples(count: int = 334, width: int = 8) -> nn.Module:
    """count × (convolution, batch norm, ReLU): with 334, 1,002 operators."""
    return conv_chain(3 * count, width)


@dataclass(frozen=True)
class Network:
    """How a network is built, the sizes of its input, and the paths of a convolution and of an activation near the
    beginning, the middle and the end."""

    name: str
    make: Callable[[], nn.Module]
    sizes: tuple[int, ...]
    convs: tuple[str, ...]
    acts: tuple[str, ...]

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return randomize(self.make())

    def given(self) -> Tensor:
        return torch.randn(self.sizes, generator=torch.Generator().manual_seed(1))


PAIRS = Network("500 × (conv, ReLU)", pairs, (1, 32, 32, 32), ("6", "498", "990"), ("7", "499", "991"))
TRIPLES = Network("334 × (conv, norm, ReLU)", triples, (1, 8, 16, 16), ("6", "501", "993"), ())
RESNET = Network(
    "ResNet-50",
    ResNet50,
    (1, 3, 64, 64),
    ("layers.0.conv1", "layers.7.conv2", "layers.15.conv3"),
    ("relu",),
)


def _scaled(model: nn.Module, path: str) -> None:
    model.get_submodule(path).weight.data[0].mul_(1.5)  # type: ignore[union-attr,operator]


def _tap(model: nn.Module, path: str) -> None:
    model.get_submodule(path).weight.data[:, :, 0, 0] += 0.05  # type: ignore[union-attr,operator]


def _swapped(model: nn.Module, path: str) -> None:
    weight: Any = model.get_submodule(path).weight
    weight.data = (
        weight.data.transpose(0, 1).contiguous() if weight.shape[0] == weight.shape[1] else weight.data.flip(0)
    )


def _nan(model: nn.Module, path: str) -> None:
    model.get_submodule(path).weight.data.view(-1)[0] = math.nan  # type: ignore[union-attr,operator]


def _activation(model: nn.Module, path: str) -> None:
    model.set_submodule(path, nn.LeakyReLU(0.1))


FAULTS: dict[str, Callable[[nn.Module, str], None]] = {
    "one filter × 1.5": _scaled,
    "one tap + 0.05": _tap,
    "axes swapped": _swapped,
    "one NaN": _nan,
}
OTHER_ACTIVATION = "another activation"
ALL_FAULTS = {**FAULTS, OTHER_ACTIVATION: _activation}


@contextmanager
def wrong_rewrite(number: int, factor: float) -> Iterator[None]:
    """A context manager: each time a model is optimized, the fold of batch norm `number` (counted as they are tried)
    gives a kernel that is larger by this factor, and nobody checks it."""
    right, seen = FoldAffine.propose, dict[tuple[float, ...], int]()

    def propose(self: FoldAffine, a: Affine, c: Conv) -> Any:
        result = right(self, a, c)
        key = tuple(a.shift[:4].tolist())
        if seen.setdefault(key, len(seen)) == number:
            return replace(result, kernel=result.kernel * factor)
        return result

    with patch.object(FoldAffine, "propose", propose), patch.object(attempt, "region_error", lambda *_: 0.0):
        yield
