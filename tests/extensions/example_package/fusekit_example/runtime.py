"""onnx's reference evaluator as a runtime: slow, but it shows what a runtime has to answer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from fusekit.algebra import EAGER
from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.runtimes.file import Port, RunnableFile, declared_inputs
from fusekit.runtimes.timing import Call


class ReferenceFile(RunnableFile):
    """A file that the evaluator has loaded."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        try:
            self._evaluator = ReferenceEvaluator(str(path))
            self._inputs = declared_inputs(path)
        except Exception as error:
            raise FusekitError(f"the reference evaluator cannot load {self.path.name}: {error}") from error

    @property
    def inputs(self) -> list[Port]:
        return self._inputs

    @property
    def output_names(self) -> list[str]:
        return list(self._evaluator.output_names)

    def run_arrays(self, feed: Mapping[str, Any]) -> list[Any]:
        try:
            return list(self._evaluator.run(None, dict(feed)))
        except Exception as error:
            raise FusekitError(f"the reference evaluator cannot run {self.path.name}: {error}") from error


class OnnxReference:
    """The reference evaluator of the package onnx."""

    name = "onnx-reference"
    title = "onnx's reference evaluator"
    rates = EAGER
    reads_files = True
    has_complex = False

    def missing(self) -> str:
        return ""

    def identity(self, device: torch.device) -> str:
        return f"{self.name} {onnx.__version__}"

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        return ReferenceFile(path)

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        return self.load(write()).bound(inputs, inputs.names(module))
