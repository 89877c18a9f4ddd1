"""Archives that torch writes load to the same function; damaged or edited ones do, too, or are refused in one line."""

import copy
import io
import json
import logging
import random
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fusekit.checkpoint.archive.scan_pickle import check_pickle
from fusekit.checkpoint.load import load
from fusekit.errors import CheckpointError
from tests.support.archive_room import EXAMPLES, PROGRAM, entries, good, saved, write
from tests.support.checkpoint_room import here

__all__ = ["good", "here"]  # fixtures: pytest finds them by name in this module

AUTO = torch.export.Dim.AUTO
KINDS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
)


class Kinds(nn.Module):
    """Buffers of every kind of number, some not persistent, shared and expanded and empty ones."""

    part: Tensor
    spread: Tensor
    none: Tensor

    def __init__(self) -> None:
        super().__init__()
        for index, kind in enumerate(KINDS):
            self.register_buffer(f"kind{index}", torch.tensor([0, 1, 1]).to(kind), persistent=index % 2 == 0)
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.same = self.weight
        self.register_buffer("part", self.weight.detach()[1:3].t())
        self.register_buffer("spread", torch.ones(1, 1).expand(3, 5))
        self.register_buffer("none", torch.zeros(0, 3))

    def forward(self, x: Tensor) -> dict[str, Any]:
        kinds = [x + getattr(self, f"kind{index}") for index in range(len(KINDS))]
        sums = (self.weight.sum() + self.same + self.part.sum(), self.spread.sum(), self.none.sum())
        return {"kinds": kinds, "sums": sums, "constants": (torch.tensor([1.0, 2.0, 3.0]) * x, None, 3, 0.5)}


class Nested(nn.Module):
    """Several inputs, in a dict and a list, by keyword."""

    def forward(self, x: Tensor, *, d: dict[str, Any], mode: str = "a") -> list[Tensor]:
        return [x + d["u"] * 2, d["w"][0] - x]


class Mixed(nn.Module):
    """Operators with several results, texts, lists, complex numbers, infinities; and no_grad, an inner program."""

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        with torch.no_grad():
            y = x * 2
        left, right = y.chunk(2, 1)
        value, index = torch.max(x, 1)
        wide = nn.functional.interpolate(x[None, None], size=(x.shape[0] * 2, 7), mode="bilinear", antialias=True)
        product = torch.einsum("ij,kj->ik", x, x)
        chosen = torch.where(x > 0, x, float("inf"))
        return left * right, value, index, wide, product, chosen, x.to(torch.complex64) * (1 + 2j), x[:, [0, 2]]


class Counted(nn.Module):
    """A size that stands in a tensor."""

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        n = count.item()
        torch._check(n >= 2)
        torch._check(n < x.shape[0])
        return x[:n]


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Upsample(scale_factor=1.5), nn.PixelShuffle(2))


def _free(*axes: int) -> tuple[dict[int, Any], ...]:
    return (dict.fromkeys(axes, AUTO),)


X = torch.randn(3, generator=torch.Generator().manual_seed(0))
GOOD: dict[str, tuple[Any, tuple[Tensor, ...], dict[str, Any], Any, tuple[Tensor, ...]]] = {
    "kinds": (Kinds, (X,), {}, None, (X + 1,)),
    "nested": (Nested, (X,), {"d": {"u": X, "w": [X]}, "mode": "b"}, None, (X + 1,)),
    "mixed": (Mixed, (torch.randn(6, 8),), {}, _free(0), (torch.randn(9, 8),)),
    "counted": (Counted, (torch.randn(6, 2), torch.tensor(3)), {}, None, (torch.randn(6, 2), torch.tensor(4))),
    "network": (_network, (torch.randn(2, 3, 16, 12),), {}, _free(0, 2, 3), (torch.randn(5, 3, 24, 13),)),
    "derived": (
        lambda: nn.Conv2d(3, 4, 3, 2, 1),
        (torch.randn(2, 3, 16, 12),),
        {},
        ({2: 2 * torch.export.Dim("half", min=4, max=64)},),
        (torch.randn(2, 3, 24, 12),),
    ),
    "recurrent": (
        lambda: nn.LSTM(4, 5, batch_first=True, bidirectional=True),
        (torch.randn(2, 6, 4),),
        {},
        _free(0),
        (torch.randn(3, 6, 4),),
    ),
    "attention": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (torch.randn(2, 6, 8),),
        {},
        _free(0, 1),
        (torch.randn(3, 9, 8),),
    ),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.filterwarnings("ignore")
def test_what_torch_writes_loads_to_the_same_function(here: Path, name: str) -> None:
    make, inputs, keywords, shapes, others = GOOD[name]
    program = torch.export.export(make().eval(), inputs, keywords, dynamic_shapes=shapes)
    torch.export.save(program, "net.pt2", extra_files={"note.txt": "kept by nobody"})
    mine, theirs = load("net.pt2"), program.module()
    for given_inputs in (inputs, others):
        _assert_same(mine(*given_inputs, **keywords), theirs(*given_inputs, **keywords))


