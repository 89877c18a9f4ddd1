"""The first way in: `torch.fx` symbolic tracing. Needs no example inputs, keeps names, stays free in every size.

Parameters and buffers stay real tensors while the trace runs: what a `forward` computes from them alone (merged
branches, normalised weights, control flow on their shapes or flags) is simply computed, and arrives as a constant.
Layers that fusekit reads, torch.nn layers in general and modules with hooks are not entered.
"""

import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from fusekit.capture.containers import carried, is_container
from fusekit.capture.decisions import Decision, guard_decisions
from fusekit.capture.example import Example
from fusekit.capture.numbers import LEN, Numbers
from fusekit.capture.proxies import KINDS, TYPES_CALLED, Traced, TracedDevice, TracedNumber, TracedSizes, answer
from fusekit.capture.state import State, state_of
from fusekit.capture.whole import why_whole
from fusekit.capture.written_numbers import write_numbers
from fusekit.errors import CaptureError, reason_of
from fusekit.ir import Graph, Known, known, note
from fusekit.ir.facts import start_afresh
from fusekit.ir.spelling import has_hooks, is_spelled
from fusekit.model import Inputs, quiet
from fusekit.model.alone import alone
from fusekit.model.patches import calls_answered, methods_renamed, traced_here, types_told
from fusekit.model.random_numbers import draws_undone
from fusekit.model.renamed import Renaming
from fusekit.model.torch_notes import owner_of
from fusekit.nn import ShapeGuard

DRAWS = "forward draws random numbers that do not depend on its input"
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)


def trace(
    root: nn.Module,
    opaque: Iterable[str] = (),
    fixed: dict[str, Any] | None = None,
    inputs: Inputs | None = None,
    *,
    settled: bool = False,
) -> Graph:
    """The root's forward as a graph; modules at the paths `opaque` are called as they are, the arguments `fixed` are
    what they are given as. What forward decides by a size that hangs on the inputs is decided by the example `inputs`,
    and guarded. Leaves traces in the root. `settled`: forward may write tensors into the root that have the numbers of
    those that were there.

    Raises `TraceFailed`, which knows the module in which the trace failed; `StateChanged`, which knows the graph.
    """
    tracer = _Tracer(frozenset(opaque), fixed or {}, inputs)
    renaming = Renaming(TYPES_CALLED)
    renaming.attributes_of(root)
    before = state_of(root)
    try:
        with ExitStack() as changed:
            # with gradients, so that it is known which computed constants come from parameters that train
            for each in (alone(), torch.enable_grad(), quiet(), traced_here(), types_told(KINDS, tracer.sample_of)):
                changed.enter_context(each)
            draws = changed.enter_context(draws_undone())
            for each in (calls_answered(answer), methods_renamed(root, renaming)):
                changed.enter_context(each)
            nodes = tracer.trace(root)
    except Exception as error:
        raise TraceFailed(reason_of(error) + _asked_at(error), tracer.failed_at) from error
    if draws.found:
        raise TraceFailed(DRAWS, "")
    if several := [str(n.target) for n in nodes.find_nodes(op="placeholder") if str(n.target)[0] == "*" and n.users]:
        raise TraceFailed(f"forward uses {several[0]}, which a proxy cannot stand for", "")
    modules = {str(n.target): root.get_submodule(str(n.target)) for n in nodes.nodes if n.op == "call_module"}
    owners = dict(root.named_modules(remove_duplicate=False))
    for node in nodes.nodes:
        start_afresh(node, Known(where=path_of(owners, owner_of(node), node), line=known(node).line))
    graph = Graph(nodes, tracer.constants, modules, type(root).__name__)
    guard_decisions(graph, tracer.numbers, tracer.decided)
    write_numbers(graph, tracer.numbers)
    if (path := before.changed(by_value=settled)) is not None:
        raise StateChanged(graph, path, before)
    return graph


def path_of(owners: dict[str, nn.Module], owner: str, node: fx.Node) -> str:
    """What a user would call a node: the path of the layer it is, or its own name within the module that calls it."""
    if node.op in ("placeholder", "output", "get_attr"):
        return str(node.target)
    if node.op == "call_module":
        return owner or str(node.target)
    layer = isinstance(owners[owner], LAYERS)
    return owner if layer else f"{owner}.{node.name}" if owner else node.name


