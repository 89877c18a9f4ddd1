"""Looks at the versions of packages, the runtimes, threads and folders, and tries the core on a small network."""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fusekit.doctor.examination import Examination, Finding, State
from fusekit.errors import reason_of
from fusekit.version import __version__

DISTRIBUTION = "fusekit-fx"
_FEATURES = {  # what each extra is for
    "openvino": "the target openvino",
    "zoo": "the examples with trained networks and photographs",
    "bench": "the benchmarks and their plots",
    "docs": "the documentation",
    "test": "the tests",
}


def examine() -> Examination:
    """Everything that can be said of this installation. Nothing raises: what fails is a finding."""
    looks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("packages", _core),
        ("extras", _extras),
        ("runtimes", _runtimes),
        ("machine", _machine),
        ("folders", _folders),
        ("core", _trial),
    )
    findings: list[Finding] = []
    for group, look in looks:
        try:
            findings += look()
        except Exception as error:  # of whatever an installation that is broken raises
            findings.append(Finding(group, group, State.BAD, reason_of(error), "install again: pip install ."))
    return Examination(tuple(findings))


def requirements() -> list[Requirement]:
    """What fusekit declares that it needs. Empty if it is not installed, but only imported from a checkout."""
    try:
        return [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return []


def of_requirement(group: str, needed: Requirement, *, core: bool) -> Finding:
    """Whether a package is installed in a version of the declared range. `core`: it is bad if not."""
    wrong = State.BAD if core else State.NOTE
    try:
        version = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return Finding(group, needed.name, wrong, "not installed", f"pip install '{needed.name}{needed.specifier}'")
    if not needed.specifier.contains(version, prereleases=True):
        told = f"{version}, expected {needed.specifier}"
        return Finding(group, needed.name, wrong, told, f"pip install '{needed.name}{needed.specifier}'")
    return Finding(group, needed.name, State.OK, version)


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    try:
        needed = SpecifierSet(dict(metadata.metadata(DISTRIBUTION).items()).get("Requires-Python") or "")
        good = needed.contains(version, prereleases=True)
        told = f"{version} ({platform.machine()})"
        advice = "" if good else f"use Python {needed}"
        yield Finding("python", "python", State.OK if good else State.BAD, told, advice)
        yield Finding("python", "fusekit", State.OK, __version__)
    except metadata.PackageNotFoundError:
        yield Finding("python", "python", State.OK, version)
        where = Path(__file__).resolve().parents[2]
        advice = f"to have versions checked: pip install -e {where}"
        yield Finding("python", "fusekit", State.NOTE, f"{__version__}, imported from a checkout", advice)


def _core() -> Iterator[Finding]:
    for needed in requirements():
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            yield of_requirement("packages", needed, core=True)


def _extras() -> Iterator[Finding]:
    """One line for each extra: what it is for, and what of it is missing."""
    for extra, purpose in _FEATURES.items():
        found = [
            of_requirement("extras", needed, core=False)
            for needed in requirements()
            if needed.name != DISTRIBUTION and needed.marker is not None and _is_of(needed, extra)
        ]
        missing = [each.name for each in found if each.state is not State.OK]
        if not found:
            continue
        if not missing:
            yield Finding("extras", extra, State.OK, f"{purpose}: {', '.join(f'{e.name} {e.found}' for e in found)}")
            continue
        told = f"{purpose}; missing: {', '.join(missing)}"
        yield Finding("extras", extra, State.NOTE, told, f"pip install -e '.[{extra}]'")


def _is_of(needed: Requirement, extra: str) -> bool:
    assert needed.marker is not None
    return needed.marker.evaluate({"extra": extra}) and not needed.marker.evaluate({"extra": ""})


def _runtimes() -> Iterator[Finding]:
    rooms: Any = import_module("fusekit.runtimes")
    for each in rooms.runtimes():
        missing = each.missing()
        yield Finding("runtimes", each.name, State.NOTE if missing else State.OK, missing or each.title)
    providers = import_module("onnxruntime").get_available_providers()
    advice = "" if "CPUExecutionProvider" in providers else "fusekit runs files on the CPU: pip install onnxruntime"
    yield Finding("runtimes", "providers", State.BAD if advice else State.OK, ", ".join(providers), advice)


def _machine() -> Iterator[Finding]:
    torch: Any = import_module("torch")
    measured: Any = import_module("fusekit.runtimes.measurements")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    yield Finding("machine", "processor", State.OK, f"{measured.processor()}, {cores} cores")
    advice = "" if threads <= cores else f"more threads than cores are slow: OMP_NUM_THREADS={cores}"
    yield Finding("machine", "threads", State.NOTE if advice else State.OK, str(threads), advice)
    if torch.version.cuda:
        told = f"torch is built for CUDA {torch.version.cuda}; fusekit measures on the CPU, so the CPU build is enough"
        yield Finding("machine", "torch", State.OK, told)


def _folders() -> Iterator[Finding]:
    measured: Any = import_module("fusekit.runtimes.measurements")
    cache = measured.folder()
    advice = "" if writable(cache) else "measurements are not kept: set FUSEKIT_CACHE_DIR to a folder of yours"
    yield Finding("folders", "cache", State.NOTE if advice else State.OK, str(cache), advice)
    there = Path(tempfile.gettempdir())
    advice = "" if writable(there) else "set TMPDIR to a folder that can be written"
    yield Finding("folders", "temporary", State.BAD if advice else State.OK, str(there), advice)


def writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, which is made too if it is not there. Permission bits do not show
    read-only mounts and full disks, so it is tried."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"fusekit")
    except OSError:
        return False
    return True


def _trial() -> Iterator[Finding]:
    """Fold, export, run and compare a convolution with a batch norm."""
    torch: Any = import_module("torch")
    api: Any = import_module("fusekit.api")
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    for weight in model.parameters():  # a random seed belongs to the process
        weight.data = torch.linspace(-1, 1, weight.numel()).cos().reshape(weight.shape)
    x = torch.linspace(-3, 3, 192).sin().reshape(1, 3, 8, 8)
    with tempfile.TemporaryDirectory() as room:
        verdict = api.export(model, Path(room) / "trial.onnx", x, measure=False)
    folded = [event.rewrite for event in verdict.report.applied]
    if verdict.ok and "fold-affine" in folded:
        yield Finding("core", "trial", State.OK, f"a network was folded, exported, run; error {verdict.error:.1e}")
    else:
        told = (*verdict.failures, "nothing was folded")[0]
        yield Finding("core", "trial", State.BAD, told, "install the versions of constraints.txt")
