"""The second way in: `torch.export`. Follows control flow on shapes, item assignment and in-place writes; needs
example inputs, and holds only under the conditions it assumed, which become one readable check at the entrance.

The program is brought back to a plain signature: parameters by name, outputs in the containers the model returns.
"""

import math
import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from fusekit.capture.branches import conditions_at_small_sizes, noted_branches
from fusekit.capture.containers import carried, is_container
from fusekit.capture.infer import infer, run_on_fakes
from fusekit.capture.state import state_of
from fusekit.capture.symbolic import path_of
from fusekit.errors import CaptureError, reason_of
from fusekit.ir import Facts, Graph, Known, known, note
from fusekit.ir.facts import UNKNOWN, facts, start_afresh
from fusekit.ir.spelling import has_hooks
from fusekit.model import Freedom, Inputs, evaluation_copy, export_program, quiet
from fusekit.model.alone import alone
from fusekit.model.patches import traced_here
from fusekit.model.program import conditions_of
from fusekit.model.torch_notes import line_of, owner_of, value_at
from fusekit.nn import ShapeGuard

LONGEST = 30.0  # seconds of computing that free sizes may take; beyond it torch proves inequalities without end
_CONTAINERS = (tuple, list, dict)


def export(model: nn.Module, inputs: Inputs, *, dynamic: Freedom = True) -> Graph:
    """The model's forward as a graph of ATen operators, its sizes as free as `dynamic` says; raises CaptureError."""
    hooked = [path or "model" for path, module in model.named_modules() if has_hooks(module)]
    if hooked:
        raise CaptureError(f"torch.export would run the hooks of {', '.join(hooked)} once and for all")
    compiled = [path or "model" for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if compiled:
        raise CaptureError(f"torch.export would fix the sizes within {compiled[0]}, which is TorchScript")
    if changed := _changed_by(model, inputs):
        raise CaptureError(f"forward changes the module's own state, or a global that it reads (in {changed})")
    program, conditions = _exported(model, inputs, dynamic)
    if not _hold(conditions, model, inputs):  # a batch of one takes a branch of its own
        program, conditions = _exported(model, inputs, dynamic, double=False)
    if any(isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in program.graph.nodes):
        program = _functionalized(program)
    try:
        with quiet():
            module: Any = program.module(check_guards=False)
    except Exception as error:  # writes to an argument that torch.fx had to rename (`input`)
        raise CaptureError(f"the exported program could not be unpacked: {reason_of(error)}") from error
    read = [_attribute(module, str(node.target)) for node in module.graph.nodes if node.op == "get_attr"]
    if any(isinstance(value, nn.Module) for value in read):
        raise CaptureError("the exported program has inner programs (a scan, a condition), which are not read")
    graph = Graph(fx.Graph(), _constants(module), _modules(module), type(model).__name__)
    _copy_nodes(graph, module, program, model)
    _simplify_batch_norms(graph)
    for node in graph.nodes:
        if node.op == "get_attr" and facts(node) is UNKNOWN and graph.constant(node) is not None:
            note(node, Known(facts=infer(graph, node)))
    _add_guard(graph, inputs, model, conditions)
    run_on_fakes(graph, inputs, shapes_only=True)  # the trace may have been at another batch
    return graph


def _exported(
    model: nn.Module, inputs: Inputs, dynamic: Freedom, *, double: bool = True
) -> tuple[ExportedProgram, list[str]]:
    with alone(), noted_branches() as branches:
        seconds = LONGEST if dynamic is True else math.inf
        program = export_program(model, inputs, dynamic=dynamic, double=double, seconds=seconds)
    conditions = conditions_of(program)
    return program, [*conditions, *conditions_at_small_sizes(program, branches, conditions)]


def _hold(conditions: list[str], model: nn.Module, inputs: Inputs) -> bool:
    """Whether the example inputs themselves meet the conditions of the program traced from them."""
    bound = torch.export.dynamic_shapes._combine_args(model, inputs.args, inputs.kwargs)
    return all(eval(condition, {"L": bound, "torch": torch, "math": math}) for condition in conditions)


def _changed_by(model: nn.Module, inputs: Inputs) -> str:
    """The module whose state a second call still changes, or "": caches settle at the first, counters never do."""
    copied = evaluation_copy(model)
    try:
        with torch.no_grad(), quiet():
            inputs.cloned().call(copied)
            before = state_of(copied)
            inputs.cloned().call(copied)
    except Exception:
        return ""  # the trace will say it better
    changed = before.changed()
    return "" if changed is None else changed or "model"


def _functionalized(program: ExportedProgram) -> ExportedProgram:
    """In-place writes, and views of what is written to, made plain by torch itself; nothing else decomposed."""
    try:
        with alone(), quiet(), traced_here():
            functional: ExportedProgram = program.run_decompositions({})
        return functional
    except Exception as error:
        raise CaptureError(f"the exported program could not be made functional: {reason_of(error)}") from error


def _constants(module: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for node in module.graph.nodes:  # type: ignore[union-attr]
        if node.op == "get_attr":
            value = _attribute(module, str(node.target))
            if isinstance(value, Tensor):
                tensors[str(node.target)] = value
    return tensors


def _modules(module: nn.Module) -> dict[str, nn.Module]:
    names = (str(n.target) for n in module.graph.nodes if n.op in ("call_module", "get_attr"))  # type: ignore[union-attr]
    values = ((name, _attribute(module, name)) for name in names)
    return {name: value for name, value in values if isinstance(value, nn.Module)}


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _copy_nodes(graph: Graph, module: Any, program: ExportedProgram, model: nn.Module) -> None:
    """The same nodes under a plain signature; outputs unflattened into the containers of the model."""
    copies: dict[fx.Node, fx.Node] = {}
    owners = dict(model.named_modules(remove_duplicate=False))
    for node in module.graph.nodes:
        if node.op == "get_attr" and not node.users:
            continue
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            continue  # pins the device and the dtypes in between; those of the inputs are checked at the entrance
        if node.op != "output":
            copies[node] = copy = graph.fx.node_copy(node, lambda n: copies[n])
            start_afresh(copy, _known(node, owners))
            continue
        flat = fx.map_arg(node.args[0], lambda n: copies[n])
        outputs = pytree.tree_unflatten(list(flat), program.call_spec.out_spec)
        try:
            graph.fx.output(_output(graph, outputs))
        except TypeError as error:
            raise CaptureError(f"outputs: {error}") from error


def _output(graph: Graph, value: Any) -> Any:
    """What the model returns, in its own containers."""
    if is_container(value):
        return carried(value, partial(_output, graph), graph.fx.call_function)
    if value is None or isinstance(value, fx.Node | int | float | complex | bool | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be carried by a graph")


def _known(node: fx.Node, owners: dict[str, nn.Module]) -> Known:
    """Where the node comes from, and its tensor's facts: symbolic sizes may vary, the rest is fixed."""
    owner, value = owner_of(node), value_at(node)
    owner = owner if owner in owners else ""  # torch also notes names of its own there
    tensor: Facts | None = None
    if isinstance(value, Tensor):
        tensor = Facts(tuple(s if isinstance(s, int) else None for s in value.shape), value.dtype)
    return Known(tensor, where=path_of(owners, owner, node), module=type(owners[owner]), line=line_of(node))


def _simplify_batch_norms(graph: Graph) -> None:
    """torch's functional spelling of evaluation-mode batch norm has three outputs; only the first is used."""
    functional = torch.ops.aten._native_batch_norm_legit_no_training.default
    for node in list(graph.nodes):
        if node.target is not functional or any(user.args[1] != 0 for user in node.users):
            continue
        x, weight, bias, mean, var, momentum, eps = node.args
        with graph.fx.inserting_before(node):
            arguments = (x, weight, bias, mean, var, False, momentum, eps, True)
            plain = graph.fx.call_function(torch.ops.aten.batch_norm.default, arguments)
        for user in list(node.users):
            note(plain, known(node) | known(user))
            user.replace_all_uses_with(plain)
            graph.fx.erase_node(user)
        graph.fx.erase_node(node)


def _add_guard(graph: Graph, inputs: Inputs, model: nn.Module, conditions: list[str]) -> None:
    """The conditions of the trace, over the graph's own input names, as one module at its entrance."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    leaves = pytree.tree_leaves((inputs.args, inputs.kwargs))
    if any(type(v) in _CONTAINERS for v in (*inputs.args, *inputs.kwargs.values())) or len(leaves) != len(placeholders):
        raise CaptureError("torch.export captures tensors and plain values as inputs, not containers of them")
    names = [str(node.target) for node in placeholders]
    shapes = {str(node.target): facts(node).shape or () for node in placeholders}
    # of `*xs` torch names the arguments xs_0, xs_1, ..., and their conditions xs[0], xs[1], ...
    several = [re.sub(r"L\['(\w+)'\]\[(\d+)\]", r"L['\1_\2']", condition) for condition in conditions]
    spelled = [re.sub(r"L\['(\w+)'\]", r"\1", condition) for condition in several]
    for name, value in zip(names, leaves, strict=True):
        if isinstance(value, Tensor):
            spelled += [] if value.is_floating_point() else [f"{name}.dtype == {value.dtype}"]
            # torch does not list what it takes for granted: sizes that were 1 in the example
            fixed = (f"{name}.size()[{axis}] == {size}" for axis, size in enumerate(shapes[name]) if size is not None)
            spelled += [condition for condition in fixed if condition not in spelled]
        else:
            spelled.append(f"{name} is None" if value is None else f"{name} == {value!r}")
    if not spelled:
        return
    graph.modules["shape_guard"] = ShapeGuard(names, spelled)
    with graph.fx.inserting_after(placeholders[-1]):
        note(graph.fx.call_module("shape_guard", tuple(placeholders)), Known(where="shape_guard"))
