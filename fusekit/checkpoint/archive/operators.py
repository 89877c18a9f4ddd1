"""The operators that a program may call: ATen operators on plain values, arithmetic of sizes, and a few that contain
inner programs.

A name is looked up only in torch's registry of operators, never by following attributes: `torch.os.system` would be
such a path. Operators that take a file name, a storage, a stream or code are refused by the types of their arguments.
"""

import re
from collections.abc import Mapping
from functools import cache

import torch

from fusekit.checkpoint.archive.refused import Refused, shown

_NAMESPACES = ("aten", "fusekit")
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)", re.ASCII)
_TYPE = re.compile(
    r"(Optional\[|List\[)*(Tensor|int|float|bool|number|complex|Device|Layout|MemoryFormat|ScalarType|SymInt|Generator)\]*"
)
# Arguments of type str that only select a variant of the computation. No file names are among them.
_CHOICES = {
    *("padding", "padding_side", "pad_mode", "mode", "interpolation", "approximate", "rounding_mode", "reduce", "norm"),
    *("ord", "driver", "UPLO", "side", "equation", "indexing", "assert_msg"),
}
# Private operators that torch's own layers and decompositions call.
_PRIVATE = re.compile(
    r"_(adaptive_avg_pool\d|assert_|functional_|batch_norm_|cdist_forward|pdist_forward|conj|neg_view|convolution|"
    r"euclidean_dist|fft_|fused_rms_norm|linalg_|local_scalar_dense|log_softmax|softmax|safe_softmax|masked_softmax|"
    r"native_|prelu_kernel|reshape_|scaled_dot_product_|shape_as_tensor|thnn_fused_|to_copy|trilinear|unique|upsample_|"
    r"weight_norm|stack|logcumsumexp|cummax_helper|cummin_helper|unsafe_view|unsafe_index|transformer_encoder|"
    r"embedding_bag|_i?(and|or|xor|lshift|rshift)__)\w*"
)
_CONDITIONS = {"_assert_scalar", "_functional_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size"}
_OF_OPERATOR = (
    "eq",
    "ne",
    "le",
    "ge",
    "lt",
    "gt",
    "neg",
    "pos",
    "mul",
    "add",
    "sub",
    "floordiv",
    "mod",
    "truediv",
    "pow",
)
_OF_TORCH = ("sym_not", "sym_int", "sym_float", "sym_ite", "sym_max", "sym_min", "_sym_sqrt")
SIZE_OPERATORS = {
    *(f"_operator.{name}" for name in (*_OF_OPERATOR, "and_", "or_")),
    *(f"torch.{name}" for name in _OF_TORCH),
    "math.trunc",
}
_WITH_PROGRAMS = ("cond", "while_loop", "scan", "map_impl", "associative_scan")
_WITH_STATE = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
INNER_PROGRAMS = {f"torch.ops.higher_order.{name}" for name in (*_WITH_PROGRAMS, *_WITH_STATE)}


def check_operator(target: str, where: str) -> None:
    """Raises Refused unless `target` names an operator that a program may call. `where`: its place, for the message."""
    if target in SIZE_OPERATORS or target in INNER_PROGRAMS:
        return
    if reason := _reason_against(target):
        raise Refused(f"{where} is {shown(target)}, {reason}")


def arguments_of(target: str) -> Mapping[str, object] | None:
    """The names and types of an operator's arguments; None if torch has no schema for it."""
    matched = _OPERATOR.fullmatch(target)
    if matched is None or target in INNER_PROGRAMS:
        return None
    schema = _schemas(f"{matched[1]}::{matched[2]}")[matched[3]]
    return {argument.name: argument.type for argument in schema.arguments}


@cache
def _reason_against(target: str) -> str:
    matched = _OPERATOR.fullmatch(target)
    if matched is None or matched[1] not in _NAMESPACES:
        return "which is no operator of ATen"
    namespace, name, overload = matched.groups()
    if name.startswith("_") and not _PRIVATE.fullmatch(name):
        return "which is a private operator of ATen"
    schema = _schemas(f"{namespace}::{name}").get(overload)
    if schema is None:
        return "which this torch does not have"
    for value in (*schema.arguments, *schema.returns):
        if not _TYPE.fullmatch(str(value.type)) and not (_is_text(value) and value.name in _CHOICES):
            return f"which takes or returns a {value.type}"
    tensors = any("Tensor" in str(value.type) for value in (*schema.arguments, *schema.returns))
    if not tensors and name not in _CONDITIONS:
        return "which neither takes nor returns a tensor"
    return ""


def _is_text(value: object) -> bool:
    return str(getattr(value, "type", "")) in ("str", "Optional[str]")


@cache
def _schemas(name: str) -> dict[str, torch.FunctionSchema]:
    found = torch._C._jit_get_schemas_for_operator(name)
    return {schema.overload_name or "default": schema for schema in found}
