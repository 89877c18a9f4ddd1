"""One step of a complex LSTM and GRU: complex linear maps, σ and tanh of the parts apart.

    LSTM  i, f, o = σ, g = tanh of W x + b + U h + b';   c' = f ⊙ c + i ⊙ g;   h' = o ⊙ tanh c'
    GRU   r, z = σ of W x + b + U h + b';   n = tanh(Wn x + bn + r ⊙ (Un h + bn'));   h' = n + z ⊙ (h - n)

⊙ is the product of complex numbers, or ("parts") of their parts apart, (Re a Re b) + j (Im a Im b). In the second case
every step beyond the linear maps acts on 2H real numbers, and the cell is a real one of twice the width with 2x2 blocks
M(w) for weights. Inside, numbers are pairs [*, 2].
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.parts import as_complex, as_real, multiply, real_bias, real_weight, to_channels
from fusekit.nn.init.complex import complex_rayleigh_

Product = Literal["complex", "parts"]
States = tuple[Tensor, ...]
Step = Callable[[Tensor, States, Tensor, Tensor | None], States]

GATES = {"lstm": 4, "gru": 3}
PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"complex": multiply, "parts": torch.mul}


def _flat(h: Tensor) -> Tensor:
    """[N, H, 2] -> [N, 2H]. N is inferred: a size that the body of a scan reads cannot be free in an exported file."""
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


def draw_gates_(weight: Tensor, gates: int) -> None:
    """Each gate's matrix [H, in] by `complex_rayleigh_` with Glorot's criterion."""
    with torch.no_grad():
        for matrix in weight.chunk(gates):
            complex_rayleigh_(matrix)


class _ComplexCell(ComplexLayer):
    """Arguments as torch's, and `product`, that of the gates: "complex" or "parts" (`cell.py`).

    Shapes: x [(N,) input_size], states [(N,) hidden_size]; weight_ih [G H, input_size], weight_hh [G H, hidden_size],
    bias_ih and bias_hh [G H], gates in torch's order: i, f, g, o or r, z, n.
    """

    _kind: str
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
        self.input_size, self.hidden_size, self.product = input_size, hidden_size, checked_product(product)
        rows, dtype = GATES[self._kind] * hidden_size, complex_dtype(dtype)
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            empty = torch.empty(rows, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(empty) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if name.startswith("weight"):
                draw_gates_(parameter, GATES[self._kind])
            else:
                nn.init.zeros_(parameter)

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
    """(h', c') of x and (h, c)."""

    _kind = "lstm"

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._step(x, hx)
        return h, c


class ComplexGRUCell(_ComplexCell):
    """h' of x and h; complexPyTorch's with "complex" products, its six matrices joined gate by gate."""

    _kind = "gru"

    def forward(self, x: Tensor, hx: Tensor | None = None) -> Tensor:
        (h,) = self._step(x, None if hx is None else (hx,))
        return h


def checked_product(product: str) -> str:
    if product not in PRODUCTS:
        raise ValueError(f"product must be 'complex' or 'parts', got {product!r}")
    return product
