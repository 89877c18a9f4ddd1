"""What torch notes at the nodes of its own traces: the value it traced with, the module and the line a node is from.

The keys of `node.meta` that belong to torch are known here and nowhere else.
"""

import re
from typing import Any

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind


def user_inputs(program: ExportedProgram) -> list[fx.Node]:
    """The nodes of the arguments that a caller gives, in order; parameters and buffers are inputs of a program too."""
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def value_at(node: fx.Node) -> Any:
    """The value that torch traced the node with, a tensor without numbers, say, whose free sizes are symbols; None if
    it noted none."""
    return node.meta.get("val")


def note_value(node: fx.Node, value: Any) -> None:
    """Torch is to take this for the value of the node."""
    node.meta["val"] = value


def copy_notes(source: fx.Node, node: fx.Node) -> None:
    """All that is noted at one node, at another."""
    node.meta = {**source.meta}


def owner_of(node: fx.Node) -> str:
    """The path of the innermost module whose forward made the node, "" for the model itself. Of an exported program it
    may be a name of torch's own."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def line_of(node: fx.Node) -> str:
    """FILE:LINE of the innermost call that made the node; "" if torch noted none."""
    lines = re.findall(r'File "(.+?)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    return ":".join(lines[-1]) if lines else ""
