"""Plants bugs in a copy of fusekit, one at a time, and reports which net catches each.

    python -m tests.plant [--all] [--nets] [WORD ...]

tries the bugs whose name contains a WORD. --all: every net, not only the first. --nets: the nets alone, which is
faster.

The nets of a bug are files of fast tests, in order. The last net is the driver's own verification while a few small
models and some random ones are optimized: `region` (a rewrite was rejected), `whole model` (the result was rejected),
the name of an error, or SILENT: nobody would notice the bug without these tests. Tests that fail without any bug do not
count. If no net catches a bug, a test is missing, and the exit status is not 0. `PLANT_WORKERS` bugs are tried at once
(2).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.planted.bugs import Bug, bugs

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600
BUGS = bugs()
WORKERS = int(os.environ.get("PLANT_WORKERS", "2"))


# optimizes a few models that exercise every pass, as a user would, and prints what the verification said
RUN_TIME = """
import warnings, torch, fusekit
from torch import nn
from tests.support.architectures import randomize
torch.manual_seed(0)
torch.set_num_threads(1)
warnings.simplefilter('ignore')
x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
def c(*a, **k): return nn.Conv2d(*a, **k)
class Times(nn.Module):
    def __init__(self, shape, *inner, add=False):
        super().__init__()
        self.inner, self.g, self.add = nn.Sequential(*inner), nn.Parameter(torch.randn(shape)), add
    def forward(self, x):
        y = self.inner(x)
        return torch.add(y, self.g, alpha=3) if self.add else y * self.g / (self.g * self.g + 1)
seq, bn, pad = nn.Sequential, nn.BatchNorm2d, nn.ZeroPad2d
models = [
    seq(c(4, 4, 3, padding=1), bn(4, eps=0.1)),
    seq(bn(4), c(4, 6, 3)),
    seq(bn(4), c(4, 6, 3, padding=1)),
    seq(nn.ConvTranspose2d(4, 4, 3, 2), bn(4)),
    seq(c(4, 32, 3, 2), c(32, 4, 1)),
    seq(c(4, 32, 1, bias=False), c(32, 4, 3, padding=1)),
    seq(c(4, 32, 2, 2, bias=False, padding=1), c(32, 4, 2, padding=1)),
    seq(c(4, 32, 1, 2), c(32, 4, 2)),
    seq(c(4, 32, 2, groups=2), c(32, 4, 1, groups=4)),
    seq(pad((1, 1, 2, 2)), c(4, 4, 3)),
    seq(pad((0, 2, 2, 0)), c(4, 4, 3, padding=1)),
    seq(c(4, 4, 2, padding='same'), bn(4)),
    seq(nn.ConstantPad2d(1, 1.0), c(4, 4, 3)),
    Times((4, 1, 1), c(4, 4, 3)),
    Times((7,), c(4, 7, 3)),
    Times((4, 1, 1), c(4, 4, 3), add=True),
    Times((4, 1, 1), c(4, 1, 3), add=True),
]
said = set()
for model in models:
    model = randomize(model.double())
    try:
        fast = fusekit.optimize(model, x)
        said |= {'whole model' if e.rewrite == 'model' else 'region' for e in fast.report.rejected}
        with torch.no_grad():
            difference = (fast(x) - model(x)).norm() / model(x).norm()
        if not difference < 1e-10:
            said.add('SILENT')
    except Exception as error:
        said.add(type(error).__name__)
from tests.fuzz import Tally, check
for seed in range(20):
    for failure in check(seed, Tally()):
        said.add('region' if 'rejected' in failure else 'SILENT' if 'relative error' in failure else 'error')
print(', '.join(sorted(said)) or '-')
"""


def copy_to(folder: Path) -> None:
    """Copy what a test needs to run."""
    for name in ("fusekit", "passes", "tests"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def check(bug: Bug, nets: Path, ignored: list[str], *, every: bool, run: bool) -> tuple[Bug, dict[str, str], str]:
    """Plant one bug in a copy of the tree at `nets`, and run the nets of the bug.

    Returns the bug, the first failing test of each net that caught it, and what the run says ("" without `run`).
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(nets, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        text = (copy / bug.file).read_text()
        if text.count(bug.right) != 1:
            raise SystemExit(f"{bug.name}: {bug.right!r} stands {text.count(bug.right)} times in {bug.file}")
        (copy / bug.file).write_text(text.replace(bug.right, bug.wrong))
        caught: dict[str, str] = {}
        for net in bug.nets:
            lines = [] if caught and not every else _failures(copy, net, "-x", *ignored)
            if lines:
                caught[net] = lines[0].split("::")[-1]
        return bug, caught, _run(copy, "-c", RUN_TIME).strip().splitlines()[-1] if run else ""


def _failures(copy: Path, net: str, *options: str) -> list[str]:
    told = _run(copy, "-m", "pytest", "--tb=no", "-p", "no:cacheprovider", *options, _file_of(net)).splitlines()
    lines = (line for line in told if line.startswith(("FAILED ", "ERROR ", "timed out")))
    return [line.split(" - ")[0].removeprefix("FAILED ").removeprefix("ERROR ") for line in lines]


def _file_of(net: str) -> str:
    """The path of a file of tests, found by its name."""
    (path,) = (ROOT / "tests").glob(f"*/{net}.py")
    return str(path.relative_to(ROOT))


def _run(copy: Path, *words: str) -> str:
    try:
        done = subprocess.run([sys.executable, *words], cwd=copy, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "timed out"
    return done.stdout or done.stderr or "nothing"


def main(words: list[str]) -> int:
    every = "--all" in words
    run = "--nets" not in words
    words = [word for word in words if not word.startswith("--")]
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    nets = list(dict.fromkeys(net for bug in bugs for net in bug.nets))
    missed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        tree = Path(folder)  # frozen here: the checkout may change meanwhile
        copy_to(tree)
        broken = [line for lines in pool.map(lambda net: _failures(tree, net), nets) for line in lines]
        ignored = [f"--deselect={test}" for test in broken]
        print("fails without any bug: " + (", ".join(broken) or "nothing"), flush=True)
        print("| bug | caught by | at run time | test that failed |\n|---|---|---|---|")
        for bug, caught, run_time in pool.map(lambda bug: check(bug, tree, ignored, every=every, run=run), bugs):
            names = ", ".join(net.removeprefix("test_") for net in caught)
            print(f"| {bug.name} | {names} | {run_time} | {next(iter(caught.values()), 'NONE')} |", flush=True)
            missed += [] if caught else [bug.name]
    print(f"{len(bugs) - len(missed)} of {len(bugs)} caught" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return len(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
