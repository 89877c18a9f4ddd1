"""Batch norm that whitens the two parts of each channel. Formulas: `functional.complex_batch_norm`."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fusekit.nn.arguments import one_of
from fusekit.nn.batch_norm import TrackedNorm
from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.norm import EpsIn, complex_batch_norm
from fusekit.nn.functional.complex.parts import as_complex, is_traced


class _ComplexBatchNorm(TrackedNorm, ComplexLayer):
    """`ComplexBatchNorm1d` for any number of axes."""

    bias: Tensor | None
    running_mean: Tensor | None
    running_covar: Tensor | None
    _ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        eps_in: EpsIn = "use",
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.affine, self.track_running_stats = affine, track_running_stats
        self.eps_in, dtype = one_of(EpsIn, "eps_in", eps_in), complex_dtype(dtype)
        real: dict[str, Any] = {"device": device, "dtype": dtype.to_real()}
        self.register_parameter("weight", nn.Parameter(torch.empty(num_features, 3, **real)) if affine else None)
        bias = torch.empty(num_features, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(bias) if affine else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", torch.empty_like(bias) if tracked else None)
        self.register_buffer("running_covar", torch.empty(num_features, 3, **real) if tracked else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Reset the mean to 0, the covariance to that of a new layer, and the count of batches to 0."""
        if self.running_mean is not None and self.running_covar is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_covar.zero_()
            self.running_covar[:, :2] = 0.5 if self.affine else 1.0
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset Γ, β and the running statistics to their initial values."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            with torch.no_grad():
                self.weight.zero_()
                self.weight[:, :2] = math.sqrt(0.5)
                self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if not is_traced(x) and x.ndim not in self._ranks:
            raise ValueError(f"expected {' or '.join(map(str, self._ranks))} axes, got shape {list(x.shape)}")
        values = (self.running_mean, self.running_covar, self.weight, self.bias)
        n = self._ranks[0] - 2 if len(self._ranks) == 1 else None
        return complex_batch_norm(x, *values, self.training, self._count(), self.eps, self.eps_in, n)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        bias = state_dict.get(f"{prefix}bias")
        if isinstance(bias, Tensor) and not bias.is_complex() and bias.shape == (self.num_features, 2):
            state_dict[f"{prefix}bias"] = as_complex(bias)  # complexPyTorch stores the two parts
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.eps_in == "use" else f", eps_in={self.eps_in!r}")


class ComplexBatchNorm1d(_ComplexBatchNorm):
    """y = Γ V^-1/2 (z - μ) + β per channel, x [N, C] or [N, C, L] complex. Formulas: `functional.complex_batch_norm`.

    Arguments as in `torch.nn.BatchNorm1d`, and `eps_in`, which says where eps is added: "use" as in torch, "store" as
    in complextorch, "both" as in complexPyTorch. Parameters: weight [C, 3] real, the symmetric Γ as (rr, ii, ri),
    initially 1/√2 times the identity, so that E |y|² = 1; bias [C] complex. Buffers: running_mean [C] complex;
    running_covar [C, 3] real (rr, ii, ri), initially Γ², so that a fresh layer in evaluation is the identity. Without
    `affine`, the covariance of y is the identity. ValueError for another number of axes, and in training for one value
    per channel. Source: Trabelsi et al. 2018 (arXiv:1705.09792), section 3.5.
    """

    _ranks = (2, 3)


class ComplexBatchNorm2d(_ComplexBatchNorm):
    """`ComplexBatchNorm1d` for x [N, C, H, W]."""

    _ranks = (4,)


class ComplexBatchNorm3d(_ComplexBatchNorm):
    """`ComplexBatchNorm1d` for x [N, C, D, H, W]."""

    _ranks = (5,)
