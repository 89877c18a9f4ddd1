"""One model as the yardstick: what it answers is computed once, and every run begins alike."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.errors import FusekitError
from fusekit.model import Inputs
from fusekit.validation import Reference, fault, validate
from fusekit.validation.judge import judge
from fusekit.validation.probes import GIVEN, Probe, guess_sizes, plan_probes
from fusekit.validation.reference import run

RUNS: Counter[str] = Counter()  # of `Counted`, by dtype


class Counted(nn.Module):
    """A layer whose calls are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        RUNS[str(self.layer.weight.dtype)] += 1
        if x.shape[2] % 2:
            raise ValueError("even sizes only")
        y: Tensor = self.layer(x)
        return y


class Stateful(nn.Module):
    """Adds the number of the call: in a buffer, or in an attribute."""

    def __init__(self, attribute: bool = False) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.calls: Any = 0
        if not attribute:
            del self.calls
            self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.layer(x) + self.calls
        return y


class Overwriting(nn.Module):
    """Returns its input, which it has overwritten."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.factor)


@pytest.fixture(autouse=True)
def _counting() -> None:
    RUNS.clear()
    torch.manual_seed(0)


def probes(x: Tensor) -> list[Probe]:
    inputs = Inputs.of(x)
    return list(plan_probes(inputs, *guess_sizes(inputs)))


X = torch.rand(2, 3, 8, 8)


def test_the_given_inputs_are_run_once_however_many_are_judged() -> None:
    model = Counted()
    reference = Reference(model, X)
    assert not RUNS, "nothing is computed before it is asked for"
    other = nn.Conv2d(3, 4, 3, padding=1)
    assert [bool(fault(reference, each)) for each in (model.layer, other, model.layer)] == [False, True, False]
    assert RUNS == {"torch.float32": 1, "torch.float64": 1}


def test_other_probes_are_run_once_too_and_refused_ones_asked_once() -> None:
    model = Counted()
    reference = Reference(model, X)
    first = judge(reference, model.layer)
    once = dict(RUNS)
    assert first.ok and any(probe.skipped for probe in first.probes)
    # given, two batches, an odd width, even and wide range; in float32 two odd heights, which are refused, too
    assert once == {"torch.float32": 8, "torch.float64": 6}
    assert judge(reference, model.layer).probes == first.probes and dict(RUNS) == once
    assert judge(reference, model.layer, tolerance=1e-3).ok and dict(RUNS) == once
    assert validate(model, model.layer, X).probes == first.probes, "a reference of its own says the same"


def test_what_a_probe_answers_depends_on_its_inputs() -> None:
    reference = Reference(nn.Identity(), X)
    for probe in probes(X):
        ((_, own),) = reference.on(probe).own
        assert torch.equal(own, probe.inputs.tensors()[0]), probe.name
    assert len({probe.key for probe in probes(X)}) == len(probes(X))


@pytest.mark.parametrize("room", [0, 20_000])
def test_no_more_is_kept_than_there_is_room_for(room: int) -> None:
    """The given inputs' answer always is: it is asked for again and again."""
    model = Counted()
    reference = Reference(model, X, room=room)
    verdicts = [judge(reference, model.layer) for _ in range(2)]
    assert verdicts[0].probes == verdicts[1].probes
    kept = [answer for answer in reference._kept.values() if answer is not reference.given]
    assert sum(answer.size for answer in kept) <= room
    # the batches of one and of three take 15,360 bytes, each other probe more than 8,000
    assert len([answer for answer in kept if not answer.refusal]) == (2 if room else 0)
    assert RUNS["torch.float64"] == (1 + 2 + 2 * 3 if room else 1 + 2 * 5)
    assert RUNS["torch.float32"] == RUNS["torch.float64"] + 2, "what is refused takes no room"


