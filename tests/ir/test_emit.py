"""The result as an nn.Module: readable, trainable, and good for everything a module is used for."""

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import fusekit
from fusekit.ir import OptimizedModule
from fusekit.testing.strategies import relative_error
from tests.support.architectures import Bottleneck, randomize
from tests.support.compare import assert_same, call, error_of, normal, report_of


class Net(nn.Module):
    """One of everything that is emitted: layers folded and kept, a norm of its own, a loose parameter, a buffer."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.gain = nn.Parameter(torch.ones(4, 1, 1) * 1.5)
        self.register_buffer("offset", torch.full((4, 1, 1), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.norm(torch.relu(self.up(self.stem(x))))) * self.gain
        return self.head(torch.tanh(torch.relu(y) + self.offset).mean((2, 3)))  # type: ignore[no-any-return]


class Even(Net):
    """The same, for torch.export: it cannot be traced symbolically."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.shape[3] % 2 == 0 else x[..., 1:])


X = normal(2, 3, 6, 6)
OTHER = (normal(1, 3, 6, 6), normal(3, 3, 5, 8), normal(0, 3, 6, 6))
CASES = [("plain", Net, None), ("shaped", Net, X), ("exported", Even, X)]


def case(kind: type[nn.Module], example: Tensor | None) -> tuple[nn.Module, Any]:
    model = randomize(kind()).double()
    return model, fusekit.optimize(model, example)


def reloaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


COPIES: dict[str, Any] = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "save": reloaded,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "twice": lambda module: copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(module)))),
}


@pytest.mark.parametrize(("name", "kind", "example"), CASES[::2], ids=[c[0] for c in CASES[::2]])
@pytest.mark.parametrize("how", COPIES)
def test_copies(name: str, kind: type[nn.Module], example: Tensor | None, how: str) -> None:
    """Copies compute the same, keep the report and what `train()` does, and the guard."""
    model, result = case(kind, example)
    copied: Any = COPIES[how](result)
    assert isinstance(copied, OptimizedModule) and type(copied).__name__ == type(result).__name__
    for x in (X, *OTHER):
        assert_same(copied, model, x)
    assert report_of(copied) == report_of(result) and str(report_of(copied)) == str(report_of(result))
    assert copied.train() is copied and not any(module.training for module in copied.modules())
    assert [n for n, _ in copied.named_parameters()] == [n for n, _ in result.named_parameters()]
    if kind is Even:
        with pytest.raises(ValueError, match="captured for inputs with"):
            copied(normal(2, 3, 6, 7))


@pytest.mark.parametrize(("name", "kind", "example"), CASES[::2], ids=[c[0] for c in CASES[::2]])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_without_graph_breaks(name: str, kind: type[nn.Module], example: Tensor | None, backend: str) -> None:
    model, result = case(kind, example)
    torch._dynamo.reset()
    compiled: Any = torch.compile(result, fullgraph=True, backend=backend)
    for x in (X, *OTHER[:2]):
        assert error_of(call(compiled, x), call(model, x)) <= 1e-10


@pytest.mark.parametrize(("name", "kind", "example"), CASES, ids=[c[0] for c in CASES])
def test_exports_again(name: str, kind: type[nn.Module], example: Tensor | None) -> None:
    model, result = case(kind, example)
    free = {0: Dim.AUTO, 1: Dim.STATIC, 2: Dim.AUTO, 3: Dim.AUTO}
    again = torch.export.export(result, (X,), dynamic_shapes=(free,)).module()
    for x in (X, *OTHER[:2]):
        assert error_of(call(again, x), call(model, x)) <= 1e-10


@pytest.mark.parametrize("kind", [Net, Even])
def test_exports_to_onnx(kind: type[nn.Module], tmp_path: Path) -> None:
    model = randomize(kind()).float()
    judged = fusekit.export(model, tmp_path / "model.onnx", X.float())
    assert judged.ok, judged.to_json()
    assert (tmp_path / "model.onnx").exists() and judged.report is not None and judged.report.applied


@pytest.mark.parametrize(("name", "kind", "example"), CASES, ids=[c[0] for c in CASES])
def test_an_optimized_model_optimized_again_is_the_same(
    name: str, kind: type[nn.Module], example: Tensor | None
) -> None:
    model, result = case(kind, example)
    for again in (fusekit.optimize(result), fusekit.optimize(result, X)):
        assert not report_of(again).applied, str(report_of(again))
        assert again.state_dict().keys() == result.state_dict().keys()
        for x in (X, *OTHER):
            assert_same(again, model, x)
        if kind is Even:
            with pytest.raises(ValueError, match="captured for inputs with"):
                again(normal(2, 3, 6, 7))


def test_graph_modules_and_unpacked_archives_as_models() -> None:
    """A torch.fx trace and a torch.export program, unpacked, are models like others."""
    model = randomize(Net()).double()
    free = {0: Dim.AUTO, 1: Dim.STATIC, 2: Dim.AUTO, 3: Dim.AUTO}
    program = torch.export.export(model, (X,), dynamic_shapes=(free,), strict=False)
    for source in (torch.fx.symbolic_trace(model), program.module()):
        for example in (None, X):
            result = fusekit.optimize(source, example)
            assert len(report_of(result).applied) >= 1, str(report_of(result))
            for x in (X, *OTHER[:2]):
                assert_same(result, model, x)


