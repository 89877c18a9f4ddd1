"""Parts of torch that people put around a model, or into it."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fusekit
from tests.support.neighbour_networks import FEWEST, Net, Told, error, folded, images, layers, net

X = images()


def optimized(model: nn.Module, told: Told) -> Any:
    with torch.no_grad():
        expected = model(X)
        fast = fusekit.optimize(model, (X,))
        told(folded(model, fast, fast(X), expected))
    return fast


@pytest.mark.neighbour("torch", "`torch.compile` of the result, and of the model before")
def test_compile(told: Told) -> None:
    compiled: Any = torch.compile(net())
    expected = net()(X)
    fast: Any = fusekit.optimize(compiled, (X,))
    assert layers(fast) == FEWEST
    assert "torch.compile" in " ".join(fast.report.notes)
    told(folded(net(), fast, fast(X), expected))
    again: Any = torch.compile(fast, fullgraph=True)
    assert error(again(X), expected) < 1e-5
    torch._dynamo.reset()


@pytest.mark.neighbour("torch", "masks of `torch.nn.utils.prune`")
def test_prune(told: Told) -> None:
    model = net()
    convolutions = [(part, "weight") for part in model.modules() if isinstance(part, nn.Conv2d)]
    prune.global_unstructured(convolutions, pruning_method=prune.L1Unstructured, amount=0.5)
    prune.ln_structured(model.blocks[0].wide[0], "weight", amount=0.5, n=2, dim=0)  # a second mask on the first
    fast = optimized(model, told)
    assert layers(fast) == FEWEST
    assert not [key for key in fast.state_dict() if "mask" in key or "orig" in key]
    assert prune.is_pruned(model)


class Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / (weight.norm() + 1)  # type: ignore[no-any-return]


@pytest.mark.neighbour("torch", "`torch.nn.utils.parametrize`, weight_norm, spectral_norm, orthogonal")
@pytest.mark.parametrize("kind", ["own", "weight_norm", "spectral_norm", "orthogonal"])
def test_parametrizations(kind: str, told: Told) -> None:
    model = net()
    for part in list(model.modules()):
        if isinstance(part, nn.Conv2d):
            if kind == "own":
                parametrize.register_parametrization(part, "weight", Scaled())
            else:
                getattr(parametrizations, kind)(part)
    fast = optimized(model, told)
    assert layers(fast) == FEWEST
    assert not [key for key in fast.state_dict() if "parametrizations" in key]


@pytest.mark.neighbour("torch", "weight_norm and spectral_norm of before 2.0, by hooks")
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_hooks_that_compute_weights(kind: str, told: Told) -> None:
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # they are deprecated, and in use
        for part in list(model.modules()):
            if isinstance(part, nn.Conv2d):
                getattr(nn.utils, kind)(part)
    assert layers(optimized(model, told)) == FEWEST


@pytest.mark.neighbour("torch", "averaged weights: `AveragedModel`, and its checkpoint")
def test_averaged_model(told: Told, tmp_path: Path) -> None:
    model = net()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for step in range(1, 4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * step)
        average.update_parameters(model)
    average.eval()
    assert layers(optimized(average, told)) == FEWEST
    torch.save({"model_ema": average.state_dict()}, tmp_path / "ema.pt")
    with pytest.warns(UserWarning, match="left out n_averaged"):
        loaded = fusekit.load(Net, weights=tmp_path / "ema.pt")
    assert torch.equal(loaded(X), average(X))


@pytest.mark.neighbour("torch", "`DistributedDataParallel`, `DataParallel`, and checkpoints with `module.`")
def test_data_parallel(told: Told, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        for wrapped in (nn.DataParallel(net()), nn.parallel.DistributedDataParallel(net())):
            assert layers(optimized(wrapped, told)) == FEWEST
            torch.save({"state_dict": wrapped.state_dict(), "epoch": 3}, tmp_path / "parallel.pt")
            assert next(iter(wrapped.state_dict())).startswith("module.")
            assert torch.equal(fusekit.load(Net, weights=tmp_path / "parallel.pt")(X), net()(X))
        again = nn.parallel.DistributedDataParallel(fusekit.optimize(net(), (X,)))
        again(X).sum().backward()
        assert all(parameter.grad is not None for parameter in again.parameters())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.neighbour(
    "torch",
    "`torch.jit`",
    advice="a scripted or traced model stays as it is: optimize the Python model first, then `torch.jit.trace` the "
    "result. Files of TorchScript are refused: save a state dict, or a program of torch.export.",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script(told: Told, tmp_path: Path) -> None:
    expected = net()(X)
    fast = fusekit.optimize(net(), (X,))
    traced = torch.jit.trace(fast, X)
    told(folded(net(), fast, traced(X), expected))
    scripted = torch.jit.script(net())
    assert torch.equal(fusekit.optimize(scripted, (X,))(X), expected)
    mixed = net()
    mixed.blocks[1] = torch.jit.script(mixed.blocks[1])
    assert error(fusekit.optimize(mixed, (X,))(X), expected) < 1e-5
    scripted.save(str(tmp_path / "scripted.pt"))
    with pytest.raises(fusekit.CheckpointError, match="TorchScript"):
        fusekit.load(Net, weights=tmp_path / "scripted.pt")
