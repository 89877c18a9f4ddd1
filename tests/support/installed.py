"""Packages as pip leaves them: a folder on sys.path, with metadata and entry points."""

import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

from fusekit.ir.operators import OPERATORS
from fusekit.optimizing.laws import OTHERS
from fusekit.runtimes import RUNTIMES

EXAMPLE = Path(__file__).resolve().parents[1] / "extensions" / "example_package"

Points = Mapping[str, Mapping[str, str]]


def entry_points_of(pyproject: Path) -> dict[str, dict[str, str]]:
    """The entry points that a pyproject.toml declares: by group, then by name."""
    parser = ConfigParser()
    parser.read_string(pyproject.read_text(encoding="utf-8"))
    head = "project.entry-points."
    sections = {name.removeprefix(head).strip('"'): parser[name] for name in parser if name.startswith(head)}
    return {group: {key: value.strip('"') for key, value in each.items()} for group, each in sections.items()}


def install(folder: Path, name: str, points: Points, modules: Mapping[str, str] | None = None) -> None:
    """Write the metadata of a package `name` 1.0 with these entry points, and its modules' source by module name."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in points.items())
    (info / "entry_points.txt").write_text("\n".join(groups))
    for module, code in (modules or {}).items():
        (folder / f"{module}.py").write_text(code)


def install_example(folder: Path) -> None:
    """The example package."""
    shutil.copytree(EXAMPLE / "fusekit_example", folder / "fusekit_example")
    install(folder, "fusekit-example", entry_points_of(EXAMPLE / "pyproject.toml"))


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Within: what is installed in the folder can be imported, and fusekit looks for entry points again. Afterwards
    nothing of it is left."""
    registries = (OTHERS, RUNTIMES, OPERATORS)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    before = set(sys.modules)
    for registry in registries:
        registry.forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for registry in registries:
            registry.forget()
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
