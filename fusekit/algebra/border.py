"""When is conv ∘ conv one convolution, borders included?

    y[n] = b1 + Σ_u W1[u] x[s1 n + d1 u - p1],   0 <= n < N1          (x is zero outside [0, N))
    z[m] = b2 + Σ_v W2[v] y[s2 m + d2 v - p2]                         (y is zero outside [0, N1))

The composed kernel uses y's formula also outside [0, N1), where the graph has zeros. Nothing is read there if p2 <= 0.
Otherwise both agree for every x and W exactly when the formula gives zero there: b1 = 0, and the last windows outside
see only the zeros around x,

    low side:  d1 (k1 - 1) - s1 - p1 < 0        high side:  p1' >= d1 (k1 - 1)   (for every N, whatever N mod s1).

A pointwise inner convolution without a bias always passes. The affected outputs form a ring of at most ceil(p2 / s2)
rows on that side.
"""

from fusekit.errors import Inapplicable


def require_exact_border(
    *,
    outer_padding: tuple[int, int],
    reach: int,
    stride: int,
    inner_padding: tuple[int, int],
    has_bias: bool,
    axis: int,
) -> None:
    """Raise Inapplicable unless the composition is exact on this axis; `reach` is d1 (k1 - 1)."""
    low, high = outer_padding
    if low <= 0 and high <= 0:
        return
    if has_bias:
        raise Inapplicable(
            f"the outer convolution pads axis {axis} by {max(low, high)} and the inner one has a bias: "
            "the border would see the bias where the graph has zeros"
        )
    low_reads_input = low > 0 and reach - stride - inner_padding[0] >= 0
    high_reads_input = high > 0 and inner_padding[1] < reach
    if low_reads_input or high_reads_input:
        side = "low" if low_reads_input else "high"
        raise Inapplicable(
            f"the outer convolution pads axis {axis} by {max(low, high)} and the inner window of {reach + 1} reaches "
            f"the input from outside its own output on the {side} side: the border ring would differ"
        )
