"""Bugs to plant in what is computed with the parts of a tensor."""

from tests.planted.bugs import Bug

PARTS, SELECTION, COMBINATION = (
    "fusekit/rewriting/channel_paths.py",
    "fusekit/algebra/selection.py",
    "fusekit/algebra/combination.py",
)
UNJOIN, JOINTS, TESTS = "fusekit/optimizing/undo_joins.py", "fusekit/lower/linear.py", ("test_channel_paths",)

CUTS = (
    Bug("every term of a sum has the shift", PARTS, "behind = outer if number == 0 else", "behind = outer or", TESTS),
    Bug("a difference is a sum", PARTS, "-1.0 if node.target is aten.sub.Tensor else 1.0", "1.0", TESTS),
    Bug("parts from the next place on", PARTS, "sum(sizes[1][:index])", "sum(sizes[1][: index + 1])", TESTS),
    Bug(
        "a range up to its length",
        PARTS,
        "Part(whole, axis, start, end - start)",
        "Part(whole, axis, start, end)",
        TESTS,
    ),
    Bug(
        "any activation is like any other",
        PARTS,
        "return value.function, value.arguments,",
        "return value.function,",
        TESTS,
    ),
    Bug("activations of several tensors joined", PARTS, " or _one_source(paths) is None:", ":", TESTS),
    Bug(
        "paths that part later counted twice",
        PARTS,
        "found.setdefault(tuple((step.node, step.operand) for step in cut), cut)",
        "found[(len(found),)] = cut  # type: ignore",
        TESTS,
    ),
    Bug(
        "a part is put where it was",
        SELECTION,
        "matrix.T if self.places else matrix",
        "matrix",
        ("test_channel_paths", "test_pass_laws"),
    ),
    Bug(
        "the second source reads the first",
        COMBINATION,
        "sum(widths[: order.index(source)])",
        "0",
        ("test_channel_paths", "test_pass_laws"),
    ),
    Bug("joints stay", UNJOIN, "return source if size == part.width else None", "return None", TESTS),
    Bug("real layers are not joined", JOINTS, "return z if axes or axis is None else", "return z if True else", TESTS),
)
