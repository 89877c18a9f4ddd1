"""Plants bugs in a copy of fusekit, one at a time, and tells which net catches each.

    python -m tests.plant [--all] [WORD ...]        bugs whose name holds a WORD; --all: every net, not the first only

The nets are the files of fast tests, in order, and the driver's own verification while a few small models are
optimized: `region` (a rewrite was rejected), `whole model` (the result was), an error's name, or SILENT, which is what
a user without these tests would live with. Tests that fail without any bug do not count. A bug that no net catches is a
missing test: the exit status says so.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETS = ("test_laws", "test_readings", "test_passes", "test_driver", "test_miscompiles")
SECONDS = 300


@dataclass(frozen=True)
class Bug:
    """One wrong replacement in one file."""

    name: str
    file: str
    right: str
    wrong: str


CONV, VIEW, VERIFY, REWRITE = "fusekit/algebra/conv.py", "fusekit/view.py", "fusekit/verify.py", "fusekit/rewrite.py"
BORDER = "fusekit/algebra/border.py"

BUGS = (
    Bug(
        "scale on the input axis",
        CONV,
        "scale.reshape((self.groups, -1, 1, *(1,)",
        "scale.reshape((self.groups, 1, -1, *(1,)",
    ),
    Bug("forgotten eps", "fusekit/algebra/affine.py", "torch.rsqrt(wide(var) + eps)", "torch.rsqrt(wide(var))"),
    Bug("dropped bias", CONV, "else scale * wide(self.bias) + shift", "else shift"),
    Bug("padding p1 + p2", CONV, "(low1 + s * low2, high1 + s * high2)", "(low1 + low2, high1 + high2)"),
    Bug("dilation without the inner stride", CONV, "outer_step = tuple(s * d for", "outer_step = tuple(d for"),
    Bug(
        "coarsen misplaces blocks",
        "fusekit/algebra/kernel.py",
        "= kernel[block::merged]",
        "= kernel[block * groups : (block + 1) * groups]",
    ),
    Bug(
        "border relaxed, low side",
        BORDER,
        "reach - stride - inner_padding[0] >= 0",
        "reach - stride - inner_padding[0] > 0",
    ),
    Bug("border relaxed, high side", BORDER, "inner_padding[1] < reach", "inner_padding[1] < reach - 1"),
    Bug(
        "parameter changed in place",
        CONV,
        "kernel = wide(self.kernel) * scale.reshape((self.groups, -1, 1, *(1,) * self.n))",
        "kernel = self.kernel.mul_(scale.to(self.kernel).reshape((self.groups, -1, 1, *(1,) * self.n)))",
    ),
    Bug("pad sides swapped", VIEW, "(amounts[i], amounts[i + 1])", "(amounts[i + 1], amounts[i])"),
    Bug(
        "odd one of 'same' on the low side",
        VIEW,
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
    ),
    Bug("transposed kernel not transposed", CONV, "kernel.transpose(1, 2) if transposed else kernel", "kernel"),
    Bug("shift before padding allowed", CONV, "if any(low > 0 or high > 0 for low, high in self.padding)", "if False"),
    Bug("alpha ignored", VIEW, "(1.0, alpha * right)", "(1.0, right)"),
    Bug("batch norm on the last axis", VIEW, 'a["eps"], 1 - rank)', 'a["eps"], -1)'),
    Bug(
        "axis of a constant not compared",
        VIEW,
        "if axes and source.size(axes[0]) !=",
        "if False and source.size(axes[0]) !=",
    ),
    Bug(
        "constant on the wrong axis",
        VIEW,
        "return (flat.flatten(), axes[0])",
        "return (flat.flatten(), 1 - (source.rank or 2))",
    ),
    Bug("dividing by the reciprocal", VIEW, "(1.0 / right, 0.0)", "(right, 0.0)"),
    Bug("training batch norm read", VIEW, 'if a["training"] or computed', "if computed"),
    Bug("pad value ignored", VIEW, ' and not a.get("value")', ""),
    Bug("tolerance ignored", REWRITE, "if not self.error <= TOLERANCE:", "if self.error == 17:"),
    Bug("NaN accepted", VERIFY, "return error if math.isfinite(error) else math.inf", "return error"),
    Bug("shape not compared", VERIFY, 'return float("inf")\n    scale', "return 0.0\n    scale"),
    Bug("shared value not paid for", REWRITE, "self.after = sum(kept, ", "self.after = sum([], "),
    Bug("rejected nodes left behind", REWRITE, "self.graph.erase_dead(new)\n", "pass\n"),
    Bug("dtype not restored", REWRITE, "value.to(dtype or value.dtype)", "value"),
    Bug(
        "random expressions folded",
        "fusekit/pattern.py",
        " and torch.Tag.nondeterministic_seeded not in node.target.tags",
        "",
    ),
    Bug("law swapped", "passes/fold_affine.py", "return c @ a", "return a @ c"),
)

# optimizes a few models that exercise every pass, as a user would, and prints what the verification said
RUN_TIME = """
import torch, fusekit
from torch import nn
from tests.architectures import randomize
torch.manual_seed(0)
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
print(', '.join(sorted(said)) or '-')
"""


def _copy_to(folder: Path) -> None:
    for name in ("fusekit", "passes", "tests"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def check(bug: Bug, nets: Path, ignored: list[str], *, every: bool) -> tuple[Bug, dict[str, str], str]:
    """What the nets say of one bug, planted in a copy of the tree at `nets`: the first test that fails, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(nets, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        text = (copy / bug.file).read_text()
        if text.count(bug.right) != 1:
            raise SystemExit(f"{bug.name}: {bug.right!r} stands {text.count(bug.right)} times in {bug.file}")
        (copy / bug.file).write_text(text.replace(bug.right, bug.wrong))
        caught: dict[str, str] = {}
        for net in NETS:
            lines = [] if caught and not every else _failures(copy, net, "-x", *ignored)
            if lines:
                caught[net] = lines[0].split("::")[-1]
        return bug, caught, _run(copy, "-c", RUN_TIME).strip().splitlines()[-1]


def _failures(copy: Path, net: str, *options: str) -> list[str]:
    told = _run(copy, "-m", "pytest", "--tb=no", "-p", "no:cacheprovider", *options, f"tests/{net}.py").splitlines()
    lines = (line for line in told if line.startswith(("FAILED ", "ERROR ", "timed out")))
    return [line.split(" - ")[0].removeprefix("FAILED ").removeprefix("ERROR ") for line in lines]


def _run(copy: Path, *words: str) -> str:
    try:
        done = subprocess.run([sys.executable, *words], cwd=copy, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "timed out"
    return done.stdout or done.stderr or "nothing"


def main(words: list[str]) -> int:
    every = "--all" in words
    words = [word for word in words if word != "--all"]
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    missed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        tree = Path(folder)  # frozen here: the checkout may change meanwhile
        _copy_to(tree)
        broken = [line for lines in pool.map(lambda net: _failures(tree, net), NETS) for line in lines]
        ignored = [f"--deselect={test}" for test in broken]
        print("fails without any bug: " + (", ".join(broken) or "nothing"), flush=True)
        print(
            "| bug | " + " | ".join(net.removeprefix("test_") for net in NETS) + " | at run time | test that failed |"
        )
        print("|---|" + "---|" * (len(NETS) + 2))
        for bug, caught, run_time in pool.map(lambda bug: check(bug, tree, ignored, every=every), bugs):
            marks = " | ".join("caught" if net in caught else "" for net in NETS)
            print(f"| {bug.name} | {marks} | {run_time} | {next(iter(caught.values()), 'NONE')} |", flush=True)
            missed += [] if caught else [bug.name]
    print(f"{len(bugs) - len(missed)} of {len(bugs)} caught" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return len(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
