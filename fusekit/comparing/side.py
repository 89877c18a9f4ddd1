"""One of two models to compare: its graph, and what can be read of it without running it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from onnx import NodeProto
from torch import fx, nn

from fusekit.capture import capture
from fusekit.checkpoint import Kind, recognise
from fusekit.checkpoint.load import load
from fusekit.errors import CaptureError, FusekitError
from fusekit.grafting import inputs_for, sizes_of
from fusekit.grafting.importing import SPELLING, import_file
from fusekit.grafting.model_file import ModelFile
from fusekit.ir import Graph, known
from fusekit.ir.spellings import SPELLINGS
from fusekit.ir.survey import survey
from fusekit.model import Inputs
from fusekit.model.own_copy import own_copy
from fusekit.report import Box, Drawing, Totals
from fusekit.runtimes.file_size import file_size, numbers_of, operators_of
from fusekit.runtimes.onnx_runtime import ONNX_RUNTIME

Source = nn.Module | str | Path


@dataclass(frozen=True, eq=False)
class Side:
    """A model as a graph.

    `name`: what it is called in texts; `graph`: its operators; `size`, `drawing`: of the graph; `module`: the module
    that it is, or None; `path`: the ONNX file that it is, or None; `values`: the names of the file's values, by the ids
    of their boxes; `lines`: where the model's source is known, FILE:LINE by the id of the box.
    """

    name: str
    graph: Graph
    size: Totals
    drawing: Drawing
    module: nn.Module | None = None
    path: Path | None = None
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> dict[str, fx.Node]:
        """The nodes of the graph, by the ids of their boxes."""
        return {node.name: node for node in self.graph.nodes}

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """The operators that are drawn, by id, in the order in which they run."""
        return {box.id: box for box in self.drawing.boxes}

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """The boxes that read each box."""
        found: dict[str, list[str]] = {name: [] for name in self.boxes}
        for box in self.drawing.boxes:
            for name in box.inputs:
                found[name].append(box.id)
        return found


@contextmanager
def open_sides(before: Source, after: Source, example_inputs: object) -> Iterator[tuple[Side, Side]]:
    """A context manager: both models as graphs. Within it, what was read of a file has a meaning.

    Args:
        before, after: modules, ONNX files, or archives of torch.export.
        example_inputs: what they are run on; None: sizes stay unknown where a file does not declare them.

    Raises CheckpointError for a file of another kind, CaptureError for a module that cannot be traced as a whole.
    """
    with SPELLINGS.extended(SPELLING):
        inputs = None if example_inputs is None else Inputs.of(example_inputs)
        yield _side(before, inputs), _side(after, inputs)


def opened(source: Source) -> nn.Module | ModelFile:
    """A module as it is, an archive as the module in it, a file as one. Raises CheckpointError for anything else."""
    if isinstance(source, nn.Module):
        return source
    path = Path(source)
    if recognise(path).kind is Kind.ONNX:
        return ModelFile.read(path)
    return load(path)


def name_of(source: Source) -> str:
    """What a model is called in texts: the file's name, or the class."""
    return type(source).__name__ if isinstance(source, nn.Module) else Path(source).name


def _side(source: Source, inputs: Inputs | None) -> Side:
    found = opened(source)
    if isinstance(found, ModelFile):
        return _of_file(name_of(source), found, inputs)
    return _of_module(name_of(source), found, inputs, None if isinstance(source, nn.Module) else Path(source))


def _of_module(name: str, module: nn.Module, inputs: Inputs | None, path: Path | None) -> Side:
    try:
        graph = capture(own_copy(module), inputs).graph
    except CaptureError as error:
        told = f"{name} cannot be read as one graph ({error}); compare ONNX files made of it"
        raise FusekitError(told) from error
    _share(graph, module)
    size, drawing = survey(graph)
    size = Totals(size.operators, size.parameters, size.macs, None if path is None else path.stat().st_size)
    lines = {node.name: known(node).line for node in graph.nodes if known(node).line[:1] not in ("", "<")}
    return Side(name, graph, size, drawing, module, lines=lines)


def _share(graph: Graph, module: nn.Module) -> None:
    """Give the graph, which was made of a copy, the weights of the module itself. Nobody writes to either."""
    own = dict((*module.named_parameters(), *module.named_buffers()))
    for name, value in graph.constants.items():
        weight = own.get(name)
        if weight is not None and weight.dtype == value.dtype and torch.equal(weight, value):
            graph.constants[name] = weight.detach()


def _of_file(name: str, file: ModelFile, inputs: Inputs | None) -> Side:
    imported = import_file(file, _sizes(file, inputs))
    size, drawing = survey(imported.graph)
    total = file_size(file.path, Totals(operators_of(file.graph), numbers_of(file.graph), size.macs))
    # The file itself is not kept: its weights are in the graph already.
    values = {node.name: value for node, value in imported.names.items()}
    lines = {node.name: line for node, (*_, at) in imported.origin.items() if (line := _line(file.graph.node[at]))}
    return Side(name, imported.graph, total, drawing, None, file.path, values, lines)


def _line(node: NodeProto) -> str:
    """FILE:LINE of the last frame of the model's own that torch's exporter noted; "" without one. Files of fusekit have
    none."""
    traces = (each.value for each in node.metadata_props if each.key.endswith("stack_trace"))
    lines = re.findall(r'File "(.+?)", line (\d+)', next(traces, ""))
    own = [line for line in lines if "/torch/" not in line[0].replace("\\", "/")]
    return ":".join((own or lines)[-1]) if lines else ""


def _sizes(file: ModelFile, inputs: Inputs | None) -> dict[str, tuple[int, ...]]:
    """The sizes of the inputs by name: of the given ones, else of what can be drawn from what the file declares."""
    running = ONNX_RUNTIME.load(file.path)
    if inputs is None:
        try:
            return sizes_of(*inputs_for(running, None))
        except FusekitError:  # graphs can be compared without being run
            return {}
    names = [*(f"input_{place}" for place in range(len(inputs.args))), *inputs.kwargs]
    tensors = inputs.tensors()
    return {port: tuple(tensors[place].shape) for port, place in running.assign(inputs, names).items()}
