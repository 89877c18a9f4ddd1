"""Batch norm of quaternions."""

from typing import Any

import torch
from torch import Tensor, nn

from fusekit.nn.batch_norm import TrackedNorm
from fusekit.nn.functional.quaternion import quaternion_batch_norm
from fusekit.nn.functional.quaternion.hamilton import quaternions


class QuaternionBatchNorm(TrackedNorm):
    """y = γ (x - μ) / √(σ² + eps) + β with μ [4 C] and one σ² = E |x - μ|², one γ for each of the C quaternions.

    Shapes: x [N, num_features, *S], num_features = 4 C in blocks r | i | j | k; statistics over the batch and all
    positions. Arguments, running statistics and modes as of `torch.nn.BatchNorm1d`. In evaluation it is a real batch
    norm, which fusekit folds into the layer before it. Source: Yin et al. 2019 (IEEE Access 7).

    `load_state_dict` also accepts speechbrain's names gamma and beta.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum)
        count = quaternions(num_features, "num_features")
        factory = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(count, **factory)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, **factory)) if affine else None
        tracked = torch.zeros((), dtype=torch.long, device=device)
        self.register_buffer("running_mean", torch.zeros(num_features, **factory) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(count, **factory) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tracked if track_running_stats else None)
        self.running_mean: Tensor | None
        self.running_var: Tensor | None

    def reset_running_stats(self) -> None:
        """Reset the mean to 0, the variance to 1, and the count of batches to 0."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset γ to 1 and β to 0, and the running statistics too."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        running = (self.running_mean, self.running_var)
        return quaternion_batch_norm(x, *running, self.weight, self.bias, self.training, self._count(), self.eps)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
            if f"{prefix}{theirs}" in state_dict:
                state_dict[f"{prefix}{ours}"] = state_dict.pop(f"{prefix}{theirs}")
        super()._load_from_state_dict(state_dict, prefix, *args)
