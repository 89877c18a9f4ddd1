"""Commands that are told to stop, and full disks: one line, its exit code, nothing left behind."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from fusekit.checkpoint.archive.save_program import save_program
from tests.support.cli_room import run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

COMMAND = (sys.executable, "-m", "fusekit.cli.main")
CODE = """
from torch import nn

def deep():
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()) for _ in range(40)))

def small():
    return nn.Conv2d(3, 4, 3)
"""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(CODE)
    (tmp_path / "out").mkdir()
    return tmp_path


def small_files() -> None:
    """No file may grow beyond 1,000 bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing_behind(name: str, room: Path) -> None:
    words = ("export", "nets:deep", "out/m.onnx", "--input", "1x8x96x96", "--quiet", "--no-measure")
    running = subprocess.Popen([*COMMAND, *words], cwd=room, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not any((room / "out").iterdir()):
        time.sleep(0.02)
    running.send_signal(getattr(signal, name))
    _, said = running.communicate(timeout=60)
    number = getattr(signal, name)
    assert (running.returncode, said) == (128 + number, f"error: stopped by {name}\n")
    assert [str(path) for path in (room / "out").rglob("*")] == []


SWALLOWS = """
import signal
from fusekit.cli import main
from fusekit.cli.stopped import Stopped

def work(commands, screen):
    try:
        signal.raise_signal(signal.SIGTERM)
    except Stopped:
        pass  # as a library may
    raise FileNotFoundError("a folder that is gone")

main.stop_cleanly()
try:
    main._run(main.Talk(False, False, 0, False), work)
except main.typer.Exit as end:
    raise SystemExit(end.exit_code)
"""


def test_a_signal_that_a_library_swallowed_is_the_reason_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "error: stopped by SIGTERM\n")


@pytest.mark.parametrize("words", [("export", "nets:small", "out/m.onnx"), ("optimize", "nets:small", "out/m.pt2")])
def test_a_full_disk_is_one_line_and_the_old_file_stays(words: tuple[str, ...], room: Path) -> None:
    (room / words[2]).write_text("old")
    command = [*COMMAND, *words, "--input", "1x3x8x8", "--quiet", "--no-measure"]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, preexec_fn=small_files, check=False)
    assert done.returncode == 2
    line = f"error: cannot write {Path(words[2]).name}: File too large; choose another place\n"
    assert done.stderr in (line, "error: File too large\n")  # torch 2.9 writes a file when parts of it are imported
    assert [p.name for p in (room / "out").iterdir()] == [Path(words[2]).name]
    assert (room / words[2]).read_text() == "old"


def test_an_archive_that_is_written_is_whole(tmp_path: Path) -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    save_program(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "m.pt2").module()(x), model(x))


def test_a_link_to_itself(room: Path) -> None:
    (room / "loop.onnx").symlink_to(room / "loop.onnx")
    told = run("export", "nets:small", str(room / "loop.onnx"), "--input", "1x3x8x8")
    assert told.code == 2 and told.stderr.count("\n") == 1 and "symbolic links" in told.stderr


def test_an_interrupt_while_arguments_are_read_is_one_line() -> None:
    code = (
        "import os, signal\n"
        "from fusekit.cli import main\n"
        "main.Model.check = lambda self, **words: os.kill(os.getpid(), signal.SIGINT)\n"
        "main.main()"
    )
    words = ("export", "nets:small", "m.onnx", "--input", "1x3x8x8")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