def test_the_size_of_an_answer() -> None:
    answer = Reference(nn.Conv2d(3, 4, 3), X).given
    assert answer.size == 4 * X.numel() + (4 + 8) * 2 * 4 * 6 * 6
    assert [t.dtype for _, t in answer.exact] == [torch.float64]
    whole = Reference(nn.Conv2d(3, 4, 3).double(), X.double()).given
    assert whole.size == 8 * X.numel() + (8 + 8) * 2 * 4 * 6 * 6


@pytest.mark.parametrize("attribute", [True, False])
@pytest.mark.parametrize("room", [0, 1 << 20])
def test_every_run_begins_in_the_state_the_model_came_with(attribute: bool, room: int) -> None:
    """Else the run in float64 would be of another state, and its distance from the model's own would excuse all."""
    model = Stateful(attribute)
    reference = Reference(model, X, room)
    for _ in range(2):
        verdict = judge(reference, model)
        assert verdict.ok and verdict.reference_error < 1e-6 and verdict.tolerance < 1e-5
    wrong = Stateful(attribute)
    wrong.load_state_dict(model.state_dict())
    wrong.layer.bias = nn.Parameter(wrong.layer.get_parameter("bias").detach() + 1e-3)
    assert not judge(reference, wrong).ok and "is off by" in fault(reference, wrong)
    assert model.calls == 0


def test_a_state_is_kept_from_traces_by_hooks_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    model.register_forward_hook(lambda module, x, y: setattr(module, "seen", True))
    run(model, Inputs.of(X))
    assert not hasattr(model, "seen")


def test_neither_model_nor_candidate_writes_into_what_others_see() -> None:
    given = X.clone()
    reference = Reference(Overwriting(2.0), given)
    for _ in range(2):
        assert fault(reference, Overwriting(2.0)) == ""
        assert "is off by" in fault(reference, Overwriting(3.0))
        assert judge(reference, Overwriting(2.0)).ok and not judge(reference, Overwriting(3.0)).ok
    assert torch.equal(given, X)
    assert torch.equal(reference.given.own[0][1], 2 * X)


def test_a_reference_that_refuses_the_given_inputs_says_so_each_time() -> None:
    with pytest.raises(FusekitError, match="expected an nn.Module to compare with, got the path"):
        Reference("model.pt", X)  # type: ignore[arg-type]
    reference = Reference(nn.Conv2d(3, 4, 3), torch.rand(1, 5, 8, 8))
    for ask in (lambda: reference.given, lambda: fault(reference, nn.Identity()), lambda: judge(reference, nn.ReLU())):
        with pytest.raises(FusekitError, match="the reference itself fails on the example inputs: RuntimeError"):
            ask()


def test_small_outputs_are_drawn_thrice_more_once_and_only_where_their_own_error_counts() -> None:
    model = nn.Sequential(Counted(), nn.AdaptiveAvgPool2d(1), nn.Flatten(0), nn.Linear(4, 2))
    reference = Reference(model, X[:1])
    assert fault(reference, model) == "" and RUNS == {"torch.float32": 2, "torch.float64": 1}  # one is the candidate's
    noise = reference.given.noise
    assert len(noise) == 1 and 0 < noise[0] < 1e-5 and RUNS["torch.float64"] == 1 + 3
    assert reference.given.noise is noise and RUNS["torch.float64"] == 1 + 3


def test_what_is_wrong_with_a_result_is_said_in_one_line() -> None:
    model = nn.Conv2d(3, 4, 3)
    reference = Reference(model, X)
    assert "the result fails on the example inputs: RuntimeError" in fault(reference, nn.Conv2d(4, 4, 3))

    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return model(x), x

    assert fault(reference, Two()) == "the result has 2 outputs, the model 1"
    loose = fault(reference, model, tolerance=0.0)
    assert loose.startswith("given, output: error") and fault(reference, model, tolerance=math.inf) == ""


def test_the_probe_on_the_given_inputs_is_the_given_one() -> None:
    reference = Reference(nn.ReLU(), X)
    assert reference.on(Probe(GIVEN, Inputs.of(X))) is reference.given
