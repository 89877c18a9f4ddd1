"""PyTorch in eager mode, on the device of the inputs."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fusekit.algebra import EAGER
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.measurements import processor
from fusekit.runtimes.timing import Call


class PyTorch:
    """PyTorch in this process. Its rates are the default ones: `direct` was measured on 107 shapes, on one thread of a
    core with AVX-512; one side of a border ring takes 0.16 ms."""

    name = "torch"
    title = "PyTorch"
    rates = EAGER
    reads_files = False
    has_complex = True

    def missing(self) -> str:
        return ""

    def identity(self, device: torch.device) -> str:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        return f"{self.name} {torch.__version__} on {where}"

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        raise FusekitError("PyTorch does not run ONNX files: choose a target that does")

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        return torch_call(module, inputs)


def torch_call(module: nn.Module, inputs: Inputs) -> Call:
    """A function without arguments that runs the module on these inputs in inference mode; on a GPU, it waits until the
    result is computed."""
    on_gpu = any(tensor.is_cuda for tensor in inputs.tensors())

    def call() -> object:
        with torch.inference_mode():
            result = inputs.call(module)
        if on_gpu:
            torch.cuda.synchronize()
        return result

    return call
