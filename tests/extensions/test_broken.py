"""Broken extensions: each is named once, in one line, and left out; all else works as if it were not there."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fusekit
from fusekit.errors import FusekitError
from fusekit.extensions import NO_EXTENSIONS
from fusekit.ir.operators import OPERATORS
from fusekit.model import Inputs
from fusekit.onnx_export.plain_export import plain_export
from fusekit.optimizing.laws import OTHERS, passes
from fusekit.passes import PASSES
from fusekit.runtimes import RUNTIMES, runtimes
from tests.support.cli_room import run
from tests.support.compare import assert_same
from tests.support.installed import Points, install, on_path

HEAD = """
from dataclasses import dataclass
import torch
from fusekit.algebra import Affine, Conv, Elementwise
from fusekit.errors import Inapplicable
from fusekit.grafting.meaning import FileReaders
from fusekit.ir.spellings import Spelling
from fusekit.rewriting import Rewrite
from fusekit.rewriting.pattern import Compose
from fusekit.runtimes.onnx_runtime import OnnxRuntime

class Good(Rewrite):
    '''relu ∘ c = relu ∘ c.'''
    name = "good"
    pattern = Compose(Elementwise, Conv)
    def propose(self, f, c):
        raise Inapplicable("nothing to do")
"""


def rewrite(name: str, body: str) -> str:
    return f"{HEAD}\nclass Broken(Good):\n    name = {name!r}\n    {body}\n"


X = torch.randn(1, 3, 8, 8, dtype=torch.float64)


def network() -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval().double()
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with on_path(tmp_path):
        yield tmp_path


def told_by(work: Any) -> list[str]:
    """fusekit's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(each.message) for each in caught if str(each.message).startswith("fusekit: ")]


def bring(site: Path, group: str, code: str, name: str = "broken", value: str = "broken_one:Broken") -> None:
    install(site, "broken-package", {group: {name: value}}, {"broken_one": code})


