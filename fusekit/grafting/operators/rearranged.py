"""What moves entries or does nothing: identities, dropout at inference, flattenings, depth to space."""

from functools import partial

import numpy

from fusekit.algebra import Flatten, Identity, PixelShuffle
from fusekit.grafting.meaning import Known, Linear, Reader
from fusekit.grafting.operator_node import OperatorNode
from fusekit.grafting.shapes import DTYPES
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
    facts = known.facts(node.input(0))
    if facts.rank is None or facts.rank < 2 or node.number("axis", 1) not in (1, 1 - facts.rank):
        return None
    return Linear(node.input(0), partial(Flatten, _fixed(facts))) if known.is_floating(node.input(0)) else None


def _fixed(facts: Facts) -> tuple[int, ...] | None:
    """The spatial sizes, if all of them are fixed."""
    sizes = (facts.shape or ())[2:]
    fixed = tuple(size for size in sizes if size is not None)
    return fixed if fixed and len(fixed) == len(sizes) else None


def _reshape(node: OperatorNode, known: Known) -> Linear | None:
    """To [N, rest], where the file says so for every N: a flattening."""
    source = node.input(0)
    facts, shape = known.facts(source), known.constants.integers(node.input(1))
    if facts.shape is None or len(facts.shape) < 3 or shape is None or len(shape) != 2 or node.number("allowzero", 0):
        return None
    rest = 1
    for size in facts.shape[1:]:
        rest = 0 if size is None else rest * size  # 0: not known
    batch = facts.shape[0]
    keeps_batch = shape[0] in (0, batch) and shape[0] is not None
    keeps_rest = rest != 0 and shape[1] == rest
    flattens = (keeps_batch and (shape[1] == -1 or keeps_rest)) or (shape[0] == -1 and keeps_rest)
    return Linear(source, partial(Flatten, _fixed(facts))) if flattens and known.is_floating(source) else None


def _depth_to_space(node: OperatorNode, known: Known) -> Linear | None:
    """In torch's order of the channels, which is not the default."""
    if node.word("mode", "DCR") != "CRD" or known.facts(node.input(0)).rank != 4:
        return None
    return Linear(node.input(0), partial(PixelShuffle, int(node.number("blocksize", 1))))


READERS: dict[str, Reader] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "DepthToSpace": _depth_to_space,
}
