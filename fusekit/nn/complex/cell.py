"""One step of a complex LSTM and GRU: complex linear maps; σ and tanh act on each part.

    LSTM  i, f, o = σ, g = tanh of W x + b + U h + b';   c' = f ⊙ c + i ⊙ g;   h' = o ⊙ tanh c'
    GRU   r, z = σ of W x + b + U h + b';   n = tanh(Wn x + bn + r ⊙ (Un h + bn'));   h' = n + z ⊙ (h - n)

⊙ is the product of complex numbers, or, with "parts", the product of each part: (Re a Re b) + j (Im a Im b). In the
second case everything after the linear maps acts on 2H real numbers separately. The cell is then a real one of twice
the width, whose weights consist of 2x2 blocks M(w). Inside, numbers are pairs [*, 2].
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.nn.arguments import one_of
from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.parts import as_complex, as_real, multiply, real_bias, real_weight, to_channels
from fusekit.nn.functional.scan import States, Step
from fusekit.nn.init.complex import complex_rayleigh_
from fusekit.nn.recurrent import draw_gates, register

Product = Literal["complex", "parts"]

GATES = {"lstm": 4, "gru": 3}
PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"complex": multiply, "parts": torch.mul}


def _flat(h: Tensor) -> Tensor:
    """[N, H, 2] -> [N, 2H]. N is inferred, because a size that the body of a scan reads cannot be free in a file."""
    return h.contiguous().view(-1, 2 * h.shape[1])


def _gates(values: Tensor, n: int) -> tuple[Tensor, ...]:
    """[N, G 2H] -> the G gates [N, H, 2]."""
    return values.contiguous().view(-1, n, values.shape[1] // (2 * n), 2).unbind(1)


def lstm_step(product: str) -> Step:
    """(W x + b [N, 8H], (h, c) [N, H, 2]) -> (h', c')."""
    times = PRODUCTS[product]

    def step(given: Tensor, state: States, weight: Tensor, bias: Tensor | None) -> States:
        h, c = state
        i, f, g, o = _gates(given + F.linear(_flat(h), weight, bias), 4)
        c = times(torch.sigmoid(f), c) + times(torch.sigmoid(i), torch.tanh(g))
        return times(torch.sigmoid(o), torch.tanh(c)), c

    return step


def gru_step(product: str) -> Step:
    """(W x + b [N, 6H], (h,) [N, H, 2]) -> (h',)."""
    times = PRODUCTS[product]

    def step(given: Tensor, state: States, weight: Tensor, bias: Tensor | None) -> States:
        (h,) = state
        (xr, xz, xn), (hr, hz, hn) = _gates(given, 3), _gates(F.linear(_flat(h), weight, bias), 3)
        n = torch.tanh(xn + times(torch.sigmoid(xr + hr), hn))
        return (n + times(torch.sigmoid(xz + hz), h - n),)

    return step


STEPS = {"lstm": lstm_step, "gru": gru_step}


def shapes_of(rows: int, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...] | None]:
    """The shapes of a cell's parameters, in torch's order."""
    shift = (rows,) if bias else None
    return {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden), "bias_ih": shift, "bias_hh": shift}


class _ComplexCell(ComplexLayer):
    """Parameters and one step of a cell of the kind `_kind`."""

    _kind: str
    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        product: Product = "complex",
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.product = input_size, hidden_size, one_of(Product, "product", product)
        rows, dtype = GATES[self._kind] * hidden_size, complex_dtype(dtype)
        register(self, "", shapes_of(rows, input_size, hidden_size, bias), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights by `fusekit.nn.init.complex_rayleigh_`, gate by gate; biases 0."""
        draw_gates(self.named_parameters(), GATES[self._kind], complex_rayleigh_)

    def _step(self, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"expected an input [(N,) {self.input_size}], got shape {list(x.shape)}")
        batched = x if x.ndim == 2 else x.unsqueeze(0)
        given = F.linear(to_channels(batched, 0), real_weight(self.weight_ih), real_bias(self.bias_ih))
        if state is None:
            zero = given.new_zeros(given.shape[0], self.hidden_size, 2)
            pairs: States = (zero,) * (2 if self._kind == "lstm" else 1)
        else:
            pairs = tuple(as_real(value if x.ndim == 2 else value.unsqueeze(0)) for value in state)
        weights = real_weight(self.weight_hh), real_bias(self.bias_hh)
        new = (as_complex(value) for value in STEPS[self._kind](self.product)(given, pairs, *weights))
        return tuple(value if x.ndim == 2 else value.squeeze(0) for value in new)

    def extra_repr(self) -> str:
        form = "" if self.product == "complex" else f", product={self.product!r}"
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias_ih is not None}{form}"


class ComplexLSTMCell(_ComplexCell):
    """(h', c') from x and (h, c); arguments as in `torch.nn.LSTMCell`, and `product`, the product of the gates.

        i, f, o = σ, g = tanh of W x + b + U h + b';   c' = f ⊙ c + i ⊙ g;   h' = o ⊙ tanh c'

    Shapes: x [(N,) input_size], states [(N,) hidden_size], all complex; weight_ih [4 H, input_size], weight_hh [4 H,
    H], bias_ih and bias_hh [4 H], gates i, f, g, o, H the hidden_size. `product`: ⊙ is "complex", or acts on each of
    the "parts". Initial weights: `complex_rayleigh_` with Glorot's criterion, gate by gate; biases 0. ValueError for
    other shapes.
    """

    _kind = "lstm"

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._step(x, hx)
        return h, c


class ComplexGRUCell(_ComplexCell):
    """h' from x and h; arguments as in `torch.nn.GRUCell`, otherwise as `ComplexLSTMCell` with the gates r, z, n.

        r, z = σ of W x + b + U h + b';   n = tanh(Wn x + bn + r ⊙ (Un h + bn'));   h' = n + z ⊙ (h - n)

    Shapes: x [(N,) input_size], h [(N,) hidden_size]. With `product="complex"` it computes
    what complexPyTorch's cell does, whose six matrices are concatenated gate by gate.
    """

    _kind = "gru"

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        (h,) = self._step(x, None if hx is None else (hx,))
        return h