BROKEN_PASSES = {
    "import error": ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
    "syntax error": ("def f(:", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "no such name": (HEAD, "has no attribute 'Broken'"),
    "not a pass": ("Broken = 3", "expected a fusekit.rewriting.Rewrite, got int"),
    "a class of another kind": ("class Broken: pass", "expected a fusekit.rewriting.Rewrite, got Broken"),
    "another name": (rewrite("other", "pass"), "its `name` must be 'broken', lower case with hyphens, got 'other'"),
    "raises when made": (rewrite("broken", "def __init__(self): raise OSError('disk')"), "OSError: disk"),
    "no pattern": (rewrite("broken", "pattern = None"), "its `pattern` must have a method `match`"),
    "no law": (rewrite("broken", "propose = Rewrite.propose"), "it has no method `propose`"),
    "for ever": (rewrite("broken", "gain = 2.0"), "its `gain` must be between 0 and 1, got 2.0"),
    "no such stage": (rewrite("broken", "stage = 'lunch'"), "its `stage` must be empty or one of canonicalize, "),
}


@pytest.mark.parametrize("kind", BROKEN_PASSES)
def test_a_pass_that_cannot_be_loaded(kind: str, site: Path) -> None:
    code, reason = BROKEN_PASSES[kind]
    bring(site, "fusekit.passes", code)
    results: list[Any] = []
    told = told_by(lambda: results.extend(fusekit.optimize(network(), X) for _ in range(2)))
    (line,) = told
    assert line.startswith("fusekit: the pass 'broken' of broken-package 1.0 (broken_one:Broken) is left out: ")
    assert reason in line and "\n" not in line
    for result in results:
        assert [event.rewrite for event in result.report.applied] == ["fold-affine"]
    assert set(passes()) == set(PASSES)
    with pytest.raises(FusekitError, match="the pass 'broken' of broken-package 1.0"):
        fusekit.optimize(network(), X, passes=["broken"])


@pytest.mark.parametrize("outcome", ["pattern", "law", "form"])
def test_a_pass_that_fails_when_it_is_called(outcome: str, site: Path) -> None:
    body = {
        "pattern": "pattern = type('P', (), {'match': lambda self, graph, node: 1 / 0, '__str__': lambda s: 'P'})()",
        "law": "def propose(self, f, c): raise KeyError('lost')",
        "form": "def propose(self, f, c): return 5",
    }[outcome]
    bring(site, "fusekit.passes", rewrite("broken", body))
    model, found = network(), list[Any]()
    assert told_by(lambda: found.append(fusekit.optimize(model, X))) == []
    (event,) = found[0].report.rejected
    assert event.rewrite == "broken" and event.reason.endswith("this pass of another package is left out from here on")
    assert [each.rewrite for each in found[0].report.applied] == ["fold-affine"]
    assert_same(found[0], model, X)


def test_a_pass_that_fails_on_a_file(site: Path, tmp_path: Path) -> None:
    """In several rounds, and it is named once."""
    bring(site, "fusekit.passes", rewrite("broken", "def propose(self, f, c): raise KeyError('lost')"))
    plain = plain_export(network().float(), tmp_path / "m.onnx", Inputs.of(X.float()), dynamic=False)
    verdict = fusekit.optimize_onnx(plain, tmp_path / "n.onnx", X.float())
    assert verdict.ok and verdict.report is not None
    assert [event.rewrite for event in verdict.report.events if event.rewrite == "broken"] == ["broken"]


def test_a_name_that_is_in_use(site: Path) -> None:
    code = {"broken_one": rewrite("fold-affine", "pass") + "class Mine(OnnxRuntime):\n    name = 'torch'\n"}
    mine: Points = {
        "fusekit.passes": {"fold-affine": "broken_one:Broken", "channels-last": "broken_one:Broken"},
        "fusekit.runtimes": {"torch": "broken_one:Mine"},
    }
    install(site, "broken-package", mine, code)
    told = told_by(lambda: (passes(), passes(), runtimes(), runtimes()))
    assert [line.split(" of broken-package")[0] for line in told] == [
        "fusekit: the pass 'channels-last'",
        "fusekit: the pass 'fold-affine'",
        "fusekit: the runtime 'torch'",
    ]
    assert told[1].endswith("is left out: fusekit has a pass of this name")
    assert type(passes()["fold-affine"]).__module__ == "fusekit.passes.fold_affine"


def test_two_packages_with_one_name(site: Path) -> None:
    code = HEAD.replace('"good"', '"twin"')
    for name in ("b-twin", "a-twin"):
        install(site, name, {"fusekit.passes": {"twin": f"{name[0]}_twin:Good"}}, {f"{name[0]}_twin": code})
    (line,) = told_by(passes)
    assert line.startswith("fusekit: the pass 'twin' of b-twin 1.0") and "a-twin 1.0 has a pass of this name" in line
    assert OTHERS.package("twin") == "a-twin 1.0"


BROKEN_RUNTIMES = {
    "no runtime": ("class Broken: name = 'broken'", "its attribute `title` must be a str"),
    "another name": ("class Broken: name = 'other'", "its attribute `name` must be 'broken', got 'other'"),
    "no rates": (f"{HEAD}\nclass Broken(OnnxRuntime):\n    name, rates = 'broken', 1", "`rates` must be a Rates"),
    "no method": (f"{HEAD}\nclass Broken(OnnxRuntime):\n    name, load = 'broken', 1", "it has no method `load`"),
    "raises": (
        f"{HEAD}\nclass Broken(OnnxRuntime):\n    name = 'broken'\n    def missing(self): raise OSError('no driver')",
        "OSError: no driver",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_RUNTIMES)
def test_a_runtime_that_cannot_be_loaded(kind: str, site: Path) -> None:
    code, reason = BROKEN_RUNTIMES[kind]
    bring(site, "fusekit.runtimes", code)
    (line,) = told_by(lambda: (runtimes(), runtimes()))
    assert line.startswith("fusekit: the runtime 'broken' of broken-package 1.0") and reason in line
    with pytest.raises(FusekitError, match="the runtime 'broken' of broken-package 1.0"):
        fusekit.optimize(network(), target="broken")


BROKEN_READERS = {
    "wrong kind": ("Broken = {'Relu': None}", "expected a Spelling or FileReaders, got dict"),
    "taken in a file": (
        f"{HEAD}\nBroken = FileReaders({{'Conv': lambda node, known: None}})",
        "there is a reader of Conv already",
    ),
    "taken in a graph": (
        f"{HEAD}\nBroken = Spelling(read={{torch.ops.aten.conv2d.default: lambda graph, node, a: None}})",
        "there is a spelling of",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_READERS)
def test_a_reader_that_cannot_be_loaded(kind: str, site: Path) -> None:
    code, reason = BROKEN_READERS[kind]
    bring(site, "fusekit.operators", code)
    results: list[Any] = []
    (line,) = told_by(lambda: results.extend(fusekit.optimize(network(), X) for _ in range(2)))
    assert line.startswith("fusekit: the reader of operators 'broken' of broken-package 1.0") and reason in line
    assert [event.rewrite for event in results[0].report.applied] == ["fold-affine"]


@pytest.mark.parametrize("answer", ["1 / 0", "'a word'"])
def test_a_reader_that_fails_when_it_is_asked(answer: str, site: Path, tmp_path: Path) -> None:
    code = f"""{HEAD}
Broken = Spelling(read={{torch.ops.aten.cos.default: lambda graph, node, a: {answer}}})
Files = FileReaders({{"Cos": lambda node, known: {answer}}})
"""
    points = {"fusekit.operators": {"broken": "broken_one:Broken", "files": "broken_one:Files"}}
    install(site, "broken-package", points, {"broken_one": code})

    class Cosine(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.aten.cos.default(x)

    model, found = nn.Sequential(network(), Cosine()), list[Any]()
    told = told_by(lambda: found.extend(fusekit.optimize(model, X) for _ in range(2)))
    assert [line.split(" (")[0] for line in told] == ["fusekit: the reader of operators 'broken' of broken-package 1.0"]
    assert_same(found[1], model, X)
    plain = plain_export(model.float(), tmp_path / "m.onnx", Inputs.of(X.float()), dynamic=False)
    told = told_by(lambda: fusekit.optimize_onnx(plain, tmp_path / "n.onnx", X.float()))
    assert [line.split(" (")[0] for line in told] == ["fusekit: the reader of operators 'files' of broken-package 1.0"]


def test_the_command_line_names_them_in_one_line_each(site: Path) -> None:
    bring(site, "fusekit.passes", "import nothing_like_it")
    shown = run("passes", "--json")
    assert shown.code == 0
    (line,) = json.loads(shown.stdout)["left_out"]
    assert "No module named 'nothing_like_it'" in line
    assert shown.stderr == f"warning: {line}\n"
    again = run("passes")
    assert again.stderr == "" and "'broken'" in again.stdout, "the list still says what is left out"


def test_they_can_be_switched_off(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(site, "fusekit.passes", "import nothing_like_it")
    monkeypatch.setenv(NO_EXTENSIONS, "0")
    assert told_by(lambda: fusekit.optimize(network(), X)) == []
    assert OTHERS.names() == RUNTIMES.names() == OPERATORS.names() == ()
