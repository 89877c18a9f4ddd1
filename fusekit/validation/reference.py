"""One model and its example inputs as the yardstick by which everything made of the model is judged.

    r(x)     the model's own run on inputs x, in its dtype
    r64(x)   its run in float64

Both are made once for the given inputs, and once for each other probe whose numbers are few, however many candidates
are judged. That is right because every run begins alike: in the state that the model came with, on inputs of its own.
Neither a state that a model keeps, nor what it or a candidate writes into its inputs, is seen by another run.
"""

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError, reason_of
from fusekit.ir import OptimizedModule
from fusekit.ir.spelling import has_hooks
from fusekit.model import Inputs, evaluation_copy, overridden, quiet, run_float64
from fusekit.model.float64 import WIDENED
from fusekit.validation.probes import GIVEN, Probe
from fusekit.validation.tolerance import Outputs, is_float, longest_sum, outputs_of, relative_error

ROOM = 1 << 26  # bytes for the answers on other probes than the given inputs; what finds no room is computed again

# The rounding error of a single number is a matter of luck: of an output this small, further draws are taken.
FEW_ELEMENTS = 4
DRAWS = (1 + 2**-5, 1 - 2**-6, 1 + 2**-7)


class Reference:
    """A model in eval mode on example inputs, and what it answers on these and on probes made of them.

    `model`: as it came; it is not changed. `inputs`: the given ones. `names`: one for each of their tensors. The
    answer on the given inputs is kept as long as the Reference is, others as long as all of them take at most `room`
    bytes.
    """

    def __init__(self, model: nn.Module, example_inputs: object, room: int = ROOM) -> None:
        if not isinstance(model, nn.Module):
            raise FusekitError(f"expected an nn.Module to compare with, got {type(model).__name__}")
        self.model = model
        self.inputs = Inputs.of(example_inputs)
        self.names = self.inputs.names(model)
        self._room = room
        self._kept: dict[object, Answer] = {}

    @cached_property
    def longest_sum(self) -> int:
        """Products in the longest sum of one of its layers."""
        return longest_sum(self.model)

    @property
    def given(self) -> "Answer":
        """What the model answers on the given inputs. Raises `FusekitError` if it refuses them."""
        return self.on(Probe(GIVEN, self.inputs))

    def on(self, probe: Probe) -> "Answer":
        """What the model answers on a probe, or why it refuses it; `FusekitError` if it refuses the given inputs."""
        key = probe.key
        if key in self._kept:
            return self._kept[key]
        original = self._original
        try:
            answer = Answer(original, probe.inputs, run(original, probe.inputs))
        except Exception as error:
            if probe.name == GIVEN:
                raise FusekitError(f"the reference itself fails on the example inputs: {reason_of(error)}") from error
            answer = Answer(original, Inputs(), [], reason_of(error))
        size = 0 if probe.name == GIVEN else answer.size
        if size <= self._room:
            self._room -= size
            self._kept[key] = answer
        return answer

    @cached_property
    def _original(self) -> nn.Module:
        """The state in which every run begins."""
        return evaluation_copy(self.model)


class Answer:
    """What the model answers on some inputs: `own`, in its dtype; `exact`, in float64, computed when first asked for.

    `refusal`: why there is none.
    """

    def __init__(self, original: nn.Module, inputs: Inputs, own: Outputs, refusal: str = "") -> None:
        self._original, self._inputs = original, inputs
        self.own, self.refusal = own, refusal

    @cached_property
    def exact(self) -> Outputs:
        """The outputs in float64 and complex128."""
        return outputs_of(run_float64(self._original, self._inputs))

    @cached_property
    def noise(self) -> Sequence[float]:
        """Of each output of fewer than `FEW_ELEMENTS`, the model's own error at its worst where the inputs are scaled
        a little, thrice; 0 for others, which show it in one draw."""
        worst = [0.0] * len(self.own)
        few = [index for index, (_, tensor) in enumerate(self.own) if _is_few(tensor)]
        for scale in DRAWS if few else ():
            scaled = self._inputs.map(partial(_scaled, by=scale))
            own, exact = run(self._original, scaled), outputs_of(run_float64(self._original, scaled))
            for index in few:
                error = relative_error(own[index][1], own[index][1], exact[index][1])
                worst[index] = max(worst[index], error)
        return worst

    @property
    def size(self) -> int:
        """Bytes that it takes to keep this: inputs and outputs, those in float64 included."""
        own = [tensor for _, tensor in self.own]
        wide = sum(t.numel() * WIDENED.get(t.dtype, t.dtype).itemsize for t in own)
        return wide + sum(t.untyped_storage().nbytes() for t in (*own, *self._inputs.tensors()))


def run(module: nn.Module, inputs: Inputs) -> Outputs:
    """What a module returns in eval mode. Neither the inputs nor a state that the module keeps are changed."""
    fresh = module if _leaves_no_trace(module) else evaluation_copy(module)
    with torch.no_grad(), quiet():
        return outputs_of(inputs.cloned().call(fresh))


def _leaves_no_trace(module: nn.Module) -> bool:
    """Whether it is in eval mode, and all its modules are of kinds known to keep nothing of a call."""
    return not any(
        getattr(part, "training", True)
        or has_hooks(part)
        or overridden(part)
        or not (isinstance(part, OptimizedModule) or type(part).__module__.startswith(("torch.nn.", "fusekit.")))
        for part in module.modules()
    )


def _scaled(tensor: Tensor, by: float) -> Tensor:
    return tensor * by if is_float(tensor) else tensor


def _is_few(tensor: Tensor) -> bool:
    return is_float(tensor) and tensor.numel() < FEW_ELEMENTS
