"""What is known of the tensors in a graph: by running it on fake tensors where there are example inputs, by what the
operators say of themselves where there are none.

Without example inputs a convolution is assumed to be fed with a batch (`(N, C, *spatial)`), as its layer documents;
sizes are only what weights fix: channels. What is not known stays unknown, and what needs it is refused.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from fusekit.algebra import Conv, Map
from fusekit.ir import Facts, Graph, Known, evaluate, known, note
from fusekit.ir.facts import UNKNOWN, facts
from fusekit.ir.read import read
from fusekit.ir.spelling import is_spelled, spell
from fusekit.ir.stateless import leaves_no_trace
from fusekit.model import Inputs, evaluation_copy, quiet
from fusekit.model.alone import alone

_SAME_SHAPE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardtanh, nn.PReLU, nn.Softplus, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm),
)
_SAME_CHANNELS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.Upsample),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_SAME_SHAPE_METHODS = {"relu", "sigmoid", "tanh", "clamp", "contiguous", "clone"}
_SAME_SHAPE_CALLS = {torch.relu, torch.sigmoid, torch.tanh, nn.functional.relu, nn.functional.gelu, nn.functional.silu}
_NORM_RANK: dict[Any, int] = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}


def run_on_fakes(graph: Graph, inputs: Inputs, *, shapes_only: bool = False) -> None:
    """Concrete shapes of every node for the example inputs, and facts from them unless `shapes_only`; stops quietly
    where a node cannot be faked."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    names = [str(node.target) for node in placeholders]
    given = {**dict(zip(names, inputs.args, strict=False)), **inputs.kwargs}
    # a module of the user's may keep what it sees: it must not keep fakes
    copies = {k: m if is_spelled(m) or leaves_no_trace(m) else evaluation_copy(m) for k, m in graph.modules.items()}
    on_copies = replace(graph, modules=copies)
    with alone(), FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad(), quiet():

        def fake(value: Any) -> Any:
            return pytree.tree_map_only(Tensor, mode.from_tensor, value)

        values: dict[fx.Node, Any] = {}
        for node in placeholders:
            if str(node.target) in given:
                values[node] = fake(given[str(node.target)])
            elif node.args:
                values[node] = node.args[0]
            else:
                return
        try:
            for node in graph.nodes:
                if node.op == "get_attr":
                    values[node] = fake(graph.constants[str(node.target)])
                elif node.op != "output":
                    evaluate(on_copies, [node], values)
        except Exception:  # an operator without a fake kernel: what came before it is known
            pass
        for node, value in values.items():
            if isinstance(value, Tensor):
                shape = tuple(value.shape)
                note(node, Known(None if shapes_only else Facts(shape, value.dtype), shape))


def spell_and_infer(graph: Graph) -> None:
    """Bring each node, in order, to the canonical spelling, and pass on what is known of its inputs."""
    for node in list(graph.nodes):
        spelled = spell(graph, node)
        if facts(spelled) is UNKNOWN:
            note(spelled, Known(facts=infer(graph, spelled)))


def norms_of_unknown_rank(graph: Graph) -> list[fx.Node]:
    """Batch norms over (N, C) or (N, C, L), whichever comes in: which axis they act on is not the layer's to say."""
    norms = (node for node in graph.nodes if node.target is torch.ops.aten.batch_norm.default)
    return [node for node in norms if facts(node.args[0]).rank is None and facts(node).rank is None]


def insists_on_rank(node: fx.Node) -> bool:
    """Whether the node comes of a layer that takes tensors of one rank only, and raises at any other."""
    return known(node).module in _NORM_RANK


def infer(graph: Graph, node: fx.Node) -> Facts:
    """What the operator says of its output, given what is known of its input."""
    if node.op == "get_attr":
        value = graph.constants[str(node.target)]
        return Facts(tuple(value.shape), value.dtype)
    source = next((arg for arg in node.args if isinstance(arg, fx.Node)), None)
    given = facts(source)
    if node.op == "call_module":
        return _of_module(graph.modules[str(node.target)], given)
    if node.op == "call_method" and node.target in _SAME_SHAPE_METHODS:
        return given
    if node.op != "call_function":
        return UNKNOWN
    if node.target in _SAME_SHAPE_CALLS:
        return given
    if rank := _NORM_RANK.get(known(node).module):
        # the layer itself insists on its rank and its channels
        mean = graph.constant(node.args[3])
        return given if given.rank else Facts((None, len(mean), *(None,) * (rank - 2)), mean.dtype)  # type: ignore[arg-type,union-attr]
    if node.target is torch.ops.aten.cat.default:
        return _of_cat(node)
    reading = read(graph, node)
    if reading is not None:
        return _of_map(reading.known, facts(reading.source))
    operands = [facts(arg) for arg in node.args if isinstance(arg, fx.Node)]
    if node.target is torch.ops.aten.add.Tensor and len(operands) == 2 and operands[0] == operands[1]:
        return operands[0]
    return UNKNOWN


def _of_cat(node: fx.Node) -> Facts:
    """Sizes that all parts agree on; along the axis of the concatenation their sum."""
    parts = [facts(part) for part in node.args[0]]  # type: ignore[union-attr]
    shapes = [part.shape for part in parts if part.shape is not None]
    dim: Any = node.args[1] if len(node.args) > 1 else 0
    if len(shapes) < len(parts) or len({len(shape) for shape in shapes}) != 1:
        return UNKNOWN
    sizes = [axis[0] if len(set(axis)) == 1 else None for axis in zip(*shapes, strict=True)]
    joined = [shape[dim] for shape in shapes]
    sizes[dim] = None if None in joined else sum(size for size in joined if size is not None)
    return Facts(tuple(sizes), parts[0].dtype)


def _of_map(value: Map | None, source: Facts) -> Facts:
    """What the map says of sizes, as far as they hang on what is known; an operator that is not read keeps them, as
    far as anybody can say."""
    if value is None:
        return source
    conv: Conv | None = value.plain()
    dtype = value.constants()[0].dtype if value.is_weighted() else source.dtype
    sizes = source.shape
    if sizes is None and conv is not None and conv.n:
        sizes = (None, conv.in_channels, *(None,) * conv.n)  # a batch, as its layer documents
    try:
        return Facts(None if sizes is None else value.output_sizes(sizes), dtype)
    except (ValueError, IndexError):  # it has no value there: whoever runs the model is told so by torch
        return Facts(None, dtype)


def _of_module(module: nn.Module, source: Facts) -> Facts:
    if type(module) in _SAME_SHAPE:
        return source
    if type(module) in _SAME_CHANNELS and source.shape is not None:
        return Facts((*source.shape[:2], *(None,) * (len(source.shape) - 2)), source.dtype)
    if type(module) is nn.Flatten and module.start_dim == 1 and module.end_dim == -1:
        return Facts((None, None), source.dtype)
    return UNKNOWN
