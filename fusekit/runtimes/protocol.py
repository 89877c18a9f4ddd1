"""What a runtime answers. Another one is a class with these answers, named in an entry point."""

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
    """Where a network runs.

    Attributes:
        name: the word for it, as in `target="onnxruntime"`.
        title: its name for people.
        rates: how it runs linear operators, for prices.
        reads_files: it runs ONNX files; else it runs modules in this process.
        has_complex: it computes with complex numbers itself; else they are pairs of reals there.
    """

    name: str
    title: str
    rates: Rates
    reads_files: bool
    has_complex: bool

    def missing(self) -> str:
        """ "" if it can run here; else one line that says what to install."""
        ...

    def identity(self, device: torch.device) -> str:
        """What its times depend on besides the operators and the threads: its version, and the processor or the
        `device` where the model lies. Times of another identity are not used."""
        ...

    def load(self, path: str | Path, *, spinning: bool = True) -> RunnableFile:
        """The ONNX file at `path`, ready to run in as many threads as torch has now. `spinning`: threads that wait keep
        their core busy, which is faster alone and slows down whatever runs in turn. FusekitError if it cannot be
        loaded, or if this runtime reads no files."""
        ...

    def build(self, module: nn.Module, inputs: Inputs, write: Callable[[], Path]) -> Call:
        """The `module` on these `inputs` as a call without arguments, as at inference. `write` makes an ONNX file of
        the module, for runtimes that read files."""
        ...
