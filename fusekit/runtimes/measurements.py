"""A cache on disk of earlier measurements: the times of competing realizations, by what was measured, where and how.

It is one SQLite file in the user's cache folder (or in `FUSEKIT_CACHE_DIR`), shared by all processes. The version of
the table is in the file's name. The cache may lose entries but never does harm: what cannot be read is measured again,
what cannot be written is dropped, a damaged file is replaced. A wrong time changes no numerical result, and the speed
of the whole model is always measured anew.
"""

import json
import math
import os
import platform
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path

import platformdirs

FILE = "measurements-1.sqlite"
_WAIT = 5.0  # seconds to wait for another process that is writing


def folder() -> Path:
    """The folder of the cache: $FUSEKIT_CACHE_DIR, else the platform's cache folder."""
    return Path(os.environ.get("FUSEKIT_CACHE_DIR") or platformdirs.user_cache_path("fusekit"))


@lru_cache(maxsize=1)
def processor() -> str:
    """The model name of the processor, as the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


class Measurements:
    """A cache of times. Each entry maps labels to milliseconds; its key holds everything that the times depend on."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or folder() / FILE

    def get(self, key: Mapping[str, object]) -> dict[str, float] | None:
        """The times stored under this key; None if there are none, or if they cannot be read."""
        if not self.path.exists():
            return None
        try:
            with closing(self._connect()) as connection:
                row = connection.execute("SELECT times FROM measurements WHERE key = ?", (_spell(key),)).fetchone()
            return None if row is None else _checked(json.loads(row[0]))
        except (sqlite3.Error, OSError, ValueError, TypeError):
            return None

    def put(self, key: Mapping[str, object], times: Mapping[str, float]) -> None:
        """Store the times under this key, if possible; errors are ignored."""
        for attempt in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(self._connect()) as connection, connection:
                    connection.execute(
                        "INSERT OR REPLACE INTO measurements VALUES (?, ?)", (_spell(key), json.dumps(dict(times)))
                    )
                return
            except sqlite3.OperationalError:  # locked, read-only or full; the file is not damaged
                return
            except sqlite3.DatabaseError:
                if attempt == 0:
                    with suppress(OSError):
                        self.path.unlink()
            except OSError:
                return

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, times TEXT NOT NULL)")
        except BaseException:
            connection.close()
            raise
        return connection


def _spell(key: Mapping[str, object]) -> str:
    return json.dumps(dict(key), sort_keys=True, default=str)


def _checked(times: object) -> dict[str, float] | None:
    if not isinstance(times, dict) or not times:
        return None
    fine = all(isinstance(t, int | float) and math.isfinite(t) and t > 0 for t in times.values())
    return {str(label): float(time) for label, time in times.items()} if fine else None
