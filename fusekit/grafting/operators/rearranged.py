"""What moves entries or does nothing: identities, dropout at inference, flattenings, orders of axes, blocks of
positions."""

import math
from functools import partial

import numpy

from fusekit.algebra import Flatten, Identity, MergeLeading, Permute, PixelShuffle, SpaceToDepth
from fusekit.grafting.meaning import Known, Linear, Reader
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.shapes import DTYPES, Sizes
from fusekit.ir import Facts


def _identity(node: OperatorNode, known: Known) -> Linear | None:
    return Linear(node.input(0), Identity) if known.is_floating(node.input(0)) else None


def _dropout(node: OperatorNode, known: Known) -> Linear | None:
    """Does nothing, unless it is asked to train: from opset 12 on by an input."""
    if not node.only_output or not known.is_floating(node.input(0)):
        return None
    if node.input(2):
        trains = known.constants.array(node.input(2))
        if trains is None or numpy.any(trains):
            return None
    return Linear(node.input(0), Identity)


def _cast(node: OperatorNode, known: Known) -> Linear | None:
    """To the type that the value has already."""
    same = DTYPES.get(int(node.number("to", 0))) is known.facts(node.input(0)).dtype
    return Linear(node.input(0), Identity) if same and known.is_floating(node.input(0)) else None


def _flatten(node: OperatorNode, known: Known) -> Linear | None:
    """To [N, rest], or to [rest, features]."""
    source = node.input(0)
    facts, axis = known.facts(source), int(node.number("axis", 1))
    if facts.rank is None or facts.rank < 2 or not known.is_floating(source):
        return None
    if axis in (1, 1 - facts.rank):
        return Linear(source, partial(Flatten, _fixed(facts)))
    return Linear(source, partial(MergeLeading, 1)) if axis in (-1, facts.rank - 1) else None


def _fixed(facts: Facts) -> tuple[int, ...] | None:
    """The spatial sizes, if all of them are fixed."""
    sizes = (facts.shape or ())[2:]
    fixed = tuple(size for size in sizes if size is not None)
    return fixed if fixed and len(fixed) == len(sizes) else None


def _reshape(node: OperatorNode, known: Known) -> Linear | None:
    """To [N, rest], or to [rest, features], where the file says so for every N: a flattening."""
    source = node.input(0)
    facts, shape = known.facts(source), known.constants.integers(node.input(1))
    if facts.shape is None or len(facts.shape) < 3 or shape is None or len(shape) != 2 or node.number("allowzero", 0):
        return None
    if not known.is_floating(source):
        return None
    rest, positions = _product(facts.shape[1:]), _product(facts.shape[:-1])
    keeps_batch = shape[0] == 0 or shape[0] == facts.shape[0]
    keeps_rest = rest is not None and shape[1] == rest
    if (keeps_batch and (shape[1] == -1 or keeps_rest)) or (shape[0] == -1 and keeps_rest):
        return Linear(source, partial(Flatten, _fixed(facts)))
    keeps_last = facts.shape[-1] is not None and shape[1] == facts.shape[-1]
    merges = keeps_last and (shape[0] == -1 or (positions is not None and shape[0] == positions))
    return Linear(source, partial(MergeLeading, 1)) if merges else None


def _product(sizes: Sizes) -> int | None:
    """None where one is not known."""
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def _transpose(node: OperatorNode, known: Known) -> Linear | None:
    """The axes in another order, by default backwards."""
    rank = known.facts(node.input(0)).rank
    if not rank or not known.is_floating(node.input(0)):
        return None
    order = tuple(node.numbers("perm", list(range(rank))[::-1]))
    if order == tuple(range(rank)):
        return Linear(node.input(0), Identity)
    return Linear(node.input(0), partial(Permute, order)) if sorted(order) == list(range(rank)) else None


def _depth_to_space(node: OperatorNode, known: Known) -> Linear | None:
    """Block after block, unless the mode, from opset 11 on, says otherwise."""
    source, mode = node.input(0), node.word("mode", "DCR")
    if known.facts(source).rank != 4 or not known.is_floating(source) or mode not in ("DCR", "CRD"):
        return None
    return Linear(source, partial(PixelShuffle, int(node.number("blocksize", 1)), mode == "DCR"))


def _space_to_depth(node: OperatorNode, known: Known) -> Linear | None:
    """Block after block, unless the newest opsets' mode says otherwise."""
    source, mode = node.input(0), node.word("mode", "DCR")
    if known.facts(source).rank != 4 or not known.is_floating(source) or mode not in ("DCR", "CRD"):
        return None
    return Linear(source, partial(SpaceToDepth, int(node.number("blocksize", 1)), mode == "DCR"))


READERS: dict[str, Reader] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
