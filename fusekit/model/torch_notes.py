"""What torch itself stores in `node.meta` of traced nodes: the traced value, the module and the source line.

This is the only file that uses torch's keys of `node.meta`.
"""

import re
from typing import Any

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind


def user_inputs(program: ExportedProgram) -> list[fx.Node]:
    """The nodes of the arguments that a caller passes, in order. (A program also has its parameters and buffers as
    inputs; they are left out.)"""
    names = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def value_at(node: fx.Node) -> Any:
    """The value that torch traced the node with, for example a fake tensor whose free sizes are symbols; None if torch
    stored none."""
    return node.meta.get("val")


def note_value(node: fx.Node, value: Any) -> None:
    """Store the value that torch is to use for the node."""
    node.meta["val"] = value


def copy_notes(source: fx.Node, node: fx.Node) -> None:
    """Copy everything in `node.meta` of `source` to `node`."""
    node.meta = {**source.meta}


def owner_of(node: fx.Node) -> str:
    """The path of the innermost module whose forward made the node; "" for the model itself. In an exported program,
    it may be a name that torch made up."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def line_of(node: fx.Node) -> str:
    """FILE:LINE of the innermost call that made the node; "" if torch stored none."""
    lines = re.findall(r'File "(.+?)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    return ":".join(lines[-1]) if lines else ""
