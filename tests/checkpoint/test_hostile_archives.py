"""Archives that try to run code, to hang, or to fill the memory: refused by what they hold, and nothing has run."""

import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fusekit
from fusekit.checkpoint.archive.listing import MOST_UNPACKED
from fusekit.checkpoint.load import load
from tests.support.archive_room import (
    CONSTANTS,
    EXAMPLES,
    PROGRAM,
    WEIGHTS,
    edited,
    entries,
    good,
    saved,
    with_json,
    write,
)
from tests.support.checkpoint_room import Bomb, here, refused
from tests.support.cli_room import run

__all__ = ["good", "here"]  # fixtures: pytest finds them by name in this module

CODE = "open('crater', 'w')"


def _size(text: str) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(
        rb'"expr_str": "[^"]*"', lambda _: b'"expr_str": ' + json.dumps(text).encode(), content
    )


def _program(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    return with_json(lambda data: change(data["graph_module"]))


def _node(**fields: Any) -> Callable[[bytes], bytes]:
    def change(module: Any) -> None:
        first = module["graph"]["nodes"][0]
        argument = {"name": "", "arg": {"as_string": "touch crater"}, "kind": 1}
        module["graph"]["nodes"].insert(0, {**first, "inputs": [argument], "name": "other", **fields})

    return _program(change)


def _signature(key: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def edit(module: Any) -> None:
        signature = module["module_call_graph"][0]["signature"]
        spec = json.loads(signature[key])
        change(spec[1])
        signature[key] = json.dumps(spec)

    return _program(edit)


def _payload(**fields: Any) -> Callable[[bytes], bytes]:
    return with_json(lambda data: data["config"]["conv.weight"].update(fields))


def _meta(**fields: Any) -> Callable[[bytes], bytes]:
    return with_json(lambda data: data["config"]["conv.weight"]["tensor_meta"].update(fields))


def _rename(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(json.dumps(old).encode(), json.dumps(new).encode())


def _default_dict(spec: Any) -> None:
    context = {"default_factory_module": "evil", "default_factory_name": "factory", "dict_context": []}
    spec["children_spec"][1].update(type="collections.defaultdict", context=json.dumps(context))


def _enum(spec: Any) -> None:
    spec["children_spec"][1]["context"] = json.dumps([{"__enum__": True, "fqn": "evil:factory", "name": "x"}])


def _named(spec: Any) -> None:
    spec.update(type="collections.namedtuple", context='"evil.Pair"')


def _constant_input(module: Any) -> None:
    text = {"as_string": f"' or {CODE} or '"}
    module["graph"]["inputs"].append(text)
    module["signature"]["input_specs"].append({"constant_input": {"name": "mode", "value": text}})


def _rest(key: str, value: Any) -> Callable[[bytes], bytes]:
    return with_json(lambda data: data.update({key: value}))


S = "Symbol('s0', integer=True, positive=True)"
EDITS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "guard": (PROGRAM, _rest("guards_code", [f"{CODE} is not None"]), "guards_code[0]"),
    "guard of lines": (PROGRAM, _rest("guards_code", [f"(1,\n)) if 1 else 0\n{CODE}\n((1"]), "guards_code[0]"),
    "guard of attributes": (PROGRAM, _rest("guards_code", ["L['x'].__class__ == 1"]), "guards_code[0]"),
    "guard of all inputs": (PROGRAM, _rest("guards_code", ["L == 1"]), "must not contain 'L'"),
    "guard of powers": (PROGRAM, _rest("guards_code", ["9**9**9 == 1"]), "guards_code[0]"),
    "guard of squares": (PROGRAM, _rest("guards_code", ["(" * 9 + "9" + "**4)" * 9 + "==1"]), "bits"),
    "size": (PROGRAM, _size(CODE), "is no function of sizes"),
    "size by S": (PROGRAM, _size(f'Mul(S("{CODE} and 1"), Integer(1))'), "expected a size"),
    "size by an escape": (PROGRAM, _size("Mul((sympify)('open\\x28crater'), Integer(1))"), "expected a size"),
    "size by sympify": (PROGRAM, _size("Mul(sympify('x'), Integer(1))"), "'sympify' is no function"),
    "size in other letters": (PROGRAM, _size(f"ｏｐｅｎ{CODE[4:]}"), "expected a size"),
    "size by a symbol": (PROGRAM, _size("Symbol('s0 + open(1)', integer=True)"), "neither a number nor a symbol"),
    "size by a keyword": (PROGRAM, _size("Symbol('s0', cls=True)"), "neither a number nor a symbol"),
    "power": (PROGRAM, _size("9**9**9"), "expected a size"),
    "power of powers": (PROGRAM, _size("Pow(Integer(9), Pow(Integer(9), Integer(9)))"), "exponent"),
    "power within powers": (PROGRAM, _size("Pow(" * 6 + S + ", Integer(9))" * 6), "bits"),
    "sum of sums": (PROGRAM, _size(f"Mul({', '.join([f'Add({S}, Integer(1))'] * 9)})"), "terms after expansion"),
    "large number": (PROGRAM, _size(f"Integer({'9' * 99})"), "no number of 64 bits"),
    "deep size": (PROGRAM, _size("Identity(" * 60 + "Integer(1)" + ")" * 60), "nested deeper"),
    "size of no text": (PROGRAM, lambda c: re.sub(rb'"expr_str": "[^"]*"', b'"expr_str": 5', c), "expected a size"),
    "path to a function": (PROGRAM, _node(target="torch.os.system", outputs=[]), "torch.os.system"),
    "deep path": (PROGRAM, _node(target="torch.serialization.os.system"), "torch.serialization.os.system"),
    "builtin": (PROGRAM, _node(target="_operator.__import__"), "_operator.__import__"),
    "handler": (PROGRAM, _node(target="#evil:run"), "the name of an operator"),
    "file of an operator": (PROGRAM, _node(target="torch.ops.aten.from_file.default"), "from_file"),
    "private operator": (PROGRAM, _node(target="torch.ops.aten._print.default"), "_print"),
    "operator as argument": (
        PROGRAM,
        _node(target="torch.ops.higher_order.cond", inputs=[{"name": "", "arg": {"as_operator": "torch.os.system"}}]),
        "as_operator",
    ),
    "unknown argument": (PROGRAM, _node(target="torch.ops.aten.relu.default"), "has no argument"),
    "large sizes": (
        PROGRAM,
        _program(lambda module: module["graph"]["nodes"].extend(_squares(10))),
        "bits",
    ),
    "default dict": (PROGRAM, _signature("in_spec", _default_dict), "collections.defaultdict"),
    "enum": (PROGRAM, _signature("in_spec", _enum), "in_spec"),
    "namedtuple": (PROGRAM, _signature("out_spec", _named), "collections.namedtuple"),
    "text of an input": (PROGRAM, _program(_constant_input), "expected a word"),
    "name that is code": (PROGRAM, _rename("conv2d", f"conv2d\n    {CODE}"), "expected an identifier"),
    "name of a keyword": (PROGRAM, _rename("conv2d", "lambda"), "is not reserved"),
    "name of ours": (PROGRAM, _rename("conv2d", "torch"), "is not reserved"),
    "parameter that is an attribute": (PROGRAM, _rename("conv.weight", "__class__.forward"), "an attribute of every"),
    "parameter that is code": (PROGRAM, _rename("conv.weight", f'x", {CODE}, "'), "the path of a parameter"),
    "unknown field": (PROGRAM, _rest("hook", "x"), "'hook', which is not known"),
    "missing field": (PROGRAM, with_json(lambda data: data.pop("verifiers")), "no field 'verifiers'"),
    "verifier": (PROGRAM, _rest("verifiers", ["evil"]), "verifiers[0]"),
    "field twice": (PROGRAM, lambda content: content.replace(b"{", b'{"guards_code": [], ', 1), "occurs twice"),
    "no number": (PROGRAM, lambda content: re.sub(rb'"as_int": \d+', b'"as_int": NaN', content, count=1), "NaN"),
    "deep JSON": (PROGRAM, lambda _: b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "no JSON": (PROGRAM, lambda _: b"\xff{", "no plain JSON"),
    "pickled weight": (WEIGHTS, _payload(use_pickle=True), "pickled tensors"),
    "pickled by a number": (WEIGHTS, _payload(use_pickle=1), "pickled tensors"),
    "pickled by a word": (WEIGHTS, _payload(use_pickle="no"), "pickled tensors"),
    "record elsewhere": (WEIGHTS, _payload(path_name="../../secret"), "expected weight_0"),
    "missing record": (WEIGHTS, _payload(path_name="weight_99"), "no entry data/weights/weight_99"),
    "large weight": (WEIGHTS, _meta(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 1}]), "reaches to byte"),
    "spread weight": (WEIGHTS, _meta(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 0}]), "bytes in total"),
    "negative weight": (WEIGHTS, _meta(sizes=[{"as_int": -4}], strides=[{"as_int": 1}]), "sizes[0]"),
    "offset": (WEIGHTS, _meta(storage_offset={"as_int": 1}), "reaches to byte"),
    "symbolic weight": (WEIGHTS, _meta(storage_offset={"as_expr": {"expr_str": CODE}}), "as_expr"),
    "opaque constant": (
        CONSTANTS,
        with_json(lambda data: next(iter(data["config"].values())).update(path_name="opaque_obj_x", use_pickle=True)),
        "opaque_obj_x",
    ),
    "version": ("archive_version", lambda _: b"1", "archive_version"),
}


