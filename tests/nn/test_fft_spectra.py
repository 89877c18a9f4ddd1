"""The spectra of a weight that stands still: computed once, kept within bounds, forgotten when the weight changes."""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fusekit.nn as fnn
from fusekit.model import Inputs, run_float64
from fusekit.testing.strategies import relative_error
from tests.support.compare import normal
from tests.support.fft_layers import EXACT, X, small


def test_the_spectrum_is_computed_once_in_float64_and_never_saved() -> None:
    _, ours = small()
    ours.float()
    assert ours.spectrum_bytes == 0
    first = ours(X.float())
    held = ours.spectrum_bytes
    assert held == 3 * 2 * 13 * 8 and f"spectrum_bytes={held}" in repr(ours)
    assert torch.equal(ours(X.float()), first) and ours.spectrum_bytes == held
    assert list(ours.state_dict()) == ["weight", "bias"] and not list(ours.buffers())
    ours(normal(2, 2, 50).float())
    assert ours.spectrum_bytes > held  # another size, another transform


CHANGES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda layer: layer.weight.mul_(2),
    "another tensor": lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight * 2, requires_grad=False)),
    "data of another": lambda layer: setattr(layer.weight, "data", layer.weight.data * 2),
    "load": lambda layer: layer.load_state_dict({k: v * 2 for k, v in layer.state_dict().items()}),
    "load by assignment": lambda layer: layer.load_state_dict(
        {k: v * 2 for k, v in layer.state_dict().items()}, assign=True
    ),
    "through data, told": lambda layer: (layer.weight.data.mul_(2), layer.forget_spectra()),
    "an element": lambda layer: layer.weight[0, 0, :1].zero_(),
    "float and back": lambda layer: layer.float().double(),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_weight_is_seen(how: str) -> None:
    _, ours = small()
    ours(X)
    CHANGES[how](ours)
    assert relative_error(ours(X), F.conv1d(X, ours.weight, ours.bias, padding=2)) < EXACT
    assert relative_error(ours(X), F.conv1d(X, ours.weight, ours.bias, padding=2)) < EXACT


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("fused", [False, True])
def test_training_and_looking_in_between(optimizer: Any, fused: bool) -> None:
    """Every step changes what the next evaluation sees; nothing is kept while gradients are asked of the weight."""
    plain, ours = (layer.train().requires_grad_() for layer in small())
    ours = fnn.FFTConv1d.from_conv(copy.deepcopy(plain))
    steps = [optimizer(layer.parameters(), lr=0.1, fused=fused) for layer in (plain, ours)]
    for _ in range(3):
        for layer, step in zip((plain, ours), steps, strict=True):
            with torch.no_grad():
                layer(X)
            step.zero_grad()
            layer(X).pow(2).sum().backward()
            step.step()
        with torch.no_grad():
            assert relative_error(ours(X), plain(X)) < 1e-9
    ours.train()
    assert ours.spectrum_bytes == 0
    ours(X)
    assert ours.spectrum_bytes == 0


def test_moves_and_modes_forget() -> None:
    for forget in (
        lambda m: m.train(),
        lambda m: m.eval(),
        lambda m: m.to(torch.float64),
        lambda m: nn.Sequential(m).eval(),
    ):
        _, ours = small()
        ours(X)
        assert ours.spectrum_bytes
        forget(ours)
        assert ours.spectrum_bytes == 0


def test_copies_are_equal_and_hold_nothing() -> None:
    _, ours = small()
    expected = ours(X)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    copies = (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False))
    for copied in copies:
        assert type(copied) is fnn.FFTConv1d and copied.spectrum_bytes == 0
        assert torch.equal(copied(X), expected) and copied.spectrum_bytes
        with torch.no_grad():
            copied.weight.zero_()
        assert torch.equal(ours(X), expected)


def test_memory_is_bounded() -> None:
    """What does not fit is computed at every call, in parts by groups and outputs; old sizes make room for new."""
    for options in ({}, {"groups": 2, "in_channels": 4, "out_channels": 6}, {"in_channels": 10}):
        plain, ours = small(**options)
        x = normal(2, plain.in_channels, 20)
        for limit in (0, 500, 5000):
            ours.max_spectrum_bytes = limit
            for size in (20, 50, 90, 20):
                x = normal(2, plain.in_channels, size)
                assert relative_error(ours(x), plain(x)) < EXACT
                assert ours.spectrum_bytes <= limit == ours.max_spectrum_bytes
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        ours.max_spectrum_bytes = -1


def test_what_is_computed_in_inference_mode_serves_gradients_later() -> None:
    plain, ours = small()
    with torch.inference_mode():
        ours(X)
    assert ours.spectrum_bytes
    x = X.clone().requires_grad_()
    given, expected = (torch.autograd.grad(layer(x).pow(2).sum(), x)[0] for layer in (ours, plain))
    assert relative_error(given, expected) < EXACT
    with torch.inference_mode():
        born = fnn.FFTConv1d(2, 3, 5)
        first = born(X.float())
        born.weight.mul_(2), born.bias.mul_(2)  # type: ignore[union-attr]
        assert relative_error(born(X.float()), 2 * first) < 1e-6 and born.spectrum_bytes == 0


def test_fakes_and_wide_runs_leave_nothing_behind() -> None:
    _, ours = small()
    ours = ours.float()
    expected = ours(X.float())
    with torch._subclasses.fake_tensor.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert ours(mode.from_tensor(X.float())).shape == expected.shape
    wide = run_float64(ours, Inputs.of(X.float()))
    assert wide.dtype == torch.float64 and relative_error(wide, expected.double()) < 1e-6
    assert torch.equal(ours(X.float()), expected)


def test_threads_share_a_layer() -> None:
    plain, ours = small()
    inputs = [normal(1, 2, 20 + 10 * (k % 5), seed=k) for k in range(40)]
    expected = [plain(x) for x in inputs]
    worst: list[float] = []

    def work(part: int) -> None:
        for x, y in zip(inputs[part::4], expected[part::4], strict=True):
            worst.append(relative_error(ours(x), y))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 40 and max(worst) < EXACT
