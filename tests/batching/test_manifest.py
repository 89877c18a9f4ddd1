"""What can stand in a manifest, and what is said of a wrong one: one line, with the row and the column."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fusekit.batching.item import Item
from fusekit.batching.manifest import read_manifest
from fusekit.errors import FusekitError

CSV = """\ufeffname,source,arguments,weights,inputs,output,options
a,nets:Net,width=8 deep=true,a.pt,x=1x3x8x8:uint8 1x4,out/a.onnx,"{""opset"": 18, ""passes"": [""fold-affine""]}"
,nets.py:Net,,b.pt#ema,1x3x8x8,,opset=18 dynamic=false

,c.onnx,,,,,
"""
ROWS: list[dict[str, Any]] = [
    {
        "name": "a",
        "source": "nets:Net",
        "arguments": {"width": 8, "deep": True},
        "weights": "a.pt",
        "inputs": ["x=1x3x8x8:uint8", "1x4"],
        "output": "out/a.onnx",
        "options": {"opset": 18, "passes": ["fold-affine"]},
    },
    {"source": "nets.py:Net", "weights": "b.pt#ema", "inputs": "1x3x8x8", "options": {"opset": 18, "dynamic": False}},
    {"source": "c.onnx"},
]


def test_the_forms_say_the_same(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (tmp_path / "m.csv").write_text(CSV, encoding="utf-8")
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)))
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(ROWS))
    items = read_manifest(ROWS)
    assert [item.name for item in items] == ["a", "b", "c"]
    assert items[0].inputs == ("x=1x3x8x8:uint8", "1x4") and items[0].arguments == {"width": 8, "deep": True}
    assert items[1].options == {"opset": 18, "dynamic": False}
    for name in ("m.csv", "m.jsonl", "m.yaml"):
        assert read_manifest(tmp_path / name) == items, name


def test_paths_start_from_the_root(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "out"
    first, second, third = (item.placed(root, folder) for item in read_manifest(ROWS))
    assert (first.source, first.weights, first.output) == ("nets:Net", str(root / "a.pt"), str(root / "out/a.onnx"))
    assert (second.source, second.weights) == (f"{root}/nets.py:Net", f"{root}/b.pt#ema")
    assert third.output == str(folder / "models" / "c.onnx")
    (fed,) = read_manifest([{"source": "c.onnx", "inputs": "x=photo.npy:uint8"}])
    assert fed.placed(root, folder).inputs == (f"x={root}/photo.npy:uint8",)


GOOD: Mapping[str, Any] = {"source": "nets:Net", "inputs": "1x3x8x8"}
BAD: list[tuple[Mapping[str, Any], str]] = [
    ({**GOOD, "sauce": "x"}, "column sauce: there is no such column; expected some of name, source"),
    ({"inputs": "1x3x8x8"}, "column source: missing"),
    ({"source": "nets:Net"}, "column inputs: missing"),
    ({**GOOD, "inputs": "1x3xabc"}, "column inputs: '1x3xabc': 'abc' is no size"),
    ({**GOOD, "inputs": "'1x3"}, "column inputs: No closing quotation"),
    ({**GOOD, "inputs": [3]}, "column inputs: expected words, got 3"),
    ({**GOOD, "arguments": "width"}, "column arguments: 'width'; expected name=value"),
    ({**GOOD, "arguments": {3: 4}}, "column arguments: expected names, got 3"),
    ({**GOOD, "factory": "Net"}, "column factory: 'Net'; expected package.module:name"),
    ({**GOOD, "output": "a.pt"}, "column output: 'a.pt' has the wrong suffix"),
    ({**GOOD, "name": "../a"}, "column name: '../a' is no name of a file"),
    ({**GOOD, "options": "opsett=18"}, "column options: a model has no option 'opsett'"),
    ({**GOOD, "options": "opset=new"}, "column options: opset='new' is not of the right type"),
    ({**GOOD, "options": "target=abacus"}, "column options: target='abacus'; expected one of torch"),
    ({**GOOD, "options": {"passes": ["fold"]}}, "column options: there is no pass 'fold'"),
    ({"source": "a.onnx", "options": "io=pair"}, "column options: an ONNX file has no option 'io'"),
    ({"source": "a.onnx", "weights": "a.pt"}, "column weights: the source is an ONNX file"),
    ({**GOOD, "source": {}}, "column source: expected text, got dict"),
]


@pytest.mark.parametrize(("row", "told"), BAD, ids=[told for _, told in BAD])
def test_a_bad_row(row: Mapping[str, Any], told: str) -> None:
    with pytest.raises(FusekitError) as caught:
        read_manifest([{"name": "first", **GOOD}, row])
    assert str(caught.value).startswith(f"the manifest, row 2, {told}")


def test_two_items_cannot_have_one_name_or_one_file() -> None:
    with pytest.raises(FusekitError, match=r"row 2, column name: 'a' is that of row 1 too"):
        read_manifest([{**GOOD, "name": "a"}, {**GOOD, "name": "a"}])
    with pytest.raises(FusekitError, match=r"row 2, column output: 'o.onnx' is that of row 1 too"):
        read_manifest([{**GOOD, "name": name, "output": "o.onnx"} for name in "ab"])
    with pytest.raises(FusekitError, match=r"row 1, column output: 'b.onnx' is also read"):
        read_manifest([{**GOOD, "output": "b.onnx"}, {"source": "b.onnx", "name": "c"}])


FILES = [
    ("m.csv", "source,inputs\na.onnx,1x3,extra\n", r"m.csv, row 1 \(line 2\): more cells than the header has columns"),
    ("m.csv", 'source,options\na.onnx,"{1"\n', r"m.csv, row 1 \(line 2\), column options: no JSON"),
    ("m.jsonl", '{"source": "a.onnx"}\n\n{"source"', r"m.jsonl, row 2 \(line 3\): no JSON"),
    ("m.jsonl", "[1]", r"m.jsonl, row 1 \(line 1\): expected names and values, got list"),
    ("m.yaml", "source: a.onnx", r"m.yaml: expected a list of items, got dict"),
    ("m.yaml", "- [", r"m.yaml: no YAML"),
    ("m.csv", "source\n", r"m.csv: there are no items in it"),
    ("m.txt", "", r"m.txt: the kind of a manifest is told by its suffix; expected one of .csv"),
]


@pytest.mark.parametrize(("name", "text", "told"), FILES)
def test_a_bad_file(name: str, text: str, told: str, tmp_path: Path) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    with pytest.raises(FusekitError, match=told) as caught:
        read_manifest(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FusekitError, match="there is no manifest"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FusekitError, match="cannot be read as text"):
        read_manifest(tmp_path / "m.csv")


def test_an_item_without_a_name_is_called_after_its_files() -> None:
    assert Item.of({**GOOD, "output": "out/x.onnx", "weights": "w.pt"}, 5).name == "x"
    assert Item.of({**GOOD}, 5).name == "item-5"
    assert Item.of({"source": "dir/p.pt2", "inputs": "1x3"}, 5).name == "p"
