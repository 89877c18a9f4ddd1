"""Whether a module's code does nothing with one of its children but call it: then any callable module may stand there.

    self.conv(x)            self.blocks[i](x)            for block in self.blocks: x = block(x)

Anything else, `self.conv.weight`, `self.conv.forward(x)`, `f(self.conv)`, may need the child that was there.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from torch import nn

from fusekit.model import overridden


def only_called(module: nn.Module, name: str, *, items: bool = False) -> bool:
    """True if the code of the module's class and of those it inherits from uses `self.name` at least once, and only
    to call it; `items`: only to call what is in it."""
    if overridden(module):
        return False  # the code that runs is not that of the class
    used = False
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules") or cls is object:
            continue
        for function in _functions(cls):
            if function is None:
                return False
            parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
            for use in _uses(function, name):
                used = True
                if not (_items_are_called(use, parents, function) if items else _is_called(use, parents)):
                    return False
    return used


def _functions(cls: type) -> Iterator[ast.FunctionDef | None]:
    """The class's functions but for `__init__`: what construction did is done. None for one whose code is not known."""
    trees: list[ast.AST | None]
    try:
        trees = [_parsed(cls)]
    except (OSError, TypeError, SyntaxError):  # a class made by a call has no source, its functions have
        trees = [_parsed_function(value) for value in vars(cls).values() if inspect.isfunction(value)]
    for tree in trees:
        if tree is None:
            yield None
            return
        yield from (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name != "__init__")


def _parsed(definition: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(definition)))


def _parsed_function(function: Any) -> ast.AST | None:
    try:
        return None if function.__name__ == "<lambda>" else _parsed(function)
    except (OSError, TypeError, SyntaxError):
        return None


def _uses(function: ast.FunctionDef, name: str) -> Iterator[ast.Attribute]:
    own = function.args.args[0].arg if function.args.args else "self"
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Load):
            value = node.value
            if isinstance(value, ast.Name) and value.id in ("self", own):
                yield node


def _is_called(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents.get(node)
    return isinstance(parent, ast.Call) and parent.func is node


def _items_are_called(use: ast.AST, parents: dict[ast.AST, ast.AST], function: ast.AST) -> bool:
    parent = parents.get(use)
    if isinstance(parent, ast.Subscript) and parent.value is use:
        return _is_called(parent, parents)
    if isinstance(parent, ast.Attribute) and parent.attr in ("values", "items", "keys") and _is_called(parent, parents):
        use, parent = parents[parent], parents.get(parents[parent])
        position = 1 if parents[use] and _method_of(use) == "items" else 0
        return _method_of(use) == "keys" or _loop_calls(use, parents, function, position)
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and use in parent.args:
        wrapper = parent.func.id
        if wrapper == "len":
            return True
        if wrapper in ("enumerate", "zip", "reversed"):
            position = 1 if wrapper == "enumerate" else parent.args.index(use) if wrapper == "zip" else 0
            return _loop_calls(parent, parents, function, position)
        return False
    return _loop_calls(use, parents, function, 0)


def _method_of(call: ast.AST) -> str:
    return call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""


def _loop_calls(iterated: ast.AST, parents: dict[ast.AST, ast.AST], function: ast.AST, position: int) -> bool:
    """The iterated expression is that of a loop or comprehension, whose variable at `position` is only called."""
    loop = parents.get(iterated)
    if not isinstance(loop, ast.For | ast.comprehension) or loop.iter is not iterated:
        return False
    target: ast.AST = loop.target
    if isinstance(target, ast.Tuple) and position < len(target.elts):
        target = target.elts[position]
    if not isinstance(target, ast.Name):
        return False
    reads = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == target.id and isinstance(node.ctx, ast.Load)
    ]
    return all(_is_called(node, parents) for node in reads)
