"""Recurrence over time, layers and directions: a loop, or, while a program is exported, one scan a run."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

States = tuple[Tensor, ...]
Weights = tuple[Tensor, Tensor | None]
# (what enters at this step, the state, weight and bias of the hidden state) -> the next state, h first
Step = Callable[[Tensor, States, Tensor, Tensor | None], States]


def over_time(
    step: Step,
    given: Tensor,
    weights: Weights,
    state: States,
    reverse: bool = False,
    lengths: Tensor | None = None,
) -> tuple[Tensor, States]:
    """The step along the first axis of `given` [T, N, *], or against it: all h [T, N, *], and the last state.

    `lengths` [N]: where a sequence has ended, or, against time, not begun, the state stays as it was and h reads 0.
    ValueError for a sequence of no steps.
    """
    if torch.compiler.is_exporting():
        return _scanned(step, given.flip(0) if reverse else given, weights, state, reverse)
    outputs: list[Tensor] = []
    steps = list(enumerate(given.unbind(0)))
    for t, now in reversed(steps) if reverse else steps:
        new = step(now, state, *weights)
        if lengths is None:
            state = new
            outputs.append(state[0])
        else:
            running = (t < lengths).reshape(-1, *(1,) * (state[0].ndim - 1))
            state = tuple(torch.where(running, after, before) for after, before in zip(new, state, strict=True))
            outputs.append(torch.where(running, state[0], 0))
    if not outputs:
        raise ValueError("expected a sequence of at least one step, got none")
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _scanned(step: Step, given: Tensor, weights: Weights, state: States, reverse: bool) -> tuple[Tensor, States]:
    """As one scan, which becomes one ONNX Scan. The operator itself: around it torch would run its compiler."""

    def combine(*tensors: Tensor) -> list[Tensor]:
        n, own = len(state), tensors[len(state) + 1 :]
        new = step(tensors[n], tensors[:n], own[0], own[1] if len(own) > 1 else None)
        return [*new, new[0].clone()]

    *last, y = scan_op(combine, list(state), [given], tuple(w for w in weights if w is not None))
    return y.flip(0) if reverse else y, tuple(last)


def over_layers(
    x: Tensor,
    layers: int,
    directions: int,
    run: Callable[[Tensor, int, bool], tuple[Tensor, States]],
    between: Callable[[Tensor], Tensor] = lambda y: y,
) -> tuple[Tensor, list[Tensor]]:
    """Layers one after another, the outputs of both directions side by side: y, and each state of all runs stacked.

    `run(x, number of the run, against time)` is a layer in one direction, `between` stands between two layers.
    """
    finals: list[States] = []
    for layer in range(layers):
        x, outputs = x if layer == 0 else between(x), []
        for end in range(directions):
            y, last = run(x, len(finals), end == 1)
            outputs.append(y)
            finals.append(last)
        x = torch.cat(outputs, -1) if directions > 1 else outputs[0]
    return x, [torch.stack(state) for state in zip(*finals, strict=True)]