def _assert_same(first: Any, second: Any) -> None:
    ours, structure = pytree.tree_flatten(first)
    others, other_structure = pytree.tree_flatten(second)
    assert structure == other_structure
    for left, right in zip(ours, others, strict=True):
        if isinstance(left, Tensor):
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
        else:
            assert left == right


def test_what_a_program_assumes_is_still_checked(here: Path, good: Path) -> None:
    module = load(good)
    with pytest.raises(AssertionError, match=r"x.size\(\)\[1\] == 3"):
        module(torch.randn(2, 4, 12, 16))


def test_lines_and_modules_are_kept(good: Path) -> None:
    module: Any = load(good)
    notes = {node.name: node.meta for node in module.graph.nodes}
    assert re.search(r'File ".*archive_room\.py", line \d+, in forward', notes["conv2d"]["stack_trace"])
    assert list(notes["conv2d"]["nn_module_stack"].values())[-1] == ("conv", "torch.nn.modules.conv.Conv2d")


def test_shared_weights_stay_shared(here: Path) -> None:
    torch.export.save(torch.export.export(Kinds(), (X,)), "kinds.pt2")
    module: Any = load("kinds.pt2")
    assert module.part.untyped_storage().data_ptr() == module.weight.untyped_storage().data_ptr()


def test_the_format_before_torch_2_8_loads(here: Path, good: Path) -> None:
    program, content = torch.export.load(good), entries(good)
    with zipfile.ZipFile("old.pt2", "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", content[PROGRAM])
        archive.writestr("serialized_state_dict.pt", saved(dict(program.state_dict)))
        archive.writestr("serialized_constants.pt", saved(dict(program.constants)))
        archive.writestr("serialized_example_inputs.pt", content[EXAMPLES])
    x = torch.randn(3, 3, 20, 14)
    _assert_same(load("old.pt2")(x), load(good)(x))


def test_a_packed_copy_is_the_same(here: Path, good: Path) -> None:
    x = torch.randn(3, 3, 20, 14)
    packed = write(Path("packed.pt2"), entries(good), packed=zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < good.stat().st_size
    _assert_same(load(packed)(x), load(good)(x))


def test_flipped_bytes_change_nothing_or_are_refused(here: Path, good: Path) -> None:
    whole, source = good.read_bytes(), random.Random(0)
    x = torch.randn(2, 3, 12, 16)
    expected = load(good)(x)
    refusals = 0
    for _ in range(60):
        damaged = bytearray(whole)
        # Half of them in the headers, which stand between the entries and at the end.
        headers = [found.start() + source.randrange(60) for found in re.finditer(rb"PK[\1\3\5\7]", whole)]
        places = headers if source.random() < 0.5 else range(len(whole))
        damaged[min(source.choice(places), len(whole) - 1)] ^= 1 << source.randrange(8)
        Path("damaged.pt2").write_bytes(damaged)
        try:
            _assert_same(load("damaged.pt2")(x), expected)
        except CheckpointError as error:
            refusals += 1
            assert "\n" not in str(error)
    assert refusals > 20


def _places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in nested JSON."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*place, key)
        yield from _places(value, (*place, key))


NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 62,
    10**30,
    0.5,
    "",
    "x",
    "open('crater', 'w')",
    "__class__",
    [],
    {},
    [0],
    {"as_int": 1},
)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_edited_programs_load_or_are_refused(here: Path, good: Path, data: st.DataObject) -> None:
    """One or two fields of the JSON replaced, dropped, or written twice: nothing but a CheckpointError comes out."""
    content = entries(good)
    program = json.loads(content[PROGRAM])
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([place for place in _places(program) if "metadata" not in place[:-1]]))
        inside = program
        for key in way:
            inside = inside[key]
        match data.draw(st.sampled_from(["replace", "swap", "drop"])):
            case "replace":
                inside[last] = data.draw(st.sampled_from(NASTY))
            case "swap":
                inside[last] = copy.deepcopy(
                    data.draw(st.sampled_from([*inside.values()] if isinstance(inside, dict) else inside))
                )
            case _:
                del inside[last]
    file = write(Path("edited.pt2"), content | {PROGRAM: json.dumps(program).encode()})
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(file)
    except CheckpointError as error:
        assert "\n" not in str(error)
    finally:
        logging.disable(logging.NOTSET)
    assert not Path("crater").exists()


def test_pickles_of_tensors_are_let_through() -> None:
    """The check of a pickle is no stricter than what torch.save writes for tensors in containers."""
    weight = nn.Parameter(torch.randn(2))
    check_pickle(saved({"a": [weight, torch.zeros(3, dtype=torch.complex64)], "b": (1, 2.0, "x", None, True)}), "file")
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), buffer)
    check_pickle(buffer.getvalue(), "file")
