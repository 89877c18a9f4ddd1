"""The schema of an exported program as rules: exactly what torch 2.9 to 2.13 write for a network of tensors.

Every string is a name, a size, an operator or a message, and has a rule of its own, because torch generates code from
them. Objects of other classes, tokens and namedtuples are refused, because their classes are not in the file.
"""

from typing import Any

from torch import fx, nn

from fusekit.checkpoint.archive.grammar import (
    Rule,
    boolean,
    integer,
    list_of,
    map_of,
    matching,
    maybe,
    name,
    number,
    one_of,
    record,
    refuse,
    union,
)
from fusekit.checkpoint.archive.guards import rewrite_guard
from fusekit.checkpoint.archive.magnitude import check_magnitudes
from fusekit.checkpoint.archive.metadata import rewrite_metadata
from fusekit.checkpoint.archive.operators import INNER_PROGRAMS, arguments_of, check_operator
from fusekit.checkpoint.archive.refused import Refused, shown
from fusekit.checkpoint.archive.size_expression import rewrite_size
from fusekit.checkpoint.archive.treespec import rewrite_treespec

MOST_NODES = 20_000  # in all programs together; torch needs about 30 KB for each
MOST_INNER = 8  # programs within programs
SCALAR_TYPES = (*range(1, 14), *range(28, 36))
STRIDED = 7

_PATH = matching(r"(?=.{1,500}$)[\w\-/ :]+(\.[\w\-/ :]+)*", "the path of a parameter")
_WORD = matching(r"[\w .,:+\-/]{0,200}", "a word")
_MESSAGE = matching(r"[ -~\n]{0,2000}", "printable ASCII")
# torch only compares these keys: s0, or 2*s0 for a size that depends on another one. After u or z it reads a number.
_SIZE = matching(r"[uz][a-z]{0,3}\d{1,6}|[s\d(\-][\w +\-*/(),]{0,199}", "a symbol such as s0")


def path(value: Any, where: str) -> str:
    """The path of a parameter. No part of it may be an attribute that every module has, because such an attribute must
    not be replaced."""
    text: str = _PATH(value, where)
    for part in text.split("."):
        if part.startswith("__") or hasattr(nn.Module, part):
            raise refuse(where, value, f"a path without {part}, an attribute of every module")
    if hasattr(fx.GraphModule, text.split(".")[0]):
        raise refuse(where, value, "a path that does not begin with an attribute of every program")
    return text


def _module(value: Any, where: str) -> str:
    """The path of a module, perhaps followed by @ and the number of its call."""
    return "" if value == "" else str(matching(r"[\w\-/ :.]{1,500}(@\d{1,6})?", "the path of a module")(value, where))


_always = one_of(True)
_hint = maybe(union({"as_int": integer(), "as_bool": boolean, "as_float": number}))
_expression = record({"expr_str": rewrite_size}, {"hint": _hint})
_sym_int = union({"as_expr": _expression, "as_int": integer()})
_sym_float = union({"as_expr": _expression, "as_float": number})
_sym_bool = union({"as_expr": _expression, "as_bool": boolean})
device = record({"type": one_of("cpu", "cuda", "mps", "xpu")}, {"index": maybe(integer(0, 255))})


def tensor_meta(size: Rule) -> Rule:
    """The description of a tensor (dtype, sizes, strides, ...) without its values. `size`: the rule for its sizes."""
    return record(
        {
            "dtype": one_of(*SCALAR_TYPES),
            "sizes": list_of(size, 64),
            "requires_grad": boolean,
            "device": device,
            "strides": list_of(size, 64),
            "storage_offset": size,
            "layout": one_of(STRIDED),
        }
    )


_tensor = record({"name": name})
_optional_tensor = union({"as_tensor": _tensor, "as_none": _always})
_int_argument = union({"as_name": name, "as_int": integer()})
_float_argument = union({"as_name": name, "as_float": number})
_bool_argument = union({"as_name": name, "as_bool": boolean})
_scalars: dict[str, Rule] = {"as_none": _always, "as_int": integer(), "as_float": number, "as_bool": boolean}
_symbols: dict[str, Rule] = {
    "as_sym_int": _int_argument,
    "as_sym_float": _float_argument,
    "as_sym_bool": _bool_argument,
}
_results: dict[str, Rule] = {**_scalars, **_symbols, "as_tensor": _tensor, "as_string": _WORD}
_produced = union({"as_none": _always, "as_tensor": _tensor, "as_tensors": list_of(_tensor), **_symbols})
_argument_arms: dict[str, Rule] = {
    **_results,
    "as_string": _MESSAGE,
    "as_tensors": list_of(_tensor),
    "as_nested_tensors": list_of(list_of(_tensor)),
    "as_optional_tensor": _optional_tensor,
    "as_optional_tensors": list_of(_optional_tensor),
    "as_ints": list_of(integer()),
    "as_int_lists": list_of(list_of(integer())),
    "as_floats": list_of(number),
    "as_float_lists": list_of(list_of(number)),
    "as_bools": list_of(boolean),
    "as_sym_ints": list_of(_int_argument),
    "as_sym_floats": list_of(_float_argument),
    "as_sym_bools": list_of(_bool_argument),
    "as_complex": record({"real": number, "imag": number}),
    "as_scalar_type": one_of(*SCALAR_TYPES),
    "as_memory_format": integer(1, 4),
    "as_layout": one_of(STRIDED),
    "as_device": device,
}
_keyword = matching(r"[A-Za-z_]\w{0,99}|", "the name of an argument")


