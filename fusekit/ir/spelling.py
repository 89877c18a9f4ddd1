"""One spelling for what fusekit reads: an ATen overload with its constants as `get_attr` arguments.

Layers, functions, operators and methods that mean the same become the same call. The table holds one small function
a family, whose signature is that of the torch callable it stands for; what is not in the table stays as it was.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.ir.facts import Known, facts, known, note
from fusekit.ir.graph import Graph
from fusekit.nn import FFTConv1d, FFTConv2d, FFTConv3d, FFTConvTranspose1d, FFTConvTranspose2d, FFTConvTranspose3d

aten = torch.ops.aten

_CONV = {1: aten.conv1d, 2: aten.conv2d, 3: aten.conv3d}
_CONV_TRANSPOSE = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input, 3: aten.conv_transpose3d.input}
_CONV_TYPES = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_TRANSPOSE_TYPES = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}
_FFT_TYPES = (FFTConv1d, FFTConv2d, FFTConv3d)
_FFT_TRANSPOSE_TYPES = (FFTConvTranspose1d, FFTConvTranspose2d, FFTConvTranspose3d)
_NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUT_TYPES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_PAD_TYPES = tuple(getattr(nn, f"{kind}Pad{n}d") for kind in ("Zero", "Constant") for n in (1, 2, 3))

_POOL_TYPES = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
_POOL = {1: aten.avg_pool1d.default, 2: aten.avg_pool2d.default, 3: aten.avg_pool3d.default}

_MEAN_TYPES = {
    nn.AdaptiveAvgPool1d: aten.adaptive_avg_pool1d.default,
    nn.AdaptiveAvgPool2d: aten.adaptive_avg_pool2d.default,
    nn.AdaptiveAvgPool3d: aten.adaptive_avg_pool3d.default,
}

Call = tuple[Any, tuple[Any, ...]] | tuple[Any, tuple[Any, ...], dict[str, Any]]


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_hooks(module: nn.Module) -> bool:
    """True if someone registered a hook on this very module."""
    return any(getattr(module, hooks, None) for hooks in HOOKS)


def is_spelled(module: nn.Module) -> bool:
    """True for the torch.nn layers of the table. Subclasses are entered by the tracer instead: they may do more; and
    what has hooks must be called."""
    if has_hooks(module):
        return False
    types = (
        *_CONV_TYPES,
        *_TRANSPOSE_TYPES,
        *_FFT_TYPES,
        *_FFT_TRANSPOSE_TYPES,
        *_NORM_TYPES,
        *_DROPOUT_TYPES,
        *_PAD_TYPES,
        *_POOL_TYPES,
        *_MEAN_TYPES,
        nn.PixelShuffle,
        nn.Flatten,
        nn.Linear,
        nn.Identity,
    )
    return type(module) in types


def spell(graph: Graph, node: fx.Node) -> fx.Node:
    """The node in the canonical spelling: itself where it is not in the table, else its replacement."""
    with graph.fx.inserting_before(node):
        call = _spell_module(graph, node) if node.op == "call_module" else _spell_call(graph, node)
        if call is None:
            return node
        new = graph.fx.call_function(*call)
    note(new, known(node))
    if node.op == "call_module":
        module = graph.modules[str(node.target)]
        # nothing to fold into a layer without weights: unless rewritten, it is emitted as it came
        note(new, Known(module=type(module), layer=None if any(module.state_dict()) else module))
    node.replace_all_uses_with(new)
    graph.fx.erase_node(node)
    return new


def _spell_module(graph: Graph, node: fx.Node) -> Call | None:
    path = str(node.target)
    module = graph.modules[path]
    if not is_spelled(module) or len(node.args) + len(node.kwargs) != 1:
        return None  # a transposed convolution called with an output size, say
    x = node.args[0] if node.args else next(iter(node.kwargs.values()))
    kind: Any = type(module)

    def own(name: str) -> fx.Node | None:
        value = getattr(module, name)
        if value is None:
            return None
        constant = graph.fx.create_node("get_attr", f"{path}.{name}")
        graph.constants[f"{path}.{name}"] = value
        return constant

    m: Any = module
    if kind in _FFT_TRANSPOSE_TYPES:
        pairs = tuple((amount, amount) for amount in m.padding)
        return spectral_conv, (
            *(x, own("weight"), own("bias"), m.stride, pairs, m.dilation, m.groups),
            *(True, m.output_padding),
        )
    if kind in _CONV_TYPES or kind in _FFT_TYPES:
        n, padding = len(m.kernel_size), m.padding
        if m.padding_mode != "zeros":
            x = graph.fx.call_function(aten.pad.default, (x, list(m._reversed_padding_repeated_twice), m.padding_mode))
            note(x, known(node))
            padding = (0,) * n
        if kind in _FFT_TYPES:
            pairs = _pairs(padding, m.kernel_size, m.dilation)
            return spectral_conv, (x, own("weight"), own("bias"), m.stride, pairs, m.dilation, m.groups)
        return _conv(n, x, own("weight"), own("bias"), m.stride, padding, m.dilation, m.groups)
    if kind in _TRANSPOSE_TYPES:
        geometry = (m.stride, m.padding, m.output_padding, m.groups, m.dilation)
        return _conv_transpose(_TRANSPOSE_TYPES[kind], x, own("weight"), own("bias"), *geometry)
    if kind is nn.Linear:
        return aten.linear.default, (x, own("weight"), own("bias"))
    if kind in _NORM_TYPES:
        if m.running_mean is None or m.running_var is None or m.training:
            return None  # normalises by the batch's own statistics
        values = (own("weight"), own("bias"), own("running_mean"), own("running_var"))
        return aten.batch_norm.default, (x, *values, False, m.momentum or 0.0, m.eps, True)
    if kind in _POOL_TYPES:
        divisor = getattr(m, "divisor_override", None)
        return _pool(
            _POOL_TYPES[kind], x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, divisor
        )
    if kind in _MEAN_TYPES:
        n = int(kind.__name__[-2])
        sizes = m.output_size if isinstance(m.output_size, tuple | list) else (m.output_size,) * n
        return (_MEAN_TYPES[kind], (x, list(sizes))) if None not in sizes else None
    if kind is nn.PixelShuffle:
        return aten.pixel_shuffle.default, (x, m.upscale_factor)
    if kind is nn.Flatten:
        return aten.flatten.using_ints, (x, m.start_dim, m.end_dim)
    if kind in _PAD_TYPES:
        return aten.pad.default, (x, list(m.padding), "constant", float(getattr(m, "value", 0.0)))
    if kind in _DROPOUT_TYPES:
        return None if m.training else (aten.dropout.default, (x, m.p, False))
    return aten.alias.default, (x,)


def _pairs(padding: Any, window: Any, dilation: Any) -> tuple[tuple[int, int], ...]:
    """(low, high) per axis; 'same' pads d (k - 1) in all, the odd one on the high side."""
    if isinstance(padding, str):
        totals = [0 if padding == "valid" else d * (k - 1) for d, k in zip(dilation, window, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((amount, amount) for amount in padding)


def _conv(
    n: int, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Call:
    overload = _CONV[n].padding if isinstance(padding, str) else _CONV[n].default
    amounts = padding if isinstance(padding, str) else _listed(padding)
    return overload, (x, weight, bias, _listed(stride), amounts, _listed(dilation), groups)


def _conv_transpose(
    n: int,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Call:
    geometry = (_listed(stride), _listed(padding), _listed(output_padding), groups, _listed(dilation))
    return _CONV_TRANSPOSE[n], (x, weight, bias, *geometry)


def _pool(
    n: int,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Call:
    sizes = (kernel_size, kernel_size if stride is None else stride, padding)
    spread = (values * n if len(values) == 1 else values for values in map(_listed, sizes))  # the exporter takes no [2]
    arguments = (x, *spread, ceil_mode, count_include_pad)
    return _POOL[n], arguments if n == 1 else (*arguments, divisor_override)


def _pool_of(n: int) -> Callable[..., Call]:
    def speller(input: Any, *args: Any, **kwargs: Any) -> Call:
        return _pool(n, input, *args, **kwargs)

    return speller


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _spell_call(graph: Graph, node: fx.Node) -> Call | None:
    if node.op not in ("call_function", "call_method"):
        return None
    speller = _SPELLERS.get(node.target)
    if speller is None:
        return None
    try:
        call = speller(*node.args, **node.kwargs)
    except TypeError:
        return None  # called with arguments that only another overload knows
    if call is not None and call[0] in _ARITHMETIC and not _is_tensor_arithmetic(graph, call):
        return None
    return call


def _is_tensor_arithmetic(graph: Graph, call: Call) -> bool:
    """Python numbers flow through graphs too; arithmetic is ATen's only if an operand is known to be a tensor."""
    operands = call[1][:2]
    return any(facts(operand).dtype is not None or graph.constant(operand) is not None for operand in operands)


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    if training or running_mean is None or running_var is None:
        return None
    return aten.batch_norm.default, (input, weight, bias, running_mean, running_var, False, momentum, eps, True)


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


