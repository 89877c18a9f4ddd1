"""Recurrent layers written as loops: those that are LSTMs become one, the others stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fusekit
from fusekit.capture.loops import replace_loops
from fusekit.model import Inputs
from tests.support.compare import report_of

Weight = Callable[[], Tensor]


ALGEBRAS = {
    "real": torch.ones(1, 1, 1),
    "complex": torch.tensor([[[1.0, 0], [0, -1]], [[0, 1], [1, 0]]]),
    "quaternion": torch.tensor(
        [
            [[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, -1]],
            [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]],
            [[0, 0, 1, 0], [0, 0, 0, -1], [1, 0, 0, 0], [0, 1, 0, 0]],
            [[0, 0, 0, 1], [0, 0, 1, 0], [0, -1, 0, 0], [1, 0, 0, 0]],
        ]
    ),
}


class Product(nn.Module):
    """A matrix over an algebra by its parts, outputs x inputs: blocks of them with signs, Σ_u T[o, u, i] W_u."""

    def __init__(self, algebra: str, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.table = ALGEBRAS[algebra]
        n = len(self.table)
        self.parts = nn.Parameter(torch.randn(n, outputs // n, inputs // n) / 2)
        self.bias = nn.Parameter(torch.randn(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        blocks = torch.einsum("oui,uab->oaib", self.table.transpose(1, 2).to(x), self.parts)
        return nn.functional.linear(x, blocks.flatten(2).flatten(0, 1), self.bias)


class Layer(nn.Module):
    """An LSTM of one layer: x-products of all steps at once, then a loop. `order`: of the gates in the product."""

    start: Tensor

    def __init__(
        self,
        algebra: str = "real",
        inputs: int = 4,
        hidden: int = 8,
        *,
        order: str = "ifgo",
        steps_first: bool = False,
        both: bool = False,
        bias: bool = True,
        answer: str = "y",
        start: float | None = 0.0,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = Product(algebra, inputs, 4 * hidden, bias)
        self.u = Product(algebra, hidden, 4 * hidden, False)
        self.order, self.axis, self.both, self.answer = order, 0 if steps_first else 1, both, answer
        self.register_buffer("start", torch.full((1, hidden), start or 0.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Any:
        if self.both:
            x = torch.cat([x, x.flip(self.axis)], 1 - self.axis)
        w, h, c, steps = self.w(x), self.start if hx is None else hx, self.start, []
        for k in range(x.shape[self.axis]):
            gates = self.gates(w.select(self.axis, k) + self.u(h))
            c = gates["f"] * c + self.drop(gates["i"] * gates["g"])
            h = gates["o"] * torch.tanh(c)
            steps.append(h)
        y = torch.stack(steps, self.axis)
        if self.both:
            ahead, behind = y.chunk(2, 1 - self.axis)
            y = torch.cat([ahead, behind.flip(self.axis)], 2)
        return {"y": y, "yh": (y, h), "yhc": (y, (h.unsqueeze(0), c.unsqueeze(0)))}[self.answer]

    def gates(self, a: Tensor) -> dict[str, Tensor]:
        parts = dict(zip(self.order, a.chunk(4, -1), strict=True))
        return {name: torch.tanh(part) if name == "g" else torch.sigmoid(part) for name, part in parts.items()}


class Peephole(Layer):
    """Its gates see the cell."""

    def gates(self, a: Tensor) -> dict[str, Tensor]:
        found = super().gates(a)
        return found | {"i": torch.sigmoid(a.chunk(4, -1)[0] + found["g"])}


class Hard(Layer):
    def gates(self, a: Tensor) -> dict[str, Tensor]:
        found = super().gates(a)
        return found | {"g": torch.relu(a.chunk(4, -1)[2])}


class Coupled(Layer):
    """What is not forgotten is not let in."""

    def gates(self, a: Tensor) -> dict[str, Tensor]:
        found = super().gates(a)
        return found | {"i": 1 - found["f"]}


class Normed(Layer):
    def gates(self, a: Tensor) -> dict[str, Tensor]:
        return super().gates(nn.functional.layer_norm(a, a.shape[-1:]))


class Clipped(Layer):
    """As far as small numbers tell, an LSTM."""

    def gates(self, a: Tensor) -> dict[str, Tensor]:
        return super().gates(a.clamp(-50, 50))


class Squared(Layer):
    def gates(self, a: Tensor) -> dict[str, Tensor]:
        return super().gates(a + 1e-9 * a * a)


class Around(nn.Module):
    """A network around a layer."""

    def __init__(self, layer: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.layer: Any = layer
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Any:
        out = self.layer(x, hx=None)
        y, *rest = out if isinstance(out, tuple) else (out,)
        return (self.head(torch.relu(y)), *rest)


LSTMS: dict[str, Callable[[], Layer]] = {
    "plain": lambda: Layer(),
    "complex": lambda: Layer("complex", 6, 8),
    "quaternion": lambda: Layer("quaternion", 4, 8, order="fiog"),
    "gates in another order": lambda: Layer(order="ogfi"),
    "steps first": lambda: Layer(steps_first=True),
    "both directions": lambda: Layer("quaternion", both=True),
    "both directions, steps first": lambda: Layer(both=True, steps_first=True),
    "no bias": lambda: Layer(bias=False),
    "one unit": lambda: Layer(inputs=1, hidden=1),
    "with its output at the end": lambda: Layer(answer="yh"),
    "with both states": lambda: Layer("complex", answer="yhc", order="gifo"),
    "from a state of its own": lambda: Layer(start=0.3),
}


@pytest.mark.parametrize("name", LSTMS)
def test_a_loop_is_one_lstm_of_any_length(name: str, tmp_path: Path) -> None:
    layer = LSTMS[name]()
    model = Around(layer, layer.w(torch.zeros(1, layer_width(layer))).shape[-1] // 4 * (2 if layer.both else 1)).eval()
    x, path = torch.randn(2, 5, layer_width(layer)), tmp_path / "loop.onnx"
    result = fusekit.optimize(model, x, measure=False)
    assert any("LSTMs: layer" in event.reason for event in report_of(result).refused)
    assert fusekit.export(model, path, x, measure=False).ok
    assert [node.op_type for node in onnx.load(path).graph.node].count("LSTM") == 1
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(2, 5), (3, 1), (2, 11)]:
        x = torch.randn(*shape, layer_width(layer))
        expected = flat(model(x))
        for found in (flat(result(x)), session.run(None, {"x": x.numpy()})):
            for ours, theirs in zip(found, expected, strict=True):
                assert np.abs(np.asarray(ours) - theirs).max() < 1e-5


def layer_width(layer: Layer) -> int:
    return layer.w.parts.shape[0] * layer.w.parts.shape[2]


def flat(outputs: Any) -> list[Any]:
    return [leaf.detach().numpy() for leaf in torch.utils._pytree.tree_leaves(outputs)]


@pytest.mark.parametrize("kind", [Peephole, Hard, Coupled, Normed, Clipped, Squared])
def test_what_is_none_stays(kind: Callable[[], Layer]) -> None:
    model, x = Around(kind()).eval(), torch.randn(2, 3, 4)
    assert replace_loops(model, Inputs.of(x)) == []
    result = fusekit.optimize(model, x, measure=False)
    assert torch.allclose(flat_one(result(x)), flat_one(model(x)), atol=1e-5)


def flat_one(outputs: Any) -> Tensor:
    found: Tensor = outputs[0]
    return found


def test_a_given_state_and_hooks_are_respected() -> None:
    class Given(Around):
        def forward(self, x: Tensor) -> Any:
            return self.layer(x, torch.ones(1, 8))

    x = torch.randn(2, 3, 4)
    assert replace_loops(Given(Layer()).eval(), Inputs.of(x)) == []
    for inner in ("layer", "layer.w"):
        hooked = Around(Layer()).eval()
        hooked.get_submodule(inner).register_forward_hook(lambda *_: None)
        assert replace_loops(hooked, Inputs.of(x)) == []


def test_random_numbers_and_dtypes_stay() -> None:
    model, x = Around(Layer()).eval(), torch.randn(2, 3, 4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert replace_loops(model, Inputs.of(x)) == ["layer"]
    assert torch.equal(torch.rand(3), expected)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_model_itself_is_not_touched() -> None:
    model = Around(Layer()).eval()
    fusekit.optimize(model, torch.randn(2, 3, 4), measure=False)
    assert isinstance(model.layer, Layer)


def test_several_layers_in_a_loop_of_their_own() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                [Layer("quaternion"), Layer("quaternion", 8), Layer("quaternion", 8, both=True)]
            )

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    model, x = nn.Sequential(Stack()).eval(), torch.randn(2, 3, 4)
    copied = nn.Sequential(Stack()).eval()
    assert sorted(replace_loops(copied, Inputs.of(x))) == ["0.layers.0", "0.layers.1", "0.layers.2"]
    result = fusekit.optimize(model, x, measure=False)
    longer = torch.randn(1, 9, 4)
    assert torch.allclose(result(longer), model(longer), atol=1e-5)
