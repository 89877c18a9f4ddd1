"""Every block of code in README and docs runs, or says why not; links lead somewhere, and every page has a place."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.doc_blocks import ROOT, Block, Page, blocks, commands, is_slow, like, pages

NOT_RUN = 16  # blocks that say why they are not run
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in pages()}
BLOCKS = {name: list(blocks(text)) for name, text in TEXTS.items()}
RUN = [
    pytest.param(name, id=name, marks=[pytest.mark.slow] if is_slow(TEXTS[name]) else [])
    for name, found in BLOCKS.items()
    if any(not block.reason for block in found)
]


@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    torch.manual_seed(0)
    page = Page(name)
    monkeypatch.setitem(sys.modules, "__main__", page.module)
    try:
        for block in BLOCKS[name]:
            if not block.reason:
                page.run(block)
        page.end()
    finally:
        page.forget()


def test_those_that_do_not_run_are_counted() -> None:
    marked = [
        f"{name}:{block.line}: {block.reason}" for name, found in BLOCKS.items() for block in found if block.reason
    ]
    assert len(marked) == NOT_RUN, "\n".join(marked)


@pytest.mark.parametrize("name", TEXTS)
def test_no_command_hides_in_an_indented_block(name: str) -> None:
    """Indented blocks are formulas, drawings and output: nobody runs them."""
    outside = re.sub(r"^ *```.*?^ *```$", "", TEXTS[name], flags=re.M | re.S)
    assert re.findall(r"^ {4,}(?:\$ |fusekit |python |pip |import ).*", outside, re.M) == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    outside = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", TEXTS[name], flags=re.M | re.S)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", outside) if "://" not in link]
    missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
    assert [link for link in missing if link not in ("index.md", "laws.md")] == [], "docs/site.py writes only these two"


def test_the_places_of_the_navigation_exist() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    site = (ROOT / "docs" / "site.py").read_text(encoding="utf-8")
    places = set(re.findall(r"[\w/-]+\.md", nav))
    missing = {place for place in places if not (ROOT / "docs" / place).exists() and f'"{place}"' not in site}
    assert "tutorial.md" in places and missing == set()


def test_a_block_is_found_with_its_marks() -> None:
    text = 'a\n\n<!-- not run: it is slow -->\n\n```sh\nmake\n```\n\n```python title="net.py"\n1\n```\n'
    assert list(blocks(text)) == [
        Block(5, "sh", "", "make\n", "it is slow"),
        Block(9, "python", "net.py", "1\n"),
    ]


def test_what_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page("page.md")
    with pytest.raises(NameError):
        page.run(Block(1, "python", "", "unknown\n"))
    with pytest.raises(AssertionError, match="nobody runs sh"):
        page.run(Block(1, "sh", "", "make\n"))
    with pytest.raises(AssertionError, match="expected"):
        page.run(Block(1, "console", "", "$ fusekit --version\nnine\n"))
    page.run(Block(1, "console", "", "$ fusekit validate missing.onnx other.onnx\n"))
    with pytest.raises(AssertionError, match="the last command failed"):
        page.end()
    page.run(Block(1, "console", "", "$ echo $?\n2\n"))
    page.end()


def test_commands_and_what_they_print() -> None:
    assert list(commands("$ a \\\n  b\none\n$ c\n")) == [("a b", "one\n"), ("c", "")]
    assert like("valid: error ...\n", "valid: error 3e-07\n") and not like("valid\n", "differs\n")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    mkdocs = pytest.importorskip("mkdocs", reason="needs the extra docs: make docs")
    assert mkdocs is not None
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    html = "\n".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    assert re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="?https?://[^>]*', html) == []
