"""The bugs that are planted: slips of the hand, one replacement each. Here: the driver and its oldest laws."""

from dataclasses import dataclass

NETS = ("test_laws", "test_readings", "test_pass_laws", "test_passes", "test_driver", "test_miscompiles")


@dataclass(frozen=True)
class Bug:
    """One wrong replacement in one file, and the nets that should catch it, in the order in which they are asked."""

    name: str
    file: str
    right: str
    wrong: str
    nets: tuple[str, ...] = NETS


SPELLINGS = "fusekit/ir/spellings/"
ARITHMETIC = SPELLINGS + "arithmetic.py"
CONV, VERIFY, ATTEMPT = (
    "fusekit/algebra/conv.py",
    "fusekit/rewriting/verify.py",
    "fusekit/rewriting/attempt.py",
)
BORDER = "fusekit/algebra/border.py"

FIRST = (
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
    Bug("pad sides swapped", SPELLINGS + "pads.py", "(amounts[i], amounts[i + 1])", "(amounts[i + 1], amounts[i])"),
    Bug(
        "odd one of 'same' on the low side",
        SPELLINGS + "conv.py",
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
    ),
    Bug("transposed kernel not transposed", CONV, "kernel.transpose(1, 2) if transposed else kernel", "kernel"),
    Bug("shift before padding allowed", CONV, "if any(low > 0 or high > 0 for low, high in self.padding)", "if False"),
    Bug("alpha ignored", ARITHMETIC, "(1.0, alpha * right)", "(1.0, right)"),
    Bug("batch norm on the last axis", SPELLINGS + "batch_norm.py", 'a["eps"], 1 - rank)', 'a["eps"], -1)'),
    Bug(
        "axis of a constant not compared",
        ARITHMETIC,
        "if axes and source.size(axes[0]) !=",
        "if False and source.size(axes[0]) !=",
    ),
    Bug(
        "constant on the wrong axis",
        ARITHMETIC,
        "return (flat.flatten(), axes[0])",
        "return (flat.flatten(), 1 - (source.rank or 2))",
    ),
    Bug("dividing by the reciprocal", ARITHMETIC, "(1.0 / right, 0.0)", "(right, 0.0)"),
    Bug("training batch norm read", SPELLINGS + "batch_norm.py", 'if a["training"] or computed', "if computed"),
    Bug(
        "pad value ignored",
        SPELLINGS + "pads.py",
        'if mode == "constant" and a.get("value"):',
        'if mode == "constant" and False:',
    ),
    Bug("tolerance ignored", ATTEMPT, "if not self.error <= TOLERANCE:", "if self.error == 17:"),
    Bug("NaN accepted", VERIFY, "return error if math.isfinite(error) else math.inf", "return error"),
    Bug("shape not compared", VERIFY, 'return float("inf")\n    scale', "return 0.0\n    scale"),
    Bug("shared value not paid for", ATTEMPT, "self.after = sum(kept, ", "self.after = sum([], "),
    Bug("rejected nodes left behind", ATTEMPT, "self.graph.erase_dead(new)\n", "pass\n"),
    Bug("dtype not restored", ATTEMPT, "value.to(dtype or value.dtype)", "value"),
    Bug(
        "random expressions folded",
        "fusekit/rewriting/pattern.py",
        " and torch.Tag.nondeterministic_seeded not in node.target.tags",
        "",
    ),
    Bug("law swapped", "passes/fold_affine.py", "return c @ a", "return a @ c"),
)
