"""Recurrence over time, layers and directions: a loop, or one scan per layer and direction during an export."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

States = tuple[Tensor, ...]
Weights = tuple[Tensor, Tensor | None]
# (input of this step, state, weight and bias of the hidden state) -> the next state, h first
Step = Callable[[Tensor, States, Tensor, Tensor | None], States]


def over_time(
    step: Step,
    given: Tensor,
    weights: Weights,
    state: States,
    reverse: bool = False,
    lengths: Tensor | None = None,
) -> tuple[Tensor, States]:
    """Apply the step along the first axis of `given` [T, N, *]; in the other direction with `reverse`. Returns all h
    [T, N, *], and the last state.

    `lengths` [N]: at steps beyond the end of a sequence the state does not change, and h is 0. ValueError for a
    sequence without steps.
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
    """As one scan, which becomes one ONNX Scan. It calls the operator itself, because torch's function around it would
    run the compiler."""

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
    """Run layers one after another. The outputs of both directions are concatenated. Returns y, and the stacked states
    of all runs.

    `run(x, number of the run, reverse)` runs a layer in one direction. `between` is applied between two layers.
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
