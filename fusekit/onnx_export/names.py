"""Cleans up the exported graph: names that a user recognises, nothing that is not used.

    node         features.0/Conv          the module it came from, the operator
    initializer  features.0.weight        its state_dict name (`.T` appended where the exporter transposed it)
    output       output, output_0, logits its place in the model's output
    dimension    batch, height, x_dim1    its meaning, or the input it belongs to

The exporter's own records (stack traces with paths of the user's machine, the FX graph line by line) are removed.
"""

import ast
import re
from collections.abc import Collection, Iterable, Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript import optimizer

SCOPES = "pkg.torch.onnx.name_scopes"
NO_SCOPE = "_empty_nn_module_stack_from_metadata_hook"
SPATIAL = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}
# Folding one of these would replace a few numbers by a large tensor. Other nodes with constant inputs are arithmetic
# on weights.
GROWING = {"ConstantOfShape", "Expand", "Range", "Tile", "EyeLike", "OneHot", "Pad", "Resize", "QuantizeLinear"}
GROWING_LIMIT = 1024


def tidy(
    model: ir.Model, weights: Mapping[str, tuple[int, ...]], outputs: list[str], metadata: Mapping[str, str]
) -> None:
    """Rename, fold and remove records, in place. `weights`: the shapes of the state_dict; `outputs`: the names of the
    outputs in flattened order."""
    _tell_apart(model.graph)
    optimizer.fold_constants(model, should_fold=_is_weight_arithmetic)
    RemoveUnusedNodesPass()(model)
    graph = model.graph
    taken = {value.name or "" for value in graph.inputs}
    if len(outputs) == len(graph.outputs):
        _name_outputs(graph, outputs, taken)
    _name_weights(graph, weights)
    _share_constants(graph, weights)
    taken.update(graph.initializers)
    _name_nodes(graph, taken, weights)
    _name_dims(graph)
    _strip(model)
    model.metadata_props.update(metadata)


def _tell_apart(graph: ir.Graph) -> None:
    """Rename values that have the name of a weight. If such a value were folded, it would replace the weight."""
    taken = set(graph.initializers)
    for node in graph:
        for value in node.outputs:
            if value.name and value.name in graph.initializers:
                value.name = unique_name(value.name, taken)


def _is_weight_arithmetic(node: ir.Node) -> bool | None:
    """True: fold, whatever the size. None: use the optimizer's own rules, which do not fold large tensors."""
    if not node.inputs or any(value is None or value.const_value is None for value in node.inputs):
        return None
    return None if node.op_type in GROWING else True


def _name_outputs(graph: ir.Graph, names: Iterable[str], taken: set[str]) -> None:
    for value, name in zip(graph.outputs, names, strict=True):
        if value.producer() is not None and not value.is_graph_input():
            value.name = unique_name(name, taken)


def _name_weights(graph: ir.Graph, weights: Mapping[str, tuple[int, ...]]) -> None:
    """A constant that is a transposed weight gets the name of the weight with `.T`, so that it can still be found."""
    for node in graph:
        path = _module_path(node, weights)
        weight = f"{path}.weight" if path else "weight"
        for value in node.inputs:
            if value is None or not value.is_initializer() or value.name in weights or value.shape is None:
                continue
            shape = tuple(value.shape)
            if len(shape) == 2 and shape == weights.get(weight, ())[::-1] and f"{weight}.T" not in graph.initializers:
                value.name = f"{weight}.T"


def _share_constants(graph: ir.Graph, weights: Collection[str]) -> None:
    """Store equal constants once. Weights are not shared, even if equal, because users find them by their names."""
    kept: dict[tuple[object, ...], ir.Value] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or name.removesuffix(".T") in weights or value.is_graph_output() or value.is_graph_input():
            continue
        first = kept.setdefault((tensor.dtype, tuple(tensor.shape), tensor.tobytes()), value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)
            del graph.initializers[name]


def _name_nodes(graph: ir.Graph, taken: set[str], weights: Collection[str]) -> None:
    """Give each node and its output the same name. Names are unique in the whole model, subgraphs included."""
    kept = {id(value) for value in graph.outputs}
    names: set[str] = set()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        path = _module_path(node, weights)
        node.name = unique_name(f"{path}/{node.op_type}" if path else node.op_type, names)
        for index, value in enumerate(node.outputs):
            if id(value) not in kept and value.name != "":  # an empty name marks an output that is not used
                value.name = unique_name(node.name if len(node.outputs) == 1 else f"{node.name}.{index}", taken)


def _module_path(node: ir.Node, weights: Collection[str]) -> str:
    """The path of the module that owns the node's weight, or else of the module whose forward called it; '' is the
    root."""
    for value in node.inputs[1:]:
        weight = (value.name or "").removesuffix(".T") if value is not None and value.is_initializer() else ""
        if weight in weights:
            return weight.rpartition(".")[0]
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    if len(scopes) < 2 or scopes[0] == NO_SCOPE:
        return ""
    return re.sub(r"@\d+", "", str(scopes[-2]))  # torch.export counts the calls of a shared module


def _name_dims(graph: ir.Graph) -> None:
    """Give torch's symbols (`s77`) readable names wherever they occur, also in expressions (`s77 + 100`)."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            symbol = str(dim.value) if isinstance(dim, ir.SymbolicDim) else ""
            if symbol.isidentifier() and symbol not in names:
                names[symbol] = unique_name(_dim_name(value, axis), set(names.values()))
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.outputs]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, names) for dim in value.shape])


def _dim_name(value: ir.Value, axis: int) -> str:
    shape = value.shape or ir.Shape([])
    if axis == 0:
        return "batch"
    spatial = SPATIAL.get(len(shape), ())
    if axis >= 2 and spatial and isinstance(_renamed(shape[1], {}), int):
        return spatial[axis - 2]
    return f"{value.name}_dim{axis}"


def _renamed(dim: int | ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    text = str(dim.value)
    if text.isdigit():  # the exporter writes a size that became a constant as a symbol too
        return int(text)
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), text)


def _strip(model: ir.Model) -> None:
    graph = model.graph
    graph.metadata_props.clear()
    model.doc_string = graph.doc_string = None
    for value in [*graph.inputs, *graph.initializers.values()]:
        value.metadata_props.clear()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


def unique_name(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it if it is taken; it is taken from now on."""
    fresh, count = name, 0
    while fresh in taken:
        count += 1
        fresh = f"{name}_{count}"
    taken.add(fresh)
    return fresh