def _conv_of(n: int) -> Callable[..., Call]:
    def speller(
        input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Call:
        return _conv(n, input, weight, bias, stride, padding, dilation, groups)

    return speller


def _conv_transpose_of(n: int) -> Callable[..., Call]:
    def speller(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Call:
        return _conv_transpose(n, input, weight, bias, stride, padding, output_padding, groups, dilation)

    return speller


_ARITHMETIC = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.rsub.Scalar),
    aten.neg.default,
)
_mul, _div = _binary(aten.mul.Tensor), _binary(aten.div.Tensor)


def _flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Call:
    return aten.flatten.using_ints, (input, start_dim, end_dim)


def _adaptive(n: int) -> Callable[..., Call | None]:
    def speller(input: Any, output_size: Any) -> Call | None:
        sizes = list(output_size) if isinstance(output_size, tuple | list) else [output_size] * n
        known = all(isinstance(size, int) for size in sizes)
        return (_MEAN_TYPES[_MEANS[n]], (input, sizes)) if known else None

    return speller


_MEANS: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def _mean(input: Any, dim: Any = None, keepdim: bool = False) -> Call | None:
    if dim is None:
        return None
    return aten.mean.dim, (input, list(dim) if isinstance(dim, tuple | list) else [dim], keepdim)


