"""Every layer of complexPyTorch, complextorch and torchcvnn, and the complex layers of cplxmodule and speechbrain, each
with an input. Libraries that are not installed are left out.

Not included are losses, containers, initializers, and layers that only wrap a layer of another row. Batch sizes,
channels and planes all differ, so that a wrong axis is always noticed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lowering_case import CUBE, FLAT, IMAGE, ROW, STEPS, Case, function, imported, layer, randn

SHAPES = {1: ROW, 2: IMAGE, 3: CUBE}
LONG = (2, 7, 8)  # batch, steps, features


def layers() -> list[Case]:
    return [*complexpytorch(), *complextorch(), *torchcvnn(), *cplxmodule(), *speechbrain()]


def complexpytorch() -> Iterator[Case]:
    """Layers of the packaged version 0.4; if a newer one can be imported, its recurrent layers too."""
    name, where, functions = "complexPyTorch", *map(imported, (f"{n}" for n in _COMPLEXPYTORCH))
    if where is None:
        return
    for kind, arguments, options, shapes in (
        ("ComplexLinear", (4, 3), {}, FLAT),
        ("ComplexConv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, IMAGE),
        ("ComplexConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1}, IMAGE),
        ("NaiveComplexBatchNorm1d", (4,), {}, FLAT),
        ("NaiveComplexBatchNorm2d", (4,), {}, IMAGE),
        ("ComplexBatchNorm1d", (4,), {}, FLAT),
        ("ComplexBatchNorm2d", (4,), {}, IMAGE),
        ("ComplexReLU", (), {}, IMAGE),
        ("ComplexSigmoid", (), {}, IMAGE),
        ("ComplexTanh", (), {}, IMAGE),
        ("ComplexMaxPool2d", (2,), {}, IMAGE),
        ("ComplexAvgPool2d", (2,), {}, IMAGE),
        ("ComplexDropout", (), {}, IMAGE),
        ("ComplexDropout2d", (), {}, IMAGE),
        ("ComplexLSTM", (4, 3), {}, STEPS),
        ("ComplexGRU", (4, 3), {}, STEPS),
        ("ComplexGRUCell", (4, 3), {}, [(2, 4), (2, 3)]),
    ):
        if hasattr(where, kind):
            yield layer(name, where, kind, *arguments, shapes=shapes, **options)
    yield function(name, "complex_matmul", functions.complex_matmul, (2, 3, 4), (2, 4, 5))
    yield function(name, "complex_normalize", functions.complex_normalize, IMAGE)
    for kind in ("complex_upsample", "complex_upsample2"):
        call: Callable[..., Any] = getattr(functions, kind)
        yield function(name, kind, lambda x, call=call: call(x, scale_factor=2), IMAGE)


_COMPLEXPYTORCH = ("complexPyTorch.complexLayers", "complexPyTorch.complexFunctions")


def complextorch() -> Iterator[Case]:
    name, where = "complextorch", imported("complextorch.nn")
    if where is None:
        return
    case = partial(layer, name, where)

    yield case("Linear", 4, 3, shapes=FLAT)
    yield case("Bilinear", 4, 3, 5, shapes=[(2, 4), (2, 3)])
    for n, shape in SHAPES.items():
        yield case(f"Conv{n}d", 4, 6, 3, stride=2, padding=1, groups=2, shapes=shape)
        yield case(f"ConvTranspose{n}d", 4, 6, 3, stride=2, padding=1, shapes=shape)
        yield layer(f"{name}.gauss", where.gauss, f"Conv{n}d", 4, 6, 3, padding=1, shapes=shape)
        yield layer(f"{name}.gauss", where.gauss, f"ConvTranspose{n}d", 4, 6, 3, padding=1, shapes=shape)
        for kind in ("BatchNorm", "NaiveBatchNorm", "MagBatchNorm"):
            yield case(f"{kind}{n}d", 4, shapes=shape)
        for kind, size in (("AvgPool", 2), ("AdaptiveAvgPool", 2), ("MagMaxPool", 2), ("SpectralPool", 2)):
            yield case(f"{kind}{n}d", (size,) * n if kind == "SpectralPool" else size, shapes=shape)
        yield case(f"PhaseDivConv{n}d", 4, 3, shapes=shape)
        yield case(f"PhaseConjConv{n}d", 4, 3, shapes=shape)
        yield case(f"EfficientChannelAttention{n}d", 4, shapes=shape)
        yield case(f"MaskedChannelAttention{n}d", 4, shapes=shape)
        yield case(f"Dropout{n}d", shapes=shape)
    yield layer(f"{name}.gauss", where.gauss, "Linear", 4, 3, shapes=FLAT)
    yield case("Conv2d", 4, 6, 3, padding="same")
    yield case("Conv2d", 4, 6, 3, padding=1, padding_mode="circular")
    yield case("LayerNorm", 4, shapes=(2, 3, 4))
    yield case("RMSNorm", 4, shapes=(2, 3, 4))
    yield case("GroupNorm", 2, 4)
    for kind in (
        *("CReLU", "CPReLU", "zReLU", "zAbsReLU", "zLeakyReLU", "tReLU", "CTanh", "CSigmoid", "CVSplitAbs", "CELU"),
        *("CCELU", "CGELU", "CVSigmoid", "CVCardiod", "CVSigLog", "Mod", "CVPolarTanh", "CVPolarSquash", "CVPolarLog"),
        *("modReLU", "ComplexRatioMask", "PhaseSigmoid", "MagMinMaxNorm", "Dropout", "FFTBlock", "IFFTBlock"),
        *("ComplexToInterleaved", "ComplexToConcatenated"),
    ):
        yield case(kind)
    for kind in ("AdaptiveModReLU", "GTReLU", "EquivariantPhaseReLU", "wFMReLU", "PhaseShift", "ComplexScaling"):
        yield case(kind, 4)
    for kind in ("CVSoftMax", "MagSoftMax", "PhaseSoftMax"):
        yield case(kind, -1)
    yield real(case("RealToComplex"), IMAGE)
    yield real(case("InterleavedToComplex"), (2, 4, 5, 2))
    yield real(case("ConcatenatedToComplex"), (2, 3, 8))
    yield case("Upsample", scale_factor=2, mode="bilinear")
    yield case("PolarUpsample", scale_factor=2)
    yield case("RotaryEmbedding", 8, shapes=LONG)
    yield case("SinusoidalPositionalEncoding", 8, shapes=LONG)
    yield case("CoPE", 8, shapes=LONG)
    yield case("PrototypeDistance", 4, 3, shapes=FLAT)
    yield case("wFMConv1d", 4, 6, 3, shapes=ROW)
    yield case("wFMConv2d", 4, 6, (3, 3))
    yield case("wFMConvStrict2d", 4, 6, (3, 3))
    yield case("wFMDistanceLinear", 4, shapes=FLAT)
    yield case("CVKANLayer", 4, 3, shapes=FLAT)
    yield case("GRUCell", 4, 3, shapes=[(2, 4), (2, 3)])
    yield Case(name, "LSTMCell(4, 3)", lambda: where.LSTMCell(4, 3), lambda: randn([(2, 4)]))
    yield case("GRU", 4, 3, shapes=STEPS)
    yield case("LSTM", 4, 3, shapes=STEPS)
    yield case("UnitaryRNNCell", 4, 3, shapes=[(2, 4), (2, 3)])
    yield case("UnitaryRNN", 4, 3, shapes=STEPS)
    yield case("S4D", 4, state_size=4, shapes=(2, 9, 4))
    yield case("DSS", 4, state_size=4, shapes=(2, 9, 4))
    yield case("S4DBlock", 4, state_size=4, shapes=(2, 9, 4))
    yield case("MambaBlock", 4, state_size=4, shapes=(2, 6, 4))
    yield real(case("ComplexGaborConv1d", 4, 6, 5), ROW)
    yield real(case("MorletConv1d", 4, 6, 5), ROW)
    yield real(case("STFT", 16, hop_length=4), (2, 64))
    yield case("InverseSTFT", 16, hop_length=4, shapes=(2, 9, 17))
    yield case("ScaledDotProductAttention", 2.0, shapes=[LONG] * 3)
    yield case("HolographicAttention", 2.0, shapes=[LONG] * 3)
    yield case("MultiheadAttention", 2, 8, 4, 4, shapes=[LONG] * 3)
    yield case("TransformerEncoderLayer", 8, 2, 16, shapes=LONG)
    yield case("TransformerDecoderLayer", 8, 2, 16, shapes=[LONG] * 2)


def torchcvnn() -> Iterator[Case]:
    name, where = "torchcvnn", imported("torchcvnn.nn")
    if where is None:
        return
    case = partial(layer, name, where)

    yield case("ConvTranspose2d", 4, 6, 3, stride=2, padding=1)
    yield case("BatchNorm1d", 4, shapes=FLAT)
    yield case("BatchNorm2d", 4)
    yield case("LayerNorm", 4, shapes=(2, 3, 4))
    yield case("RMSNorm", 4, shapes=(2, 3, 4))
    for kind in ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"):
        yield case(kind, 2)
    for kind in (
        *("CReLU", "CPReLU", "CELU", "CCELU", "CGELU", "CSigmoid", "CTanh", "zReLU", "zAbsReLU", "zLeakyReLU", "Mod"),
        *("modReLU", "Cardioid", "Dropout", "Dropout2d"),
    ):
        yield case(kind)
    yield case("Upsample", scale_factor=2, mode="bilinear")
    yield Case(name, "MultiheadAttention(8, 2)", lambda: Unweighted(where.MultiheadAttention(8, 2)), _three)
    yield case("TransformerEncoderLayer", 8, 2, 16, shapes=LONG)
    yield case("TransformerDecoderLayer", 8, 2, 16, shapes=[LONG] * 2)
    yield case("ViTLayer", 2, 8, 16, shapes=LONG)


class Unweighted(nn.Module):
    """Attention without its weights as a second output."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        return self.attention(q, k, v, need_weights=False)


