"""A function that is changed for one thread is its old self for all others, and for all when that thread is done."""

from collections.abc import Callable
from typing import Any

from fusekit.model.per_thread import PerThread
from tests.support.threads import elsewhere


def test_what_somebody_else_put_in_meanwhile_is_left_to_them() -> None:
    owner: dict[str, Any] = {"f": lambda: "plain"}
    plain, place = owner["f"], PerThread(owner, "f")
    mine: Callable[[], str]
    theirs: Callable[[], str]
    with place.changed(lambda plain: lambda: "changed"):
        mine = owner["f"]
        owner["f"] = theirs = lambda: f"theirs of {mine()}"
        assert owner["f"]() == "theirs of changed"
    assert owner["f"] is theirs and theirs() == "theirs of plain"
    owner["f"] = mine  # as they found it
    assert owner["f"]() == "plain"
    with place.changed(lambda plain: lambda: "again"):
        assert owner["f"]() == "again"
    assert owner["f"] is plain


def test_a_class_method_is_one_again() -> None:
    class Owner:
        @classmethod
        def name(cls) -> str:
            return cls.__name__

    place = PerThread(Owner, "name")
    with place.changed(lambda plain: lambda: plain().lower()):
        assert Owner.name() == Owner().name() == "owner" and elsewhere(Owner.name) == "Owner"
    assert isinstance(vars(Owner)["name"], classmethod) and type("Other", (Owner,), {}).name() == "Other"  # type: ignore[attr-defined]
