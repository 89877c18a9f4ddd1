"""Filters the metadata of nodes: only the module and the source line of a node are kept.

torch parses these texts, looks up names in them, and writes them into generated code as comments, so they could be
misused.
"""

import re
from typing import Any

from fusekit.checkpoint.archive.grammar import refuse

_LINE = re.compile(r'^ *File "([\w./\\:@+ \-]+)", line (\d{1,9}), in ([\w<>]+)$', re.ASCII | re.MULTILINE)
_MODULE = re.compile(r"[\w.\-\[\]()'<>@ ]*(,[\w.\-\[\]()'<>@ ]*){2}", re.ASCII)


def rewrite_metadata(value: Any, where: str) -> dict[str, str]:
    """The source lines and the modules of a node, if they have the form that torch writes; all else is dropped."""
    if not isinstance(value, dict):
        raise refuse(where, value, "an object")
    kept: dict[str, str] = {}
    trace, stack = value.get("stack_trace"), value.get("nn_module_stack")
    if isinstance(trace, str) and (lines := _LINE.findall(trace)):
        kept["stack_trace"] = "\n".join(f'  File "{file}", line {line}, in {name}' for file, line, name in lines)
    if isinstance(stack, str) and all(_is_balanced(item) and _MODULE.fullmatch(item) for item in stack.split(";")):
        kept["nn_module_stack"] = stack
    return kept


def _is_balanced(text: str) -> bool:
    """Whether brackets are balanced and no comma is inside them: torch splits the text at commas outside brackets."""
    depth = 0
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if depth < 0 or (depth and sign == ","):
            return False
    return depth == 0
