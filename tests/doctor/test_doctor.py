"""What the doctor says of an installation that works, and of those that lack something."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fusekit.doctor import Examination, Finding, State
from fusekit.doctor.examine import examine, of_requirement, writable
from tests.support.cli_room import run


def state(found: Examination, name: str) -> State:
    return next(each.state for each in found.findings if each.name == name)


def test_this_installation_works() -> None:
    told = run("doctor", "--json")
    found = json.loads(told.stdout)
    assert told.code == 0 and found["ok"], found
    names = {each["name"] for each in found["findings"]}
    assert {"python", "fusekit", "onnxruntime", "providers", "threads", "cache", "trial"} <= names
    assert all(each["advice"] or each["state"] != "bad" for each in found["findings"])


def test_a_package_that_is_missing_or_of_another_version() -> None:
    gone = of_requirement("packages", Requirement("no-such-package-of-anybody>=2"), core=True)
    assert (gone.state, gone.advice) == (State.BAD, "pip install 'no-such-package-of-anybody>=2'")
    old = of_requirement("packages", Requirement("numpy>=900"), core=True)
    assert old.state is State.BAD and "expected >=900" in old.found
    assert of_requirement("extras", Requirement("numpy>=900"), core=False).state is State.NOTE
    assert of_requirement("packages", Requirement("numpy>1"), core=True).state is State.OK


def test_the_core_fails_without_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing raises; the finding names the reason, and the exit code is 2."""
    monkeypatch.setattr("fusekit.api.export", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("fusekit.doctor.examine.requirements", lambda: [Requirement("no-such-package-of-anybody")])
    told = run("doctor")
    assert told.code == 2
    assert "ZeroDivisionError" in told.stdout and "not installed" in told.stdout
    assert "The core does not work" in told.stdout and "Traceback" not in told.stdout + told.stderr


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("fusekit.doctor.examine._trial", lambda: iter(()))
    monkeypatch.setattr(metadata, "requires", gone)
    monkeypatch.setattr(metadata, "metadata", gone)
    found = examine()
    assert found.ok and state(found, "fusekit") is State.NOTE


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert not writable(tmp_path / "file" / "inside") and writable(tmp_path / "new")
    monkeypatch.setattr("fusekit.doctor.examine._trial", lambda: iter(()))
    monkeypatch.setenv("FUSEKIT_CACHE_DIR", str(tmp_path / "file" / "inside"))
    found = examine()
    assert state(found, "cache") is State.NOTE and found.ok
    assert any("FUSEKIT_CACHE_DIR" in each.advice for each in found.findings)


def test_one_that_is_bad_is_enough() -> None:
    good = Finding("a", "b", State.OK)
    assert Examination((good, Finding("a", "c", State.NOTE))).ok
    assert not Examination((good, Finding("a", "c", State.BAD))).ok
