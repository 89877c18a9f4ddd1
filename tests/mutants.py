"""Draws mutants of Python files from their syntax trees: small changes that a test should notice.

Operators, comparisons, numbers, truth values, conditions and the order of arguments are changed; annotations, texts,
messages of errors and decorators are not.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the text from `start` to `end` (offsets in characters) becomes `text`."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    before: str
    text: str

    def applied(self, source: str) -> str:
        """The file with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.kind}: `{self.before}` -> `{self.text}`"


def drawn(files: list[Path], root: Path, count: int, seed: int) -> list[Mutant]:
    """`count` mutants of these files, drawn without replacement; all if there are fewer."""
    found = [mutant for file in files for mutant in mutants(file, root)]
    return Random(seed).sample(found, min(count, len(found)))


def mutants(file: Path, root: Path) -> Iterator[Mutant]:
    """All mutants of a file."""
    source = file.read_text(encoding="utf-8")
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = source.splitlines()

    def offset(line: int, column: int) -> int:  # columns of the syntax tree count bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in _nodes(ast.parse(source)):
        assert node.end_lineno is not None and node.end_col_offset is not None
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
        for kind, text in _changes(node):
            yield Mutant(str(file.relative_to(root)), node.lineno, kind, start, end, source[start:end], text)


def _nodes(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions whose values are computed, without those that only tell people or type checkers something."""
    skipped: list[ast.AST | None] = []
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return
        case ast.FunctionDef(decorator_list=told, returns=returns):
            skipped = [*told, returns]
        case ast.ClassDef(decorator_list=told):
            skipped = [*told]
        case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
            skipped = [annotation]
        case ast.Call(func=ast.Name(id="isinstance" | "Inapplicable" | "cast" | "TypeVar")):
            return
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return
    if isinstance(node, ast.expr):
        yield node
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _nodes(child)


def _changes(node: ast.expr) -> Iterator[tuple[str, str]]:
    match node:
        case ast.BinOp(left=left, op=operator, right=right):
            if type(operator) in _OPERATORS:
                yield "operator", f"({ast.unparse(ast.BinOp(left, _OPERATORS[type(operator)](), right))})"
            if isinstance(operator, ast.Sub | ast.MatMult | ast.Mod | ast.FloorDiv):
                yield "operands swapped", f"({ast.unparse(ast.BinOp(right, operator, left))})"
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            yield "comparison", f"({ast.unparse(ast.Compare(left, [_COMPARISONS[type(comparison)]()], [right]))})"
        case ast.BoolOp(op=operator, values=values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield "condition", f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield "sign", f"({ast.unparse(operand)})"
        case ast.Constant(value=bool(value)):
            yield "constant", str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", str(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", str(2 * value + 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "branches swapped", f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield "function", ast.unparse(ast.Call(ast.Name(_NAMES[name]), node.args, node.keywords))
        case ast.Call(func=function, args=[first, second, *rest]) if not _starred(first, second):
            if ast.dump(first) != ast.dump(second):
                yield "arguments swapped", ast.unparse(ast.Call(function, [second, first, *rest], node.keywords))


def _starred(*nodes: ast.expr) -> bool:
    return any(isinstance(node, ast.Starred) for node in nodes)