def _line() -> str:
    """Where the model says what is being traced, FILE:LINE; "" where only torch's own layers do."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not trace.__code__:
        if _is_the_models(frame):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _asked_at(error: Exception) -> str:
    """The innermost line of the model on the way to an error, as the end of a sentence."""
    lines = [(frame, line) for frame, line in walk_tb(error.__traceback__) if _is_the_models(frame)]
    return f", at {lines[-1][0].f_code.co_filename}:{lines[-1][1]}" if lines else ""


def _is_the_models(frame: FrameType) -> bool:
    owner = str(frame.f_globals.get("__name__", ""))
    return owner.split(".")[0] not in _NOT_THE_MODEL or owner.startswith("fusekit.nn.")


_NOT_THE_MODEL = ("torch", "fusekit", "contextlib", "functools")


class TraceFailed(CaptureError):
    """A symbolic trace failed in the module at `path` ("" for the root)."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason} (in {path})" if path else reason)
        self.path = path


@contextmanager
def _rank_not_asked(module: nn.Module) -> Iterator[None]:
    """A norm of one's own asks for its input's rank, which a proxy does not know, only to raise."""
    if not isinstance(module, nn.modules.batchnorm._NormBase) or "_check_input_dim" in vars(module):
        yield
        return
    module._check_input_dim = lambda input: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module._check_input_dim


class StateChanged(TraceFailed):
    """A symbolic trace succeeded, but forward has changed the state of the module at `path`, or of what it reads. Who
    catches it restores what is outside the root: `before.restore_outside()`."""

    def __init__(self, graph: Graph, path: str, before: State) -> None:
        super().__init__("forward changes the module's own state, or a global that it reads", path)
        self.graph = graph
        self.before = before


