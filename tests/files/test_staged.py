"""A file appears whole or not at all, keeps its permissions, and is reached through links."""

import os
from pathlib import Path

import pytest

from fusekit.errors import ExportError
from fusekit.files import beside, destination, place, staged


def test_what_ends_well_replaces(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with staged(out) as stage:
        stage.write_text("new")
        (stage.parent / "m.onnx.data").write_text("weights")
        assert out.read_text() == "old" and stage.name == out.name
    assert sorted((p.name, p.read_text()) for p in tmp_path.iterdir()) == [
        ("m.onnx", "new"),
        ("m.onnx.data", "weights"),
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_what_fails_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with pytest.raises(ExportError if error is OSError else error), staged(out) as stage:
        stage.write_text("half")
        raise error("no space left")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"] and out.read_text() == "old"


def test_nothing_is_placed_unasked(tmp_path: Path) -> None:
    with beside(tmp_path / "m.onnx") as stage:
        stage.write_text("wrong numbers")
    assert not any(tmp_path.iterdir())


def test_the_model_is_moved_after_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    plain = os.replace

    def replace(a: Path, b: Path) -> None:
        moved.append(Path(b).name)
        plain(a, b)

    monkeypatch.setattr(os, "replace", replace)
    with staged(tmp_path / "m.onnx") as stage:
        for name in ("m.onnx", "m.onnx.data", "a"):
            (stage.parent / name).write_text("")
    assert moved[-1] == "m.onnx" and len(moved) == 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    plain = tmp_path / "plain"
    plain.write_text("")
    with staged(out) as stage:
        stage.write_text("")
    assert out.stat().st_mode == plain.stat().st_mode  # a new one as any other
    out.chmod(0o640)
    with staged(out) as stage:
        stage.write_text("")
    assert out.stat().st_mode & 0o777 == 0o640


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.onnx", tmp_path / "there" / "m.onnx"
    link.symlink_to(target)
    for content in ("first", "second"):  # dangling, then not
        with staged(link) as stage:
            assert stage.parents[2] == target.parent
            stage.write_text(content)
        assert link.is_symlink() and target.read_text() == content


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "loop": "symbolic links",
        "folder": "it is a folder",
        "no/m.onnx": "there is no folder",
    }.items():
        with pytest.raises(ExportError, match=f"cannot write .*{name}: .*{reason}"):
            destination(tmp_path / name)
    with pytest.raises(ExportError, match="no ordinary file"):
        destination("/dev/null")


def test_place_by_hand(tmp_path: Path) -> None:
    with beside(tmp_path / "m") as stage:
        stage.write_text("x")
        place(stage, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