def _squares(count: int) -> list[dict[str, Any]]:
    """sym_size squared again and again."""
    names = ["sym_size_int", *(f"square_{index}" for index in range(count))]
    return [
        {
            "target": "_operator.mul",
            "inputs": [{"name": side, "arg": {"as_sym_int": {"as_name": old}}, "kind": 1} for side in "ab"],
            "outputs": [{"as_sym_int": {"as_name": new}}],
            "metadata": {},
            "name": new,
        }
        for old, new in itertools.pairwise(names)
    ]


@pytest.fixture
def mine(here: Path) -> Path:
    """A folder with a module that an archive may try to import."""
    (here / "evil.py").write_text(f"{CODE}\nfactory = dict\n")
    return here


@pytest.mark.parametrize(("entry", "edit", "word"), EDITS.values(), ids=EDITS)
def test_what_the_grammar_does_not_know_is_refused(
    mine: Path, good: Path, entry: str, edit: Callable[[bytes], bytes], word: str
) -> None:
    edited(good, Path("bad.pt2"), {entry: edit})
    refused(word, "bad.pt2", "--unsafe-pickle", source="bad.pt2")
    assert not Path("crater").exists()


def _link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"good/{name}")
    info.external_attr = 0o120777 << 16
    return info


ENTRIES: dict[str, tuple[str, str]] = {
    "twice": (f"good/{PROGRAM}", "two entries"),
    "twice by case": ("good/models/MODEL.json", "two entries"),
    "another program": ("good/models/other.json", "models/other.json"),
    "compiled code": ("good/data/aotinductor/model/a.so", "aotinductor"),
    "opaque object": ("good/data/constants/opaque_obj_x", "opaque_obj_x"),
    "custom object": ("good/data/constants/custom_obj_0", "custom_obj_0"),
    "unused record": ("good/data/weights/weight_77", "nothing refers to"),
    "up": ("good/extra/../../../crater", "leads out of the folder"),
    "root": ("/crater", "letters"),
    "backslash": ("good/extra\\crater", "letters"),
    "another folder": ("other/models/model.json", "good/"),
    "null": ("good/extra/a\0b", "letters"),
}


