"""Measurements on disk: kept between processes, and of a file that is damaged nothing is believed."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fusekit.runtimes.measurements import FILE, Measurements

KEY = {"maps": ["a", "b"], "shape": [1, 2]}
TIMES = {"a": 1.5, "b": 0.25}


def test_kept(tmp_path: Path) -> None:
    known = Measurements(tmp_path / "deep" / FILE)
    assert known.get(KEY) is None
    known.put(KEY, TIMES)
    assert Measurements(known.path).get(dict(reversed(KEY.items()))) == TIMES
    assert known.get({**KEY, "shape": [1, 3]}) is None


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\x00" + b"\xff" * 2000])
def test_a_damaged_file_is_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    known = Measurements(tmp_path / FILE)
    assert known.get(KEY) is None
    known.put(KEY, TIMES)
    assert known.get(KEY) == TIMES


@pytest.mark.parametrize(
    "entry", ["nonsense", "[]", "{}", '{"a": "fast"}', '{"a": -1}', '{"a": NaN}', '{"a": 0}', "null"]
)
def test_an_entry_that_is_no_times(entry: str, tmp_path: Path) -> None:
    known = Measurements(tmp_path / FILE)
    known.put(KEY, TIMES)
    with sqlite3.connect(known.path) as connection:
        connection.execute("UPDATE measurements SET times = ?", (entry,))
    connection.close()
    assert known.get(KEY) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = Measurements(tmp_path / "file" / FILE)
    known.put(KEY, TIMES)
    assert known.get(KEY) is None


def test_two_processes_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fusekit.runtimes.measurements import Measurements\n"
        "known = Measurements(Path(sys.argv[1]))\n"
        "for number in range(60): known.put({'of': sys.argv[2], 'n': number}, {'a': number + 1.0})\n"
    )
    path = str(tmp_path / FILE)
    running = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "xy"]
    assert [process.wait(60) for process in running] == [0, 0]
    known = Measurements(tmp_path / FILE)
    for name in "xy":
        assert [known.get({"of": name, "n": n}) for n in range(60)] == [{"a": n + 1.0} for n in range(60)]
