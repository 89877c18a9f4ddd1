"""One model and its example inputs, as the reference for everything that is made from the model.

    r(x)     the model's own run on inputs x, in its dtype
    r64(x)   its run in float64

Both are computed once for the given inputs and kept, and also for other probes as long as their results fit in memory
(`ROOM`), however many candidates are compared. That is correct because every run starts in the same state: a fresh copy
of the model (unless it keeps no state) and a copy of the inputs. So no run sees what another run has written.
"""

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError, reason_of
from fusekit.ir.stateless import leaves_no_trace
from fusekit.model import Inputs, evaluation_copy, on_copy, quiet, run_float64
from fusekit.model.float64 import WIDENED
from fusekit.model.given import model_of
from fusekit.model.lent import lent_weights
from fusekit.model.remedies import why_not
from fusekit.validation.probes import GIVEN, Probe
from fusekit.validation.tolerance import Outputs, is_float, longest_sum, outputs_of, relative_error

ROOM = 1 << 26  # bytes for keeping the results of probes other than the given inputs; others are computed again

# The rounding error of a few numbers is random. For outputs with fewer elements, it is measured several times.
FEW_ELEMENTS = 4
DRAWS = (1 + 2**-5, 1 - 2**-6, 1 + 2**-7)


class Reference:
    """A model in eval mode with example inputs, and its results on them and on probes made from them.

    `model`: the model, which is not changed. `inputs`: the given ones. `names`: one for each of their tensors.
    `room`: bytes for keeping results of other probes; the result on the given inputs is always kept.
    """

    def __init__(self, model: nn.Module, example_inputs: object, room: int = ROOM) -> None:
        self.model = model_of(model, "to compare with")
        self.inputs = Inputs.of(example_inputs)
        self.names = self.inputs.names(model)
        self._room = room
        self._kept: dict[object, Answer] = {}

    @cached_property
    def longest_sum(self) -> int:
        """The number of products in the longest sum of any of its layers."""
        return longest_sum(self.model)

    @property
    def given(self) -> "Answer":
        """The model's result on the given inputs. Raises FusekitError if it cannot run them."""
        return self.on(Probe(GIVEN, self.inputs))

    def on(self, probe: Probe) -> "Answer":
        """The model's result on a probe, or its `refusal`. Raises FusekitError if it cannot run the given inputs."""
        key = probe.key
        if key in self._kept:
            return self._kept[key]
        original = self._original
        try:
            answer = Answer(original, probe.inputs, run(original, probe.inputs))
        except Exception as error:
            if probe.name == GIVEN:
                told = why_not(original, probe.inputs, error)
                raise FusekitError(f"the reference itself fails on the example inputs: {told}") from error
            answer = Answer(original, Inputs(), [], reason_of(error))
        size = 0 if probe.name == GIVEN else answer.size
        if size <= self._room:
            self._room -= size
            self._kept[key] = answer
        return answer

    @cached_property
    def _original(self) -> nn.Module:
        """A copy of the model, in the state in which every run starts. Runs change no copy that they are given, so it
        may share the model's large weights."""
        return evaluation_copy(self.model, lent_weights(self.model))


class Answer:
    """The model's result on some inputs: `own` in its dtype; `exact` in float64, computed when first needed.

    `refusal`: why the model could not run them; "" if it could.
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
        """For each output with fewer than `FEW_ELEMENTS` elements, the largest rounding error of the model on three
        slightly scaled inputs. 0 for other outputs: one run is enough to measure their error."""
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
        """Bytes needed to keep this result: inputs, outputs, and outputs in float64."""
        own = [tensor for _, tensor in self.own]
        wide = sum(t.numel() * WIDENED.get(t.dtype, t.dtype).itemsize for t in own)
        return wide + sum(t.untyped_storage().nbytes() for t in (*own, *self._inputs.tensors()))


def run(module: nn.Module, inputs: Inputs) -> Outputs:
    """The outputs of a module in eval mode. Neither the inputs nor the state of the module are changed."""
    with torch.no_grad(), quiet():
        if leaves_no_trace(module):
            return outputs_of(inputs.cloned().call(module))
        return on_copy(module, lambda fresh: outputs_of(inputs.cloned().call(fresh)))


def _scaled(tensor: Tensor, by: float) -> Tensor:
    return tensor * by if is_float(tensor) else tensor


def _is_few(tensor: Tensor) -> bool:
    return is_float(tensor) and tensor.numel() < FEW_ELEMENTS
