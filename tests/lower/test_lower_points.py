"""Functions of complex numbers where formulas break: signed zeros, both ends of the range, infinities, NaN.

Left out is what torch itself gets wrong, or differently from platform to platform: the sine of 1e30 is the library's,
sgn, sigmoid and quotients of two infinities are NaN in torch where they need not be, and where torch says that
exp(-∞ + j∞) = 0 or tanh(∞ + j∞) = 1 the real form has NaN, the sine of ∞.
"""

import math
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from fusekit.capture import capture
from fusekit.capture.infer import run_on_fakes, spell_and_infer
from fusekit.ir.emit import emit
from fusekit.lower import Pair, functions, lowered
from fusekit.model import Inputs
from fusekit.onnx_export import export_plain

INF, NAN = math.inf, math.nan
ZEROS = [complex(a, b) for a in (0.0, -0.0) for b in (0.0, -0.0)]
UNITS = [complex(a, b) for a in (1.0, -1.0) for b in (0.0, -0.0)] + [
    complex(a, b) for a in (0.0, -0.0) for b in (1, -1)
]
PLAIN = [complex(a, b) for a in (0.3, -2.5) for b in (0.7, -1.9, 0.0, -0.0)]
SMALL = [complex(a, b) for a in (1e-30, -1e-30, 0.0) for b in (1e-30, -1e-30)]
LARGE = [complex(a, b) for a in (1e30, -1e30, 1.0) for b in (1e30, -1e30)]
BESIDE = [complex(a, b) for a in (INF, -INF) for b in (1.0, -1.0, 0.0)]  # infinite along the real axis
ABOVE = [complex(a, b) for a in (1.0, -1.0) for b in (INF, -INF)]
CORNERS = [complex(a, b) for a in (INF, -INF) for b in (INF, -INF)]
NANS = [complex(NAN, 1.0), complex(1.0, NAN), complex(NAN, NAN)]
ORDINARY = [*ZEROS, *UNITS, *PLAIN, *SMALL]

Function = Callable[[Pair], Pair | Tensor]
CASES: dict[str, tuple[Callable[[Tensor], Tensor], Function, list[complex]]] = {
    "abs": (torch.abs, functions.magnitude, [*ORDINARY, *LARGE, *BESIDE, *ABOVE, *CORNERS, *NANS]),
    "angle": (torch.angle, functions.angle, [*ORDINARY, *LARGE, *BESIDE, *ABOVE, *CORNERS, *NANS]),
    "log": (torch.log, functions.log, [*ORDINARY, *LARGE, *BESIDE, *ABOVE, *CORNERS, *NANS]),
    "sqrt": (torch.sqrt, functions.sqrt, [*ORDINARY, *LARGE, *BESIDE, *ABOVE, *CORNERS, *NANS]),
    "exp": (torch.exp, functions.exp, [*ORDINARY, *BESIDE, *ABOVE, *NANS, 1000 + 0j, -1000 + 1j, 1000j]),
    "reciprocal": (torch.reciprocal, functions.inverse, [*UNITS, *PLAIN, *SMALL, *LARGE, *BESIDE, *ABOVE, *NANS]),
    "tanh": (torch.tanh, functions.tanh, [*ORDINARY, *BESIDE, *ABOVE, *NANS, 50 + 1j, -50 + 1j, 1000 - 2j]),
    "tan": (torch.tan, functions.tan, [*ORDINARY, *ABOVE, *NANS, 1 + 50j, 1 - 50j, -2 + 1000j]),
    "sigmoid": (torch.sigmoid, functions.sigmoid, [*ORDINARY, *NANS, -50 + 1j, 50 + 1j, -80 - 2j, 1000 + 1j]),
    "sgn": (torch.sgn, functions.sign, [*ORDINARY, *LARGE, *NANS]),
    "sin": (torch.sin, functions.sin, [*ORDINARY, *NANS, 1000j, -1000j, 1000 + 0j]),
    "cos": (torch.cos, functions.cos, [*ORDINARY, *NANS, 1000j, -1000j, 1000 + 0j]),
    "sinh": (torch.sinh, functions.sinh, [*ORDINARY, *BESIDE, *NANS, 1000 + 0j, -1000 + 0j, 1000j]),
    "cosh": (torch.cosh, functions.cosh, [*ORDINARY, *BESIDE, *NANS, 1000 + 0j, -1000 + 0j, 1000j]),
    "square": (torch.square, functions.square, [*ORDINARY, *NANS]),
}
# odd in a part that is a zero: the sign of the result's zero is torch's
SIGNED = ("angle", "log", "sqrt", "tanh", "tan", "sin", "sinh")
DTYPES = (torch.complex64, torch.complex128)


def pair(z: Tensor) -> Pair:
    return Pair(z.real.clone(), z.imag.clone())


def parts(value: Pair | Tensor) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.real, value.imag] if value.is_complex() else [value]
    return list(value.full())


