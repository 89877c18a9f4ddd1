"""The blocks of code in README and docs, and how they are run.

The blocks of one page run in order in one empty folder, as a reader would type them:

- ```python is executed, in one module for the whole page. With title="net.py" it is written to that file instead.
- ```console holds commands after `$ `, and what they print. `...` in it stands for any text. `$ echo $?` asks for the
  exit code of the command before; without it, the command must succeed.
- ```text title="Output" is what the Python block before it prints.
- Any other block with a title is written to a file. `text`, without one, is a formula or a drawing.

`<!-- not run: why -->` before a block leaves it out; `<!-- slow -->` at the head of a page makes its test a slow one.
"""

import contextlib
import doctest
import io
import linecache
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from typer.testing import CliRunner

from fusekit.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<words>.*)$")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """`reason`: why it is not run; empty if it is."""

    line: int
    language: str
    title: str
    code: str
    reason: str = ""


def pages() -> list[Path]:
    """README, CONTRIBUTING, and all pages of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = iter(enumerate(text.split("\n"), 1))
    above = ""
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            above = line.strip() or above
            continue
        inside = []
        for _, inner in lines:
            if inner.strip() == "```":
                break
            inside.append(inner.removeprefix(fence["indent"]))
        title = re.search(r'title="([^"]+)"', fence["words"])
        mark = _NOT_RUN.fullmatch(above)
        code = "\n".join(inside) + "\n"
        yield Block(number, fence["language"], title[1] if title else "", code, mark["reason"] if mark else "")
        above = ""


def is_slow(text: str) -> bool:
    return "<!-- slow -->" in text


class Page:
    """Runs the blocks of one page in the current folder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = ModuleType("__main__")
        self.printed = ""
        self.code = 0

    def run(self, block: Block) -> None:
        where = f"{self.name}, line {block.line}"
        if block.language == "text":
            if block.title == "Output":
                assert like(block.code, self.printed), f"{where}: expected\n{block.code}\nprinted\n{self.printed}"
        elif block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            self._python(block, where)
        elif block.language == "console":
            for command, expected in commands(block.code):
                self._command(command, expected, where)
        else:
            raise AssertionError(f"{where}: nobody runs {block.language or 'a block without a language'}: mark it")

    def _python(self, block: Block, where: str) -> None:
        linecache.cache[where] = (len(block.code), None, block.code.splitlines(keepends=True), where)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block.code, where, "exec"), self.module.__dict__)
        self.printed = printed.getvalue()

    def _command(self, command: str, expected: str, where: str) -> None:
        words = shlex.split(command, comments=True)
        if words == ["echo", "$?"]:
            assert expected.strip() == str(self.code), f"{where}: the exit code is {self.code}"
            self.code = 0
            return
        assert self.code == 0, f"{where}: the command before failed\n{self.printed}"
        if words[0] == "fusekit":
            outcome = CliRunner().invoke(app, words[1:])
            assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
            self.code, self.printed = outcome.exit_code, outcome.output
        elif words[0] == "python":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                runpy.run_path(words[1], run_name="__main__")
            self.printed = printed.getvalue()
        else:
            raise AssertionError(f"{where}: nobody runs {words[0]}: mark the block")
        if expected.strip():
            assert like(expected, self.printed), f"{where}: {command}: expected\n{expected}\nprinted\n{self.printed}"

    def end(self) -> None:
        assert self.code == 0, f"{self.name}: the last command failed\n{self.printed}"

    def forget(self) -> None:
        """Forget the modules of this folder: another page may have a net.py of its own."""
        for name in [name for name, value in sys.modules.items() if _stands_here(value)]:
            del sys.modules[name]


def _stands_here(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).parent == Path.cwd()


def like(expected: str, printed: str) -> bool:
    """Whether the text is as expected; `...` stands for anything, also at the beginning and the end."""
    return doctest.OutputChecker().check_output(expected, printed, _LIKE)


def commands(code: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and what is shown below it."""
    for part in re.split(r"^\$ ", code, flags=re.M)[1:]:
        lines = part.split("\n")
        count = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\"))
        yield " ".join(line.rstrip("\\").strip() for line in lines[:count]), "\n".join(lines[count:])
