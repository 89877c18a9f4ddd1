"""torch.export with every size free that can be."""

import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusekit.errors import CaptureError
from fusekit.model import Inputs, evaluation_copy, export_program


def accepts(program: Any, *inputs: Tensor) -> bool:
    try:
        program.module()(*inputs)
    except Exception:
        return False
    return True


def test_batch_and_spatial_sizes_stay_free_from_a_batch_of_one() -> None:
    program = export_program(nn.Conv2d(1, 4, 3, padding=1), Inputs.of(torch.rand(1, 1, 9, 8)))
    assert all(accepts(program, torch.rand(n, 1, h, w)) for n, h, w in ((1, 9, 8), (2, 8, 9), (5, 17, 6)))
    assert not accepts(program, torch.rand(1, 2, 9, 8))


def test_a_model_that_insists_on_its_batch_is_traced_as_given() -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[0] == 1
            return x.reshape(1, -1, x.shape[2]) * 2

    class Pinned(nn.Module):
        """Traces at any batch, but fixes it: the sum with a constant of that many rows."""

        def forward(self, x: Tensor) -> Tensor:
            return x + (torch.ones(2, 1, 1) if x.shape[0] == 2 else torch.ones(1, 1, 1))

    for model in (Single(), Pinned()):
        program = export_program(model, Inputs.of(torch.rand(1, 4, 6)))
        assert accepts(program, torch.rand(1, 4, 6))


def test_static_when_asked() -> None:
    program = export_program(nn.Conv2d(3, 4, 3), Inputs.of(torch.rand(1, 3, 9, 8)), dynamic=False)
    assert accepts(program, torch.rand(1, 3, 9, 8))
    assert not accepts(program, torch.rand(2, 3, 9, 8))


def test_several_nested_keyword_and_non_tensor_inputs() -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor, pair: tuple[Tensor, Tensor], scale: float, *, mask: Tensor) -> dict[str, Tensor]:
            return {"a": x * scale + pair[0], "b": pair[1] * mask}

    x = torch.rand(1, 3, 8)
    program = export_program(Many(), Inputs((x, (x, x), 2.0), {"mask": x > 0.5}))
    y = torch.rand(4, 3, 5)
    out = program.module()(y, (y, y), 2.0, mask=y > 0.5)
    assert out["a"].equal(y * 2.0 + y)


def test_variadic_forward() -> None:
    class Variadic(nn.Module):
        def forward(self, *xs: Tensor) -> Tensor:
            return xs[0] + xs[1]

    x = torch.rand(1, 3, 8)
    program = export_program(Variadic(), Inputs((x, x)))
    assert accepts(program, torch.rand(3, 3, 4), torch.rand(3, 3, 4))


def test_the_module_is_left_as_it_was() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.norm(self.conv(x))
            return self.last * 2

    model = Remembering()
    model.conv.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    try:
        export_program(model, Inputs.of(torch.rand(1, 3, 8, 8)))
    except CaptureError:
        pass  # torch may refuse the attribute write; the point is what it leaves behind
    assert model.training
    assert model.norm.training
    assert model.last is None
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert model.conv.weight is next(model.parameters())


def test_the_copy_shares_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    copied = evaluation_copy(model)
    ours, theirs = dict(copied.state_dict(keep_vars=True)), dict(model.state_dict(keep_vars=True))
    assert all(ours[name] is not theirs[name] and torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not {t.data_ptr() for t in ours.values()} & {t.data_ptr() for t in theirs.values()}
    assert model.training
    assert not copied.training
    assert evaluation_copy(export_program(model, Inputs.of(torch.rand(2, 1, 4, 4))).module()) is not None


def test_a_failure_is_one_clear_line() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(CaptureError, match="torch.export could not trace Branching: ") as caught:
        export_program(Branching(), Inputs.of(torch.rand(1, 3)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_nothing_is_printed_or_warned(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_program(nn.Conv2d(3, 4, 3), Inputs.of(torch.rand(1, 3, 8, 8)))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


class Cached(nn.Module):
    """Keeps what it made of a size under that size, which no symbol can be a key for."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, nn.Module] = {}

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        if width not in self.kept:
            self.kept[width] = nn.AvgPool1d(width, 1)
        pooled: Tensor = self.kept[width](x)
        return pooled


def test_a_trace_that_failed_leaves_no_free_sizes_behind() -> None:
    x = torch.rand(2, 3, 5)
    with pytest.raises(CaptureError, match="SymInt"):
        export_program(Cached(), Inputs.of(x))
    assert accepts(export_program(Cached(), Inputs.of(x), dynamic=False), x)


class Owned(nn.ParameterDict):
    """Parameters in a container of the model's own, which hands out something else (cplxmodule does)."""


class Boxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._modules["weight"] = Owned({"re": nn.Parameter(torch.rand(2, 3))})

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return (found["re"],) if isinstance(found, Owned) else found

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight[0]) * (1 if x.shape[0] > 1 else 2)


def test_parameters_in_containers_of_the_models_own() -> None:
    model, x = Boxed(), torch.rand(2, 3)
    with pytest.raises(CaptureError, match="submodule `weight`"):
        export_program(model, Inputs.of(x))
    program = export_program(model, Inputs.of(x), dynamic=False)
    assert torch.equal(program.module()(x), model(x))


def test_torch_compile_knows_its_builtins_afterwards() -> None:
    """In an interpreter of its own: torch makes its table of them once."""
    lines = (
        "import torch, fusekit",
        "class Branching(torch.nn.Module):",
        "    def forward(self, x): return x * len(x) if x.shape[0] > 1 else x",
        "fusekit.optimize(Branching(), torch.rand(2, 3))",
        "double = torch.compile(lambda x: x * len(x), fullgraph=True, backend='eager')",
        "assert double(torch.ones(3)).tolist() == [3, 3, 3]",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True)
