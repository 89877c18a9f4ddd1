"""Rules for convolutions and linear layers. They call the same operator on real tensors, with the same geometry."""

from collections.abc import Callable
from typing import Any

from fusekit.lower.linear import block
from fusekit.lower.pair import Pair

Rule = Callable[..., Any]


def _linear(call: Rule, input: Any, weight: Any, bias: Any = None) -> Pair:
    return block(call, Pair.of(input), Pair.of(weight), bias, -1)


def _conv(n: int) -> Rule:
    def rule(
        call: Rule, x: Any, w: Any, b: Any = None, stride: Any = 1, pad: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Pair:
        def own(x: Any, w: Any, b: Any) -> Any:
            return call(x, w, b, *(_spread(value, n) for value in (stride, pad, dilation)), groups)

        return block(own, Pair.of(x), Pair.of(w), b, -n - 1, groups=groups)

    return rule


def _conv_transpose(n: int) -> Rule:
    def rule(
        call: Rule,
        x: Any,
        w: Any,
        b: Any = None,
        stride: Any = 1,
        pad: Any = 0,
        output_pad: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Pair:
        def own(x: Any, w: Any, b: Any) -> Any:
            amounts = (_spread(value, n) for value in (stride, pad, output_pad))
            return call(x, w, b, *amounts, groups, _spread(dilation, n))

        return block(own, Pair.of(x), Pair.of(w), b, -n - 1, groups=groups, transposed=True)

    return rule


def _spread(value: Any, n: int) -> Any:
    """One number for each of the n axes, as ATen expects."""
    return [value] * n if isinstance(value, int) else value


LAYERS: dict[str, Rule] = {
    "linear": _linear,
    **{f"conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _conv_transpose(n) for n in (1, 2, 3)},
}
