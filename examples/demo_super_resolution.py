"""Trains a super-resolution network and shows a photograph it has not seen, enlarged by it before and after."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

import fusekit
from side_by_side import latencies, onnx_runner
from super_resolution import HELD_OUT, photograph, psnr, trained

OUT, ROUNDS = Path("out"), 7


def both(model: nn.Module, x: Tensor, name: str) -> tuple[list[np.ndarray], bool, list[Path]]:
    """Export as torch does and as fusekit does, and print what ONNX Runtime takes on one thread, in turns. Returns both
    outputs, whether the file is valid, and the files to open."""
    OUT.mkdir(exist_ok=True)
    plain, small, page = OUT / f"{name}.plain.onnx", OUT / f"{name}.onnx", OUT / f"{name}.html"
    torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(plain)  # type: ignore[union-attr]
    validation = fusekit.export(model, small, (x,))
    validation.to_html(page, name=name)
    runs = {str(path): onnx_runner(path, (x,), 1) for path in (plain, small)}
    before, after = latencies(runs, ROUNDS).values()
    outputs = [np.asarray(run()[0]) for run in runs.values()]
    times = f"{before:.1f} ms before, {after:.1f} ms after in ONNX Runtime: {before / after:.1f} times faster"
    print(f"   {times}; outputs differ by at most {np.abs(outputs[0] - outputs[1]).max():.1e}")
    return outputs, validation.ok, [page, small]


def side_by_side(pictures: dict[str, Tensor], path: Path) -> None:
    """The same detail of all pictures, enlarged, with a caption each."""
    canvas = Image.new("L", (400 * len(pictures), 430), 255)
    for at, (caption, picture) in enumerate(pictures.items()):
        detail = (picture[0, 0, 60:190, 160:290].clamp(0, 1) * 255).round().byte().numpy()
        canvas.paste(Image.fromarray(detail).resize((390, 390), Image.Resampling.NEAREST), (400 * at + 5, 35))
        ImageDraw.Draw(canvas).text((400 * at + 5, 8), caption, fill=0, font_size=20)
    canvas.save(path)


def main(steps: int) -> tuple[bool, list[Path]]:
    """Whether the file is valid and the picture as good as before, and the files to open."""
    print(f"Super-resolution: {steps} steps of training, about a minute")
    start = time.perf_counter()
    model, (small, truth) = trained(steps), photograph(HELD_OUT)
    print(f"   trained in {time.perf_counter() - start:.0f} s; the photograph below is not among the trained ones")
    outputs, valid, files = both(model, small, "super_resolution")
    before, after = map(torch.from_numpy, outputs)
    bicubic = F.interpolate(small, scale_factor=2, mode="bicubic")
    rated = {"bicubic": bicubic, "before fusekit": before, "after fusekit": after}
    shown = {f"{name}, {psnr(picture, truth):.2f} dB": picture for name, picture in rated.items()}
    print("  ", "; ".join(shown))
    picture = OUT / "super_resolution.png"
    side_by_side({**shown, "the original": truth}, picture)
    return valid and abs(psnr(before, truth) - psnr(after, truth)) < 1e-3, [picture, *files]
