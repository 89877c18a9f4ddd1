"""Whether what another package brings is a runtime, as far as one can tell without running a network."""

from typing import Any

from fusekit.algebra import Rates
from fusekit.errors import FusekitError
from fusekit.runtimes.protocol import Runtime

_ATTRIBUTES = {"title": str, "rates": Rates, "reads_files": bool, "has_complex": bool}
_METHODS = ("missing", "identity", "load", "build")


def accepted(name: str, value: object) -> Runtime:
    """The runtime that an entry point of this `name` names by `value`: an object, or a class without arguments. Raises
    FusekitError if it is no runtime."""
    made: Any = value() if isinstance(value, type) else value
    if getattr(made, "name", None) != name:
        raise FusekitError(f"its attribute `name` must be {name!r}, got {getattr(made, 'name', None)!r}")
    for attribute, kind in _ATTRIBUTES.items():
        if not isinstance(getattr(made, attribute, None), kind):
            raise FusekitError(f"its attribute `{attribute}` must be a {kind.__name__}")
    for method in _METHODS:
        if not callable(getattr(made, method, None)):
            raise FusekitError(f"it has no method `{method}`")
    if not isinstance(made.missing(), str):
        raise FusekitError("its method `missing` must return a str")
    found: Runtime = made
    return found
