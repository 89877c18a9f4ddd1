"""The weights of quaternion layers: drawn, bounded, and read under the names of others.

A checkpoint may hold `weight` [4, ...], or the four components `r_weight`, `i_weight`, `j_weight`, `k_weight`, as
speechbrain and Orkis store them; linear ones are [in, out] there and are transposed. `load_state_dict` takes either.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from fusekit.nn.arguments import one_of
from fusekit.nn.functional.quaternion import quaternion_renorm
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.init.quaternion import quaternion_chi_, quaternion_unitary_

Init = Literal["chi", "unitary"]
COMPONENTS = ("r_weight", "i_weight", "j_weight", "k_weight")


def draw(
    layer: Any, init: Init, criterion: Criterion, transposed: bool = False, generator: Generator | None = None
) -> None:
    """`weight` by the rule named, the bias 0, a scale as Glorot's uniform."""
    if one_of(Init, "init", init) == "chi":
        quaternion_chi_(layer.weight, criterion, transposed=transposed, generator=generator)
    else:
        quaternion_unitary_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if getattr(layer, "scale", None) is not None:
        nn.init.xavier_uniform_(layer.scale, generator=generator)


def bounded(weight: Tensor, max_norm: float | None, dim: int) -> Tensor:
    """The weight within its max-norm, if it has one."""
    return weight if max_norm is None else quaternion_renorm(weight, max_norm, dim)


def join_components(
    state: dict[str, Any], prefix: str, join: Callable[[Tensor], Tensor] = lambda w: w, name: str = "weight"
) -> bool:
    """Puts `prefix.name` in the place of four components; whether there were any. `join` takes [4, *] as stored."""
    keys = [prefix + component for component in COMPONENTS]
    if not all(key in state for key in keys):
        return False
    state[prefix + name] = join(torch.stack([state.pop(key) for key in keys]))
    state.pop(f"{prefix}zero_kernel", None)  # zeros that only made the dimensions match
    return True
