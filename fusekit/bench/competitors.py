"""Other tools that make a network faster, for comparison in `fusekit bench`. Each is used if it is installed.

A `ModuleWay` turns a module into a module; a `FileWay` turns an ONNX file into an ONNX file. Tools may change their
input, so modules are copied first. A tool may fail on a network or compute wrong values; `contenders.py` checks that.
The packages are imported only when they are used, because no command depends on them.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.fx.experimental import optimization

from fusekit.model.own_copy import own_copy
from fusekit.runtimes import runtimes

ModuleWay = Callable[[nn.Module], nn.Module]
FileWay = Callable[[Path, Path], None]


def in_eager(fuse: Callable[[nn.Module], Any]) -> ModuleWay:
    """The way of a tool that rewrites the graph of a module. It works on a copy, which then runs in eager mode."""

    def way(model: nn.Module) -> nn.Module:
        made = fuse(own_copy(model))
        assert isinstance(made, nn.Module)
        return made

    return way


def compiled(**options: Any) -> ModuleWay:
    """torch.compile with Inductor. It compiles at the first call, which needs a C++ compiler and takes about a minute
    for a large network."""

    def way(model: nn.Module) -> nn.Module:
        made = torch.compile(own_copy(model), options=options or None)
        assert isinstance(made, nn.Module)
        return made

    return way


def by_onnxscript(source: Path, out: Path) -> None:
    """onnxscript's optimizer and its rewrite rules; among other things they fold batch norms into convolutions."""
    optimized = import_module("onnxscript.optimizer").optimize(onnx.load(str(source)))
    onnx.save(import_module("onnxscript.rewriter").rewrite(optimized), str(out))


def by_onnxsim(source: Path, out: Path) -> None:
    simplified, _ = import_module("onnxsim").simplify(str(source))
    onnx.save(simplified, str(out))


def by_onnxslim(source: Path, out: Path) -> None:
    onnx.save(import_module("onnxslim").slim(str(source)), str(out))


# These results run in eager mode, so they are measured in both memory formats. The other tools choose one themselves.
FUSED: dict[str, ModuleWay] = {"torch.fx fuse": in_eager(optimization.fuse)}
LOWERED: dict[str, ModuleWay] = {"torch.fx optimize_for_inference": in_eager(optimization.optimize_for_inference)}
COMPILED: dict[str, ModuleWay] = {
    "torch.compile": compiled(),
    "torch.compile, freezing": compiled(freezing=True),
}
# The keys are names of packages.
FILES: dict[str, FileWay] = {"onnxscript": by_onnxscript, "onnxsim": by_onnxsim, "onnxslim": by_onnxslim}


def installed(package: str) -> bool:
    return find_spec(package) is not None


def missing() -> list[str]:
    """The names of tools and runtimes that are not measured because they are not installed."""
    return [name for name in FILES if not installed(name)] + [each.name for each in runtimes() if each.missing()]
