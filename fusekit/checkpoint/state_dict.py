"""Loads a state dict into a model. All keys, shapes and kinds of number (real, complex, integer) must agree.

Training scripts often wrap a state dict. Only three kinds of wrapping are removed, because they are unambiguous: an
outer dict with a key from a short list; a prefix of all keys whose removal (or addition) gives exactly the model's
keys; and what stands beside the only prefix under which all keys of the model are (the counter of an averaged model,
the weights of a loss beside `model.`).
There is no partial loading, because a model with a few random weights runs, but gives wrong results.
"""

import warnings
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from fusekit.checkpoint.factory import brief
from fusekit.errors import CheckpointError, closest

# In order of preference: the model comes before its exponential moving average.
WRAPPINGS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "params", "generator"),
    *("params_ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema"),
)
_COUNTER = "num_batches_tracked"  # of batch norm: missing in old files, and not used in eval mode
_FEW = 3


def unwrap(content: object, name: str, key: str | None = None) -> Mapping[str, torch.Tensor] | nn.Module:
    """The state dict (or module) inside the object that a training script saved.

    Args:
        content: the object.
        name: the file's name, for messages.
        key: the entry to take; None: look for one of `WRAPPINGS`.

    Raises CheckpointError if there is none.
    """
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            hint = ""
            if isinstance(content, Mapping):
                hint = (
                    f"; without #{key} it is read as it is"
                    if is_state_dict(content)
                    else closest(key, map(str, content))
                )
            raise CheckpointError(f"{name} has no entry {key!r}; it holds {describe(content)}{hint}")
        content = content[key]
    for _ in range(4):  # wrappings may be nested, as in {"state_dict": {"model": ...}}
        if isinstance(content, nn.Module) or is_state_dict(content):
            return content  # type: ignore[return-value]
        if not isinstance(content, Mapping):
            break
        inside = [
            entry for entry in WRAPPINGS if isinstance(content.get(entry), (Mapping, nn.Module)) and content[entry]
        ]
        if not inside:
            break
        if len(inside) > 1:
            warnings.warn(
                f"fusekit: {name} holds {' and '.join(map(repr, inside))}; took {inside[0]!r} "
                f"(write {name}#{inside[1]} for the other)",
                stacklevel=3,
            )
        content = content[inside[0]]
    raise CheckpointError(
        f"{name} holds {describe(content)}; expected a state dict (names to tensors), or one under "
        f"{', '.join(WRAPPINGS[:3])} ...; write FILE#entry to name another entry"
    )


def is_state_dict(content: object) -> bool:
    """Whether the object maps names to tensors. Extra state (`..._extra_state`) of any type may be among them."""
    if not isinstance(content, Mapping) or not content:
        return False
    values = content.values()
    return (
        all(isinstance(key, str) for key in content)
        and any(isinstance(value, torch.Tensor) for value in values)
        and all(isinstance(content[key], torch.Tensor) or key.endswith("_extra_state") for key in content)
    )


def describe(content: object) -> str:
    """A description of a loaded object for messages: the size and first keys of a state dict, else its entries or
    type."""
    if is_state_dict(content):
        assert isinstance(content, Mapping)
        return f"a state dict of {len(content)} tensors ({_few(list(content))})"
    if isinstance(content, Mapping):
        entries = [f"{key}: {type(value).__name__}" for key, value in content.items()]
        return f"a dict ({_few(entries)})" if entries else "an empty dict"
    return f"an object of type {type(content).__module__}.{type(content).__qualname__}".replace("builtins.", "")