def _pixel_shuffle(input: Any, upscale_factor: int) -> Call:
    return aten.pixel_shuffle.default, (input, upscale_factor)


def _matmul(input: Any, other: Any) -> Call:
    return aten.matmul.default, (input, other)


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
    F.conv1d: _conv_of(1),
    F.conv2d: _conv_of(2),
    F.conv3d: _conv_of(3),
    F.conv_transpose1d: _conv_transpose_of(1),
    F.conv_transpose2d: _conv_transpose_of(2),
    F.conv_transpose3d: _conv_transpose_of(3),
    F.linear: _linear,
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.matmul, operator.matmul, "matmul"), _matmul),
    F.pixel_shuffle: _pixel_shuffle,
    F.adaptive_avg_pool1d: _adaptive(1),
    F.adaptive_avg_pool2d: _adaptive(2),
    F.adaptive_avg_pool3d: _adaptive(3),
    F.avg_pool1d: _pool_of(1),
    F.avg_pool2d: _pool_of(2),
    F.avg_pool3d: _pool_of(3),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    **dict.fromkeys((torch.chunk, "chunk"), _chunk),
    **dict.fromkeys((torch.split, "split"), _split),
    F.batch_norm: _batch_norm,
    F.pad: _pad,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout), _dropout),
    **dict.fromkeys((operator.neg, torch.neg, torch.negative, "neg", "negative"), _neg),
    **dict.fromkeys((operator.add, torch.add, "add"), _add),
    **dict.fromkeys((operator.sub, torch.sub, torch.subtract, "sub"), _sub),
    **dict.fromkeys((operator.mul, torch.mul, torch.multiply, "mul"), _mul),
    **dict.fromkeys((operator.truediv, torch.div, torch.divide, torch.true_divide, "div"), _div),
}
