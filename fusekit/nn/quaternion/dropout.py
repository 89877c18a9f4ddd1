"""Dropout of whole quaternions."""

from torch import Tensor, nn

from fusekit.nn.arguments import probability
from fusekit.nn.functional.quaternion import quaternion_dropout


class QuaternionDropout(nn.Module):
    """In training zeroes whole quaternions with probability p and divides the rest by 1 - p; otherwise the identity.

    x is in blocks r | i | j | k along `dim`: 1 for [N, 4 C, *S], -1 for sequences [T, N, 4 C]. One mask for the four
    components does not change the direction of a quaternion.
    """

    def __init__(self, p: float = 0.5, dim: int = 1) -> None:
        super().__init__()
        self.p, self.dim = probability(p), dim

    def forward(self, x: Tensor) -> Tensor:
        return quaternion_dropout(x, self.p, self.training, self.dim)

    def extra_repr(self) -> str:
        return f"p={self.p}, dim={self.dim}"
