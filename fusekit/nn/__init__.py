"""Layers that an optimized program is built from, beside those of torch.nn."""

from fusekit.nn.guard import ShapeGuard

__all__ = ["ShapeGuard"]
