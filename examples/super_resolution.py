"""Trains a small super-resolution network, doubles a photograph it has not seen, and compares it before and after.

Each block is trained wide (3x3 to 256 channels, 1x1 back, and a residual), but is linear: it equals one small 3x3
convolution (ExpandNet, SESR). fusekit finds that for all blocks but the last. The number of steps is an argument.
"""

import sys

import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn

import fusekit

TRAINING = ("chelsea", "coffee", "rocket", "camera", "brick", "immunohistochemistry", "hubble_deep_field")
HELD_OUT, SIZE, BATCH = "astronaut", 24, 8


class LinearBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, window: int) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(inputs, 256, window, padding="same"), nn.Conv2d(256, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.expand(x))
        return y + x if x.shape[1] == y.shape[1] else y


class SuperResolution(nn.Module):
    """Grey pictures [N, 1, H, W] to [N, 1, 2H, 2W]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(LinearBlock(1, width, 5), nn.PReLU(width))
        self.body = nn.Sequential(*[m for _ in range(3) for m in (LinearBlock(width, width, 3), nn.PReLU(width))])
        self.tail = LinearBlock(width, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        return F.pixel_shuffle(self.tail(self.body(features) + features) + x, 2)


def photograph(name: str) -> tuple[Tensor, Tensor]:
    """A grey photograph [1, 1, 2H, 2W] with values from 0 to 1, halved and as it is."""
    pixels = torch.from_numpy(getattr(data, name)()).float() / 255
    grey = (pixels if pixels.ndim == 2 else pixels[..., :3].mean(-1))[None, None]
    grey = grey[..., : grey.shape[2] // 2 * 2, : grey.shape[3] // 2 * 2]
    return F.interpolate(grey, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1), grey


def train(model: nn.Module, steps: int) -> None:
    pairs = [photograph(name) for name in TRAINING]
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        crops = []
        for number in torch.randint(len(pairs), (BATCH,)).tolist():
            small, large = pairs[number]
            top, left = (int(torch.randint(side - SIZE + 1, ())) for side in small.shape[2:])
            large = large[..., 2 * top : 2 * (top + SIZE), 2 * left : 2 * (left + SIZE)]
            crops.append((small[..., top : top + SIZE, left : left + SIZE], large))
        x, y = (torch.cat(part) for part in zip(*crops, strict=True))
        optimizer.zero_grad()
        F.l1_loss(model(x), y).backward()
        optimizer.step()
        schedule.step()


def psnr(picture: Tensor, truth: Tensor) -> float:
    """In decibels, without the outermost pixels."""
    return float(-10 * torch.log10((picture.clamp(0, 1) - truth)[..., 6:-6, 6:-6].square().mean()))


def trained(steps: int = 500) -> nn.Module:
    torch.manual_seed(0)
    model = SuperResolution()
    train(model, steps)
    return model.eval()


def main(steps: int) -> None:
    torch.set_num_threads(1)
    model, (small, truth) = trained(steps), photograph(HELD_OUT)
    fast = fusekit.optimize(model, (small,))
    with torch.no_grad():
        before, after = model(small), fast(small)
    bicubic = F.interpolate(small, scale_factor=2, mode="bicubic")
    print(*(f"{psnr(picture, truth):.3f} dB" for picture in (bicubic, before, after)), fast.report)
    assert (after - before).abs().max() < 1e-4


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
