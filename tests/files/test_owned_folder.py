"""Folders for work in progress: removed by their owner, by its end, or by the next one that comes."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fusekit.errors import FusekitError
from fusekit.files import owned_folder, remove_all, scratch


def test_it_is_gone_whatever_happens(tmp_path: Path) -> None:
    with owned_folder(tmp_path) as room:
        (room / "half").write_text("...")
        assert room.is_dir() and [p.name for p in room.iterdir()] == ["half"]
    assert not any(tmp_path.iterdir())
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), owned_folder(tmp_path):
            raise error
    assert not any(tmp_path.iterdir())


def held(parent: Path) -> "subprocess.Popen[str]":
    """Another process that has such a folder and waits."""
    code = f"""
        import sys
        from pathlib import Path
        from fusekit.files import owned_folder
        with owned_folder(Path({str(parent)!r})) as room:
            (room / "half").write_text("...")
            print("ready", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "ready\n"
    return other


def test_what_a_dead_process_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    dead, living = held(tmp_path), held(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with owned_folder(tmp_path):
        assert len(list(tmp_path.iterdir())) == 2  # the living one's, and ours
    (left,) = tmp_path.iterdir()
    assert (left / "work" / "half").exists()
    living.communicate()
    assert living.returncode == 0 and not any(tmp_path.iterdir())


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / ".fusekit-notes").mkdir()
    (tmp_path / ".fusekit-notes" / "mine").write_text("kept")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".owner").write_text("")
    (tmp_path / ".fusekit-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".fusekit-file").write_text("kept")
    with owned_folder(tmp_path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".fusekit-file",
        ".fusekit-link",
        ".fusekit-notes",
        "elsewhere",
    ]
    assert (tmp_path / "elsewhere" / ".owner").exists()


def test_one_inside_another(tmp_path: Path) -> None:
    with owned_folder(tmp_path) as outer, owned_folder(outer) as inner, owned_folder(tmp_path):
        assert inner.is_dir()
    assert not any(tmp_path.iterdir())


def test_all_at_once(tmp_path: Path) -> None:
    with owned_folder(tmp_path) as first, owned_folder(tmp_path) as second:
        remove_all()
        assert not first.exists() and not second.exists()
    assert not any(tmp_path.iterdir())


def test_no_room_for_temporaries_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(FusekitError, match="no temporary files can be made .*TMPDIR"), scratch():
        pass


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_other_users_cannot_look_in(tmp_path: Path) -> None:
    with owned_folder(tmp_path) as room:
        assert room.parent.stat().st_mode & 0o077 == 0
