"""How large the weights of a layer are drawn: the criteria of Glorot and of He.

Glorot: fan_in + fan_out, which keeps activations and gradients at their size (Glorot and Bengio 2010)
He: fan_in, which with twice the variance makes up for a ReLU (He et al. 2015, arXiv:1502.01852)
"""

from typing import Literal

from fusekit.nn.arguments import one_of

Criterion = Literal["glorot", "he"]


def fan_of(criterion: Criterion, fan_in: int, fan_out: int) -> int:
    """The fan f of a variance 2 / f; ValueError for another criterion."""
    return fan_in + fan_out if one_of(Criterion, "criterion", criterion) == "glorot" else fan_in
