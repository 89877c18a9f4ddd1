"""An ONNX file as something that runs: its inputs, which of their sizes are free, and ONNX Runtime on the CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

from fusekit.errors import FusekitError
from fusekit.model.inputs import Inputs

SILENT = 4  # ONNX Runtime's severities end with 4, fatal: whatever it has to say arrives as an exception


def symbolic_dims(path: str | Path) -> dict[str, dict[int, str]]:
    """Per input of the file, the axes whose size is free and the name each has: `{"x": {0: "batch", 2: "height"}}`."""
    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {initializer.name for initializer in graph.initializer}
    return {
        value.name: {
            axis: dim.dim_param
            for axis, dim in enumerate(value.type.tensor_type.shape.dim)
            if not dim.HasField("dim_value")
        }
        for value in graph.input
        if value.name not in constants
    }


class OnnxFile:
    """A loaded file, with as many threads as torch has now. Raises `FusekitError` if ONNX Runtime cannot load it.

    `spinning`: threads that wait keep their core busy, which is faster alone and slows down whatever runs in turn.
    """

    def __init__(self, path: str | Path, *, spinning: bool = True) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FusekitError(f"no ONNX file at {self.path}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = torch.get_num_threads()
        if not spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise FusekitError(f"ONNX Runtime cannot load {self.path.name}: {_first_line(error)}") from error
        self.input_names: list[str] = [value.name for value in self._session.get_inputs()]
        self.output_names: list[str] = [value.name for value in self._session.get_outputs()]

    def free_axes(self) -> dict[str, dict[int, str]]:
        """As `symbolic_dims`; a size without a name gets one of its own."""
        return {
            value.name: {
                axis: size if isinstance(size, str) and size else f"{value.name}_dim{axis}"
                for axis, size in enumerate(value.shape)
                if not isinstance(size, int)
            }
            for value in self._session.get_inputs()
        }

    def assign(self, inputs: Inputs, names: Sequence[str]) -> dict[str, int]:
        """Which tensor feeds which graph input: by name, then the first one left that has its rank and element type.

        An exporter drops inputs that the model does not use, so there may be more tensors than graph inputs.
        """
        tensors = inputs.tensors()
        places = {name: index for index, name in enumerate(names) if name in self.input_names}
        left = [index for index in range(len(tensors)) if index not in places.values()]
        for value in self._session.get_inputs():
            if value.name in places:
                continue
            fitting = [index for index in left if _fits(tensors[index], value)]
            if not fitting:
                raise FusekitError(
                    f"{self.path.name} has an input {value.name!r} ({value.type}, shape {value.shape}) "
                    "and the example inputs have no tensor for it"
                )
            places[value.name] = fitting[0]
            left.remove(fitting[0])
        return places

    def feed(self, inputs: Inputs, names: Sequence[str]) -> dict[str, Any]:
        """The arrays by the names of the graph inputs they go to."""
        tensors = inputs.tensors()
        return {name: _array(tensors[index]) for name, index in self.assign(inputs, names).items()}

    def run(self, inputs: Inputs, names: Sequence[str]) -> list[tuple[str, Tensor]]:
        """The named outputs. Raises `FusekitError` with ONNX Runtime's reason."""
        arrays = self.bound(inputs, names)()
        return [(name, torch.as_tensor(array)) for name, array in zip(self.output_names, arrays, strict=True)]

    def bound(self, inputs: Inputs, names: Sequence[str]) -> Callable[[], list[Any]]:
        """A run with these inputs, to be called as often as one likes: the outputs as arrays."""
        feed = self.feed(inputs, names)
        options = onnxruntime.RunOptions()
        options.log_severity_level = SILENT

        def run() -> list[Any]:
            try:
                return list(self._session.run(None, feed, options))
            except Exception as error:
                raise FusekitError(f"ONNX Runtime cannot run {self.path.name}: {_first_line(error)}") from error

        return run


def _array(tensor: Tensor) -> Any:
    """As numpy; numpy has no bfloat16, and neither do ONNX Runtime's CPU kernels."""
    if tensor.dtype == torch.bfloat16:
        raise FusekitError("ONNX Runtime on the CPU takes no bfloat16 input")
    return _in_reals(tensor.detach()).cpu().contiguous().numpy()


def _in_reals(tensor: Tensor) -> Tensor:
    """torch's exporter turns a complex [*] into a real [*, 2]: ONNX Runtime has no complex numbers."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


# ONNX Runtime's spelling of an element type -> torch's.
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


def _fits(tensor: Tensor, value: Any) -> bool:
    tensor = _in_reals(tensor)
    return _ELEMENT.get(value.type, tensor.dtype) == tensor.dtype and len(value.shape) == tensor.dim()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
