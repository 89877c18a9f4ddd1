"""A layer that checks whether a captured program is valid for its inputs.

torch.export follows one path of a model's control flow on shapes. The conditions for this path are few and readable
(`x.size()[1] == 3`, `x.size()[2] % 2 == 0`). Without a check, the program would silently give wrong results for inputs
that take another path.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


class ShapeGuard(nn.Module):
    """Raises ValueError if a condition on the program's inputs does not hold.

    `names`: the inputs' names, in order; `conditions`: Python expressions over these names; `told`: what the error says
    of each, if not the expression itself.
    """

    def __init__(self, names: Sequence[str], conditions: Sequence[str], told: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.conditions = tuple(conditions)
        self.told = tuple(told) or self.conditions
        self._compile()

    def _compile(self) -> None:
        """Build one plain function that tracers and compilers can follow. It is not pickled; it is built again after
        loading."""
        lines = [f"def check({', '.join(self.names)}):"]
        for condition, told in zip(self.conditions, self.told, strict=True):
            message = f"this program was captured for inputs with {told}"
            lines += [f"    if not ({condition}):", f"        raise ValueError({message!r})"]
        scope: dict[str, Any] = {"math": math, "torch": torch}
        exec("\n".join([*lines, "    return None"]), scope)
        self._check: Callable[..., None] = scope["check"]

    def forward(self, *inputs: Any) -> None:
        try:
            self._check(*inputs)
        except ZeroDivisionError:  # a condition divides by a size of the input
            told = " and ".join(self.told)
            raise ValueError(f"this program was captured for inputs with {told}, and not for a size of 0") from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_check"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def extra_repr(self) -> str:
        return ", ".join(self.told)
