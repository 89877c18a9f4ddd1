"""Brings nodes to the canonical spelling: a call of an ATen overload, with constants as `get_attr` arguments.

Layers, functions, operators and methods with the same meaning become the same call. How a layer is written is in the
file of its kind in `spellings`. For functions, the table at the end of this file holds one small function for each
family; its signature is that of the torch function it replaces. Anything else stays as it was.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from fusekit.ir.facts import Known, facts, known, note
from fusekit.ir.graph import Graph
from fusekit.ir.spellings import SPELLINGS
from fusekit.ir.spellings.batch_norm import instance_norm_call, norm_call
from fusekit.ir.spellings.conv import conv_call, transposed_call
from fusekit.ir.spellings.rearranged import mean_call, nearest_call, pool_call
from fusekit.ir.spellings.table import Call, CalledLayer
from fusekit.model import overridden

aten = torch.ops.aten

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(module: nn.Module) -> bool:
    """True if a hook is registered on this module itself (hooks of its sub-modules do not count)."""
    return any(getattr(module, hooks, None) for hooks in HOOKS)


def is_spelled(module: nn.Module) -> bool:
    """True if the layer can be replaced by a call of an operator.

    False for a subclass of a known layer and for a layer with an overridden method: they may do more, so the tracer
    traces into them. False for a layer with hooks, because it must be called for the hooks to run.
    """
    return not has_hooks(module) and not overridden(module) and SPELLINGS.caller(type(module)) is not None


def spell(graph: Graph, node: fx.Node) -> fx.Node:
    """Bring a node to the canonical spelling and return its replacement; the node itself if no table knows it."""
    with graph.fx.inserting_before(node):
        call = _spell_module(graph, node) if node.op == "call_module" else _spell_call(graph, node)
        if call is None:
            return node
        new = graph.fx.call_function(*call)
    note(new, known(node))
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        # Nothing can be folded into a layer without weights. Unless a rewrite replaces it, it is emitted unchanged.
        note(new, Known(module=SPELLINGS.called_as(type(module)), layer=None if any(module.state_dict()) else module))
    node.replace_all_uses_with(new)
    graph.fx.erase_node(node)
    return new


def _spell_module(graph: Graph, node: fx.Node) -> Call | None:
    module = graph.modules[str(node.target)]
    caller = SPELLINGS.caller(type(module))
    if caller is None or not is_spelled(module) or len(node.args) + len(node.kwargs) != 1:
        return None  # for example a transposed convolution that is called with an output size
    x = node.args[0] if node.args else next(iter(node.kwargs.values()))
    return caller(CalledLayer(graph, node, module, x))


def _spell_call(graph: Graph, node: fx.Node) -> Call | None:
    if node.op not in ("call_function", "call_method"):
        return None
    speller = _SPELLERS.get(node.target)
    if speller is None:
        return None
    try:
        call = speller(*node.args, **node.kwargs)
    except TypeError:
        return None  # called with arguments of another overload
    if call is not None and call[0] in _ARITHMETIC and not _is_tensor_arithmetic(graph, call):
        return None
    return call


def _is_tensor_arithmetic(graph: Graph, call: Call) -> bool:
    """True if an operand is known to be a tensor. Graphs compute with plain Python numbers too, for example with sizes,
    and those must not become ATen calls."""
    operands = call[1][:2]
    return any(facts(operand).dtype is not None or graph.constant(operand) is not None for operand in operands)


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Call | None:
    return None if training or inplace else (aten.dropout.default, (input, p, False))


def _pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Call:
    return aten.pad.default, (input, list(pad), mode, value)


def _linear(input: Any, weight: Any, bias: Any = None) -> Call:
    return aten.linear.default, (input, weight, bias)


def _binary(overload: Any) -> Callable[..., Call | None]:
    def speller(input: Any, other: Any) -> Call | None:
        swap = not isinstance(input, fx.Node) and isinstance(other, fx.Node)
        if swap and overload is aten.sub.Tensor:
            return aten.rsub.Scalar, (other, input)
        if swap and overload is aten.div.Tensor:
            return None
        return overload, ((other, input) if swap else (input, other))

    return speller


def _add(input: Any, other: Any, *, alpha: float = 1) -> Call | None:
    if alpha == 1:
        return _binary(aten.add.Tensor)(input, other)
    return (aten.add.Tensor, (input, other), {"alpha": alpha}) if isinstance(input, fx.Node) else None


def _sub(input: Any, other: Any, *, alpha: float = 1) -> Call | None:
    if alpha == 1:
        return _binary(aten.sub.Tensor)(input, other)
    return (aten.sub.Tensor, (input, other), {"alpha": alpha}) if isinstance(input, fx.Node) else None


_ARITHMETIC = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.rsub.Scalar),
    aten.neg.default,
)
_mul, _div = _binary(aten.mul.Tensor), _binary(aten.div.Tensor)


def _flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Call:
    return aten.flatten.using_ints, (input, start_dim, end_dim)


def _reshape(input: Any, *sizes: Any) -> Call | None:
    """x.view(x.size(0), -1) and x.reshape(x.shape[0], -1) flatten."""
    shape = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    flattens = len(shape) == 2 and shape[1] == -1 and _is_batch(shape[0], input)
    return _flatten(input, 1) if flattens else None


def _is_batch(size: Any, x: Any) -> bool:
    """Whether a node is the size of the first axis of x."""
    if not isinstance(size, fx.Node) or not size.args:
        return False
    if size.target == "size":
        return size.args == (x, 0)
    shape = size.args[0]
    if size.target is not operator.getitem or size.args[1] != 0 or not isinstance(shape, fx.Node):
        return False
    return shape.args == (x, "shape") or (shape.target == "size" and shape.args == (x,))


def _permute(input: Any, *dims: Any) -> Call | None:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return (aten.permute.default, (input, list(order))) if all(isinstance(dim, int) for dim in order) else None


def _transpose(input: Any, dim0: Any, dim1: Any) -> Call | None:
    return (aten.transpose.int, (input, dim0, dim1)) if isinstance(dim0, int) and isinstance(dim1, int) else None


def _einsum(equation: Any, *operands: Any) -> Call | None:
    return (aten.einsum.default, (equation, list(operands))) if isinstance(equation, str) else None


def _mean(input: Any, dim: Any = None, keepdim: bool = False) -> Call | None:
    if dim is None:
        return None
    return aten.mean.dim, (input, list(dim) if isinstance(dim, tuple | list) else [dim], keepdim)


def _layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Call:
    return aten.layer_norm.default, (input, list(normalized_shape), weight, bias, eps)


def _group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Call:
    return aten.group_norm.default, (input, num_groups, weight, bias, eps)


def _pixel_shuffle(input: Any, upscale_factor: int) -> Call:
    return aten.pixel_shuffle.default, (input, upscale_factor)


def _pixel_unshuffle(input: Any, downscale_factor: int) -> Call:
    return aten.pixel_unshuffle.default, (input, downscale_factor)


def _matmul(input: Any, other: Any) -> Call:
    return aten.matmul.default, (input, other)


def _flip(input: Any, *dims: Any) -> Call:
    return aten.flip.default, (input, list(dims[0]) if isinstance(dims[0], tuple | list) else list(dims))


def _index_select(input: Any, dim: Any, index: Any) -> Call:
    return aten.index_select.default, (input, dim, index)


def _channel_shuffle(input: Any, groups: Any) -> Call:
    return aten.channel_shuffle.default, (input, groups)


def _cat(tensors: Any, dim: int = 0) -> Call | None:
    return (aten.cat.default, (list(tensors), dim)) if isinstance(tensors, tuple | list) else None


def _neg(input: Any) -> Call:
    return aten.neg.default, (input,)


def _chunk(input: Any, chunks: Any, dim: Any = 0) -> Call | None:
    return (aten.chunk.default, (input, chunks, dim)) if isinstance(chunks, int) and isinstance(dim, int) else None


def _split(tensor: Any, split_size_or_sections: Any, dim: Any = 0) -> Call | None:
    sizes = split_size_or_sections
    if isinstance(sizes, int):
        return aten.split.Tensor, (tensor, sizes, dim)
    return (aten.split_with_sizes.default, (tensor, list(sizes), dim)) if isinstance(sizes, tuple | list) else None


_SPELLERS: dict[Any, Callable[..., Call | None]] = {
    **{getattr(F, f"conv{n}d"): partial(conv_call, n) for n in (1, 2, 3)},
    **{getattr(F, f"conv_transpose{n}d"): partial(transposed_call, n) for n in (1, 2, 3)},
    **{getattr(F, f"adaptive_avg_pool{n}d"): partial(mean_call, n) for n in (1, 2, 3)},
    **{getattr(F, f"avg_pool{n}d"): partial(pool_call, n) for n in (1, 2, 3)},
    F.batch_norm: norm_call,
    F.instance_norm: instance_norm_call,
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.transpose, "transpose", torch.swapaxes, "swapaxes"), _transpose),
    torch.einsum: _einsum,
    **dict.fromkeys((torch.matmul, operator.matmul, "matmul"), _matmul),
    F.interpolate: nearest_call,
    F.pixel_shuffle: _pixel_shuffle,
    F.pixel_unshuffle: _pixel_unshuffle,
    **dict.fromkeys((torch.flip, "flip"), _flip),
    **dict.fromkeys((torch.index_select, "index_select"), _index_select),
    F.channel_shuffle: _channel_shuffle,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    **dict.fromkeys((torch.chunk, "chunk"), _chunk),
    **dict.fromkeys((torch.split, "split"), _split),
    F.pad: _pad,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout), _dropout),
    **dict.fromkeys((operator.neg, torch.neg, torch.negative, "neg", "negative"), _neg),
    **dict.fromkeys((operator.add, torch.add, "add"), _add),
    **dict.fromkeys((operator.sub, torch.sub, torch.subtract, "sub"), _sub),
    **dict.fromkeys((operator.mul, torch.mul, torch.multiply, "mul"), _mul),
    **dict.fromkeys((operator.truediv, torch.div, torch.divide, torch.true_divide, "div"), _div),
}