def agree(points: list[complex], found: list[Tensor], expected: list[Tensor], tolerance: float, signs: bool) -> None:
    """Parts equal up to rounding of the whole number: infinities in place, NaN where one part at least is NaN."""
    size = torch.stack([p.abs().nan_to_num(0, 0) for p in expected]).amax(0)
    anywhere = torch.stack([p.isnan() for p in expected]).any(0)
    for ours, theirs in zip(found, expected, strict=True):
        for i, point in enumerate(points):
            if anywhere[i]:
                assert any(p[i].isnan() for p in found), f"{point}: {ours[i]}, torch has NaN"
            elif theirs[i].isinf():
                assert ours[i] == theirs[i], f"{point}: {ours[i]}, torch has {theirs[i]}"
            else:
                assert (ours[i] - theirs[i]).abs() <= tolerance * size[i], f"{point}: {ours[i]}, torch has {theirs[i]}"
            if signs and theirs[i] == 0 and not anywhere[i] and abs(point) < 1e3:
                assert ours[i].signbit() == theirs[i].signbit(), f"{point}: {ours[i]}, torch has {theirs[i]}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_special_points(name: str, dtype: torch.dtype) -> None:
    theirs, ours, points = CASES[name]
    z = torch.tensor(points, dtype=dtype)
    tolerance = 4e-6 if dtype is torch.complex64 else 1e-14
    agree(points, parts(ours(pair(z))), parts(theirs(z)), tolerance, name in SIGNED)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quotients(dtype: torch.dtype) -> None:
    above = [*PLAIN, *SMALL, *LARGE[:4]]
    below = [*PLAIN, *UNITS, complex(INF, 1.0), complex(1.0, -INF)]
    points = [(a, b) for a in above for b in below]
    z, w = (torch.tensor([p[i] for p in points], dtype=dtype) for i in (0, 1))
    found = functions.quotient(pair(z), pair(w))
    tolerance = 1e-6 if dtype is torch.complex64 else 1e-15
    agree([a for a, _ in points], parts(found), parts(z / w), tolerance, False)


def test_quotients_at_the_ends_of_the_range() -> None:
    """(a + ja)/(a + ja) = 1 for whatever a: where naive squares overflow, or vanish, in float32."""
    z = torch.tensor([1e30 + 1e30j, 1e-30 - 1e-30j, 3e38 + 1j, 1e-38 + 1e-38j], dtype=torch.complex64)
    found = functions.quotient(pair(z), pair(z))
    assert torch.allclose(found.re, torch.ones(4), rtol=1e-6)
    assert torch.allclose(found.im, torch.zeros(4), atol=1e-6)


def test_division_by_zero() -> None:
    """As torch has it: each part of z over 0, 0/0 being NaN."""
    z = torch.tensor([1 + 1j, -2 + 3j, 1 - 1j, 0j], dtype=torch.complex64)
    found, expected = functions.quotient(pair(z), pair(torch.zeros_like(z))), z / torch.zeros_like(z)
    assert torch.equal(found.re[:3], expected.real[:3]) and torch.equal(found.im[:3], expected.imag[:3])
    assert bool(found.re[3].isnan()) and bool(expected.real[3].isnan())


@pytest.mark.parametrize("exponent", [2, 3, 0, -1, 0.5, -0.5, 2.5, 1j, 1 + 1j], ids=str)
def test_powers_of_zero_and_of_units(exponent: complex) -> None:
    points = [0j, *UNITS, *PLAIN]
    z = torch.tensor(points, dtype=torch.complex128)

    class Power(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = x**exponent
            return result

    inputs = Inputs.of(z)
    model = emit(lowered(capture(Power(), inputs).graph))
    agree(points, parts(model(z)), parts(z**exponent), 1e-14, False)


def test_the_modulus_of_the_smallest_and_the_largest() -> None:
    z = torch.tensor([1e-38 + 1e-38j, 2e38 + 2e38j, 1e-45 + 0j], dtype=torch.complex64)
    expected = torch.tensor([abs(complex(p)) for p in z], dtype=torch.float64)
    assert torch.allclose(functions.magnitude(pair(z)).double(), expected, rtol=3e-7, atol=0)


FILES: dict[str, tuple[Callable[[Tensor], Tensor], list[complex]]] = {
    "abs": (torch.abs, [*ORDINARY, *LARGE, *BESIDE, *CORNERS]),
    "angle": (torch.angle, [*ORDINARY, *LARGE, *BESIDE, *ABOVE, *CORNERS]),
    "log": (torch.log, [*ORDINARY, *LARGE, *BESIDE]),
    "sqrt": (torch.sqrt, [*ORDINARY, *LARGE, *BESIDE, *ABOVE]),
    "tanh": (torch.tanh, [*ORDINARY, *BESIDE, 50 + 1j, -50 + 1j]),
    "div": (lambda x: (1 + 2j) / x, [*UNITS, *PLAIN, *SMALL, *LARGE, *BESIDE]),
}


@pytest.mark.parametrize("name", FILES)
def test_special_points_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    function, points = FILES[name]

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    z = torch.tensor(points, dtype=torch.complex64)
    inputs = Inputs.of(z)
    real = lowered(capture(Calls(), inputs).graph, matrices=True)
    run_on_fakes(real, inputs)
    spell_and_infer(real)
    real.prune()
    export_plain(emit(real), tmp_path / "points.onnx", inputs)
    session = ort.InferenceSession(str(tmp_path / "points.onnx"), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: torch.view_as_real(z).numpy()})[0])
    expected = function(z)
    ours = list(found.unbind(-1)) if expected.is_complex() else [found]
    agree(points, ours, parts(expected), 4e-6, name == "tanh")  # Where of ONNX Runtime makes a 0 of a -0