def fill(model: nn.Module, given: Mapping[str, Any], name: str) -> None:
    """Load the state dict `given` into `model`, after a common prefix of its keys is removed or added. `name`: the
    file's name, for messages. Raises CheckpointError that says what differs."""
    expected: Mapping[str, Any] = model.state_dict()
    given = _taken_from(_rename(given, expected), expected, name)
    missing = [key for key in expected if key not in given and not key.endswith(_COUNTER)]
    unexpected = [key for key in given if key not in expected and not key.endswith(_COUNTER)]
    differences = []
    if missing:
        differences.append(f"{len(missing)} of {len(expected)} keys missing ({_few(missing)})")
    if unexpected:
        differences.append(f"{len(unexpected)} of {len(given)} keys unexpected ({_few(unexpected)})")
    if missing and unexpected and (near := get_close_matches(missing[0], unexpected, n=1)):
        differences.append(f"the closest to {missing[0]} is {near[0]}")
    # Compare shapes too: they often show that the file belongs to another variant of the model.
    wrong = [text for key in expected if key in given and (text := _difference(key, expected[key], given[key]))]
    if wrong:
        differences.append(f"{len(wrong)} of {len(expected)} tensors of another shape or kind ({_few(wrong, '; ')})")
    if differences:
        quantized = any(isinstance(value, torch.Tensor) and value.is_quantized for value in given.values())
        hint = "give the factory the arguments that it was trained with (--arg), or the weights of this model"
        if quantized:
            hint = "the weights are quantized; expected those of the model before quantization"
        raise CheckpointError(f"{name} does not fit {type(model).__name__}: {', '.join(differences)}; {hint}")
    counters = {key: value for key, value in expected.items() if key.endswith(_COUNTER) and key not in given}
    fitting = {key: value for key, value in given.items() if key in expected}
    try:
        model.load_state_dict({**counters, **fitting}, strict=True)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{name} does not fit {type(model).__name__}: {brief(error)}") from error


def _rename(given: Mapping[str, Any], expected: Mapping[str, Any]) -> Mapping[str, Any]:
    """`given` with the model's keys, if they differ only by one prefix; else `given` unchanged."""
    want, have = _essential(expected), _essential(given)
    if want == have or not want or not have:
        return given
    # The prefix must work for every key, so the first key alone gives all candidates.
    first = next(iter(sorted(want)))
    for key in have:
        if key.endswith("." + first):
            prefix = key[: -len(first)]
            if {prefix + wanted for wanted in want} == have:
                return {old.removeprefix(prefix): value for old, value in given.items()}
        if first.endswith("." + key):
            prefix = first[: -len(key)]
            if {prefix + old for old in have} == want:
                return {prefix + old: value for old, value in given.items()}
    return given


def _taken_from(given: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The values under the only prefix that holds all keys of the model, without the prefix; else `given` unchanged.
    Warns about what is left out."""
    want, have = _essential(expected), _essential(given)
    if not want or want <= have:
        return given
    first = min(want)
    prefixes = [key[: -len(first)] for key in have if key.endswith("." + first)]
    prefixes = [prefix for prefix in prefixes if {prefix + wanted for wanted in want} <= have]
    if len(prefixes) != 1:
        return given
    (prefix,) = prefixes
    inside = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    if any(key not in want for key in _essential(inside)):
        return given  # of a larger model, of which only a part would be taken
    outside = [key for key in given if not key.startswith(prefix)]
    warnings.warn(f"fusekit: {name}: took {prefix}*, and left out {_few(outside)}", stacklevel=4)
    return inside


def _essential(keys: Collection[str]) -> set[str]:
    return {key for key in keys if not key.endswith(_COUNTER)}


def _difference(key: str, expected: Any, given: Any) -> str:
    """Why the given value cannot replace the expected one; "" if it can. Another precision is allowed."""
    if not isinstance(expected, torch.Tensor) or nn.parameter.is_lazy(expected) or key.endswith(_COUNTER):
        return ""
    if not isinstance(given, torch.Tensor):
        return f"{key}: expected a tensor, got {type(given).__name__}"
    if expected.shape != given.shape:
        return f"{key}: expected {_shape(expected)}, got {_shape(given)}"
    if (expected.is_complex(), expected.is_floating_point()) != (given.is_complex(), given.is_floating_point()):
        return f"{key}: expected {expected.dtype}, got {given.dtype}".replace("torch.", "")
    return ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _few(names: list[str], separator: str = ", ") -> str:
    return separator.join(names[:_FEW]) + (" ..." if len(names) > _FEW else "")
