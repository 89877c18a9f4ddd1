"""What the checkout promises: every package is shipped, imports go one way only, the README's commands exist."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import onnx
import pytest

import fusekit
from fusekit.runtimes import known

ROOT = Path(__file__).resolve().parents[2]

# A room imports from lines above its own; inside a line too, as long as no two rooms need each other.
ROOMS = """
errors version
files doctor extensions
page
report
model algebra
nn
ir
capture
rewriting
passes
runtimes
validation
onnx_export lower
optimizing
bench checkpoint sampling
grafting
api
batching inspecting comparing testing on_data
cli
"""
RANK = {room: rank for rank, line in enumerate(ROOMS.split("\n")) for room in line.split()}
TOP = {"__init__.py", "api.py", "errors.py", "extensions.py", "version.py", "py.typed"}  # beside packages
NOT_FOR_PASSES = ("torch.fx", "fusekit.ir", "fusekit.nn")
META = {  # who looks into the `meta` of a node, and why
    "fusekit.ir.facts": "keeps the one record of what is known of a node",
    "fusekit.model.torch_notes": "reads what torch notes at the nodes of its own traces",
}

PATCHING = {  # who changes what belongs to the whole process, and why
    "fusekit.model.patches": "every patch by name, each for one thread",
    "fusekit.model.per_thread": "how a function is changed for one thread",
    "fusekit.model.own_patcher": "the same for what torch.fx wraps",
    "fusekit.model.random_numbers": "draws that nobody misses",
    "fusekit.cli.console": "the command line has a process of its own",
    "fusekit.checkpoint.factory": "a file that it loads becomes a module",
}
OF_THE_PROCESS = {
    *("set_num_threads", "set_default_dtype", "set_default_device", "set_rng_state", "fork_rng", "setstate"),
    *("catch_warnings", "simplefilter", "filterwarnings", "setLevel", "basicConfig", "dup2", "settrace", "setprofile"),
    *("redirect_stdout", "redirect_stderr", "chdir", "putenv", "use_deterministic_algorithms", "disable"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "passes":
        parts = ("fusekit", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, ast.Module]:
    """Every module by its import name; the link fusekit/passes is not followed, so that each appears once."""
    paths = [path for path in (ROOT / "fusekit").rglob("*.py") if "passes" not in path.relative_to(ROOT).parts]
    paths += (ROOT / "passes").rglob("*.py")
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(paths)}


SOURCES = sources()


def imports(tree: ast.AST) -> Iterator[str]:
    """The full names a tree imports; `from a import b` is `a.b` where that is a module of ours, else `a`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, "relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in SOURCES else node.module for name in inner)


def ours(name: str) -> bool:
    return name.split(".")[0] == "fusekit"


def room(name: str) -> str:
    """`fusekit.algebra.conv` stands in the room `algebra`, and every module of a package in the package's room."""
    return name.split(".")[1]


def below(name: str) -> set[str]:
    """The modules of ours that a module imports; the package itself shows what `api` makes public."""
    return {"fusekit.api" if other == "fusekit" else other for other in imports(SOURCES[name]) if ours(other)}


def pyproject_packages() -> set[str]:
    listed = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    assert listed
    return set(re.findall(r'"([\w.]+)"', listed[1]))


def test_every_package_is_listed() -> None:
    tree = {name for name in SOURCES if any(other.startswith(f"{name}.") for other in SOURCES)}
    assert pyproject_packages() == tree, "pyproject.toml lists the packages; a forgotten one is left out without a word"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for top in ("fusekit", "passes") for path in (ROOT / top).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "fusekit"])
def test_imports_go_one_way(name: str) -> None:
    homeless = [other for other in {name} | below(name) if room(other) not in RANK]
    assert not homeless, f"{', '.join(homeless)}: no place in ROOMS"
    above = sorted(other for other in below(name) if RANK[room(other)] > RANK[room(name)])
    assert not above, f"{name} imports {', '.join(above)}, which stand above it"


def test_the_top_holds_rooms_and_leaves_only() -> None:
    files = {path.name for path in (ROOT / "fusekit").iterdir() if path.is_file()}
    assert files == TOP, "a new module belongs into a room"


@pytest.mark.parametrize("name", sorted(room for room in RANK if f"{room}.py" not in TOP))
def test_every_room_says_what_it_knows_and_what_not(name: str) -> None:
    told = ast.get_docstring(SOURCES[f"fusekit.{name}"]) or ""
    assert re.search(r"^Knows .*\. Must not .*\.$", told, re.M | re.S), f"{name}: no sentence on what it knows"