class _Tracer(fx.Tracer):
    """Enters user modules and parametrized layers, keeps the rest whole, and remembers where it failed."""

    trace_asserts = True

    def __init__(self, opaque: frozenset[str], fixed: dict[str, Any], inputs: Inputs | None) -> None:
        super().__init__()
        self.opaque = opaque
        self.fixed = fixed
        self.numbers = Numbers()
        self.decided: dict[fx.Node, Decision] = {}
        self.inputs = inputs
        self.example = None if inputs is None else Example(inputs)
        self.failed_at = ""
        self.constants: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._computed: list[Tensor] = []  # kept alive, so that no other tensor takes over the identity of one

    def proxy(self, node: fx.Node) -> fx.Proxy:
        self.numbers.see(node)
        if (number := self.numbers.of.get(node)) is not None:
            return TracedNumber(node, self, number.kind)
        if node.target is getattr and node.args[1] == "device":
            return TracedDevice(node, self)
        return TracedSizes(node, self) if node in self.numbers.sizes else Traced(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """The proxy of a new node; of a number that is the same for all sizes, that number."""
        proxy = super().create_proxy(*args, **kwargs)
        literal = self.numbers.of[proxy.node].literal if isinstance(proxy, TracedNumber) else None
        return proxy if literal is None else literal

    def sample_of(self, value: object) -> Any:
        """A value of the type that a traced one has; NotImplemented if it is not known."""
        if isinstance(value, TracedNumber):
            return value.kind()
        return torch.Size() if isinstance(value, TracedSizes) else NotImplemented

    def to_bool(self, obj: fx.Proxy) -> bool:
        number = self.numbers.of.get(obj.node)
        if number is None:
            raise TraceError("forward decides by a value that is only known when it runs")
        if number.kind is not bool:
            return bool(operator.ne(obj, 0))
        if obj.node not in self.decided:
            self.decided[obj.node] = Decision(bool(self._example_of(obj)), number.comparison, _line())
        return self.decided[obj.node].held

    def iter(self, obj: Any) -> Iterator[Any]:
        """What is iterated over: sizes, or a container that was passed in, as many as the example has."""
        if (sizes := self.numbers.sizes.get(obj.node)) is not None:
            return iter([obj[i] for i in range(self._length(obj) if sizes.length is None else sizes.length)])
        source = _container_passed_in(obj.node)
        if source is None or self.example is None:
            return super().iter(obj)
        container: Any
        values, container = self._example_of(obj), self.proxy(source)
        if isinstance(values, tuple | list):
            return iter([obj[i] for i in range(self._length(obj))])
        keys = list(self._example_of(container)) if isinstance(self._example_of(container), dict) else None
        if keys is None or not self._is(self.create_proxy("call_function", list, (container,), {}), keys):
            return super().iter(obj)
        items = {"items": [(k, container[k]) for k in keys], "values": [container[k] for k in keys]}
        return iter(items.get(str(obj.node.target), keys) if obj.node.op == "call_method" else keys)

    def _length(self, obj: fx.Proxy) -> int:
        """How many there are in the example, to which callers are held."""
        length = self.create_proxy("call_function", LEN, (obj,), {})
        return length if isinstance(length, int) else int(self.value_held_to(length))

    def value_held_to(self, obj: fx.Proxy) -> Any:
        """The example's, to which callers are held."""
        value = self._example_of(obj)
        if not self._is(obj, value):
            raise ValueError(f"{value} is not itself")
        return value

    def _is(self, obj: Any, value: object) -> bool:
        return bool(self.create_proxy("call_function", operator.eq, (obj, value), {}))

    def _example_of(self, obj: fx.Proxy) -> Any:
        """The value that a number has for the example inputs."""
        if self.example is None:
            raise TraceError("what forward does depends on the sizes of its input: pass example inputs")
        return self.example.value(obj.node, self.root, self.constants)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        forward: Any = self.root.forward
        if "forward" in vars(self.root) or (self.inputs is not None and _takes_any_number(forward)):
            function, arguments = self._arguments_of(forward)
        else:
            function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        names = [str(a.node.target) if isinstance(a, fx.Proxy) else None for a in arguments]
        return function, [self.fixed.get(n, a) if n else a for n, a in zip(names, arguments, strict=True)]

    def _arguments_of(self, forward: Callable[..., Any]) -> tuple[Any, list[Any]]:
        """The same for a forward that stands on the root itself, any callable, by its signature; or for one that takes
        any number of arguments, by the example's."""
        parameters = inspect.signature(forward).parameters
        if self.inputs is None and _takes_any_number(forward):
            raise TypeError("forward takes any number of arguments: pass example inputs")
        bound = {} if self.inputs is None else dict(self.inputs.call(inspect.signature(forward).bind).arguments)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, p in parameters.items():
            if p.kind is p.VAR_POSITIONAL:
                positional += [self._argument(f"{name}_{i}") for i in range(len(bound.get(name, ())))]
            elif p.kind is p.VAR_KEYWORD:
                named.update({key: self._argument(key) for key in bound.get(name, ())})
            else:
                default = () if p.default is p.empty else (p.default,)
                argument = self._argument(name, *default)
                if p.kind is p.KEYWORD_ONLY:
                    named[name] = argument
                else:
                    positional.append(argument)
        count = len(positional)
        optional = [len(argument.node.args) for argument in (*positional, *named.values())]
        if optional != sorted(optional):
            raise TypeError("torch.fx has no way to write a required argument behind an optional one")

        def called(*values: Any) -> Any:
            return forward(*values[:count], **dict(zip(named, values[count:], strict=True)))

        return called, [*positional, *named.values()]

    def _argument(self, name: str, *default: Any) -> Any:
        return self.create_proxy("placeholder", name, default, {})

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            raise RuntimeError("forward runs under autocast, which a symbolic trace would lose")
        node = super().create_node(*args, **kwargs)
        note(node, Known(line=_line()))
        return node

    def trace(self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        assert isinstance(root, nn.Module)
        tensors = (*root.named_parameters(), *root.named_buffers(), *_attributes(root))
        self._names = {id(tensor): name for name, tensor in reversed(tensors)}
        return super().trace(root, concrete_args)

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        if why_whole(module) or path in self.opaque or is_spelled(module) or isinstance(module, ShapeGuard):
            return True
        return super().is_leaf_module(module, path) and not parametrize.is_parametrized(module)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not has_hooks(m) and not any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves((args, kwargs))):
            return forward(*args, **kwargs)  # a parametrization, say: computed from parameters alone
        try:
            with _rank_not_asked(m):
                return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_at = self.failed_at or self.path_of_module(m)
            raise

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, fx.Proxy) and is_container(a):
            return carried(a, self.create_arg, partial(self.create_node, "call_function"))
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = self._names.get(id(a))
        if name is None:
            name = self._names[id(a)] = self._name_of_computed(a)
            self._computed.append(a)
        self.constants[name] = a if a.is_leaf else a.detach().requires_grad_()
        return self.create_node("get_attr", name, (), {})

    def _name_of_computed(self, value: Tensor) -> str:
        stack = list(self.module_stack.values())
        path = f"{stack[-1][0]}." if stack and stack[-1][0] else ""
        number = 0
        while f"{path}computed_{number}" in self.constants:
            number += 1
        return f"{path}computed_{number}"


def _takes_any_number(forward: Callable[..., Any]) -> bool:
    """Whether it has *args or **kwargs."""
    return any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in inspect.signature(forward).parameters.values())


def _container_passed_in(node: fx.Node) -> fx.Node | None:
    """The argument, or the value within an argument, that is iterated over at a node; None if it is computed."""
    if node.op == "call_method" and node.target in ("items", "values", "keys") and len(node.args) == 1:
        (node,) = node.all_input_nodes
    source = node
    while source.target is operator.getitem and isinstance(source.args[0], fx.Node):
        source = source.args[0]
    return node if source.op == "placeholder" else None


def _attributes(root: nn.Module) -> list[tuple[str, Tensor]]:
    """Tensors kept as plain attributes, under the names users gave them."""
    return [
        (f"{path}.{name}" if path else name, value)
        for path, module in root.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
