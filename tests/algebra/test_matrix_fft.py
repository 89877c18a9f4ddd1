"""Convolution by constant matrix products: the algebra in float64, and the files it is exported to in ONNX Runtime."""

import math
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor, nn

import fusekit
from fusekit.algebra import Conv
from fusekit.algebra.transforms.dft import Dft
from fusekit.algebra.transforms.matrix_axis import AxisPlan, candidates
from fusekit.algebra.transforms.matrix_plan import NOMINAL, MatrixPlan, Work, plan_matrices
from fusekit.algebra.transforms.spectral import Line, one_shot
from fusekit.algebra.transforms.spectral_conv import lines_of
from fusekit.nn import FFTConv1d
from fusekit.nn.matrix_fft import matrix_fft_conv
from fusekit.testing.strategies import gaussian, options_of, relative_error

EXACT = 1e-10
SINGLE = 1e-6  # norm-wise, float32
POINTS = {1: 4096, 2: 96, 3: 24}  # the largest transform that is tried here

# What may stand in a file: all of it is in every ONNX Runtime since 1.22 and answers rightly there. No DFT, no STFT, no
# ScatterND, no complex numbers, no negative pads.
AT_LOAD = {"CastLike", "ConstantOfShape", "GatherND", "Mod", "Neg", "Range", "ReduceSum", "Squeeze", "Unsqueeze"}
AT_RUN = {"MatMul", "Mul", "Add", "Reshape", "Transpose", "Pad", "Slice", "Gather", "Concat"}
ON_SIZES = {"Shape", "Squeeze", "Sub", "Div", "Cast", "Less", "Equal", "And"}


def by_matrices(conv: Conv, x: Tensor, plan: MatrixPlan | None = None) -> Tensor:
    return matrix_fft_conv(x, conv.weight, conv.bias, **options_of(conv), plan=plan)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Conv, Tensor]:
    """Any convolution of 1 to 3 axes with an input it is defined on, as small as that may be; batch 0 to 3."""
    n = draw(st.sampled_from((1, 1, 2, 3)))
    transposed = draw(st.booleans())
    groups, inputs, outputs = draw(st.sampled_from(((1, 1, 1), (1, 2, 3), (2, 1, 2), (2, 3, 1), (9, 1, 1), (3, 2, 2))))
    window, stride, dilation, padding, sizes, more = [], [], [], [], [], []
    for _ in range(n):
        window.append(draw(st.integers(1, {1: 20, 2: 6, 3: 3}[n])))
        stride.append(draw(st.integers(1, 4)))
        dilation.append(draw(st.integers(1, 3)))
        reach = dilation[-1] * (window[-1] - 1)
        size = draw(st.integers(1, {1: 90, 2: 16, 3: 7}[n]))
        low, high = (draw(st.integers(-1, 4)) for _ in range(2))
        extra = draw(st.integers(0, max(stride[-1], dilation[-1]) - 1)) if transposed else 0
        if transposed:
            low = high = max(0, low)
            assume((size - 1) * stride[-1] - 2 * low + reach + extra + 1 > 0)
        else:
            size = max(size, reach + 1 - low - high, 1 - min(low, 0) - min(high, 0))
        padding.append((low, high))
        sizes.append(size)
        more.append(extra)
    kernel = gaussian(draw, groups, outputs, inputs, *window)
    bias = gaussian(draw, groups * outputs) if draw(st.booleans()) else None
    conv = Conv(kernel, bias, tuple(stride), tuple(padding), tuple(dilation), transposed, tuple(more))
    return conv, gaussian(draw, draw(st.integers(0, 3)), groups * inputs, *sizes)


@st.composite
def plans(draw: st.DrawFn, conv: Conv, sizes: tuple[int, ...]) -> MatrixPlan:
    """Any plan that is offered, cheap or not, for these sizes or for free ones."""
    outputs, inputs = (int(size) for size in conv.kernel.shape[1:3])
    axes: list[AxisPlan] = []
    for i, (line, size) in enumerate(zip(lines_of(conv), sizes, strict=True)):
        known = None if draw(st.booleans()) else size
        offered = candidates(line, known, inputs > 1 or outputs > 1, half=i == 0)
        fitting = [axis for axis in offered if axis.dft.points <= POINTS[conv.n]]
        assume(fitting)
        axes.append(draw(st.sampled_from(fitting)))
    return MatrixPlan(tuple(axes), conv.groups, outputs, inputs)


@given(cases(), st.data())
def test_a_convolution_by_matrices_is_the_convolution(drawn: tuple[Conv, Tensor], data: st.DataObject) -> None:
    conv, x = drawn
    expected = conv(x)
    assert relative_error(by_matrices(conv, x), expected) < EXACT
    plan = data.draw(plans(conv, tuple(x.shape[2:])))
    assert relative_error(by_matrices(conv, x, plan), expected) < EXACT