def _three() -> tuple[Tensor, ...]:
    return randn([LONG] * 3)


def cplxmodule() -> Iterator[Case]:
    """Its complex numbers are objects of two tensors, so they are converted before and after each layer."""
    name, where, own = "cplxmodule", imported("cplxmodule.nn"), imported("cplxmodule.cplx")
    if where is None or own is None:
        return

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            y = self.inner(own.Cplx(x.real, x.imag))
            return torch.complex(y.real, y.imag) if isinstance(y, own.Cplx) else y

    def case(kind: str, *arguments: Any, shapes: Any = IMAGE, **options: Any) -> Case:
        plain = layer(name, where, kind, *arguments, shapes=shapes, **options)
        return Case(name, plain.name, lambda: Wrapped(plain.make()), plain.inputs)

    yield case("CplxLinear", 4, 3, shapes=FLAT)
    for n, shape in SHAPES.items():
        yield case(f"CplxConv{n}d", 4, 6, 3, padding=1, shapes=shape)
        yield case(f"CplxBatchNorm{n}d", 4, shapes=shape)
        yield case(f"CplxMaxPool{n}d", 2, shapes=shape)
    yield case("CplxModReLU")
    yield case("CplxAdaptiveModReLU", 4, 1, 1)
    yield case("CplxDropout")
    yield case("CplxModulus")
    yield case("CplxAngle")


def speechbrain() -> Iterator[Case]:
    """Its tensors are real, with the two parts as halves of the last axis. There is nothing to lower, and torch folds
    the kernels."""
    found = {
        part: imported(f"speechbrain.nnet.complex_networks.c_{part}")
        for part in ("linear", "CNN", "normalization", "RNN")
    }
    for part, kind, arguments, options, shape in (
        ("linear", "CLinear", (5,), {"input_shape": LONG}, LONG),
        ("CNN", "CConv1d", (5, 3), {"input_shape": LONG}, LONG),
        ("CNN", "CConv2d", (5, 3), {"input_shape": (2, 6, 7, 8)}, (2, 6, 7, 8)),
        ("normalization", "CBatchNorm", (), {"input_size": 8}, LONG),
        ("normalization", "CLayerNorm", (), {"input_size": 8}, LONG),
        ("RNN", "CLSTM", (5,), {"input_shape": LONG}, LONG),
    ):
        if found[part] is not None:
            yield real(layer("speechbrain", found[part], kind, *arguments, **options), shape)


def real(case: Case, shape: tuple[int, ...]) -> Case:
    """A case with real inputs."""
    return Case(case.library, case.name, case.make, lambda: randn(shape, real=True))
