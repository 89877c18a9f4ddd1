"""ONNX Runtime on the CPU."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import nn

from fusekit.algebra import Rates
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import Port, RunnableFile, first_line
from fusekit.runtimes.measurements import processor
from fusekit.runtimes.timing import Call

onnxruntime.disable_telemetry_events()  # for a process that had imported it before fusekit
SILENT = 4  # log only fatal errors, the highest severity; everything else arrives as an exception

# Measured on one thread of a core with AVX-512; `direct` on 107 shapes. ONNX Runtime has no fast kernels for 3d
# convolutions, slow ones for 1d depthwise convolutions (1.3 to 6 times the time of 2d ones), and takes 0.02 ms for each
# side of a border ring.
RATES = Rates(
    direct=(50.0, 30.0),
    lanes=(16, 8),
    volumes=(0.5, 0.15),
    line_depthwise=3,
    ring_side=7,
    pads_each_side=True,
    copies_slices=True,
    scales_norms=True,
    owns_layout=True,
    sums_columns=True,
    by_matrices=True,
    fast_windows=True,
    batched_rows=2,
)

# ONNX Runtime's name of an element type -> torch's dtype.
_ELEMENT = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}


class OnnxRuntime:
    """ONNX Runtime, which runs ONNX files on the CPU."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    rates = RATES
    reads_files = True
    has_complex = False

    def missing(self) -> str:
        return ""

    def identity(self, device: torch.device) -> str:
        return f"{self.name} {onnxruntime.__version__} on {processor()}"

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        return OnnxFile(path, spinning=spinning)

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        return self.load(write(), spinning=False).bound(inputs, inputs.names(module))


ONNX_RUNTIME = OnnxRuntime()


def session(model: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU, of a path or of a file's content. Without the fallback to other providers, which there are
    none of here: before it tries them, ONNX Runtime prints its error to stdout."""
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


class OnnxFile(RunnableFile):
    """A session of ONNX Runtime, with the number of threads that torch has now."""

    def __init__(self, path: str | Path, *, spinning: bool = True) -> None:
        super().__init__(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = torch.get_num_threads()
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = session(str(self.path), options)
        except Exception as error:
            raise FusekitError(f"ONNX Runtime cannot load {self.path.name}: {first_line(error)}") from error
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = SILENT
        self._inputs = [Port(v.name, _ELEMENT.get(v.type), tuple(v.shape)) for v in self._session.get_inputs()]

    @property
    def inputs(self) -> list[Port]:
        return self._inputs

    @property
    def output_names(self) -> list[str]:
        return [value.name for value in self._session.get_outputs()]

    @cached_property
    def _is_recurrent(self) -> bool:
        nodes = onnx.load(str(self.path), load_external_data=False).graph.node
        return any(node.op_type in ("LSTM", "GRU", "RNN") for node in nodes)

    def run_arrays(self, feed: Mapping[str, Any]) -> list[Any]:
        if not all(array.size for array in feed.values()) and self._is_recurrent:  # this would crash the process
            raise FusekitError("ONNX Runtime cannot run recurrent layers on inputs of size 0: sizes must be at least 1")
        try:
            return list(self._session.run(None, feed, self._run_options))
        except Exception as error:
            told = f"ONNX Runtime cannot run {self.path.name}: {first_line(error)}"
            raise FusekitError(f"{told}; it takes {self.takes}") from error
