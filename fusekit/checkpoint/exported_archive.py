"""A torch.export archive becomes a module again.

`torch.export.load` unpickles what an archive asks it to, and evaluates its symbolic sizes as Python. So the archive is
read first, without running anything: an ordinary one needs neither, and one that does is refused unless `unsafe`.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fusekit.checkpoint.factory import brief
from fusekit.errors import CheckpointError

# Sizes are written as sympy constructors, `Mul(Integer(8), Symbol('s0', integer=True))`: calls of capitalised names.
_NOT_A_SIZE = re.compile(r"__|\.\s*[A-Za-z_]|\blambda\b|\[|\b[a-z_]\w*\s*\(")


def load_program(path: Path, unsafe: bool = False) -> nn.Module:
    """The archive's program as a module in evaluation mode, with its input checks; CheckpointError if it has none."""
    try:
        if not unsafe:
            _check(path)
        module = torch.export.load(path).module()
    except CheckpointError:
        raise
    except Exception as error:  # the format is private to torch, and so are the errors of a damaged file
        raise CheckpointError(f"{path} is a torch.export archive that cannot be read ({brief(error)})") from error
    _refuse_training(path, module)
    return _as_module(module)


def _as_module(module: fx.GraphModule) -> nn.Module:
    """An exported module that can be set to evaluation like any other.

    The instance carries a `train` and an `eval` that raise, and hooks that check the inputs once more than `_guards_fn`
    in its graph. A copy would lose them all; so does this one, to be no special case later.
    """
    for name in ("train", "eval"):
        module.__dict__.pop(name, None)
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    module._forward_hooks.clear()
    return module.eval()


def _refuse_training(path: Path, module: fx.GraphModule) -> None:
    """Dropout and batch norm were fixed when the program was written: `eval()` cannot reach them any more."""
    for node in module.graph.nodes:
        overload = getattr(node.target, "_schema", None)
        if node.op != "call_function" or overload is None:
            continue
        values = dict(zip((argument.name for argument in overload.arguments), node.args, strict=False)) | node.kwargs
        dropped = overload.name == "aten::dropout" and values.get("train") is True and values.get("p") != 0
        trained = overload.name == "aten::batch_norm" and values.get("training") is True and values.get("running_mean")
        if dropped or trained:
            raise CheckpointError(
                f"{path} was exported in training mode (the {overload.name.removeprefix('aten::')} {node.name!r} is "
                "active); export it again after model.eval()"
            )


def _check(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pt"):
                _check_pickle(path, name, archive.read(name))
            elif re.search(r"(custom_obj|opaque_obj)_\d+$", name):
                raise _refusal(path, f"{name} is a pickled object")
            elif name.endswith(".json"):
                for entry, value in _entries(json.loads(archive.read(name) or b"{}")):
                    if entry == "expr_str" and _NOT_A_SIZE.search(str(value)):
                        raise _refusal(path, f"a size is written as {str(value)[:60]!r}")
                    if entry == "use_pickle" and value is True:
                        raise _refusal(path, f"{name} names pickled tensors")


def _check_pickle(path: Path, name: str, content: bytes) -> None:
    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:
        raise _refusal(path, f"{name} holds more than tensors") from error


def _refusal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {what}, and reading that can run any code; export the program again, or pass unsafe=True "
        "(--unsafe-pickle) if you trust its source"
    )


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of nested dicts and lists."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield from node.items()
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
