"""Batch norm of each part by a real layer: the "naive" form. The parts stay correlated."""

import torch
from torch import Tensor, nn

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.parts import as_real


class _NaiveComplexBatchNorm(ComplexLayer):
    """`NaiveComplexBatchNorm1d` for any number of axes."""

    _norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        arguments = (num_features, eps, momentum, affine, track_running_stats, device, complex_dtype(dtype).to_real())
        self.bn_r = self._norm(*arguments)
        self.bn_i = self._norm(*arguments)

    def forward(self, x: Tensor) -> Tensor:
        parts = as_real(x)
        return torch.complex(self.bn_r(parts[..., 0]), self.bn_i(parts[..., 1]))


class NaiveComplexBatchNorm1d(_NaiveComplexBatchNorm):
    """y = BN_r(Re z) + j BN_i(Im z), x [N, C] or [N, C, L] complex; arguments as of `torch.nn.BatchNorm1d`.

    `dtype` is complex. The state is that of the two real layers `bn_r` and `bn_i`; the names are complexPyTorch's.
    """

    _norm = nn.BatchNorm1d


class NaiveComplexBatchNorm2d(_NaiveComplexBatchNorm):
    """`NaiveComplexBatchNorm1d` for x [N, C, H, W]."""

    _norm = nn.BatchNorm2d


class NaiveComplexBatchNorm3d(_NaiveComplexBatchNorm):
    """`NaiveComplexBatchNorm1d` for x [N, C, D, H, W]."""

    _norm = nn.BatchNorm3d
