"""Layers over an algebra in fewer products, by width: when they pay in PyTorch and in ONNX Runtime.

    python -m benchmarks.products [--threads 1] [--rounds 15] [--quick]

One convolution of complex numbers, then one of quaternions, is computed as one real convolution of its blocks, as
fusekit and almost all libraries do; as n² real convolutions of the parts, as exporters do for complex numbers; and by
the fast product. In PyTorch also by torch's own complex convolution, and by complexPyTorch and speechbrain where they
are installed. Last, a real 3 x 3 convolution is computed by Winograd's F(4, 3) along one axis, to see whether this
would pay.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from benchmarks.record import WHERE, machine, write_csv
from fusekit.algebra import COMPLEX, QUATERNION, Conv, HypercomplexAlgebra, Mixing
from fusekit.algebra.products.product_conv import by_products
from fusekit.algebra.products.toom_cook import winograd
from fusekit.model import Inputs, quiet
from fusekit.onnx_export import export_plain
from fusekit.optimizing.race import module_of
from fusekit.runtimes import runtime
from fusekit.runtimes.timing import Call, interleaved

ALGEBRAS = {2: COMPLEX, 4: QUATERNION}
WIDTHS = (8, 16, 32, 64, 128)
SIZES = {8: 56, 16: 28, 32: 28, 64: 28, 128: 14}
BLOCK, PARTS, FAST = "block", "n² convolutions", "fast"
RUNTIMES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True)
class Case:
    """One convolution: `width` input and output channels per part, a window of `kernel`, a plane of `size`."""

    n: int
    width: int
    kernel: int
    size: int

    @property
    def algebra(self) -> HypercomplexAlgebra:
        return ALGEBRAS[self.n]

    def weight(self) -> Tensor:
        shape = (self.n, self.width, self.width, self.kernel, self.kernel)
        return torch.randn(shape) / (self.n * self.width * self.kernel**2) ** 0.5

    def conv(self, weight: Tensor) -> Conv:
        pads = ((self.kernel // 2,) * 2,) * 2
        return Conv.from_torch(self.algebra.block(weight), torch.randn(self.n * self.width), padding=pads)

    def x(self) -> Tensor:
        return torch.randn(1, self.n * self.width, self.size, self.size)


class Parts(nn.Module):
    """Σ_j K[k, j] ⋆ x_j for each part k, with one convolution per block."""

    def __init__(self, conv: Conv, n: int) -> None:
        super().__init__()
        self.n, self.padding = n, conv.padding[0][0]
        blocks = conv.kernel[0].unflatten(1, (n, -1)).unflatten(0, (n, -1)).movedim(2, 1)
        self.weights = nn.ParameterList(blocks[k, j].contiguous() for k in range(n) for j in range(n))
        assert conv.bias is not None
        self.bias = nn.Parameter(conv.bias.unflatten(0, (n, -1)).clone())

    def forward(self, x: Tensor) -> Tensor:
        parts, rows = x.chunk(self.n, 1), []
        for k in range(self.n):
            terms = [
                F.conv2d(part, self.weights[k * self.n + j], self.bias[k] if j == 0 else None, padding=self.padding)
                for j, part in enumerate(parts)
            ]
            rows.append(sum(terms[1:], terms[0]))
        return torch.cat(rows, 1)


class Winograd(nn.Module):
    """A 3 x 3 convolution, padding 1, by F(m, 3) along the last axis, of a size that m divides: windows of m + 2
    columns, mixed; 3 x 1 convolutions in m + 2 groups; mixed to m columns each. (m + 2) / 3 m of the products."""

    def __init__(self, weight: Tensor, m: int = 4) -> None:
        super().__init__()
        self.m, algorithm = m, winograd(m, 3)
        kernel = torch.einsum("pu,oihu->poih", algorithm.a, weight.double()).flatten(0, 1)[..., None].float()
        self.conv = nn.Conv2d(weight.shape[1] * (m + 2), len(kernel), (3, 1), padding=(1, 0), groups=m + 2, bias=False)
        self.conv.weight = nn.Parameter(kernel)
        self.before, self.after = (Mixing(matrix.float(), 2) for matrix in (algorithm.b, algorithm.c))

    def forward(self, x: Tensor) -> Tensor:
        width, tiles = x.shape[-1], x.shape[-1] // self.m
        padded = F.pad(x, (1, 1))
        columns = [padded[..., j : j + (tiles - 1) * self.m + 1 : self.m] for j in range(self.m + 2)]
        y = self.after(self.conv(self.before(torch.cat(columns, 1))))
        y = y.reshape(len(x), self.m, -1, x.shape[2], tiles).permute(0, 2, 3, 4, 1)
        return y.reshape(len(x), -1, x.shape[2], width)


def others(case: Case, weight: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Other ways in PyTorch, each with its own kind of input."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    c, k, shape = case.width, case.kernel, (1, case.width, case.size, case.size)
    if case.n == 2:
        x = torch.randn(shape, dtype=torch.complex64)
        found["torch, complex"] = nn.Conv2d(c, c, k, padding=k // 2, dtype=torch.complex64), x
        if find_spec("complexPyTorch"):
            layers: Any = import_module("complexPyTorch.complexLayers")
            found["complexPyTorch"] = layers.ComplexConv2d(c, c, k, padding=k // 2), x
    if case.n == 4 and find_spec("speechbrain"):
        layers = import_module("speechbrain.nnet.quaternion_networks.q_CNN")
        last = (1, case.size, case.size, 4 * c)  # theirs have their channels last
        found["speechbrain"] = layers.QConv2d(c, k, input_shape=last, padding_mode="constant"), torch.randn(last)
    return found


def measured(case: Case, target: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of each form in one runtime, and its error relative to the block form."""
    torch.manual_seed(0)
    weight = case.weight()
    conv, x = case.conv(weight), case.x()
    modules = {BLOCK: module_of(conv, x.dtype), PARTS: Parts(conv, case.n), FAST: module_of(by_products(conv), x.dtype)}
    with torch.no_grad():
        exact = conv(x.double())
        errors = {name: float((m(x) - exact).norm() / exact.norm()) for name, m in modules.items()}
    made = {name: (module.eval(), x) for name, module in modules.items()}
    if target == "torch":
        made |= {name: (module.eval(), given) for name, (module, given) in others(case, weight).items()}
    return {"n": case.n, "width": case.width, "kernel": case.kernel, "size": case.size} | timed(
        made, target, rounds, seconds, errors
    )


