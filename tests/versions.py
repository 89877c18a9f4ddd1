"""Runs the whole suite with one set of versions, in an environment of its own, and adds a line to a table.

    python -m tests.versions oldest --python python3.10
    python -m tests.versions newest --python python3.13

`oldest`: of every dependency the least version that pyproject.toml admits. `newest`: the newest that it admits.
`pinned`: those of constraints.txt. The environment is made in `out/versions/`, or in `--folder`, and kept. torch alone
can take several gigabytes. The table is docs/benchmarks/versions.csv and versions.md.
"""

import argparse
import csv
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "benchmarks" / "versions.csv"
SETS = ("oldest", "pinned", "newest")
SHOWN = ("torch", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "numpy")
# what the tests need beside the package. The linters look at text, which is the same at all versions.
_TOOLS = ("pytest", "pytest-xdist", "hypothesis")
_ASK = """
import json, platform, sys
from importlib import metadata
print(json.dumps({"python": platform.python_version(), **{name: metadata.version(name) for name in sys.argv[1:]}}))
"""


def dependencies() -> list[Requirement]:
    """What pyproject.toml declares, and of its extras what the tests need: trained networks, and OpenVINO."""
    text = (ROOT / "pyproject.toml").read_text()  # tomllib came with Python 3.11
    found = re.findall(r'^    "([^"]+)",', text.split("\ndependencies = [")[1].split("\n]")[0], re.MULTILINE)
    extras = [re.findall(r'"([^"]+)"', text.split(f"\n{extra} = [")[1].split("]")[0]) for extra in ("zoo", "openvino")]
    return [Requirement(line) for line in itertools.chain(found, *extras)]


def asked(versions: str) -> list[str]:
    """What pip is asked for."""
    found = dependencies()
    if versions == "oldest":
        return [*(f"{need.name}=={least(need)}" for need in found), *_TOOLS]
    return [*map(str, found), *_TOOLS]


def least(need: Requirement) -> str:
    """The least version that a requirement admits."""
    bounds = [bound.version for bound in need.specifier if bound.operator in (">=", "==")]
    if len(bounds) != 1:
        raise ValueError(f"{need}: expected one least version")
    return bounds[0]


def run(versions: str, python: str, folder: Path) -> dict[str, Any]:
    """Make the environment, if it is not there, and run the suite in it."""
    ours = folder / "bin" / "python"
    if not ours.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    limits = ["-c", "constraints.txt"] if versions == "pinned" else []
    pip = [str(ours), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *limits]
    subprocess.run([*pip, *asked(versions)], check=True, cwd=ROOT)
    subprocess.run([*pip, "--no-deps", "-e", "."], check=True, cwd=ROOT)
    started = time.monotonic()
    suite = [str(ours), "-m", "pytest", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"]
    found = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True)
    print(found.stdout[-5000:], found.stderr[-2000:])
    told = subprocess.run([str(ours), "-c", _ASK, *SHOWN], check=True, capture_output=True, text=True)
    last = found.stdout.strip().splitlines()[-1]
    counts = {word: _count(word, last) for word in ("passed", "failed", "skipped", "errors?")}
    row = {"versions": versions, **json.loads(told.stdout), "passed": counts["passed"], "skipped": counts["skipped"]}
    return row | {"failed": counts["failed"] + counts["errors?"], "seconds": round(time.monotonic() - started)}


def _count(word: str, line: str) -> int:
    found = re.search(rf"(\d+) {word}\b", line)
    return int(found[1]) if found else 0


def write(row: dict[str, Any]) -> None:
    """Put the line in the place of the old one of the same set and Python."""
    rows = list(csv.DictReader(TABLE.open())) if TABLE.exists() else []
    kept = [old for old in rows if (old["versions"], old["python"]) != (row["versions"], row["python"])]
    lines = [*kept, {key: str(value) for key, value in row.items()}]
    lines.sort(key=lambda line: (SETS.index(line["versions"]), line["python"]))
    with TABLE.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    columns = list(row)
    text = [
        "# The suite at other versions",
        "",
        "`python -m tests.versions SET --python PYTHON` writes this table.",
        "",
    ]
    text += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    text += ["| " + " | ".join(line[column] for column in columns) + " |" for line in lines]
    TABLE.with_suffix(".md").write_text("\n".join(text) + "\n")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", choices=SETS)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(words)
    row = run(given.versions, given.python, given.folder or ROOT / "out" / "versions" / given.versions)
    write(row)
    return int(row["failed"])


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
