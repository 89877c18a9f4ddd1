"""The weights of quaternion layers: initial values, max-norm, and loading under the names of other libraries.

A checkpoint may hold `weight` [4, ...], or the four components `r_weight`, `i_weight`, `j_weight`, `k_weight`, as
speechbrain and Orkis store them; linear ones are [in, out] there and are transposed. `load_state_dict` accepts both.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from fusekit.nn.arguments import one_of
from fusekit.nn.functional.quaternion import quaternion_renorm
from fusekit.nn.hypercomplex.block import BlockLayer
from fusekit.nn.init.criterion import Criterion
from fusekit.nn.init.quaternion import quaternion_chi_, quaternion_unitary_

Init = Literal["chi", "unitary"]
COMPONENTS = ("r_weight", "i_weight", "j_weight", "k_weight")


class QuaternionWeight(BlockLayer):
    """A layer with `weight` [4, ...], drawn by `init` and `criterion`, which also loads the names of other
    libraries."""

    init: Init
    criterion: Criterion

    def _draw(self, init: Init, criterion: Criterion) -> None:
        self.init, self.criterion = init, criterion
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw `weight` by the rule `init`, and set the bias to 0. `generator`: source of random numbers, by default
        torch's. ValueError for an unknown rule."""
        if one_of(Init, "init", self.init) == "chi":
            quaternion_chi_(self.weight, self.criterion, transposed=self.transposed, generator=generator)
        else:
            quaternion_unitary_(self.weight, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        join_components(state_dict, prefix, self._ours)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _ours(self, value: Tensor) -> Tensor:
        """A weight of speechbrain in our layout: linear ones are [in, out] there."""
        return value.mT if self.weight.ndim == 3 else value


def bounded(weight: Tensor, max_norm: float | None, dim: int) -> Tensor:
    """The weight, limited by its max-norm if there is one."""
    return weight if max_norm is None else quaternion_renorm(weight, max_norm, dim)


def join_components(
    state: dict[str, Any], prefix: str, join: Callable[[Tensor], Tensor] = lambda w: w, name: str = "weight"
) -> bool:
    """Replace four components by `prefix.name`. Returns whether there were any. `join` gets [4, *] as stored."""
    keys = [prefix + component for component in COMPONENTS]
    if not all(key in state for key in keys):
        return False
    state[prefix + name] = join(torch.stack([state.pop(key) for key in keys]))
    state.pop(f"{prefix}zero_kernel", None)  # zeros that only made the dimensions match
    return True