def test_no_two_rooms_need_each_other() -> None:
    graph: dict[str, set[str]] = {room: set() for room in RANK}
    for name in SOURCES:
        if name != "fusekit":
            graph[room(name)] |= {room(other) for other in below(name)} - {room(name)}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


def test_no_two_modules_need_each_other() -> None:
    graph = {name: below(name) - {name} for name in SOURCES if name != "fusekit"}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("name", [name for name in SOURCES if not name.startswith("fusekit.runtimes")])
def test_nobody_compares_names_of_runtimes(name: str) -> None:
    """What differs from one runtime to another is asked of it, or a new one would be forgotten somewhere."""
    words = [
        node.lineno
        for tree in ast.walk(SOURCES[name])
        if isinstance(tree, ast.Compare | ast.MatchValue)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in known()
    ]
    assert not words, f"{name} compares the name of a runtime in line {words}"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("fusekit.passes")])
def test_passes_are_pure_algebra(name: str) -> None:
    names = set(imports(SOURCES[name]))
    barred = [other for other in names for room in NOT_FOR_PASSES if f"{other}.".startswith(f"{room}.")]
    assert not barred, f"{name} imports {barred}: a pass states a law and leaves graphs to the driver"


def test_what_is_known_of_a_node_is_read_and_written_in_one_place() -> None:
    """`node.meta` holds whatever anybody puts there: one typed record instead, and torch's own keys at the border."""
    looking = {
        name
        for name, tree in SOURCES.items()
        if any(isinstance(node, ast.Attribute) and node.attr == "meta" for node in ast.walk(tree))
    }
    assert looking == META.keys(), f"node.meta is for {', '.join(META)}: use fusekit.ir.facts"


def imported(tree: ast.AST) -> set[str]:
    """The names under which a module knows other modules, and what stands in them."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in node.names}


def changes_of_the_process(tree: ast.AST) -> Iterator[str]:
    """Calls that change what all threads see, and assignments to what was imported."""
    others = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = ast.unparse(node.func).split(".")
            if words[-1] in OF_THE_PROCESS or ".".join(words) in ("torch.manual_seed", "random.seed", "os.dup2"):
                yield ast.unparse(node.func)
            if words[0] in ("setattr", "delattr") and ast.unparse(node.args[0]).split(".")[0] in others:
                yield ast.unparse(node)
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
        for target in targets:
            if isinstance(target, ast.Attribute | ast.Subscript) and ast.unparse(target).split(".")[0] in others:
                yield ast.unparse(target)


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in PATCHING])
def test_what_belongs_to_the_process_is_changed_in_one_place(name: str) -> None:
    assert list(changes_of_the_process(SOURCES[name])) == [], "fusekit.model.patches changes it for one thread"


@pytest.mark.parametrize("line", ["torch.x = 1", "logging.disable(1)", "setattr(nn, 'a', 1)", "del torch.table[0]"])
def test_a_change_of_the_process_is_seen(line: str) -> None:
    assert list(changes_of_the_process(ast.parse(f"import torch\nfrom torch import nn\n{line}")))


def test_passes_have_one_name() -> None:
    paths = [path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    trees = SOURCES | {str(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    wrong = [name for name, tree in trees.items() if any(other.split(".")[0] == "passes" for other in imports(tree))]
    assert not wrong, "`import passes` makes a second copy of every module; the name is fusekit.passes"


def test_no_import_hides_in_a_function() -> None:
    hidden = [
        f"{name}.{node.name}"
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(imports(node))
    ]
    assert [name for name in hidden if not name.startswith("fusekit.cli.")] == []


def test_version_stands_in_one_place() -> None:
    assert "version = {" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", fusekit.__version__)
    assert f"## [{fusekit.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        installed = metadata.version("fusekit-fx")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed: a bare checkout")
    assert installed == fusekit.__version__


def test_readme_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test"} <= commands
    assert [target for target in commands if not re.search(rf"^{target}:", makefile, re.M)] == []
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_files_named_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80


def test_quickstart_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "quickstart.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # a bare checkout, with nothing installed, will do
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert "applied" in run.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_super_resolution_demo_runs(tmp_path: Path) -> None:
    """With hardly any training: the blocks still become five convolutions, and the picture stays the same."""
    pytest.importorskip("skimage")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")])}
    program = "import sys, demo_super_resolution as demo; demo.ROUNDS = 1; fine, files = demo.main(2)"
    program += "; print(*files); sys.exit(not fine)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert all((tmp_path / path).stat().st_size for path in run.stdout.splitlines()[-1].split())
    kinds = [node.op_type for node in onnx.load(tmp_path / "out" / "super_resolution.onnx").graph.node]
    assert kinds.count("Conv") == 5
