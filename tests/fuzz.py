"""Optimizes random models and checks that they compute the same at every size. Counts what the laws did.

    python -m tests.fuzz [MODELS [SEED]]

It goes on after a failure, and prints the counts every 1,000 models and at the end.
"""

import random
import re
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fusekit
from fusekit.passes import PASSES
from fusekit.report import Report
from tests.support.compare import call, error_of, report_of
from tests.support.random_models import Builder

TOLERANCE = 1e-10
# of a guard; and of torch's convolutions, for a feature map without rows whose padding was folded into the convolution
_REFUSALS = ("captured for", "Only zero batch or zero channel inputs are supported")
# of torch's convolutions, if a crop of all that they compute was moved before them
_EMPTY = "Kernel size can't be greater than actual input size"


@dataclass
class Tally:
    """The counts so far. `failures`: everything that went wrong."""

    models: int = 0
    skipped: int = 0
    guarded: int = 0
    comparisons: int = 0
    largest: float = 0.0
    applied: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    captured: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def count(self, report: Report) -> None:
        self.applied.update(event.rewrite for event in report.applied)
        self.refused.update((event.rewrite, normalised(event.reason)) for event in report.refused)
        self.captured[report.capture] += 1

    def lines(self) -> list[str]:
        found = [f"{self.models} models ({self.skipped} more run at no size), {self.comparisons} comparisons"]
        found.append(f"largest relative error {self.largest:.1e}, {len(self.failures)} failures")
        found.append(f"guarded {self.guarded} (captured for another size, or a map without rows, and saying so)")
        found.append("captured: " + ", ".join(f"{way} {count}" for way, count in self.captured.most_common()))
        found += [f"applied {self.applied[name]:7d}  {name}" for name in PASSES]
        found += [f"refused {count:7d}  {name}: {reason}" for (name, reason), count in self.refused.most_common()]
        return found + self.failures


def normalised(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"x?\d[\d,.]*(e[-+]?\d+)?", "#", re.sub(r"\[[^]]*\]|\([-\d, ]*\)", "[#]", reason))


def works(model: nn.Module, x: Tensor) -> bool:
    try:
        call(model, x)
    except (RuntimeError, ValueError):
        return False
    return True


def check(seed: int, tally: Tally) -> list[str]:
    """Optimize one random model: without example inputs for both runtimes, and with some for torch. Returns what went
    wrong: a rewrite was rejected, the function changed, or an error was raised."""
    torch.manual_seed(seed)
    builder, draw = Builder(seed), random.Random(seed)
    model = builder.model()
    inputs = [x for x in builder.inputs_of_other_sizes() if works(model, x)]
    if not inputs:
        tally.skipped += 1
        return []
    tally.models += 1
    filled = [x for x in inputs if x.shape[0]] or inputs
    example = filled[0] if builder.long or draw.random() < 0.7 else draw.choice(filled)
    failures = []
    for given, target in ((None, draw.choice(("torch", "onnxruntime"))), (example, "torch")):
        found: list[str] = []
        try:
            result = fusekit.optimize(model, given, target=target)
            report = report_of(result)
            tally.count(report)
            found += [f"rejected {event.rewrite} at {event.where}: {event.reason}" for event in report.rejected]
            for x in inputs:
                found += _compare(result, model, x, tally)
        except Exception as error:  # the long run goes on
            found.append(f"{type(error).__name__}: {error}")
        size = None if given is None else list(given.shape)
        failures += [f"seed {seed}, {target}, example {size}: {what}" for what in found]
    return failures


def _compare(result: Any, model: nn.Module, x: Tensor, tally: Tally) -> list[str]:
    try:
        ours = call(result, x)
    except (ValueError, RuntimeError) as refusal:
        known = any(words in str(refusal) for words in _REFUSALS)
        if not known and not (_EMPTY in str(refusal) and _crops_all(model, x)):
            raise
        tally.guarded += 1
        return []
    error = error_of(ours, call(model, x))
    tally.comparisons += 1
    tally.largest = max(tally.largest, error)
    return [] if error <= TOLERANCE else [f"input {list(x.shape)}, relative error {error:.1e}"]


def _crops_all(model: nn.Module, x: Tensor) -> bool:
    """Whether a layer makes a feature map without rows or columns."""
    found: list[bool] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, y: found.extend(t.numel() == 0 for t in pytree.tree_leaves(y)))
        for layer in model.modules()
    ]
    try:
        call(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return any(found)


def main(words: list[str]) -> int:
    models, seed = (int(word) for word in [*words, *("1000", "0")[len(words) :]])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tally, start = Tally(), time.monotonic()
    for index in range(models):
        for failure in check(seed + index, tally):
            tally.failures.append(failure)
            print(failure, flush=True)
        if (index + 1) % 1000 == 0 or index + 1 == models:
            seconds = time.monotonic() - start
            print(f"\n--- seeds {seed} to {seed + index}, {seconds:.0f} s", *tally.lines(), sep="\n", flush=True)
    return len(tally.failures)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