@pytest.mark.parametrize("inner", [(), (4,), (2, 6), (3, 2, 2)])
@pytest.mark.parametrize("half", [False, True])
def test_levels_give_the_transform_and_its_inverse(inner: tuple[int, ...], half: bool) -> None:
    """One to four levels against torch.fft; k = k1 + n1 k2 + ... is the order of the bins."""
    dft = Dft(24, inner, half)
    x = torch.randn(24, 2, dtype=torch.float64)
    signal = x if half else torch.complex(x, torch.randn(24, 2, dtype=torch.float64))
    packed = x if half else torch.cat([signal.real, signal.imag])
    bins = [0]
    weight = 1
    for factor in (24 // dft.unit, *inner):
        rows = dft.rows if weight == 1 else factor
        bins = [k + weight * digit for k in bins for digit in range(rows)]
        weight *= factor
    spectrum = dft.analysis(packed, dft.table(x), 1, 24, 0, -1, last=False).reshape(len(bins), 2, 2)
    expected = torch.fft.fft(signal, dim=0)[bins]
    assert relative_error(torch.complex(spectrum[:, 0], spectrum[:, 1]), expected) < EXACT
    three = dft.analysis(packed, dft.table(x), 1, 24, 0, -1, last=True).reshape(len(bins), 3, 2)
    assert relative_error(three, torch.stack([expected.real, expected.imag, expected.real + expected.imag], 1)) < EXACT
    weights = torch.tensor(dft.weights(), dtype=torch.float64).repeat_interleave(dft.unit)[:, None, None]
    back = dft.synthesis(spectrum * weights, dft.table(x), 1, 24, 0, 1, last=False)
    assert relative_error(back.reshape(packed.shape), packed) < EXACT


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"20 points do not factor by \(3,\)"):
        Dft(20, (3,))
    conv = Conv(torch.ones(1, 1, 1, 9), None, (1,), ((1, 1),), (1,))
    with pytest.raises(ValueError, match="no window of 9"):
        by_matrices(conv, torch.ones(1, 1, 6))


def work_of(plan: MatrixPlan, batch: int = 1) -> Work:
    return plan.work(batch, [axis.frames.tiles or 1 for axis in plan.axes])


def test_the_plan_is_cheaper_than_the_direct_sum_where_kernels_are_long() -> None:
    wide = plan_matrices((Line(30, 1, 15, 15),) * 2, (56, 56), groups=64, outputs=1, inputs=1, batch=1)
    assert 2 * work_of(wide).flops < 2 * 64 * 56**2 * 31**2
    assert all(axis.frames.one_shot for axis in wide.axes)
    narrow = plan_matrices((Line(2, 1, 1, 1),) * 2, (56, 56), groups=64, outputs=1, inputs=1, batch=1)
    assert work_of(narrow).flops > 2 * 64 * 56**2 * 3**2
    dense = plan_matrices((Line(128, 1, 64, 64),), (4096,), groups=1, outputs=32, inputs=32, batch=1)
    assert (dense.axes[0].frames.tiles or 1) > 4, "one tile reads the spectrum for one product a bin"
    assert work_of(dense, 2).flops == 2 * work_of(dense).flops


