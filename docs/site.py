"""Writes the pages of the site that nobody should write by hand, and fits links to it. MkDocs calls the functions whose
names begin with `on_`.

- `index.md`, `contributing.md`, `changelog.md`: README.md, CONTRIBUTING.md and CHANGELOG.md.
- `laws.md`: the passes, from their docstrings and their stages.
- `api/`: for each public package a page that names what it exports; mkdocstrings writes the rest from the docstrings.

A page of docs/ may link to any file of the repository. On the site, a file that is no page becomes its path.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the checkout whose docs these are, whatever is installed

TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
API = (  # each name is explained once, on the first page that has it
    "fusekit",
    "fusekit.algebra",
    "fusekit.passes",
    "fusekit.rewriting",
    "fusekit.rewriting.pattern",
    "fusekit.runtimes",
    "fusekit.runtimes.protocol",
    "fusekit.testing",
    "fusekit.nn.complex",
    "fusekit.nn.quaternion",
    "fusekit.nn.hypercomplex",
    "fusekit.nn",
    "fusekit.nn.functional.complex",
    "fusekit.nn.functional.quaternion",
    "fusekit.nn.functional",
    "fusekit.nn.init",
)
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.M | re.S)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The places in the navigation that depend on what there is: the tables of benchmarks, the API."""
    config.nav = list(_places(config.nav))
    placed = set(_paths(config.nav))
    others = [path for path in _pages() if path not in placed]
    config.nav += [{"More": others}] if others else []  # a page without a place is not lost
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are written here."""
    pages = {page: fitted((ROOT / source).read_text(encoding="utf-8"), source) for source, page in TOP.items()}
    pages["laws.md"] = laws()
    pages |= dict(api())
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fit the links of a page that stands in docs/."""
    return markdown if page.file.generated_by else fitted(markdown, f"docs/{page.file.src_uri}")


def _places(nav: list[Any]) -> Iterator[Any]:
    for place in nav:
        if place == "benchmarks":
            yield from sorted(f"benchmarks/{path.name}" for path in (ROOT / "docs" / "benchmarks").glob("*.md"))
        elif isinstance(place, str):
            yield place
        else:
            ((title, inner),) = place.items()
            if inner == "api":
                yield {title: [{room: f"api/{room}.md"} for room in API]}
            elif isinstance(inner, list):
                yield {title: list(_places(inner))}
            else:
                yield place


def _paths(nav: list[Any]) -> Iterator[str]:
    for place in nav:
        inner = next(iter(place.values())) if isinstance(place, dict) else place
        yield from _paths(inner) if isinstance(inner, list) else (inner,)


def _pages() -> list[str]:
    """The pages that stand in docs/."""
    docs = ROOT / "docs"
    return sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))


def fitted(text: str, source: str) -> str:
    """The text of a file of the repository, with links that hold on the site."""
    home = Path(source).parent
    page = Path(TOP.get(source, os.path.relpath(source, "docs")))

    def fit(link: re.Match[str]) -> str:
        if "://" in link["path"]:
            return link[0]
        path = os.path.normpath(home / link["path"])
        inside = TOP.get(path) or (os.path.relpath(path, "docs") if path.startswith("docs/") else None)
        if inside is not None:
            return f"{link['picture']}[{link['text']}]({os.path.relpath(inside, page.parent)}{link['anchor'] or ''})"
        words = link["text"].replace("\\", "").strip("`")
        return f"`{path}`" if words in path else f"{link['text']} (`{path}`)"

    parts = _FENCE.split(text)
    return "".join(part if number % 2 else _LINK.sub(fit, part) for number, part in enumerate(parts))


def laws() -> str:
    """The page of the laws: the stages in order, then each family of passes with its docstring."""
    passes = import_module("fusekit.passes")
    stages: dict[str, list[str]] = {}
    families: dict[ModuleType, list[Any]] = {}
    for stage in passes.STAGES:
        for rewrite in stage.passes:
            stages.setdefault(rewrite.name, []).append(stage.name)
    for rewrite in passes.PASSES.values():
        home = inspect.getmodule(type(rewrite))
        assert home is not None
        families.setdefault(home, []).append(rewrite)
    lines = [
        "# The laws",
        "",
        f"fusekit has {len(passes.PASSES)} passes in {len(families)} families. Each pass is one law. This page is made "
        "from their code; `fusekit passes` prints the same list, with what other packages add.",
        "",
        "In the laws, c and L are convolutions and linear layers, a is a scale and a shift of each channel, and W is a "
        "layer that computes at each position by itself. K, b, s and t are the kernel, the bias, the scale and the "
        "shift. ∘ composes: (a ∘ c)(x) = a(c(x)).",
        "",
        "The stages run in this order, each until nothing changes:",
        "",
        *(
            f"{number}. **{stage.name}**" + (": measured time, or else the price, decides" if stage.contest else "")
            for number, stage in enumerate(passes.STAGES, 1)
        ),
        "",
    ]
    for family, rewrites in families.items():
        title, _, words = (family.__doc__ or "").partition("\n")
        lines += [
            f"## {title.rstrip('.')}",
            "",
            plain(words.strip("\n").rstrip()),
            "",
            "| pass | law | stages | options |",
        ]
        lines += ["|---|---|---|---|"]
        for rewrite in rewrites:
            told = " ".join((inspect.getdoc(type(rewrite)) or "").split("\n\n")[0].split())
            options = ", ".join(f"`{field.name}={getattr(rewrite, field.name)}`" for field in fields(rewrite))
            where = ", ".join(stages[rewrite.name])
            name = f"[`{rewrite.name}`][{type(rewrite).__module__}.{type(rewrite).__name__}]"
            lines.append(f"| {name} | {_cell(told)} | {where} | {options} |")
        lines += ["", f"Source: `passes/{family.__name__.rpartition('.')[2]}.py`", ""]
    return "\n".join(lines)


def _cell(law: str) -> str:
    return plain(law).replace("|", "\\|")


def plain(words: str) -> str:
    """A docstring as Markdown: stars of formulas and shapes are no emphasis. Indented paragraphs stay code."""
    parts = words.split("\n\n")
    return "\n\n".join(part if part.startswith("    ") else _starred(part) for part in parts)


class Stars(griffe.Extension):
    """The same for the docstrings that mkdocstrings reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)


def _starred(line: str) -> str:
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if number % 2 else re.sub(r"(?<!\*)\*(?!\*)", r"\\*", part) for number, part in enumerate(parts)
    )


def api() -> Iterator[tuple[str, str]]:
    """The pages of the reference."""
    explained: set[int] = set()
    for room in sorted(API, key=lambda name: -name.count(".")):  # what stands further in is explained there
        yield f"api/{room}.md", _reference(room, explained)


def _reference(room: str, explained: set[int]) -> str:
    module = import_module(room)
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == room and name[0] != "_"
    ]
    lines = [f"# {room}", "", plain(inspect.getdoc(module) or ""), ""]
    elsewhere = []
    for name in names:
        value = getattr(module, name)
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        if id(value) in explained:
            elsewhere.append(name)
            continue
        explained.add(id(value))
        lines += [f"::: {room}.{name}", ""]
    if elsewhere:
        lines += ["## On the pages of the packages inside", "", ", ".join(f"`{name}`" for name in elsewhere), ""]
    return "\n".join(lines)
