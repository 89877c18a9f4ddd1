"""The part of a batch norm that does not depend on the numbers: the options, the count of batches, and the repr."""

from torch import Tensor, nn


class TrackedNorm(nn.Module):
    """Has `num_features`, `eps`, `momentum` as `torch.nn.BatchNorm2d`, and the buffer `num_batches_tracked` (or
    None)."""

    num_batches_tracked: Tensor | None
    weight: Tensor | None

    def __init__(self, num_features: int, eps: float, momentum: float | None) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum

    def _count(self) -> float:
        """Count this batch, if in training, and return its momentum. If `momentum` is None, it is 1 / (number of
        batches), which makes the running statistics the mean over all batches."""
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1.0 / float(self.num_batches_tracked)
        return self.momentum or 0.0

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.num_batches_tracked is not None}"
        )