@pytest.mark.parametrize("n", [1, 2])
def test_a_free_size_is_planned_for_a_usual_one(n: int) -> None:
    """At least for some windows, however long the kernel."""
    for reach in (6, 30):
        lines, usual = (Line(reach, 1, reach // 2, reach // 2),) * n, max(NOMINAL[n], 4 * (reach + 1))
        plans = [
            plan_matrices(lines, (None,) * n, groups=1, outputs=2, inputs=2, nominal=nominal)
            for nominal in ((), (usual,) * n, (reach + 1,) * n)
        ]
        assert plans[0] == plans[1] != plans[2]


def test_the_price_counts_whole_vectors() -> None:
    """Few columns cost as many as a vector has."""
    plan = plan_matrices((Line(64, 1, 32, 32),), (256,), groups=1, outputs=4, inputs=4, batch=1)
    for batch in (1, 3, 16):
        work = plan.work(batch, [axis.frames.tiles or 1 for axis in plan.axes])
        assert work.flops <= work.padded <= 16 * work.flops


def test_long_transforms_take_levels_and_their_matrices_stay_small() -> None:
    reverb = plan_matrices((Line(47_999, 1, 47_999, 0),), (480_000,), groups=1, outputs=1, inputs=1, batch=1)
    axis = reverb.axes[0]
    levels = axis.dft.levels(axis.samples)
    assert len(levels) == 3
    assert sum(level.earlier * level.bins * 2 * level.samples * level.parts for level in levels) < 64 * axis.dft.points


class Layer(nn.Module):
    """A convolution by matrices as a module to export."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = conv
        self.weight = nn.Parameter(conv.weight)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": conv.groups}
        more = {"transposed": conv.transposed, "output_padding": conv.output_padding}
        return matrix_fft_conv(x, self.weight, self.bias, **geometry, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Exported:
    """`channels`: groups, outputs and inputs of each. `sizes`: what the file is run on; the first one is exported."""

    channels: tuple[int, int, int]
    window: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    padding: tuple[tuple[int, int], ...]
    stride: tuple[int, ...]
    batches: tuple[int, ...] = (2, 1, 3)
    transposed: bool = False

    @property
    def free(self) -> bool:
        return len(self.sizes) > 1

    def conv(self) -> Conv:
        groups, outputs, inputs = self.channels
        kernel = torch.randn(groups, outputs, inputs, *self.window) / math.prod(self.window) ** 0.5
        bias = torch.randn(groups * outputs)
        return Conv(kernel, bias, self.stride, self.padding, (1,) * len(self.window), self.transposed)


EXPORTED = {
    "depthwise 2D": Exported((16, 1, 1), (13, 12), ((20, 17),), ((6, 6), (5, 6)), (1, 1), batches=(1,)),
    "dense 3D": Exported((1, 3, 2), (5, 4, 3), ((7, 8, 9),), ((2, 2), (0, 3), (1, 1)), (1, 2, 1), batches=(1,)),
    "free 1D, phases": Exported((2, 6, 4), (33,), ((200,), (23,), (24,), (531,)), ((5, 7),), (3,)),
    "free 2D": Exported((8, 1, 1), (7, 6), ((20, 12), (2, 1), (61, 70)), ((3, 3), (3, 2)), (1, 1)),
    # the example is less than a tile: nothing may be taken for the constant 1
    "free 1D, transposed": Exported(
        (1, 3, 4), (16,), ((9,), (1,), (50,), (301,)), ((6, 6),), (4,), batches=(1,), transposed=True
    ),
}


def export(case: Exported, conv: Conv, path: Path) -> None:
    x = torch.randn(case.batches[0], conv.in_channels, *case.sizes[0])
    axes = range(2, x.ndim) if case.batches == (1,) else (0, *range(2, x.ndim))
    shapes = (dict.fromkeys(axes, torch.export.Dim.AUTO),) if case.free else None
    with torch.no_grad():
        program = torch.export.export(Layer(conv), (x,), dynamic_shapes=shapes, strict=False)
    assert all(size.upper > 2**31 for size in program.range_constraints.values()), program.range_constraints
    written = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=18)
    assert written is not None
    written.save(str(path))


def session(path: Path, optimized: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


@pytest.mark.parametrize("name", EXPORTED)
def test_the_file_is_right_at_every_size_and_holds_the_weight(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    case, path, optimized = EXPORTED[name], tmp_path / "m.onnx", tmp_path / "o.onnx"
    conv = case.conv()
    export(case, conv, path)
    runtime = session(path, optimized)
    wide = Conv(conv.kernel.double(), None, conv.stride, conv.padding, conv.dilation, conv.transposed)
    assert conv.bias is not None
    for size in case.sizes:
        for batch in case.batches[:1] if not case.free else case.batches:
            x = torch.randn(batch, conv.in_channels, *size)
            expected = wide(x.double()) + conv.bias.double().reshape(-1, *(1,) * conv.n)
            y = torch.from_numpy(runtime.run(None, {runtime.get_inputs()[0].name: x.numpy()})[0])
            assert relative_error(y.double(), expected) < SINGLE, f"{size}, batch {batch}"
    assert operators(path) <= AT_LOAD | AT_RUN | (ON_SIZES if case.free else set())
    # the weight stands in the file as it is, and nothing that is computed from it
    stored = [tuple(value.dims) for value in onnx.load(str(path)).graph.initializer]
    assert tuple(conv.weight.shape) in stored
    assert sum(map(math.prod, stored)) < conv.weight.numel() + 2000
    # loaded, all that depends on no input is a constant: no product is left but those of the signal
    graph = onnx.load(str(optimized)).graph
    constants = {value.name for value in graph.initializer}
    assert [node.name for node in graph.node if set(node.input) <= constants] == []
    assert operators(optimized) <= AT_RUN | (ON_SIZES | {"Range", "Mod", "Unsqueeze"} if case.free else set())


@pytest.mark.slow
def test_a_model_is_exported_with_and_without_layers_by_fft(tmp_path: Path) -> None:
    """By hand and by `use-spectral-conv`; no convolution is left, sizes stay free, weights keep their names."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(24, 24, 301, padding=150), nn.ReLU(), FFTConv1d(24, 8, 64, stride=2)).eval()
    path = tmp_path / "m.onnx"
    verdict = fusekit.export(model, path, (torch.randn(2, 24, 4000),))
    assert verdict.ok
    assert "Conv" not in operators(path) and operators(path) <= AT_LOAD | AT_RUN | ON_SIZES | {"Relu"}
    graph = onnx.load(str(path)).graph
    assert [dim.dim_param != "" for dim in graph.input[0].type.tensor_type.shape.dim] == [True, False, True]
    assert {"0.weight", "0.bias", "2.weight", "2.bias"} <= {value.name for value in graph.initializer}
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    assert path.stat().st_size < weights + 80_000


def test_one_shot_frames_are_those_of_the_plan() -> None:
    """A plan for known sizes needs as few points as the alias-minimal frame, rounded up to its factors."""
    line = Line(30, 1, 15, 15)
    for axis in candidates(line, 56, mixes=False, half=True):
        if axis.frames.one_shot:
            least = one_shot(line, 56, by_matrices=True).points
            assert least <= axis.dft.points < least + axis.dft.unit
