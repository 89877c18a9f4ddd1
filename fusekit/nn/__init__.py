"""Layers that an optimized program is built from, beside those of torch.nn."""

from fusekit.nn.bordered import BorderedConv1d, BorderedConv2d, BorderedConv3d
from fusekit.nn.guard import ShapeGuard

__all__ = ["BorderedConv1d", "BorderedConv2d", "BorderedConv3d", "ShapeGuard"]