def by_winograd(width: int, size: int, target: str, rounds: int, seconds: float) -> dict[str, Any]:
    """The same for a real 3 x 3 convolution and F(4, 3)."""
    torch.manual_seed(0)
    weight, x = torch.randn(width, width, 3, 3) / (9 * width) ** 0.5, torch.randn(1, width, size, size)
    plain = nn.Conv2d(width, width, 3, padding=1, bias=False)
    plain.weight = nn.Parameter(weight)
    modules: dict[str, nn.Module] = {BLOCK: plain, FAST: Winograd(weight)}
    with torch.no_grad():
        exact = F.conv2d(x.double(), weight.double(), padding=1)
        errors = {name: float((m(x) - exact).norm() / exact.norm()) for name, m in modules.items()}
    made = {name: (module.eval(), x) for name, module in modules.items()}
    return {"n": 1, "width": width, "kernel": 3, "size": size} | timed(made, target, rounds, seconds, errors)


def timed(
    made: dict[str, tuple[nn.Module, Tensor]], target: str, rounds: int, seconds: float, errors: dict[str, float]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as room, quiet():
        calls: dict[str, Call] = {}
        for number, (name, (module, x)) in enumerate(made.items()):
            inputs = Inputs((x,))
            path = Path(room) / f"{number}.onnx"
            calls[name] = runtime(target).build(
                module, inputs, partial(export_plain, module, path, inputs, dynamic=False)
            )
        times = interleaved(calls, rounds, seconds, warm=True)
    row: dict[str, Any] = {"runtime": target}
    for name, each in times.items():
        row |= {f"{name} ms": each.median, f"{name} spread": each.spread}
        if name in errors:
            row[f"{name} error"] = errors[name]
    row["block / fast"] = row[f"{BLOCK} ms"] / row[f"{FAST} ms"]
    return row


def cases(quick: bool) -> Iterator[Case]:
    for n in ALGEBRAS:
        for width in (8, 32) if quick else WIDTHS:
            for kernel in (3,) if quick else (3, 1):
                yield Case(n, width, kernel, 14 if quick else SIZES[width])


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Times in ms. The last columns: the time of the block form divided by that of the fast product, and errors in
    float32."""
    others = [name.removesuffix(" ms") for row in rows for name in row if name.endswith(" ms")]
    forms = list(dict.fromkeys(others))
    yield "| runtime | n | width | window | plane | " + " | ".join(forms) + " | block / fast | error block / fast |"
    yield "| --- " * (7 + len(forms)) + "|"
    for row in rows:
        times = [f"{row[f'{form} ms']:.3f}" if f"{form} ms" in row else "" for form in forms]
        shape = f"{row['n']} | {row['width']} | {row['kernel']} x {row['kernel']} | {row['size']}²"
        errors = f"{row[f'{BLOCK} error']:.1e} / {row[f'{FAST} error']:.1e}"
        ratio = f"{row['block / fast']:.2f}"
        yield f"| {RUNTIMES[row['runtime']]} | {shape} | {' | '.join(times)} | {ratio} | {errors} |"


def verdict(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The goals: quaternions 1.5 times from 32 on, complex numbers 1.2 times from 64 on, in ONNX Runtime, 3 x 3."""
    for n, least, goal in ((4, 32, 1.5), (2, 64, 1.2)):
        found = [
            r["block / fast"]
            for r in rows
            if (r["runtime"], r["n"], r["kernel"]) == ("onnxruntime", n, 3) and r["width"] >= least
        ]
        if found:
            said = "reached" if min(found) >= goal else "missed"
            yield f"n = {n}, 3 x 3, from {least} on, ONNX Runtime: {min(found):.2f} and more; {goal} is {said}."


def main(
    threads: int = 1,
    rounds: int = 15,
    quick: Annotated[bool, typer.Option(help="few and small, to see that it runs")] = False,
    out: Annotated[Path | None, typer.Option(help="the folder of the tables")] = None,
) -> None:
    torch.set_num_threads(threads)
    rounds, seconds = (3, 0.3) if quick else (rounds, 6.0)
    rows: list[dict[str, Any]] = []
    for case in cases(quick):
        for target in RUNTIMES:
            rows.append(measured(case, target, rounds, seconds))
            print(list(table(rows[-1:]))[-1], flush=True)
    for width, size in ((16, 16),) if quick else ((32, 56), (64, 56), (128, 28), (256, 28)):
        for target in RUNTIMES:
            rows.append(by_winograd(width, size, target, rounds, seconds))
            print(list(table(rows[-1:]))[-1], flush=True)
    where = out or (Path(tempfile.mkdtemp(prefix="fusekit-")) if quick else WHERE)
    name = f"products-{threads}-thread{'s' if threads > 1 else ''}"
    write_csv(where / f"{name}.csv", rows)
    algebras, real = ([row for row in rows if (row["n"] > 1) == hyper] for hyper in (True, False))
    options = f"--threads {threads} --rounds {rounds}{' --quick' if quick else ''}"
    packages = machine("torch", "onnxruntime", "complexPyTorch", "speechbrain")
    text = [
        f"# Layers over an algebra in fewer products, {threads} thread{'s' if threads > 1 else ''}",
        "",
        f"`python -m benchmarks.products {options}` on {packages}.",
        "Milliseconds, medians; `width` is the channels of each of the n parts. See [products.md](../products.md).",
        "",
        *verdict(rows),
        "",
        *table(algebras),
        "",
        "## A real 3 x 3 convolution (block) and Winograd's F(4, 3) along one axis (fast)",
        "",
        *table(real),
        "",
    ]
    (where / f"{name}.md").write_text("\n".join(text))
    print("\n".join([*verdict(rows), f"written to {where / name}.md and .csv"]))


if __name__ == "__main__":
    typer.run(main)
