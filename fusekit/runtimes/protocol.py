"""The interface of a runtime. Another package implements it in a class, and names the class in an entry point."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from fusekit.algebra import Rates
from fusekit.model import Inputs
from fusekit.runtimes.file import RunnableFile
from fusekit.runtimes.timing import Call


class Runtime(Protocol):
    """A runtime, on which a network runs.

    Attributes:
        name: its name in options, as in `target="onnxruntime"`.
        title: its name in texts for people.
        rates: how fast it runs linear operators; used to estimate costs.
        reads_files: True if it runs ONNX files; False if it runs modules in this process.
        has_complex: True if it has complex numbers; False if they must be written as pairs of real ones.
    """

    name: str
    title: str
    rates: Rates
    reads_files: bool
    has_complex: bool

    def missing(self) -> str:
        """ "" if the runtime can run here; else one line that says what to install."""
        ...

    def identity(self, device: torch.device) -> str:
        """A text with everything that its times depend on, besides the operators and the number of threads: its
        version, and the processor or the `device` of the model. Times stored for another identity are not used."""
        ...

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        """The ONNX file at `path`, ready to run with the number of threads that torch has now.

        `spinning`: waiting threads keep their cores busy. This is faster for one program alone, but slows down other
        programs that run in turn with it. Raises FusekitError if the file cannot be loaded, or if this runtime does not
        read files.
        """
        ...

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        """A function without arguments that runs the `module` on these `inputs`, as at inference. `write` exports the
        module to an ONNX file and returns its path, for runtimes that read files."""
        ...
