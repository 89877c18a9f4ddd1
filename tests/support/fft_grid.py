"""Compares FFT layers with torch's on random configurations: forward and all gradients, or the same refusal.

    python -m tests.support.fft_grid --count 5000 --seed 0

Drawn are dimension, channels, groups and depthwise, kernel, padding of every kind, the four padding modes, stride,
dilation, size, batch or no batch, dtype, transposed with output padding. One in eight configurations is degenerate, and
torch may refuse it. The reference is torch's own layer in float64 (complex128) on the same rounded values.
"""

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import fusekit.nn as fnn

BOUND = {
    torch.float64: 1e-11,
    torch.complex128: 1e-11,
    torch.float32: 5e-6,
    torch.complex64: 5e-6,
    torch.float16: 5e-3,
    torch.bfloat16: 4e-2,
}
_WEIGHTS = (6, 2, 8, 2, 1, 1)
_PLAIN: dict[tuple[int, bool], Any] = {
    **{(n, False): kind for n, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), 1)},
    **{(n, True): kind for n, kind in enumerate((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), 1)},
}
_FFT: dict[tuple[int, bool], Any] = {
    **{(n, False): kind for n, kind in enumerate((fnn.FFTConv1d, fnn.FFTConv2d, fnn.FFTConv3d), 1)},
    **{
        (n, True): kind
        for n, kind in enumerate((fnn.FFTConvTranspose1d, fnn.FFTConvTranspose2d, fnn.FFTConvTranspose3d), 1)
    },
}


@dataclass(frozen=True)
class Case:
    """One configuration: everything a layer and its input need."""

    n: int
    transposed: bool
    dtype: torch.dtype
    shape: tuple[int, ...]
    options: dict[str, Any] = field(hash=False)


