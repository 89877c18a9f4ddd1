"""Trains a small network that doubles the size of photographs, and exports it: collapsible linear blocks, as in SESR.

Each block is wide while it is trained (3x3 to 256 channels, 1x1 back, and a residual), but it is linear: it equals one
small convolution, which fusekit finds."""

from pathlib import Path

import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn

import fusekit

TRAINING = ("coffee", "rocket", "camera", "brick", "immunohistochemistry", "hubble_deep_field")
TUNING, HELD_OUT = "chelsea", "astronaut"  # the learning rate was chosen on the one, and is reported on the other
SIZE, BATCH, RATE = 24, 8, 2e-3


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
    """A grey photograph, values from 0 to 1: halved [1, 1, H, W], and as it is [1, 1, 2H, 2W]."""
    pixels = torch.from_numpy(getattr(data, name)()).float() / 255
    grey = (pixels if pixels.ndim == 2 else pixels[..., :3].mean(-1))[None, None]
    grey = grey[..., : grey.shape[2] // 2 * 2, : grey.shape[3] // 2 * 2]  # even sides
    return F.interpolate(grey, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1), grey


def psnr(picture: Tensor, truth: Tensor) -> float:
    """The likeness in decibels, without the outermost pixels."""
    return float(-10 * torch.log10((picture.clamp(0, 1) - truth)[..., 6:-6, 6:-6].square().mean()))


def trained(steps: int) -> nn.Module:
    torch.manual_seed(0)
    model, pairs = SuperResolution(), [photograph(name) for name in TRAINING]
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        crops = []
        for number in torch.randint(len(pairs), (BATCH,)).tolist():
            small, large = pairs[number]
            y, x = (int(torch.randint(side - SIZE + 1, ())) for side in small.shape[2:])
            detail = large[..., 2 * y : 2 * (y + SIZE), 2 * x : 2 * (x + SIZE)]
            crops.append((small[..., y : y + SIZE, x : x + SIZE], detail))
        inputs, truths = (torch.cat(part) for part in zip(*crops, strict=True))
        optimizer.zero_grad()
        F.l1_loss(model(inputs), truths).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


if __name__ == "__main__":
    Path("out").mkdir(exist_ok=True)
    print(fusekit.export(trained(500), "out/super_resolution.onnx", (photograph(HELD_OUT)[0],)))
