"""Cores are given to one worker each, and a worker that has none times nothing."""

from pathlib import Path

import pytest

from fusekit.batching import work as working
from fusekit.batching.cores import own_cores, usable
from fusekit.batching.item import Item
from fusekit.batching.work import Task
from fusekit.optimizing.options import CACHED


def test_a_core_has_one_owner(tmp_path: Path) -> None:
    before = usable()
    with own_cores(len(before), tmp_path) as all_of_them:
        assert all_of_them == before
        with own_cores(1, tmp_path) as none_left:
            assert none_left == () and usable() == before
    with own_cores(1, tmp_path) as one:
        assert usable() == one and len(one) == 1
        with own_cores(len(before), tmp_path) as too_many:
            assert too_many == ()
    assert usable() == before


def test_without_a_folder_for_locks_nobody_is_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with own_cores(1, tmp_path / "file" / "sub") as cores:
        assert cores == ()


def test_who_may_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusekit.batching.cores._folder", lambda: tmp_path)
    monkeypatch.setenv("FUSEKIT_MEASURE", "1")
    item = Item("a", "nets:net")
    task = Task(item, tmp_path, tmp_path, None)
    with working._choosing(task, 1) as (measure, said):
        assert measure is True and said.startswith("measured, alone on core ")
        with working._choosing(task, len(usable())) as (measure, said):
            assert measure == CACHED and said.endswith("the worker is not alone on its cores")
    with working._choosing(Task(item, tmp_path, tmp_path, None, crowded="4 on 2"), 1) as (measure, said):
        assert (measure, said) == (CACHED, "by the cache, else by price: 4 on 2")
    monkeypatch.setenv("FUSEKIT_MEASURE", "0")
    with working._choosing(task, 1) as (measure, said):
        assert (measure, said) == (False, "by price: measuring is off")
