"""Builds a model by calling a factory that the user names: `package.module:factory` or `path/to/file.py:factory`.

Naming a factory is permission to run it; no other code of the user is run. If it fails, the error is one sentence that
names the factory and its exception.
"""

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fusekit.errors import CheckpointError, closest

_NAME = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_][\w.]*)")


def is_factory_name(text: str) -> bool:
    """Whether `text` is spelled `package.module:factory` or `file.py:factory`."""
    return _NAME.fullmatch(text) is not None


def build(factory: str | Callable[..., Any], arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """The model that `factory` returns when it is called with the keyword `arguments`.

    Raises CheckpointError if there is no such factory, if it does not accept these arguments, if it fails, or if it
    does not return an nn.Module.
    """
    given = dict(arguments or {})
    name = factory if isinstance(factory, str) else getattr(factory, "__qualname__", repr(factory))
    with importable(Path.cwd()):
        maker = _find(factory) if isinstance(factory, str) else factory
        if isinstance(maker, nn.Module):  # the name is that of a model, so there is nothing to call
            if given:
                raise CheckpointError(f"{name} is a model already built; it takes no arguments ({', '.join(given)})")
            return maker
        if not callable(maker):
            raise CheckpointError(
                f"{name} is a {type(maker).__name__}; expected a function or class that builds a model"
            )
        _check_arguments(name, maker, given)
        try:
            model = maker(**given)
        except (Exception, SystemExit) as error:
            raise CheckpointError(f"the factory {name} raised {brief(error)}") from error
    if not isinstance(model, nn.Module):
        hint = ": name what builds the model, and give the weights by --weights" if isinstance(model, Mapping) else ""
        raise CheckpointError(f"the factory {name} returned a {type(model).__name__}; expected a torch.nn.Module{hint}")
    return model


def brief(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """A context manager: Python modules in `folder` can be imported. (`python -m` looks in the current folder, but an
    installed command does not.)"""
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # Remove one entry, ours, but only if it is still there: the user's code may have changed the path.
        if entry in sys.path:
            sys.path.remove(entry)


def _find(name: str) -> Any:
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise CheckpointError(f"{name!r} names no factory; expected package.module:factory or path/to/file.py:factory")
    found: Any = _import(matched["module"])
    for part in matched["attribute"].split("."):
        if not hasattr(found, part):
            choices = sorted(key for key, value in getattr(found, "__dict__", {}).items() if _may_build(value, found))
            offer = closest(part, choices) or (f"; it defines {', '.join(choices[:6])}" if choices else "")
            raise CheckpointError(f"{matched['module']} has no attribute {part!r}{offer}")
        found = getattr(found, part)
    return found


def _may_build(value: object, owner: object) -> bool:
    return callable(value) and getattr(value, "__module__", None) == getattr(owner, "__name__", "")


def _import(module: str) -> ModuleType:
    try:
        if module.endswith(".py"):
            return _import_file(Path(module))
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            hint = closest(error.name, [file.stem for file in Path.cwd().glob("*.py")])
            raise CheckpointError(
                f"there is no module {module!r} here (looked in the current folder and on sys.path){hint}"
            ) from error
        raise CheckpointError(f"importing {module} failed: it needs the module {error.name!r}, not found") from error
    except (Exception, SystemExit) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"importing {module} raised {brief(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected the Python file that defines the factory")
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # The module is named after the file, so that pickle finds its classes again, unless this would hide another module.
    other = None if known is not None else importlib.util.find_spec(path.stem)
    taken = known is not None or (other is not None and other.origin != str(path))
    name = f"{path.stem}_{zlib.crc32(str(path).encode()):08x}" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CheckpointError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # the next import must not find a module that is only half executed
        raise
    return module


def _check_arguments(name: str, maker: Callable[..., Any], given: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(maker)
    except (TypeError, ValueError):
        return  # some builtins have no signature; then the call itself fails if the arguments are wrong
    try:
        signature.bind(**given)
    except TypeError as error:
        told = f"wrong arguments for the factory {name}{_spell(signature)}: {error}"
        raise CheckpointError(f"{told}; give each as --arg NAME=VALUE (arguments={{...}})") from error


def _spell(signature: inspect.Signature) -> str:
    """The parameters without annotations, which can be very long."""
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(plain))
