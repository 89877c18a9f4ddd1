"""Recurrent layers written as loops over their steps, replaced by torch's own.

A tracer unrolls such a loop, for as many steps as the example has. Two steps of it show whether it is an LSTM
(`lstm.py`); what is found must then agree with the layer in float64, at several numbers of rows and steps.
"""

import copy
import dis
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusekit.capture.lstm import Recurrent, read_lstm
from fusekit.ir.spelling import has_hooks
from fusekit.model import Inputs, evaluation_copy, quiet, run_float64, widened

TOLERANCE = 1e-9
_CHECKED = ((1, 1), (2, 2), (3, 5), (2, 9))  # rows, steps


def replace_loops(model: nn.Module, inputs: Inputs) -> list[str]:
    """Replace such layers within the model, one's own copy; their paths."""
    paths = [path for path, module in model.named_modules() if path and _may_be_one(module)]
    try:
        calls = _calls(evaluation_copy(model), paths, inputs) if paths else {}
    except Exception:  # it has been copied before, but a trace may have left in it what cannot be
        return []
    replaced: list[str] = []
    for path, x in sorted(calls.items(), key=lambda call: -call[0].count(".")):
        if any(inner.startswith(f"{path}.") for inner in replaced):
            continue
        layer = model.get_submodule(path)
        try:
            found = _as_lstm(layer, x)
        except Exception:  # it is something else, in one of many ways
            continue
        if found is not None:
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = found
            replaced.append(path)
    return replaced


def _may_be_one(module: nn.Module) -> bool:
    """Whether it is of a class of the user's with a loop, with parameters, and without hooks that would be lost."""
    own = not type(module).__module__.startswith(("torch.nn.", "fusekit."))
    if not own or not _iterates(type(module)) or not any(True for _ in module.parameters()):  # type: ignore[arg-type]
        return False
    return not any(map(has_hooks, module.modules()))


def _calls(model: nn.Module, paths: Sequence[str], inputs: Inputs) -> dict[str, Tensor]:
    """What each layer is called on, by its path: where that is one batch of sequences, and nothing else, and where it
    answers as many steps of numbers below 1, as |σ tanh| is: no other layer is traced in vain."""
    found: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        def after(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            values = [*args, *kwargs.values()]
            x: Any = next(iter(values), None)
            y: Any = next(iter(pytree.tree_leaves(result)), None)
            sequences = all(isinstance(t, Tensor) and t.dim() == 3 and t.is_floating_point() for t in (x, y))
            alone = all(value is None for value in values[1:])
            if sequences and alone and x.shape[:2] == y.shape[:2] and bool((y.abs() <= 1).all()):
                found.setdefault(path, x)

        return after

    hooks = [model.get_submodule(path).register_forward_hook(note(path), with_kwargs=True) for path in paths]
    try:
        with torch.no_grad(), quiet():
            inputs.cloned().call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@cache
def _iterates(kind: type) -> bool:
    """Whether a method of the class has a loop."""
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    codes = (getattr(method, "__code__", None) for base in own for method in vars(base).values())
    return any(step.opname == "FOR_ITER" for code in codes if code for step in dis.get_instructions(code))


def _as_lstm(layer: nn.Module, x: Tensor) -> Recurrent | None:
    """The layer as torch's, if it is one; of batches first, or of steps first."""
    wide = copy.deepcopy(layer)._apply(widened)
    for batch_first in (True, False):
        found = read_lstm(wide, x.shape[-1], batch_first)
        if found is not None and all(_agree(found, layer, given) for given in (x, *_sequences(x, batch_first))):
            for parameter in found.parameters():
                parameter.requires_grad_(any(p.requires_grad for p in layer.parameters()))
            return found.to(x.dtype).eval()
    return None


def _agree(found: nn.Module, layer: nn.Module, x: Tensor) -> bool:
    """Whether both answer alike, in float64."""
    with torch.no_grad():
        ours, theirs = (pytree.tree_flatten(run_float64(m, Inputs((x,)))) for m in (found, layer))
    if ours[1] != theirs[1] or [t.shape for t in ours[0]] != [t.shape for t in theirs[0]]:
        return False
    return all(torch.allclose(a, b, rtol=0, atol=TOLERANCE) for a, b in zip(ours[0], theirs[0], strict=True))


def _sequences(x: Tensor, batch_first: bool) -> Iterator[Tensor]:
    """Of other numbers of rows and steps than x."""
    generator = torch.Generator().manual_seed(0)
    for rows, steps in _CHECKED:
        shape = (rows, steps, x.shape[-1]) if batch_first else (steps, rows, x.shape[-1])
        yield torch.randn(shape, generator=generator, dtype=torch.float64)