def draw(rng: random.Random) -> Case:
    """Draw a configuration. It is small enough for hundreds per second, and may be degenerate."""
    n, transposed = rng.choice((1, 1, 2, 2, 3)), rng.random() < 0.35
    degenerate = rng.random() < 0.125
    largest = {1: 40, 2: 12, 3: 5}[n]
    window = tuple(rng.choice((1, 2, 3, rng.randint(1, largest))) for _ in range(n))
    stride = tuple(rng.choice((1, 1, 1, 2, 3, 4)) for _ in range(n))
    dilation = tuple(rng.choice((1, 1, 1, 2, 3)) for _ in range(n))
    groups = rng.choice((1, 1, 2, 3))
    inputs, outputs = rng.choice(((1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (9, 2), (12, 5)))
    modes = ("zeros",) if transposed else ("zeros", "zeros", "reflect", "replicate", "circular")
    reach = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
    padding: Any = rng.choice((0, tuple(rng.randint(0, r + 2) for r in reach), rng.randint(0, max(reach) // 2 + 1)))
    if not transposed and rng.random() < 0.25:
        padding = rng.choice(("same", "valid"))
        stride = stride if padding == "valid" or degenerate else (1,) * n
    amounts = padding if isinstance(padding, tuple) else (0 if isinstance(padding, str) else padding,) * n
    extra = rng.randint(0, 9)
    sizes = tuple(max(1, r + 1 + extra - p + rng.randint(0, 4)) for r, p in zip(reach, amounts, strict=True))
    if degenerate:
        sizes = tuple(rng.choice((1, 2, size)) for size in sizes)
    elif transposed:
        sizes = tuple(rng.randint(1, 9) for _ in range(n))
    elif padding in ("valid", "same"):
        sizes = tuple(max(size, r + 1) for size, r in zip(sizes, reach, strict=True))
    options: dict[str, Any] = {"kernel_size": window, "stride": stride, "padding": padding, "dilation": dilation}
    options |= {"groups": groups, "bias": rng.random() < 0.5, "padding_mode": rng.choice(modes)}
    options |= {"in_channels": groups * inputs, "out_channels": groups * outputs}
    if transposed:
        options["padding"] = (
            tuple(min(p, r) for p, r in zip(amounts, reach, strict=True)) if not degenerate else amounts
        )
        most = [max(s, d) - 1 + degenerate for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(rng.randint(0, m) for m in most)
    leading = rng.choice(((), (1,), (2,), (2,), (3,), (0,) if degenerate else (1,)))
    dtype = rng.choices(list(BOUND), weights=_WEIGHTS)[0]
    return Case(n, transposed, dtype, (*leading, groups * inputs, *sizes), options)


def _gradients(layer: nn.Module, x: Tensor, seed: Tensor | None) -> tuple[list[Tensor | None], Tensor]:
    """[output, ∂x, ∂weight, ∂bias], and the gradient of the output that was used."""
    x = x.detach().requires_grad_()
    y = layer(x)
    seed = torch.randn_like(y) if seed is None else seed.to(y.dtype)
    wanted = [x, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad(y, wanted, seed, allow_unused=True)], seed


def _norm(value: Tensor) -> float:
    return float(torch.linalg.vector_norm(value.detach().to(torch.complex128)))


def mismatch(case: Case) -> str:
    """What differs, or "". The layer also runs twice without gradients, so that the stored spectrum is used."""
    key = case.n, case.transposed
    try:
        plain = _PLAIN[key](**case.options).to(case.dtype)
    except (RuntimeError, ValueError) as refusal:
        try:
            _FFT[key](**case.options)
        except type(refusal):
            return ""
        return f"the constructor takes what torch refuses ({refusal})"
    layer = _FFT[key].from_conv(plain)
    x = torch.randn(case.shape, dtype=torch.complex128 if case.dtype.is_complex else torch.float64).to(case.dtype)
    try:
        plain(x)
    except (RuntimeError, ValueError) as refusal:
        try:
            layer(x)
        except type(refusal) as mine:
            return "" if str(mine) == str(refusal) else f"refused as {mine}, by torch as {refusal}"
        return f"computed where torch raises: {refusal}"
    wide = torch.complex128 if case.dtype.is_complex else torch.float64
    exact = _PLAIN[key](**case.options).to(wide)
    exact.load_state_dict({name: value.to(wide) for name, value in plain.state_dict().items()})
    try:
        exact(x.to(wide))
    except RuntimeError:  # torch's kernels disagree about empty outputs
        return "" if torch.equal(layer(x), plain(x)) else "empty, but not as torch"
    ours, seed = _gradients(layer, x, None)
    theirs, _ = _gradients(exact, x.to(wide), seed)
    with torch.no_grad():
        ours += [layer(x), layer(x)]
    theirs += [theirs[0], theirs[0]]
    # what a sum of products could come to: beside it, what cancels or is cropped to little keeps its rounding errors
    x_norm, seed_norm, ones = _norm(x), _norm(seed), seed.numel() ** 0.5
    largest = {"ou": x_norm * _norm(plain.weight), "∂x": seed_norm * _norm(plain.weight)}
    largest |= {"∂w": seed_norm * x_norm, "∂b": seed_norm * ones}
    eps = 4 * torch.finfo(case.dtype).eps
    names = ("output", "∂x", "∂weight", *(("∂bias",) if case.options["bias"] else ()), "output", "output, again")
    for what, a, b in zip(names, ours, theirs, strict=True):
        if a is None or b is None or (a.shape, a.dtype) != (b.shape, case.dtype):
            return (
                f"{what} is {'none' if a is None else (a.shape, a.dtype)}, of torch {'none' if b is None else b.shape}"
            )
        if what.startswith("output") and not a.is_contiguous():
            return f"{what} is not contiguous"
        scale, difference = _norm(b), _norm(a.to(wide) - b)
        if not difference <= BOUND[case.dtype] * scale + eps * largest[what[:2]]:
            return f"{what}: error {difference:.1e} of {scale:.1e}, where {largest[what[:2]]:.1e} might be"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    rng, started = random.Random(given.seed), time.perf_counter()
    seen: Counter[str] = Counter()
    for number in range(given.count):
        case = draw(rng)
        problem = mismatch(case)
        seen.update((f"{case.n}d", str(case.dtype), "transposed" if case.transposed else case.options["padding_mode"]))
        if problem:
            seen["mismatches"] += 1
            print(f"{number}: {problem}\n    {case}", flush=True)
    print(f"{given.count} configurations, {seen['mismatches']} mismatches, {time.perf_counter() - started:.0f} s")
    print(", ".join(f"{what} {count}" for what, count in sorted(seen.items())))
    sys.exit(bool(seen["mismatches"]))


if __name__ == "__main__":
    main()
