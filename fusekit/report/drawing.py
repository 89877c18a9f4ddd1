"""A graph as plain records, for a picture of it: no tensors, no nodes of torch."""

from collections.abc import Iterable
from dataclasses import dataclass

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """One operator of a program.

    Args:
        id: its name, unique in its drawing.
        operator: what it computes, such as "conv2d".
        where: the path of its module as the user knows it.
        inputs: the ids of the boxes whose results it reads.
        origins: the ids of the boxes of the original program that it stands for.
        shape: of its result for the example inputs; None if unknown.
        channels: input and output channels of a convolution or linear layer; the next four fields are its geometry.
        window, stride, padding, dilation, groups: empty (1 group) for any other operator.
        macs, parameters: multiply-accumulates, None if unknown, and entries of its weights; 0 without weights.
        field: its receptive field along each axis; None if unknown.
    """

    id: str
    operator: str
    where: str = ""
    inputs: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    shape: Sizes | None = None
    channels: Sizes = ()
    window: Sizes = ()
    stride: Sizes = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: Sizes = ()
    groups: int = 1
    macs: int | None = 0
    parameters: int = 0
    field: Sizes | None = None


@dataclass(frozen=True)
class Drawing:
    """The boxes of a program in the order in which they run. `hidden`: how many operators are not among them, because
    they do nothing, such as dropout in evaluation mode."""

    boxes: tuple[Box, ...] = ()
    hidden: int = 0


def beside_each_other(drawings: Iterable[Drawing]) -> Drawing:
    """All boxes of several drawings, whose ids differ, in one drawing."""
    drawings = tuple(drawings)
    return Drawing(tuple(box for each in drawings for box in each.boxes), sum(each.hidden for each in drawings))
