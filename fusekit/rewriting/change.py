"""What a rewrite made of what, in words for the report: ("5 branches", "1 convolution")."""

from collections import Counter
from collections.abc import Sequence

from torch import fx

from fusekit.ir import known
from fusekit.ir.graph import operator_name
from fusekit.rewriting.pattern import Match

_NOUNS = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), "convolution"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), "transposed convolution"),
    "linear": "linear layer",
    "batch_norm": "batch norm",
    "constant_pad_nd": "pad",
    **dict.fromkeys(("bordered_conv1d", "bordered_conv2d", "bordered_conv3d", "bordered_conv"), "bordered convolution"),
    "Conv": "convolution",
    "ConvTranspose": "transposed convolution",
    "Gemm": "linear layer",
    "BatchNormalization": "batch norm",
    "MatMul": "product with a matrix",
}
_SILENT = "getitem"  # takes a part of a result, computes nothing


def change(match: Match, new: Sequence[fx.Node]) -> tuple[str, str]:
    """(what was there, what replaced it). `new`: the nodes that were written."""
    if match.branches:
        before = counted(len(match.branches), "branch")
    else:
        before = listed(Counter(noun(node) for node in match.nodes if node.op != "get_attr"))
    made = Counter(noun(node) for node in new if node.op != "get_attr" and operator_name(node) != _SILENT)
    constants = sum(node.op == "get_attr" for node in new)
    return before, listed(made) or (counted(constants, "constant") if constants else "nothing")


def noun(node: fx.Node) -> str:
    """The name of an operator as people say it."""
    name = known(node).operator or operator_name(node)
    return _NOUNS.get(name, name.strip("_").replace("_", " "))


def listed(counts: Counter[str]) -> str:
    """1 convolution + 2 adds"""
    return " + ".join(counted(count, name) for name, count in counts.items())


def counted(count: int, name: str) -> str:
    """The count with the name in the singular or plural."""
    if count == 1:
        return f"1 {name}"
    return f"{count} {name}{'es' if name.endswith(('ch', 's', 'sh', 'x')) else 's'}"
