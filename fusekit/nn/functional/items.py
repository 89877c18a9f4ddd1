"""Items assigned without writing: a tensor like another, but for what an index says."""

from typing import Any

from torch import Tensor


def with_items(x: Tensor, index: Any, value: Any) -> Tensor:
    """y = x, but y[index] = value; x stays as it is.

    `x`: any shape and dtype, which are y's. `index`: what indexes a tensor: numbers, slices, an ellipsis, tensors, or a
    tuple of them. `value`: a number, or a tensor that broadcasts to the shape of x[index], cast to the dtype of x.
    Raises what torch raises where the index does not fit.
    """
    y = x.clone()
    y[index] = value
    return y
