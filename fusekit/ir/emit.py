"""From a Graph back to an nn.Module: torch.nn layers under readable names, with parameters that train.

Convolutions, linear layers and batch norms become the layers of torch.nn again, at the paths they came from; what was
called as a module still is; what remains of constants keeps its name. Two nodes that read the same constants the same
way share one layer.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fusekit.algebra import BorderedConv, Conv, SpectralConv
from fusekit.algebra.bordered import bordered_conv
from fusekit.algebra.transforms.spectral_conv import spectral_conv
from fusekit.ir.facts import facts, known, start_afresh, where
from fusekit.ir.graph import Graph
from fusekit.ir.read import bind, read
from fusekit.nn import (
    BorderedConv1d,
    BorderedConv2d,
    BorderedConv3d,
    FFTConv1d,
    FFTConv2d,
    FFTConv3d,
    FFTConvTranspose1d,
    FFTConvTranspose2d,
    FFTConvTranspose3d,
)
from fusekit.report import Report

aten = torch.ops.aten

_CONV = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSE = (None, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BORDERED = {1: BorderedConv1d, 2: BorderedConv2d, 3: BorderedConv3d}
_FFT = (None, FFTConv1d, FFTConv2d, FFTConv3d)
_FFT_TRANSPOSE = (None, FFTConvTranspose1d, FFTConvTranspose2d, FFTConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORM_OF_RANK = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


class OptimizedModule(fx.GraphModule):
    """The optimized program. It computes what the original does in eval mode, in either mode: `train()` does not
    bring back dropout or batch statistics, but gradients flow and parameters train. `report` says what was done."""

    report: Report

    def train(self, mode: bool = True) -> "OptimizedModule":
        super().train(False)
        return self

    def __copy__(self) -> "OptimizedModule":
        return self._like(OptimizedModule(self, self.graph))

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedModule":
        return self._like(super().__deepcopy__(memo))  # type: ignore[arg-type]

    def _like(self, copied: "OptimizedModule") -> "OptimizedModule":
        """A copy under the same name and report, which torch forgets."""
        type(copied).__name__ = type(self).__name__  # every GraphModule has a class of its own
        if "report" in self.__dict__:
            copied.report = self.report
        return copied.train(False)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()
        return _unpickle, (rebuild, arguments, type(self).__name__)


def _unpickle(rebuild: Any, arguments: tuple[Any, ...], name: str) -> OptimizedModule:
    plain = rebuild(*arguments)
    module = OptimizedModule(plain, plain.graph, name)
    if "report" in arguments[0]:
        module.report = arguments[0]["report"]
    return module.train(False)


# what a user may call a module of his own, but a module of the optimized program cannot be called
_RESERVED = {"report", "meta", *(set(dir(fx.GraphModule)) - set(dir(nn.Module)))}


def emit(graph: Graph) -> OptimizedModule:
    """The graph as a module. The graph is not changed, but its parameters are shared with the module."""
    return _Emitter(graph).run()


class _Emitter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.root = nn.Module()
        self.leaves: set[str] = set()
        self.inner: set[str] = set()
        self.layers: dict[Any, str] = {}
        self.parameters: dict[int, Tensor] = {}

    def run(self) -> OptimizedModule:
        nodes = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        placed = {path: self._place(path, module) for path, module in self.graph.modules.items()}
        plans = {node: plan for node in self.graph.nodes if (plan := self._layer_at(node)) is not None}
        names: dict[str, str] = {}
        for node in self.graph.nodes:
            if node in plans:
                path, source = plans[node]
                copies[node] = nodes.call_module(path, (copies[source],))
            elif node.op == "get_attr" and node.target in self.graph.constants:
                if any(user not in plans for user in node.users):
                    name = names.get(str(node.target)) or self._place_constant(str(node.target))
                    names[str(node.target)] = name
                    copies[node] = nodes.get_attr(name)
            else:
                copies[node] = nodes.node_copy(node, lambda n: copies[n])
                if node.op == "call_module":
                    copies[node].target = placed[str(node.target)]
            if node in copies:
                start_afresh(copies[node])
        return OptimizedModule(self.root, nodes, self.graph.name).train(False)

    def _place(self, path: str, value: nn.Module | Tensor) -> str:
        """Put a module or a tensor at a path of the root, or at the next free path like it."""
        head, dot, rest = path.partition(".")
        path = f"{head}_{dot}{rest}" if head in _RESERVED else path
        free, number = path, 0
        while self._taken(free):
            number += 1
            free = f"{path}_{number}"
        *parents, name = free.split(".")
        owner = self.root
        for depth, parent in enumerate(parents):
            self.inner.add(".".join(parents[: depth + 1]))
            if parent not in owner._modules:
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        self.leaves.add(free)
        if isinstance(value, nn.Module):
            owner.add_module(name, value)
        elif isinstance(value, nn.Parameter):
            owner.register_parameter(name, value)
        else:
            owner.register_buffer(name, value)
        return free

    def _taken(self, path: str) -> bool:
        """A path is taken by itself, by something inside it, or by a leaf that would have to contain it."""
        parts = path.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        own = hasattr(nn.Module, parts[-1])  # `to`, `float`: what every module has
        return own or path in self.leaves or path in self.inner or any(parent in self.leaves for parent in above)

    def _place_constant(self, name: str) -> str:
        value = self.graph.constants[name]
        inside = any(".".join(name.split(".")[:depth]) in self.leaves for depth in range(1, name.count(".") + 1))
        return self._place("constants." + name.replace(".", "_") if inside else name, self._parameter(value))

    def _parameter(self, value: Tensor) -> Tensor:
        """A parameter if it is one or trains; the same object for the same value, so that ties stay ties."""
        if isinstance(value, nn.Parameter) or not value.requires_grad:
            return value
        return self.parameters.setdefault(id(value), nn.Parameter(value.detach()))

    def _layer_at(self, node: fx.Node) -> tuple[str, fx.Node] | None:
        """The path of the layer that a node becomes, and the node's input; None if it stays an operator."""
        if node.op != "call_function":
            return None
        if node.target is bordered_conv:
            return self._bordered(node)
        if node.target is spectral_conv:
            return self._spectral(node)
        if (layer := known(node).layer) is not None:
            key: Any = id(layer)
            self.layers[key] = self.layers.get(key) or self._place(where(node), layer)
            return self.layers[key], node.all_input_nodes[0]
        arguments = bind(node) if isinstance(node.target, torch._ops.OpOverload) else {}
        tensors = {k: v for k, v in arguments.items() if k in ("weight", "bias", "running_mean", "running_var")}
        if any(v is not None and self.graph.constant(v) is None for v in tensors.values()):
            return None
        settings = tuple(str(v) for k, v in arguments.items() if k not in (*tensors, "input"))
        key = (node.target, *(v.target if v is not None else None for v in tensors.values()), settings)
        if key not in self.layers:
            layer = self._batch_norm(node, arguments) if node.target is aten.batch_norm.default else self._conv(node)
            if layer is None:
                return None
            self.layers[key] = self._place(where(node), layer)
        return self.layers[key], arguments["input"]

    def _bordered(self, node: fx.Node) -> tuple[str, fx.Node] | None:
        reading = read(self.graph, node)
        if reading is None or not isinstance(reading.map, BorderedConv):
            return None
        key = (node.target, node.args[1:])
        if key not in self.layers:
            layer = _BORDERED[reading.map.folded.n](reading.map)
            trains = any(bool(self.graph.constants[str(n.target)].requires_grad) for n in node.all_input_nodes[1:])
            self.layers[key] = self._place(where(node), layer.requires_grad_(trains))
        return self.layers[key], reading.source

    def _spectral(self, node: fx.Node) -> tuple[str, fx.Node] | None:
        reading = read(self.graph, node)
        if reading is None or not isinstance(reading.map, SpectralConv):
            return None
        conv, weights = reading.map.conv, dict[str, Any](zip(("weight", "bias"), node.args[1:3], strict=True))
        names = (n and n.target for n in weights.values())
        key = (node.target, *names, str(node.args[3:]))
        if key not in self.layers:
            alike = all(low == high for low, high in conv.padding)
            padding = tuple(low for low, _ in conv.padding) if alike else "same"
            layer = self._layer((_FFT_TRANSPOSE if conv.transposed else _FFT)[conv.n], conv, padding)
            self._fill(layer, weights, ("weight", "bias"))
            self.layers[key] = self._place(where(node), layer)
        return self.layers[key], reading.source

    def _conv(self, node: fx.Node) -> nn.Module | None:
        reading = read(self.graph, node)
        if reading is None or not isinstance(reading.map, Conv):
            return None
        conv, arguments = reading.map, bind(node)
        if "weight" not in arguments:
            return None
        given = arguments.get("padding")
        padding = given if isinstance(given, str) else tuple(low for low, _ in conv.padding)
        layer = self._layer((_CONV_TRANSPOSE if conv.transposed else _CONV)[conv.n], conv, padding)
        self._fill(layer, arguments, ("weight", "bias"))
        return layer

    @staticmethod
    def _layer(kind: Any, conv: Conv, padding: str | tuple[int, ...]) -> nn.Module:
        """A layer of this kind for a convolution, its parameters yet to be filled in."""
        options: dict[str, Any] = {"bias": conv.bias is not None, "device": "meta"}
        if conv.n == 0:
            return kind(conv.in_channels, conv.out_channels, **options)  # type: ignore[no-any-return]
        options |= {"stride": conv.stride, "padding": padding, "dilation": conv.dilation, "groups": conv.groups}
        options |= {"output_padding": conv.output_padding} if conv.transposed else {}
        return kind(conv.in_channels, conv.out_channels, conv.window, **options)  # type: ignore[no-any-return]

    def _batch_norm(self, node: fx.Node, arguments: dict[str, Any]) -> nn.Module | None:
        kind: Any = known(node).module
        kind = kind if kind in _NORMS else _NORM_OF_RANK.get(facts(arguments["input"]).rank or 0)
        mean = self.graph.constant(arguments["running_mean"])
        both = (arguments["weight"] is None) == (arguments["bias"] is None)
        if kind is None or mean is None or arguments["running_var"] is None or arguments["training"] or not both:
            return None
        affine = arguments["weight"] is not None
        layer: nn.Module = kind(
            len(mean), eps=arguments["eps"], momentum=arguments["momentum"], affine=affine, device="meta"
        )
        layer.num_batches_tracked = torch.zeros((), dtype=torch.long, device=mean.device)
        self._fill(layer, arguments, ("weight", "bias", "running_mean", "running_var"))
        return layer

    def _fill(self, layer: nn.Module, arguments: dict[str, Any], names: tuple[str, ...]) -> None:
        for name in names:
            value = self.graph.constant(arguments[name])
            if value is None:
                continue
            if name in layer._parameters:
                given = self._parameter(value)
                train = value.requires_grad
                given = given if isinstance(given, nn.Parameter) else nn.Parameter(given.detach(), requires_grad=train)
                setattr(layer, name, given)
            else:
                layer._buffers[name] = value.detach()
