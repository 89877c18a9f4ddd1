"""OpenVINO on the CPU, in float32."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusekit.algebra import Rates
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import Port, RunnableFile, declared_inputs, first_line
from fusekit.runtimes.measurements import processor
from fusekit.runtimes.timing import Call

PACKAGE = "openvino"
RATES = Rates(
    direct=(50.0, 30.0),
    lanes=(16, 16),
    ring_side=7,
    pads_each_side=True,
    copies_slices=True,
    scales_norms=True,
    owns_layout=True,
    by_matrices=True,
    batched_rows=0,
)


class OpenVino:
    """OpenVINO, Intel's runtime for ONNX files, on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    rates = RATES
    reads_files = True
    has_complex = False

    def missing(self) -> str:
        if find_spec(PACKAGE) is not None:
            return ""
        return "OpenVINO is not installed: pip install openvino (or the extra fusekit-fx[openvino])"

    def identity(self, device: torch.device) -> str:
        return f"{self.name} {import_module(PACKAGE).__version__} on {processor()}"

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        return OpenVinoFile(path)

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        return self.load(write(), spinning=False).bound(inputs, inputs.names(module))


@cache
def _core() -> Any:
    return import_module(PACKAGE).Core()


class OpenVinoFile(RunnableFile):
    """A compiled model, with the number of threads that torch has now."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # without it, OpenVINO uses bfloat16 if the processor has it
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            # Equal names show which sizes change together. OpenVINO drops these names, so they are read from the file.
            self._inputs = declared_inputs(self.path)
            self._request = _core().compile_model(str(self.path), "CPU", settings).create_infer_request()
        except Exception as error:
            raise FusekitError(f"OpenVINO cannot load {self.path.name}: {first_line(error)}") from error

    @property
    def inputs(self) -> list[Port]:
        return self._inputs

    @property
    def output_names(self) -> list[str]:
        return [str(output.any_name) for output in self._request.model_outputs]

    def run_arrays(self, feed: Mapping[str, Any]) -> list[Any]:
        try:
            return list(self._request.infer(dict(feed)).values())
        except Exception as error:
            raise FusekitError(f"OpenVINO cannot run {self.path.name}: {first_line(error)}") from error
