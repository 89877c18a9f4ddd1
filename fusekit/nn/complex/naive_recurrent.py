"""The "naive" complex LSTM and GRU: two real networks, each run on both parts.

    y = (L_r(Re x) - L_i(Im x)) + j (L_r(Im x) + L_i(Re x))

This is `apply_complex(L_r, L_i, x)`, as in complexPyTorch, DCCRN (Hu et al. 2020, arXiv:2008.00264) and asteroid. For
linear maps L_r + j L_i would be a complex map. For these nonlinear ones it is not a complex recurrence, because the two
parts never meet inside.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fusekit.nn.complex.layer import ComplexLayer, complex_dtype
from fusekit.nn.functional.complex.parts import as_real


class _NaiveRecurrent(ComplexLayer):
    """Two real networks of one kind, and how they run on both parts."""

    _re: str
    _im: str
    _layer: type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.batch_first = batch_first
        for name in (self._re, self._im):
            sizes = (input_size, hidden_size, num_layers, bias, False, dropout, bidirectional)
            self.add_module(name, self._layer(*sizes, device=device, dtype=complex_dtype(dtype).to_real()))

    def _run(self, x: Tensor, states: tuple[Any, Any] | None) -> tuple[Tensor, tuple[Any, Any]]:
        if isinstance(x, PackedSequence):
            raise TypeError("expected a tensor, got a PackedSequence: pad it (torch.nn.utils.rnn.pad_packed_sequence)")
        unbatched = x.ndim == 2
        time_first = x.transpose(0, 1) if self.batch_first and not unbatched else x
        parts = as_real(time_first).transpose(-1, -2)  # [T, (N,) 2, in]
        batch = parts if unbatched else parts.flatten(1, 2)
        outputs, finals = [], []
        for index, name in enumerate((self._re, self._im)):
            given = None if states is None else _map(lambda state: _to_batch(state), states[index])
            y, last = self.get_submodule(name)(batch, given)
            outputs.append(y if unbatched else y.unflatten(1, (parts.shape[1], 2)))
            finals.append(_map(lambda state: _from_batch(state, unbatched), last))
        (rr, ri), (ir, ii) = (y.unbind(-2) for y in outputs)
        y = torch.complex(rr - ii, ri + ir)
        return y.transpose(0, 1) if self.batch_first and not unbatched else y, (finals[0], finals[1])


class NaiveComplexLSTM(_NaiveRecurrent):
    """(x, states) -> (y, ((h_r, c_r), (h_i, c_i))), the states of the two networks `lstm_re` and `lstm_im`.

    Arguments and shapes as of `torch.nn.LSTM`, x [T, N, input_size], without `proj_size`: `hidden_size`, `num_layers`,
    `bias`, `batch_first`, `dropout` between layers, `bidirectional`; x, states and `dtype` are complex. The state of
    each network is its state for Re x, plus j times its state for Im x. Parameters: those of the two real layers; the
    names are complexPyTorch's. Re x and Im x form one batch of twice the size, so each network runs once. TypeError for
    a packed sequence. Source: Hu et al. 2020 (arXiv:2008.00264).
    """

    _re, _im, _layer = "lstm_re", "lstm_im", nn.LSTM

    def forward(self, x: Tensor, hx: tuple[Any, Any] | None = None) -> tuple[Tensor, tuple[Any, Any]]:
        return self._run(x, hx)


class NaiveComplexGRU(_NaiveRecurrent):
    """(x, states) -> (y, (h_r, h_i)), the states of the two networks `gru_re` and `gru_im`; x [T, N, input_size].

    Arguments as in `torch.nn.GRU`, everything else as in `NaiveComplexLSTM`.
    """

    _re, _im, _layer = "gru_re", "gru_im", nn.GRU

    def forward(self, x: Tensor, hx: tuple[Any, Any] | None = None) -> tuple[Tensor, tuple[Any, Any]]:
        return self._run(x, hx)


def _map(function: Any, states: Any) -> Any:
    return tuple(map(function, states)) if isinstance(states, tuple) else function(states)


def _to_batch(state: Tensor) -> Tensor:
    """[layers, (N,) H] complex -> [layers, 2N, H] real."""
    pairs = as_real(state).transpose(-1, -2)
    return pairs.flatten(1, 2) if state.ndim == 3 else pairs


def _from_batch(state: Tensor, unbatched: bool) -> Tensor:
    """[layers, 2N, H] real -> [layers, (N,) H] complex."""
    re, im = (state if unbatched else state.unflatten(1, (state.shape[1] // 2, 2))).unbind(-2)
    return torch.complex(re, im)
