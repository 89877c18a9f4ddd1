"""Classifies handwritten digits by their Fourier transforms, with a complex network and a real one of the same size.

The real network gets the real and imaginary parts as two channels. `python examples/complex_digits.py [EPOCHS]`
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import fusekit
import fusekit.nn as fnn


class Modulus(nn.Module):
    """|z|, because scores must be real."""

    def forward(self, z: Tensor) -> Tensor:
        return z.abs()


def complex_network(width: int = 12) -> nn.Module:
    first = (fnn.ComplexConv2d(1, width, 3, padding=1), fnn.ComplexBatchNorm2d(width), fnn.CReLU())
    second = (fnn.ComplexConv2d(width, width, 3, padding=1), fnn.ComplexBatchNorm2d(width), fnn.CReLU())
    return nn.Sequential(*first, *second, nn.Flatten(), fnn.ComplexLinear(width * 8 * 5, 10), Modulus())


def real_network(width: int = 21) -> nn.Module:
    first = (nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    second = (nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(width * 8 * 5, 10))


def spectra() -> tuple[Tensor, Tensor]:
    """1797 images [1, 8, 8] as their half spectra [1, 8, 5], and their digits."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    return torch.fft.rfft2(images, norm="ortho"), torch.tensor(digits.target)


def accuracy_after(epochs: int, network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Train on four fifths of the images, and return the share of right answers on the rest."""
    train, test = torch.randperm(len(y)).split([1437, 360])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((network.eval()(x[test]).argmax(1) == y[test]).float().mean())


def main(epochs: int = 15) -> None:
    torch.set_num_threads(1)
    x, y = spectra()
    pairs = torch.view_as_real(x.squeeze(1)).movedim(-1, 1).contiguous()
    for name, make, given in (("complex", complex_network, x), ("real", real_network, pairs)):
        torch.manual_seed(0)
        network, started = make(), time.perf_counter()
        accuracy = accuracy_after(epochs, network, given, y)
        numbers = sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())
        print(f"{name}: {numbers} real parameters, accuracy {accuracy:.3f}, {time.perf_counter() - started:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            print(fusekit.export(network, Path(folder) / "digits.onnx", (given[:2],), dynamic=False))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