def _node(depth: int) -> Rule:
    """A call of an operator. `depth`: how deep programs in its arguments may be nested."""
    arms = (
        {**_argument_arms, "as_graph": record({"name": name, "graph": graph(depth - 1)})} if depth else _argument_arms
    )
    given = record({"name": _keyword, "arg": union(arms)}, {"kind": maybe(integer(0, 2))})
    rule = record(
        {
            "target": matching(r"[\w.]{1,200}", "the name of an operator"),
            "inputs": list_of(given),
            "outputs": list_of(_produced),
            "metadata": rewrite_metadata,
        },
        {"is_hop_single_tensor_return": maybe(boolean), "name": maybe(name)},
    )

    def node(value: Any, where: str) -> dict[str, Any]:
        fields: dict[str, Any] = rule(value, where)
        target: str = fields["target"]
        check_operator(target, f"{where}.target")
        keywords = [entry["name"] for entry in fields["inputs"]]
        known = arguments_of(target)
        for keyword in keywords:
            if known is not None and keyword not in known:
                raise Refused(f"{where}: {target} has no argument {shown(keyword)}")
            if target in INNER_PROGRAMS and keyword:
                name(keyword, where)
        if target not in INNER_PROGRAMS and any("as_graph" in entry["arg"] for entry in fields["inputs"]):
            raise Refused(f"{where}: {target} has no argument that is a program")
        return fields

    return node


def graph(depth: int) -> Rule:
    """The calls of a program in order, and the descriptions of all values. `depth`: as for `_node`."""
    inputs = union({**_scalars, "as_tensor": _tensor, "as_sym_int": union({"as_name": name}), "as_string": _WORD})
    rule = record(
        {
            "inputs": list_of(inputs),
            "outputs": list_of(union(_results)),
            "nodes": list_of(_node(depth), MOST_NODES),
            "tensor_values": map_of(name, tensor_meta(_sym_int)),
            "sym_int_values": map_of(name, _sym_int),
            "sym_bool_values": map_of(name, _sym_bool),
        },
        {
            "is_single_tensor_return": boolean,
            "custom_obj_values": one_of({}),
            "sym_float_values": map_of(name, _sym_float),
        },
    )

    def whole(value: Any, where: str) -> dict[str, Any]:
        fields: dict[str, Any] = rule(value, where)
        check_magnitudes(fields["nodes"], f"{where}.nodes")
        return fields

    return whole


_constant = union({**_scalars, "as_string": _WORD})
_input = union(
    {
        "user_input": record({"arg": union(_results)}),
        "parameter": record({"arg": _tensor, "parameter_name": path}),
        "buffer": record({"arg": _tensor, "buffer_name": path, "persistent": boolean}),
        "tensor_constant": record({"arg": _tensor, "tensor_constant_name": path}),
        "constant_input": record({"name": name, "value": _constant}),
    }
)
_output = union(
    {
        "user_output": record({"arg": union(_results)}),
        "buffer_mutation": record({"arg": _tensor, "buffer_name": path}),
        "parameter_mutation": record({"arg": _tensor, "parameter_name": path}),
        "user_input_mutation": record({"arg": _tensor, "user_input_name": name}),
    }
)
_call = record(
    {
        "inputs": list_of(union(_results)),
        "outputs": list_of(union(_results)),
        "in_spec": rewrite_treespec,
        "out_spec": rewrite_treespec,
    },
    {"forward_arg_names": maybe(list_of(name))},
)
_graph_module = record(
    {
        "graph": graph(MOST_INNER),
        "signature": record({"input_specs": list_of(_input), "output_specs": list_of(_output)}),
        "module_call_graph": list_of(record({"fqn": _module}, {"signature": maybe(_call)})),
    },
    {"treespec_namedtuple_fields": one_of({})},
    dropped=("metadata",),
)
program: Rule = record(
    {
        "graph_module": _graph_module,
        "opset_version": map_of(matching(r"\w{1,50}", "a namespace"), integer(0, 1_000)),
        "range_constraints": map_of(_SIZE, record({"min_val": maybe(integer()), "max_val": maybe(integer())})),
        "schema_version": record({"major": integer(0, 1_000), "minor": integer(0, 1_000)}),
        "verifiers": list_of(one_of("ATEN", "TRAINING"), 4),
    },
    {"torch_version": matching(r"[\w.+<=\-]{1,80}", "a version"), "guards_code": list_of(rewrite_guard, 10_000)},
)
