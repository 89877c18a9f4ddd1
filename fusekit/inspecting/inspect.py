"""Lists the convolutions and linear layers of a model with their geometry and cost, and what the passes would do."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from torch import nn

from fusekit.algebra import Conv
from fusekit.api import optimize
from fusekit.capture import capture
from fusekit.errors import CaptureError
from fusekit.files import scratch
from fusekit.grafting import as_graph, inputs_for, optimize_onnx, sizes_of
from fusekit.ir import Graph, known, where
from fusekit.ir.read import read
from fusekit.ir.receptive_field import receptive_fields
from fusekit.model import Inputs
from fusekit.model.alone import alone
from fusekit.model.own_copy import own_copy
from fusekit.report import Report
from fusekit.report.plain import plain
from fusekit.runtimes import runtime
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer. `field`: the receptive field of its output. `macs`: multiply-accumulates, known
    only with example inputs."""

    where: str
    kind: str
    channels: tuple[int, int]
    groups: int
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    field: tuple[int, ...] | None
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class Inspection:
    """The layers in execution order, and the report of a trial optimization whose result was thrown away."""

    layers: tuple[Layer, ...]
    report: Report

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(asdict(self), indent=indent)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("layer", "kind", "channels", "kernel", "stride", "padding", "dilation", "groups"):
            table.add_column(heading, overflow="fold", no_wrap=heading != "layer")
        for heading in ("field", "parameters", "MACs"):
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in self.layers:
            sides = [str(low) if low == high else f"{low}+{high}" for low, high in layer.padding]
            table.add_row(
                layer.where,
                layer.kind,
                f"{layer.channels[0]} > {layer.channels[1]}",
                _sizes(layer.window),
                _sizes(layer.stride),
                "x".join(dict.fromkeys(sides)) if len(set(sides)) == 1 else "x".join(sides),
                _sizes(layer.dilation),
                str(layer.groups),
                "?" if layer.field is None else _sizes(layer.field),
                f"{layer.parameters:,}",
                "?" if layer.macs is None else f"{layer.macs:,}",
            )
        return Group(table, "", self.report)

    def __str__(self) -> str:
        return plain(self, 160)


@alone()
def inspect(model: nn.Module, example_inputs: object = None, target: str = "torch") -> Inspection:
    """The layers that fusekit finds in the model, and the report of what `optimize` would do. The model is not changed.

    Raises CaptureError if neither the model nor any of its sub-modules can be captured.
    """
    inputs = None if example_inputs is None else Inputs.of(example_inputs)
    report: Report = optimize(model, inputs, target=target, measure=False).report  # type: ignore[assignment]
    layers: list[Layer] = []
    for path, module in _capturable(own_copy(model), inputs, ""):
        layers += _layers(capture(module, inputs if not path else None).graph, path)
    return Inspection(tuple(layers), report)


@alone()
def inspect_file(path: str | Path, example_inputs: object = None, target: str = ONNX_RUNTIME.name) -> Inspection:
    """The same of an ONNX file at `path`: the layers with constant weights, and what `optimize_onnx` would do.

    Raises CheckpointError or FusekitError if it is no file that runs on the inputs.
    """
    with scratch() as room:
        verdict = optimize_onnx(path, room / "thrown_away.onnx", example_inputs, target=target, measure=False)
    inputs, names = inputs_for(runtime(target).load(path), example_inputs)
    with as_graph(path, sizes_of(inputs, names)) as graph:
        layers = _layers(graph, "")
    return Inspection(tuple(layers), verdict.report or Report())


def _capturable(module: nn.Module, inputs: Inputs | None, path: str) -> list[tuple[str, nn.Module]]:
    """The module if it can be captured, else those of its descendants that can."""
    try:
        capture(module, inputs)
    except CaptureError:
        children = module.named_children()
        return [found for name, child in children for found in _capturable(child, None, f"{path}{name}.")]
    return [(path, module)]


def _layers(graph: Graph, prefix: str) -> list[Layer]:
    fields = receptive_fields(graph)
    layers = []
    for node in graph.nodes:
        reading = read(graph, node)
        value = None if reading is None else reading.known
        conv: Conv | None = None if value is None else value.plain()
        if reading is None or value is None or conv is None:
            continue
        shape, field = known(reading.source).shape, fields.get(node)
        layers.append(
            Layer(
                prefix + where(node),
                "linear" if conv.n == 0 else f"conv{'T' if conv.transposed else ''}{conv.n}d",
                (conv.in_channels, conv.out_channels),
                conv.groups,
                conv.window,
                conv.stride,
                conv.padding,
                conv.dilation,
                None if field is None else field.extent,
                sum(constant.numel() for constant in conv.constants()),
                None if shape is None else value.macs(shape),
            )
        )
    return layers


def _sizes(sizes: tuple[int, ...]) -> str:
    """Sizes as text: "3" if all are 3, "1x3" if they differ, "-" if there are none."""
    return "-" if not sizes else str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))
