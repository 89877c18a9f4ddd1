"""y.to(x.dtype) is y where a convolution has read x; nowhere else."""

from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.model import overridden
from tests.support.architectures import randomize

X = torch.randn(2, 3, 6, 6)
Rule = Callable[["Adapted", Tensor], Tensor]


class Adapted(nn.Module):
    """A convolution with an adapter beside it, and a norm behind what `rule` makes of them."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.base, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.down, self.up = nn.Conv2d(3, 2, 3, bias=False), nn.Conv2d(2, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.rule(self, x))  # type: ignore[no-any-return]


def cast(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x).to(x.dtype)  # type: ignore[no-any-return]


def adapter(m: Adapted, x: Tensor) -> Tensor:
    return (m.base(x) + m.up(m.down(x)) * 0.5).to(x.dtype)  # type: ignore[no-any-return]


@pytest.mark.parametrize("rule", [cast, adapter])
def test_the_norm_folds_behind_the_cast(rule: Rule) -> None:
    model = randomize(Adapted(rule)).double().eval()
    fast = fusekit.optimize(model, (X.double(),))
    assert [type(part).__name__ for part in fast.modules() if not list(part.children())] == ["Conv2d"]
    assert torch.allclose(fast(X.double()), model(X.double()), rtol=0, atol=1e-12)


def scaled_first(m: Adapted, x: Tensor) -> Tensor:
    return m.base(x * 0.5).to(x.dtype)  # type: ignore[no-any-return]


def test_a_cast_to_what_no_convolution_reads_stays() -> None:
    """Integers times 0.5 are no integers; the cast back rounds."""
    model = randomize(Adapted(scaled_first)).eval()
    model.norm = nn.Identity()
    whole = (X * 20).long()
    fast = fusekit.optimize(model, (X,), passes=())  # or 0.5 would be folded into the weight
    assert model(whole).dtype == torch.int64
    assert torch.equal(fast(whole), model(whole))


def test_a_forward_of_the_class_on_the_instance_replaces_nothing() -> None:
    layer = nn.ReLU()
    vars(layer)["forward"] = layer.forward
    assert overridden(layer) == []
    vars(layer)["forward"] = MethodType(nn.Tanh.forward, layer)
    assert overridden(layer) == ["forward"]
    vars(layer)["forward"] = nn.ReLU().forward
    assert overridden(layer) == ["forward"]


def test_inputs_that_the_model_declares(tmp_path: object) -> None:
    model = randomize(Adapted(cast)).eval()
    with pytest.raises(fusekit.FusekitError, match="needs example inputs"):
        fusekit.export(model, f"{tmp_path}/model.onnx")
    model.example_input_array = X
    assert fusekit.export(model, f"{tmp_path}/model.onnx").ok
