"""The part of a recurrent layer that does not depend on the numbers: torch's options, the names, order and initial
values of the parameters."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusekit.nn.arguments import probability

Shapes = Mapping[str, tuple[int, ...] | None]

USUAL = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}


class Recurrent(nn.Module):
    """Layers in one or two directions. Options and names of parameters (`weight_ih_l0` to `bias_hh_l1_reverse`) are
    those of `torch.nn.LSTM`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        for name, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise ValueError(f"{name}: expected a positive number, got {size}")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, probability(dropout), bidirectional
        self.directions = 2 if bidirectional else 1

    def _runs(self) -> list[tuple[int, str]]:
        """(number of input features, suffix of the parameters) for each run over the sequence, in torch's order."""
        ends = ("", "_reverse")[: self.directions]
        widths = [self.input_size] + [self.hidden_size * self.directions] * (self.num_layers - 1)
        return [(width, f"l{layer}{end}") for layer, width in enumerate(widths) for end in ends]

    def _own(self, name: str, suffix: str) -> Any:
        """The parameter or layer `name` of the run with this suffix; None if there is none."""
        return getattr(self, f"{name}_{suffix}", None)

    def _shown(self, *order: str) -> str:
        """The text of the repr: the sizes, then those options of `order` that do not have their default."""
        options = [f"{name}={getattr(self, name)}" for name in order if getattr(self, name) != USUAL[name]]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *options])


def register(layer: nn.Module, suffix: str, shapes: Shapes, device: Any, dtype: Any) -> None:
    """Register parameters with these names and shapes, without initial values. A shape of None registers None."""
    for name, shape in shapes.items():
        value = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        layer.register_parameter(f"{name}{suffix}", value)


@torch.no_grad()
def draw_gates(
    parameters: Iterable[tuple[str, Tensor]], gates: int, draw: Callable[[Tensor], object], axis: int = 0
) -> None:
    """Initialize weights gate by gate with `draw`, the gates lying along `axis`; set biases to 0."""
    for name, parameter in parameters:
        if name.startswith("weight"):
            for gate in parameter.chunk(gates, axis):
                draw(gate)
        else:
            parameter.zero_()
