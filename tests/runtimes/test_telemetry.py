"""No data leaves the machine: ONNX Runtime begins no session of its telemetry, which would be a file `.ses`."""

import os
import subprocess
import sys
from pathlib import Path

import fusekit


def test_the_telemetry_of_onnx_runtime_does_not_begin(tmp_path: Path) -> None:
    place = {**os.environ, "PYTHONPATH": str(Path(fusekit.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    place.pop("ORT_DISABLE_TELEMETRY", None)  # this process set it, too
    code = "import fusekit, onnxruntime"
    subprocess.run([sys.executable, "-c", code], env=place, timeout=60, check=True)
    assert list(tmp_path.iterdir()) == []
