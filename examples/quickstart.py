"""Optimizes a small network, prints the report, exports it, and compares both results with the original."""

import tempfile
from pathlib import Path

import torch
from rich import print
from torch import nn

import fusekit

torch.manual_seed(0)
norm = nn.BatchNorm2d(32)
norm.running_mean, norm.running_var = torch.randn(32), torch.rand(32) + 0.5  # as if it had been trained
model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), norm, nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
x = torch.randn(2, 3, 32, 32)

fast = fusekit.optimize(model, (x,))
print(fast, fast.report)
assert fusekit.validate(model, fast, (x,)).ok

with tempfile.TemporaryDirectory() as folder:
    validation = fusekit.export(model, Path(folder) / "model.onnx", (x,))
print(validation)
assert validation.ok
