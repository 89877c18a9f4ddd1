"""Bugs to plant in layers of fewer products: the algorithms, the mixings, the blocks, the windows."""

from tests.planted.bugs import Bug

ROOM = "fusekit/algebra/products/"
BILINEAR, MIXING, BLOCKS = (ROOM + name for name in ("bilinear.py", "mixing.py", "blocks.py"))
PRODUCT, WINDOWS, TOOM = (ROOM + name for name in ("product_conv.py", "winograd_conv.py", "toom_cook.py"))

VALUES, LAYERS, FILTERS = ("test_bilinear",), ("test_product_conv", "test_pass_laws"), ("test_winograd_conv",)

PRODUCTS = (
    Bug("arguments not swapped", BILINEAR, "Bilinear(self.b, self.a, self.c)", "self", VALUES),
    Bug("transposed on one side only", BILINEAR, "Bilinear(self.a, self.c.mT, self.b.mT)", "self", VALUES),
    Bug("balanced without the offline factor", BILINEAR, "a=self.a * (size_b * size_c)[:, None]", "a=self.a", VALUES),
    Bug("a product that only B sees dropped", BILINEAR, "& (self.c != 0).any(0)", "& (self.c > 0).any(0)", VALUES),
    Bug("the right product is the left", BILINEAR, "(2, 1, 0) if right else (2, 0, 1)", "(2, 0, 1)", VALUES),
    Bug("a sign in Hamilton's eight", BILINEAR, "[1, 0, 0, 0, -1, -1, -1, -1]", "[1, 0, 0, 0, -1, -1, -1, 1]", VALUES),
    Bug("roots of the other sign", TOOM, "-root * c for c", "root * c for c", VALUES),
    Bug("infinity reads the lowest", TOOM, "int(k == size - 1)", "int(k == 0)", VALUES),
    Bug("bias behind another mixing", MIXING, "bias = seen if bias is None else bias + seen", "bias = seen", LAYERS),
    Bug("the inner side lost in a composition", MIXING, ", reads_inner=inner.reads_inner)", ")", LAYERS),
    Bug("blocks in planes read as inner", MIXING, "if writes_inner:\n", "if not writes_inner:\n", LAYERS),
    Bug("products of a linear layer in another order", MIXING, ".permute(2, 0, 1)", ".permute(2, 1, 0)", LAYERS),
    Bug("structure in a few entries", BLOCKS, " if _agree(_made(tensor, weight), parts) else None", "", LAYERS),
    Bug("blocks of the other layout", BLOCKS, "(1, 3, 0, 2) if inner", "(3, 1, 0, 2) if inner", LAYERS),
    Bug("bias by number in planes", PRODUCT, "else b.unflatten(0, (n, -1))", "else b.unflatten(0, (-1, n)).mT", LAYERS),
    Bug("a bias that is missing is forgotten", PRODUCT, "return (None, b) if bool(missing) else", "return", LAYERS),
    Bug("inverse of the column's sign", PRODUCT, "= 1 / c[row, columns[0]]", "= 1", LAYERS),
    Bug("parts written as they are read", PRODUCT, "used.any(0), used.any(1)", "used.any(0), used.any(0)", LAYERS),
    Bug("windows one column short", WINDOWS, "tiles * outputs - made", "(tiles - 1) * outputs", FILTERS),
    Bug("windows of all columns", WINDOWS, "k + end : outputs]", "k + end : 1]", FILTERS),
    Bug("joined with what is too much", WINDOWS, "y[..., : x.shape[-1] + low + high - taps + 1]", "y", FILTERS),
    Bug("the last axis padded twice", WINDOWS, "(*c.padding[:-1], (0, 0))", "c.padding", FILTERS),
)