@pytest.mark.parametrize(("name", "word"), ENTRIES.values(), ids=ENTRIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_torch_does_not_write_are_refused(here: Path, good: Path, name: str, word: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    write(Path("bad.pt2"), entries(good), [(info, saved(Bomb(here / "crater")))])
    refused(word, source="bad.pt2")
    assert not Path("crater").exists()


def test_examples_are_never_unpickled(here: Path, good: Path) -> None:
    edited(good, Path("bad.pt2"), {EXAMPLES: lambda _: saved(((Bomb(here / "crater"),), {}))})
    refused("holds more than tensors", "_explode", source="bad.pt2")
    edited(good, Path("bad.pt2"), {EXAMPLES: lambda _: pickle.dumps(Bomb(here / "crater"))})
    refused("holds more than tensors", source="bad.pt2")
    assert not Path("crater").exists()


def _flagged(content: bytes, flag: int) -> bytes:
    """Every entry marked, in its own header and in the directory."""
    data = bytearray(content)
    for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(sign), content):
            data[found.start() + place] |= flag
    return bytes(data)


ZIPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (lambda content: _flagged(content, 1), "encrypted"),
    "something before": (lambda content: b"PK\3\4" + content, "before the first"),
    "something behind": (lambda content: content + b"\0" * 30, "after the zip directory"),
    "another name where it stands": (
        lambda content: content.replace(b"model.json", b"MODEL.json", 1),
        "differs from the zip directory",
    ),
    "another size where it stands": (
        lambda content: content[:18] + bytes([content[18] ^ 1]) + content[19:],
        "differs from the zip directory",
    ),
    "damaged": (lambda content: content.replace(b"guards_code", b"guards_codd", 1), "CRC"),
}


