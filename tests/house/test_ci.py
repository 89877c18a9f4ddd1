"""The files of continuous integration: they can be read, and what they call exists."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fusekit.cli.main import app
from tests.support.doc_blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
CHECK = (WORKFLOWS / "check-model.yml").read_text(encoding="utf-8")
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(WORKFLOWS.glob("*.yml"))}
FILES |= {".pre-commit-config.yaml": HOOKS}
FILES |= {block.title: block.code for block in blocks(PAGE) if block.language == "yaml"}

_LINE = re.compile(r"(- )?([\w-]+:( .+)?|- .+)|- .+")  # one line of YAML as we write it
_SCRIPT = re.compile(r"(?:- )?(?:run|install|build|entry): (.+)", re.S)


def read(text: str) -> list[tuple[int, str]]:
    """Each line without comments, with its indentation. A `|` block belongs to the line that begins it."""
    found: list[tuple[int, str]] = []
    block = None  # the indentation of the line that began it
    for line in filter(str.strip, text.splitlines()):
        depth, told = len(line) - len(line.lstrip()), line.strip()
        if block is not None and depth > block:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{told}")
            continue
        block = depth if told.endswith("|") else None
        if not told.startswith("#"):
            found.append((depth, re.sub(r" #.*", "", told)))
    return found


def scripts(text: str) -> list[str]:
    """What is run: one command, or several lines."""
    found = (_SCRIPT.fullmatch(line) for _, line in read(text))
    return [match[1].removeprefix("|\n") for match in found if match]


def script(step: str) -> str:
    """The script of a step by its name."""
    after = CHECK.split(f"- name: {step}\n")[1].split("\n      - ")[0]
    (found,) = scripts(after)
    return found


def declared() -> dict[str, bool]:
    """The inputs of the workflow for others, and whether each is required."""
    part = CHECK.split("    inputs:\n")[1].split("\npermissions:")[0]
    found = re.split(r"^ {6}([\w-]+):\n", part, flags=re.M)[1:]
    return {name: "required: true" in told for name, told in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize("name", FILES)
def test_the_lines_are_yaml(name: str) -> None:
    lines = read(FILES[name])
    assert "\t" not in FILES[name] and lines[0][0] == 0
    assert [line for depth, line in lines if depth % 2 or not _LINE.fullmatch(line.split("\n")[0])] == []
    assert "://" not in FILES[name], "names no host"


@pytest.mark.parametrize("name", FILES)
def test_a_reader_of_yaml_finds_the_same_scripts(name: str) -> None:
    yaml: Any = pytest.importorskip("yaml", reason="needs the extra batch")

    def inner(value: Any) -> Iterator[str]:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(each, str) and key in ("run", "install", "build", "entry"):
                yield "\n".join(line.strip() for line in each.strip().splitlines() if line.strip())
            elif isinstance(each, dict | list):
                yield from inner(each)

    assert sorted(inner(yaml.safe_load(FILES[name]))) == sorted(scripts(FILES[name])) != []


@pytest.mark.parametrize("name", FILES)
def test_what_is_called_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for each in scripts(FILES[name]):
        assert subprocess.run(["bash", "-n"], input=each, text=True, check=False).returncode == 0, each
        for target in re.findall(r"^make (\w+)", each, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), target
        for line in re.findall(r"\bfusekit .+", each):
            _, command, *words = shlex.split(line)
            options = {name for option in commands[command].params for name in option.opts}
            assert {word for word in words if word.startswith("-")} <= options, line


def test_the_commands_are_those_of_the_readme() -> None:
    assert scripts(FILES["test.yml"]) == ["make test", "make demo"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    hooks = [each.replace(" --force-exclude", "") for each in scripts(HOOKS)]
    assert hooks == ["ruff check", "ruff format --check", "mypy"]
    assert all(f"$(BIN)/{each}" in makefile for each in hooks)


def test_inputs_are_declared_described_and_given() -> None:
    inputs = declared()
    assert set(re.findall(r"\binputs\.([\w-]+)", CHECK)) == inputs.keys()
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.M)) == inputs.keys()
    given = set(re.findall(r"^ {6}([\w-]+): ", FILES[".github/workflows/model.yml"], re.M))
    assert {name for name, required in inputs.items() if required} <= given <= inputs.keys()


@pytest.mark.parametrize("name", FILES)
def test_no_expression_stands_in_a_script(name: str) -> None:
    """An input could become a part of the script."""
    assert [each for each in scripts(FILES[name]) if "${{" in each] == []


# --- the scripts of the workflow for others, with a fusekit that notes its words ------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    noting = tmp_path / "bin" / "fusekit"
    noting.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\nexit ${CODE:-0}\n')
    noting.chmod(0o755)
    (tmp_path / "a model.onnx").write_text("new")
    return tmp_path


def performed(place: Path, step: str, **words: str) -> tuple[int, list[str]]:
    """The exit code of a step, run as GitHub runs it, and the words that fusekit got."""
    found = {"FILE": "a model.onnx", "SOURCE": "net.py:make", "INPUT": "x=1x3x8x8\n\ny=2\n", **words}
    environment = {**os.environ, **found, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(step)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
    noted = place / "words"
    return done.returncode, noted.read_text().splitlines() if noted.exists() else []


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_file_that_is_not_valid_fails(place: Path, code: int) -> None:
    got = performed(place, "Compare its numbers with the model", CODE=str(code))
    assert got == (code, ["validate", "net.py:make", "a model.onnx", "--input", "x=1x3x8x8", "--input", "y=2"])


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_slower_file_fails_where_there_is_a_last_one(place: Path, code: int) -> None:
    words = {"FAIL_BELOW": "0.9", "THREADS": "2", "INPUT": "", "CODE": str(code)}
    step = "Compare its speed with the last file"
    assert performed(place, step, **words) == (0, [])
    (place / ".fusekit-last").mkdir()
    (place / ".fusekit-last" / "a model.onnx").write_text("old")
    options = ["--fail-below", "0.9", "--threads", "2"]
    assert performed(place, step, **words) == (code, ["bench", ".fusekit-last/a model.onnx", "a model.onnx", *options])


def test_what_is_kept_is_what_is_looked_for(place: Path) -> None:
    (place / "a model.onnx.data").write_text("weights")
    assert performed(place, "Keep it as the last file")[0] == 0
    kept = {path.name: path.read_text() for path in (place / ".fusekit-last").iterdir()}
    assert kept == {"a model.onnx": "new", "a model.onnx.data": "weights"}
    words = {"FAIL_BELOW": "0.9", "THREADS": "2"}
    assert performed(place, "Compare its speed with the last file", **words)[1][0] == "bench"


def test_a_build_that_fails_or_writes_nothing_fails(place: Path) -> None:
    step = "Build the file"
    assert performed(place, step, BUILD="true")[0] == 0
    assert performed(place, step, BUILD="false; true")[0] != 0
    assert performed(place, step, BUILD="true", FILE="gone.onnx")[0] == 1


def test_a_last_file_is_kept_from_the_default_branch_only_and_after_the_checks() -> None:
    lines = [line for _, line in read(CHECK)]
    kept = [number for number, line in enumerate(lines) if "cache/save" in line or "name: Keep" in line]
    assert len(kept) == 2 and kept[0] > lines.index("- name: Compare its speed with the last file")
    assert CHECK.count("if: github.ref_name == github.event.repository.default_branch") == 2
    assert "continue-on-error" not in CHECK
