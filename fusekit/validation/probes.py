"""Plans the inputs for comparing two models: the given ones, other batches, odd and even sizes, a wide dynamic range.

A `Size` is a size that may vary: the (tensor, axis) places that must change together. An ONNX file lists them (equal
`dim_param` means equal size). For a module they are guessed, and inputs that the reference cannot run are skipped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from fusekit.model import Inputs, resize
from fusekit.model.inputs import wide_range

Size = tuple[tuple[int, int], ...]

GIVEN = "given"
WIDE_RANGE = "wide range"
QUIET = "quiet region"
BATCHES = (1, 3)
COARSE_STEP = 32


@dataclass(frozen=True, eq=False)
class Probe:
    """Inputs to compare on. `varied`: the places with a changed size. `instead`: the probes to try if the reference
    cannot run these inputs."""

    name: str
    inputs: Inputs
    varied: Size = ()
    instead: tuple["Probe", ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """A key that is equal for probes with equal inputs (all made from the same given inputs)."""
        return self.name == WIDE_RANGE, *(tuple(tensor.shape) for tensor in self.inputs.tensors())


def plan_probes(inputs: Inputs, batches: Sequence[Size], sizes: Sequence[Size]) -> Iterator[Probe]:
    """All probes for inputs whose batch and other sizes may vary at these places.

    First all sizes are changed together: the model is more likely to accept that, and it takes one run. If the
    reference cannot run it, each size is changed alone. If even sizes fail too, sizes larger by up to 32 are tried,
    because a model may need sizes divisible by 32.
    """
    yield Probe(GIVEN, inputs)
    for batch in BATCHES:
        alternatives = [_resized(f"batch {batch}", inputs, [places], partial(_fixed, batch)) for places in batches]
        changed = [probe for probe in alternatives if probe.varied]
        if changed:
            yield Probe(changed[0].name, changed[0].inputs, changed[0].varied, tuple(changed[1:]))
    if sizes:
        yield _jointly(inputs, "odd", sizes, _next_odd)
        even = _jointly(inputs, "even", sizes, _next_even)
        yield Probe(even.name, even.inputs, even.varied, (_jointly(inputs, "larger", sizes, _larger),))
    yield Probe(WIDE_RANGE, wide_range(inputs))


def guess_sizes(inputs: Inputs) -> tuple[list[Size], list[Size]]:
    """Guess the batches and the other sizes that may vary for a module.

    The batch is the first axis of all tensors with the same size there; as an alternative, only of those with more than
    one axis. Other sizes are the axes from the third on of floating-point and complex tensors; equal sizes on the same
    axis of several tensors change together.
    """
    tensors = inputs.tensors()
    first = next((tensor.shape[0] for tensor in tensors if tensor.dim() > 1), None)
    batch = tuple((i, 0) for i, tensor in enumerate(tensors) if tensor.dim() and tensor.shape[0] == first)
    ranked = tuple((i, axis) for i, axis in batch if tensors[i].dim() > 1)
    batches = [places for places in dict.fromkeys((batch, ranked)) if places]
    shared: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, tensor in enumerate(tensors):
        if tensor.is_floating_point() or tensor.is_complex():
            for axis in range(2, tensor.dim()):
                shared.setdefault((axis, tensor.shape[axis]), []).append((index, axis))
    return batches, [tuple(places) for places in shared.values()]


def _jointly(inputs: Inputs, kind: str, sizes: Sequence[Size], change: Callable[[int], int]) -> Probe:
    joint = _resized(f"{kind} sizes", inputs, sizes, change)
    alone = tuple(_resized(f"{kind} size {_where(places)}", inputs, [places], change) for places in sizes)
    return Probe(joint.name, joint.inputs, joint.varied, alone if len(sizes) > 1 else ())


def _resized(name: str, inputs: Inputs, sizes: Sequence[Size], change: Callable[[int], int]) -> Probe:
    tensors = inputs.tensors()
    wanted: dict[int, dict[int, int]] = {}
    for places in sizes:
        new = change(tensors[places[0][0]].shape[places[0][1]])
        for index, axis in places:
            if tensors[index].shape[axis] != new:
                wanted.setdefault(index, {})[axis] = new
    varied = tuple((index, axis) for index, axes in wanted.items() for axis in axes)
    return Probe(name, resize(inputs, wanted), varied)


def _where(places: Size) -> str:
    return " and ".join(f"of axis {axis} of input {index}" for index, axis in places)


def _fixed(new: int, _old: int) -> int:
    return new


def _next_odd(size: int) -> int:
    return size + 1 if size % 2 == 0 else size + 2


def _next_even(size: int) -> int:
    return size + 1 if size % 2 else size + 2


def _larger(size: int) -> int:
    return size + min(size, COARSE_STEP)