def test_layers_stand_at_their_original_paths() -> None:
    """torch.nn layers under the names of the user's own, with the state_dict keys that go with them."""
    result = fusekit.optimize(randomize(Net()).double())
    kinds = {path: type(module) for path, module in result.named_modules()}
    expected = {"stem.0": nn.Conv2d, "up": nn.ConvTranspose2d, "norm": nn.BatchNorm2d, "head": nn.Linear}
    assert {path: kinds[path] for path in expected} == expected and "stem.1" not in kinds
    assert {"stem.0.weight", "stem.0.bias", "up.weight", "norm.running_mean", "head.bias"} <= result.state_dict().keys()
    assert "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))" in str(result)
    assert dict(result.named_parameters())["gain"].shape == (4, 1, 1) and "offset" in dict(result.named_buffers())
    assert type(result).__name__ == "Net"


@pytest.mark.parametrize(("name", "kind", "example"), CASES, ids=[c[0] for c in CASES])
def test_parameters_train(name: str, kind: type[nn.Module], example: Tensor | None) -> None:
    """Gradients reach every parameter, they are those of the function, and a step changes this model only."""
    model, result = case(kind, example)
    before = call(result, X)
    x = X.clone().requires_grad_()
    loss = result(x).square().mean()
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in result.parameters())
    y = X.clone().requires_grad_()
    model(y).square().mean().backward()
    assert x.grad is not None and y.grad is not None and relative_error(x.grad, y.grad) < 1e-10
    torch.optim.SGD(result.parameters(), lr=1e-2).step()
    assert float(result(X).square().mean()) < float(loss)
    assert relative_error(call(model, X), before) < 1e-10


def test_frozen_parameters_stay_frozen() -> None:
    """A folded weight trains if and only if one of those it is made of did."""
    for conv_trains in (False, True):
        for norm_trains in (False, True):
            model = randomize(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()))
            model[0].requires_grad_(conv_trains)  # type: ignore[index]
            model[1].requires_grad_(norm_trains)  # type: ignore[index]
            for example in (None, X.float()):
                result = fusekit.optimize(model, example)
                assert report_of(result).applied
                assert {p.requires_grad for p in result.parameters()} == {conv_trains or norm_trains}
    frozen = fusekit.optimize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).requires_grad_(False))
    assert [p.requires_grad for p in frozen.parameters()] == [False, False]


def test_train_keeps_eval_semantics() -> None:
    class Dropping(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(x, 0.5, self.training))

    model = randomize(nn.Sequential(nn.Dropout(0.9), Dropping(), nn.Dropout(0.9))).double()
    for example in (None, X):
        result = fusekit.optimize(model, example)
        statistics = {k: v.clone() for k, v in result.named_buffers()}
        assert result.train() is result and not result.training
        assert_same(result, model, X)
        assert_same(result.eval(), model, X)
        assert all(torch.equal(v, statistics[k]) for k, v in result.named_buffers())


def test_state_dict_round_trip() -> None:
    """Into another result of the same architecture, whose function it then is."""
    first, second = (randomize(Net(), seed).double() for seed in (1, 2))
    ours, theirs = fusekit.optimize(first), fusekit.optimize(second)
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, second, X)
    assert relative_error(call(first, X), call(second, X)) > 1e-3


def test_dtype_can_be_changed_afterwards() -> None:
    model = randomize(Net())
    result = fusekit.optimize(model)
    assert {t.dtype for t in result.double().state_dict().values()} <= {torch.float64, torch.int64}
    assert float((call(result, X) - call(model.double(), X)).norm()) < 1e-4


class Awkward(nn.Module):
    """Names that mean something else in the module that is emitted."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = nn.Conv2d(3, 3, 3)
        self.code = nn.BatchNorm2d(3)
        self.report = nn.Sequential(nn.PReLU(), nn.Conv2d(3, 3, 1))
        self.meta = nn.Conv2d(3, 3, 1)
        self.recompile = nn.MaxPool2d(2)
        self.shape_guard = nn.Conv2d(3, 3, 1)
        self.constants = nn.BatchNorm2d(3)
        self.forward_ = nn.ModuleDict({"a-b": nn.Conv2d(3, 3, 1), "1": nn.PReLU()})
        self.register_parameter("print_readable", nn.Parameter(torch.randn(3, 1, 1)))

    def forward(self, self_: Tensor) -> Tensor:
        y = self.recompile(self.report(self.code(self.graph(self_))))
        y = self.constants(torch.relu(self.shape_guard(torch.relu(self.meta(y)))))
        return torch.relu(self.forward_["1"](self.forward_["a-b"](y)) * self.print_readable)


def test_names_that_mean_something_else_here() -> None:
    model = randomize(Awkward()).double()
    for example in (None, X):
        result = fusekit.optimize(model, example)
        assert isinstance(result, OptimizedModule) and report_of(result).after is not None
        assert_same(result, model, X)
        assert_same(pickle.loads(pickle.dumps(result)), model, self_=OTHER[0])


def test_shared_layers_stay_shared() -> None:
    """One layer called twice is one layer, with one weight, in the result; and ties between layers remain ties."""
    conv, act = nn.Conv2d(3, 3, 3, padding=1), nn.PReLU()
    result = fusekit.optimize(nn.Sequential(conv, act, conv, act, conv))
    assert sum(isinstance(m, nn.Conv2d) for m in result.modules()) == 1 and len(list(result.parameters())) == 3
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    tied: Any = fusekit.optimize(nn.Sequential(a, nn.ReLU(), b))
    assert tied.get_submodule("0").weight is tied.get_submodule("2").weight


def test_residual_blocks_fold_completely() -> None:
    """A bottleneck: four batch norms gone, in-place adds and all, whichever way it is captured."""
    model = randomize(Bottleneck(4, 2, 2)).double()
    for example in (None, normal(2, 4, 6, 6)):
        result = fusekit.optimize(model, example)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in result.modules())
        for x in (normal(2, 4, 6, 6), normal(1, 4, 7, 5), normal(0, 4, 4, 4)):
            assert_same(result, model, x)
