"""The criteria of Glorot and He for the variance 2 / f of initial weights.

Glorot: f = fan_in + fan_out, which keeps the size of activations and gradients (Glorot and Bengio 2010)
He: f = fan_in, which compensates for a ReLU by twice the variance (He et al. 2015, arXiv:1502.01852)
"""

from typing import Literal

from fusekit.nn.arguments import one_of

Criterion = Literal["glorot", "he"]


def fan_of(criterion: Criterion, fan_in: int, fan_out: int) -> int:
    """The number f in the variance 2 / f; ValueError for an unknown criterion."""
    return fan_in + fan_out if one_of(Criterion, "criterion", criterion) == "glorot" else fan_in
