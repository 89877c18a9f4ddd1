"""Dropout of complex numbers: one mask for both parts."""

from torch import Tensor, nn

from fusekit.nn.arguments import probability
from fusekit.nn.functional.complex.dropout import complex_channel_dropout, complex_dropout


class _ComplexDropout(nn.Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = probability(p), inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class ComplexDropout(_ComplexDropout):
    """In training zeroes numbers with probability p and divides the rest by 1 - p; the identity in evaluation.

    x [*] complex; `inplace` writes into it. ValueError if p is not a probability.
    """

    def forward(self, x: Tensor) -> Tensor:
        return complex_dropout(x, self.p, self.training, self.inplace)


class ComplexDropout1d(_ComplexDropout):
    """`ComplexDropout` of whole channels, x [(N,) C, L]."""

    def forward(self, x: Tensor) -> Tensor:
        return complex_channel_dropout(x, 1, self.p, self.training, self.inplace)


class ComplexDropout2d(_ComplexDropout):
    """`ComplexDropout` of whole channels, x [(N,) C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return complex_channel_dropout(x, 2, self.p, self.training, self.inplace)


class ComplexDropout3d(_ComplexDropout):
    """`ComplexDropout` of whole channels, x [(N,) C, D, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return complex_channel_dropout(x, 3, self.p, self.training, self.inplace)