@pytest.mark.parametrize(("change", "word"), ZIPS.values(), ids=ZIPS)
def test_zips_that_two_readers_may_read_differently_are_refused(
    here: Path, good: Path, change: Callable[[bytes], bytes], word: str
) -> None:
    Path("bad.pt2").write_bytes(change(write(Path("plain.pt2"), entries(good)).read_bytes()))
    refused(word, source="bad.pt2")


def test_links_are_refused(here: Path, good: Path) -> None:
    refused("a link", source=write(Path("bad.pt2"), entries(good), [(_link("extra/link"), b"/etc/passwd")]))


def test_the_format_before_torch_2_8(here: Path, good: Path) -> None:
    """Four files, two of them pickles: read as tensors, refused as anything else."""
    content = entries(good)
    program = torch.export.load(good)
    old = {
        "version": b"8.8",
        "serialized_exported_program.json": content[PROGRAM],
        "serialized_state_dict.pt": saved(dict(program.state_dict)),
        "serialized_constants.pt": saved(dict(program.constants)),
        "serialized_example_inputs.pt": content[EXAMPLES],
    }

    def file(**changed: bytes) -> Path:
        with zipfile.ZipFile("old.pt2", "w") as archive:
            for name, data in old.items():
                archive.writestr(name, changed.get(name.partition(".")[0], data))
        return Path("old.pt2")

    refused("more than tensors", source=file(serialized_state_dict=saved({"conv.weight": Bomb(here / "crater")})))
    refused("guards_code[0]", source=file(serialized_exported_program=_rest("guards_code", [CODE])(content[PROGRAM])))
    refused("names to plain tensors", source=file(serialized_constants=saved([torch.zeros(2)])))
    assert not Path("crater").exists()


BOMBS = """
import resource, sys
from fusekit.checkpoint.load import load
from fusekit.errors import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        load(name)
        print(name, "loaded")
    except CheckpointError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_bombs_are_seen_before_they_are_unpacked(here: Path, good: Path) -> None:
    """Zeros, objects of JSON, a directory, an entry larger than it says: refused within a gigabyte, all of them."""
    content = entries(good)
    with zipfile.ZipFile("zeros.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(f"good/{name}", data)
        with archive.open("good/extra/x", "w", force_zip64=True) as stream:
            for _ in range(1 + 2 * MOST_UNPACKED // (1 << 24)):
                stream.write(bytes(1 << 24))
    write(Path("objects.pt2"), content | {PROGRAM: b"[" + b"{}," * 20_000_000 + b"{}]"}, packed=zipfile.ZIP_DEFLATED)
    lies = write(Path("plain.pt2"), content | {PROGRAM: bytes(50_000_000)}, packed=zipfile.ZIP_DEFLATED).read_bytes()
    Path("lies.pt2").write_bytes(lies.replace((50_000_000).to_bytes(4, "little"), (900).to_bytes(4, "little")))
    end = write(Path("plain.pt2"), content).read_bytes()
    Path("directory.pt2").write_bytes(end[:-10] + (100 << 20).to_bytes(4, "little") + end[-6:])
    names = ["zeros.pt2", "objects.pt2", "lies.pt2", "directory.pt2"]
    command = [sys.executable, "-c", BOMBS, *names]
    place = {**os.environ, "PYTHONPATH": str(Path(fusekit.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=place)
    *refusals, grown = done.stdout.splitlines()
    words = ("unpack to", "bytes once read", "lies.pt2", "104,857,600")
    assert [word in line for line, word in zip(refusals, words, strict=True)] == [True] * 4, refusals
    assert int(grown) < 1_024, f"{grown} MiB"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_command_line_says_it_in_one_line(here: Path, good: Path) -> None:
    edited(good, Path("bad.pt2"), {PROGRAM: EDITS["guard"][1]})
    result = run("inspect", "bad.pt2", "--input", "2x3x12x16")
    assert result.code == 2
    assert result.stdout == ""
    assert "guards_code[0]" in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("crater").exists()


def test_unsafe_gives_the_file_to_torch(here: Path, good: Path) -> None:
    edited(good, Path("odd.pt2"), {PROGRAM: EDITS["unknown field"][1]})
    refused("is not known", source="odd.pt2")
    load("odd.pt2", unsafe=True)
