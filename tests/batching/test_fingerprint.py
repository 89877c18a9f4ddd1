"""A fingerprint changes with whatever decides what is written, and with nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from fusekit.batching import fingerprint as prints
from fusekit.batching.fingerprint import code_of, fingerprint
from fusekit.batching.item import Item
from fusekit.errors import CheckpointError


@pytest.fixture
def item(tmp_path: Path) -> Item:
    (tmp_path / "nets.py").write_text("def net(): ...")
    (tmp_path / "w.pt").write_bytes(b"weights")
    (tmp_path / "x.npy").write_bytes(b"numbers")
    cells = {"name": "a", "source": "nets:net", "weights": "w.pt", "inputs": "x=x.npy:uint8"}
    return Item.of(cells, 1).placed(tmp_path, tmp_path / "out")


def key(item: Item, root: Path, **circumstances: object) -> str:
    return fingerprint(item, root, circumstances).key


def test_contents_count_and_places_do_not(item: Item, tmp_path: Path) -> None:
    first = key(item, tmp_path)
    assert key(replace(item, name="b", output="elsewhere.onnx"), tmp_path) == first
    for old, new in (("w.pt", "moved.pt"), ("x.npy", "y.npy")):
        (tmp_path / old).rename(tmp_path / new)
    moved = replace(item, weights=str(tmp_path / "moved.pt"), inputs=(f"x={tmp_path}/y.npy:uint8",))
    assert key(moved, tmp_path) == first


@pytest.mark.parametrize("name", ["nets.py", "w.pt", "x.npy"])
def test_each_content_counts(name: str, item: Item, tmp_path: Path) -> None:
    first = fingerprint(item, tmp_path, {})
    (tmp_path / name).write_bytes(b"something else")
    second = fingerprint(item, tmp_path, {})
    assert first.key != second.key and first.differs(second)


def test_options_versions_and_circumstances_count(item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(item, tmp_path, {})
    others = [
        key(replace(item, options={"opset": 18}), tmp_path),
        key(replace(item, arguments={"width": 8}), tmp_path),
        key(replace(item, inputs=(f"x={tmp_path}/x.npy:int8",)), tmp_path),
        key(replace(item, inputs=(f"y={tmp_path}/x.npy:uint8",)), tmp_path),
        key(replace(item, weights=f"{item.weights}#ema"), tmp_path),
        key(replace(item, source="nets:other"), tmp_path),
        key(item, tmp_path, threads=2),
    ]
    monkeypatch.setattr(prints, "versions", lambda: {"torch": "0.1"})
    other = fingerprint(item, tmp_path, {})
    assert len({first.key, other.key, *others}) == len(others) + 2
    assert first.differs(other).startswith("Python: ") and first.differs(first) == ""


def test_code_is_found_without_being_run(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit(1)")
    (package / "nets.py").write_text("raise SystemExit(1)")
    assert code_of("package.nets:net", tmp_path) == package / "nets.py"
    assert code_of("package:net", tmp_path) == package / "__init__.py"
    assert code_of("no.such:net", tmp_path) is None


def test_a_missing_file(item: Item, tmp_path: Path) -> None:
    (tmp_path / "w.pt").unlink()
    with pytest.raises(CheckpointError, match="cannot read .*w.pt: No such file"):
        fingerprint(item, tmp_path, {})
