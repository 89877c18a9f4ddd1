"""Random architectures: the optimized model is the model, at every size, and the rewrites really happen.

`FUSEKIT_FUZZ=2000 pytest tests/optimizing/test_optimize.py` draws that many models; `FUSEKIT_FUZZ_SEED` starts
elsewhere.
`python -m tests.fuzz 20000` goes on after a failure and prints what every law did.
"""

import cProfile
import os
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import fusekit
from fusekit.errors import FusekitError, VerificationError
from fusekit.passes import PASSES, DropIdentity, FoldAffine
from fusekit.report import Outcome
from tests.fuzz import Tally, check
from tests.support import ledger
from tests.support.architectures import ResNet50, conv_chain, randomize
from tests.support.compare import assert_same, call, normal, report_of

MODELS = int(os.environ.get("FUSEKIT_FUZZ", "130"))
SEED = int(os.environ.get("FUSEKIT_FUZZ_SEED", "0"))
CHUNKS = 10

# how often at least in 130 models, for the fuzz to be one
EXPECTED = dict.fromkeys(PASSES, 2)
EXPECTED |= {"fold-affine": 100, "fold-conv": 50, "fold-flattened": 10, "merge-concat": 10, "split-affine": 8}
EXPECTED |= dict.fromkeys(("use-spectral-conv", "upsample-last"), 1)
EXPECTED |= dict.fromkeys(("use-planar-conv", "use-planar-channels-last", "use-channels-last"), 0)  # only by the clock
# drawn in test_pass_laws.py, and in networks in test_by_hand.py and test_items.py; in random networks they are rare
BY_HAND = {"fold-affine-flattened", "fold-affine-merged", "fold-affine-permuted", "fold-cut", "fold-cut-in"}
BY_HAND |= {"fold-permuted", "fold-permutes", "fold-picking-value-pad", "fold-conv-value-pad"}
# wider than what is drawn, and with blocks in their kernels: test_use_product.py, test_winograd_conv.py
EXPECTED |= dict.fromkeys((*BY_HAND, "use-product", "drop-blocks", "merge-mixings", "use-winograd"), 0)

_tally = Tally()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_architectures(chunk: int) -> None:
    """The same function, without and with example inputs, at several batch and spatial sizes, in float64; nothing is
    rejected, and every law is applied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about even windows of padding='same'
        for index in range(chunk, MODELS, CHUNKS):
            failures = check(SEED + index, _tally)
            assert not failures, failures
    ledger.record(_tally.largest)
    if chunk == CHUNKS - 1 and _tally.models > 0.9 * MODELS:  # the chunks before ran in this process too
        counts = {name: (_tally.applied[name], least) for name, least in EXPECTED.items() if name in PASSES}
        assert all(count >= least for count, least in counts.values()), f"the fuzz does not bite: {counts}"
        assert _tally.captured and _tally.skipped < MODELS // 20, f"it does not bite: {_tally.captured}"


def test_a_real_architecture() -> None:
    """ResNet-50: 53 batch norms gone, nothing rejected, the result judged against float64."""
    model = randomize(ResNet50(10))
    result = fusekit.optimize(model, torch.rand(1, 3, 32, 32))
    report = report_of(result)
    assert sum(event.rewrite == "fold-affine" for event in report.applied) == 53 and not report.rejected
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    x = torch.rand(2, 3, 40, 33)
    assert float((call(result, x) - call(model, x)).norm() / call(model, x).norm()) < 1e-4


def test_passes_can_be_chosen() -> None:
    model, x = randomize(conv_chain(6)).double(), normal(2, 4, 5, 5)
    assert not report_of(fusekit.optimize(model, passes=())).applied
    for chosen in ("fold-affine", ["fold-affine"], [FoldAffine()], ["drop-identity", FoldAffine()]):
        result = fusekit.optimize(model, x, passes=chosen)  # type: ignore[arg-type]
        assert {event.rewrite for event in report_of(result).applied} == {"fold-affine"}
        assert_same(result, model, x)
    assert not report_of(fusekit.optimize(model, passes=[DropIdentity()])).applied
    with pytest.raises(FusekitError, match="no pass named 'fold'"):
        fusekit.optimize(model, passes=["fold"])
    with pytest.raises(FusekitError, match="target must be one of"):
        fusekit.optimize(model, target="tensorrt")
    with pytest.raises(FusekitError, match="example inputs must be"):
        fusekit.optimize(model, 3)


class Wrong(FoldAffine):
    """Forgets the shift, as a hand-written fold might."""

    def propose(self, a: Any, c: Any) -> Any:
        return type(a)(a.scale, a.shift * 0, a.axis) @ c


def test_a_wrong_rewrite_is_rejected_and_rolled_back() -> None:
    model, x = randomize(conv_chain(6)).double(), normal(2, 4, 5, 5)
    for example in (None, x):
        result = fusekit.optimize(model, example, passes=[Wrong()])
        events = report_of(result).events
        assert events and {event.outcome for event in events} == {Outcome.REJECTED}
        assert all("rolled back" in event.reason and (event.error or 0) > 1e-3 for event in events)
        assert_same(result, model, x)
        with pytest.raises(VerificationError, match="fold-affine at"):
            fusekit.optimize(model, example, passes=[Wrong()], strict=True)


def test_work_grows_linearly_with_depth() -> None:
    """Four times the layers, far less than sixteen times the function calls: a count, which no busy machine changes."""
    calls = []
    for length in (60, 240):
        counter = cProfile.Profile()
        counter.runcall(fusekit.optimize, conv_chain(length, 2).eval())
        calls.append(sum(entry.callcount for entry in counter.getstats()))
    assert calls[1] < 6 * calls[0]
