"""From which photograph is a small crop? A quaternion CNN, compared with a real one that has as many parameters.

The mean colour of a crop is subtracted and noise is added, so the networks must use texture, and how colours vary
together. A pixel is one quaternion, grey level | red | green | blue. Training and test crops come from different strips
of the images. Needs the extra `zoo`, for the images in scikit-image.
"""

import time

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit import nn as fnn

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")
SIZE, STRIP, NOISE = 24, 48, 0.03


def crops(count: int, test: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Crops [count, 4, SIZE, SIZE], and the number of the photograph of each. Even strips of columns are for training,
    odd ones for tests."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.from_numpy(getattr(skimage.data, name)()[..., :3] / 255.0).float().movedim(-1, 0) for name in NAMES]
    labels = torch.randint(len(images), (count,), generator=generator)
    out = []
    for label in labels.tolist():
        _, height, width = images[label].shape
        strip = 2 * int(torch.randint(width // STRIP // 2, (), generator=generator)) + test
        left = strip * STRIP + int(torch.randint(STRIP - SIZE + 1, (), generator=generator))
        top = int(torch.randint(height - SIZE + 1, (), generator=generator))
        out.append(images[label][:, top : top + SIZE, left : left + SIZE])
    rgb = torch.stack(out)
    rgb = rgb - rgb.mean((2, 3), keepdim=True) + NOISE * torch.randn(rgb.shape, generator=generator)
    return torch.cat([rgb.mean(1, keepdim=True), rgb], 1), labels


def network(quaternion: bool, width: int) -> nn.Sequential:
    conv = fnn.QuaternionConv2d if quaternion else nn.Conv2d
    norm = fnn.QuaternionBatchNorm if quaternion else nn.BatchNorm2d
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((4, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 2)):
        layers += [conv(inputs, outputs, 3, stride, 1), norm(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, len(NAMES)))


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int = 10, batch: int = 50) -> None:
    steps = epochs * len(x) // batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for at in torch.cat([torch.randperm(len(x)) for _ in range(epochs)]).split(batch):
        optimizer.zero_grad()
        F.cross_entropy(model(x[at]), y[at]).backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    torch.set_num_threads(1)
    x, y = crops(4000, test=False, seed=0)
    unseen, answers = crops(2000, test=True, seed=1)
    for quaternion, width in ((True, 16), (False, 8)):
        torch.manual_seed(0)
        model, start = network(quaternion, width), time.perf_counter()
        train(model, x, y)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            accuracy = float((model.eval()(unseen).argmax(1) == answers).float().mean())
        name, count = "quaternion" if quaternion else "real", sum(p.numel() for p in model.parameters())
        print(f"{name:10} {count:6,} parameters, {100 * accuracy:.1f} % of unseen crops, {seconds:.0f} s")
