"""Who else makes a network faster: the competitors of `fusekit bench`, each where it is installed.

A way in PyTorch takes a module to a module, a way of ONNX a file to a file. They change what they are given, so modules
are copied first. A way may fail on a network, or compute something else; who measures it judges that. The packages are
imported when they are asked for: no command needs them.
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
    """A way that rewrites the graph: on a copy, which then runs in eager mode."""

    def way(model: nn.Module) -> nn.Module:
        made = fuse(own_copy(model))
        assert isinstance(made, nn.Module)
        return made

    return way


def compiled(**options: Any) -> ModuleWay:
    """torch.compile with Inductor. The first call builds: it takes a C++ compiler, and a minute for a large network."""

    def way(model: nn.Module) -> nn.Module:
        made = torch.compile(own_copy(model), options=options or None)
        assert isinstance(made, nn.Module)
        return made

    return way


def by_onnxscript(source: Path, out: Path) -> None:
    """onnxscript's optimizer and its rewrite rules, batch norms folded into convolutions among them."""
    optimized = import_module("onnxscript.optimizer").optimize(onnx.load(str(source)))
    onnx.save(import_module("onnxscript.rewriter").rewrite(optimized), str(out))


def by_onnxsim(source: Path, out: Path) -> None:
    simplified, _ = import_module("onnxsim").simplify(str(source))
    onnx.save(simplified, str(out))


def by_onnxslim(source: Path, out: Path) -> None:
    onnx.save(import_module("onnxslim").slim(str(source)), str(out))


# In eager mode: the layout is still to be chosen. The rest chooses for itself.
FUSED: dict[str, ModuleWay] = {"torch.fx fuse": in_eager(optimization.fuse)}
LOWERED: dict[str, ModuleWay] = {"torch.fx optimize_for_inference": in_eager(optimization.optimize_for_inference)}
COMPILED: dict[str, ModuleWay] = {
    "torch.compile": compiled(),
    "torch.compile, freezing": compiled(freezing=True),
}
# The name is the package's.
FILES: dict[str, FileWay] = {"onnxscript": by_onnxscript, "onnxsim": by_onnxsim, "onnxslim": by_onnxslim}


def installed(package: str) -> bool:
    return find_spec(package) is not None


def missing() -> list[str]:
    """What would have been measured, had it been installed."""
    return [name for name in FILES if not installed(name)] + [each.name for each in runtimes() if each.missing()]
