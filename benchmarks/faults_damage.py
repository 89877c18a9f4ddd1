"""Damages files at random: bytes, entries of zip archives, fields of JSON, of pickles and of protocol buffers.

A damage takes the content of a file and a source of random numbers, and returns another content.
"""

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from google.protobuf.message import Message
from onnx import ModelProto

Damage = Callable[[bytes, Random], bytes]

NASTY: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 1 << 31, 1 << 62, 10**30, 0.5, float("1e300")),
    *("", "x", "yes", "9**9**9", "__class__", "../../x", "torch.os.system", "é\u202e", "a" * 5000),
    *([], {}, [0], [[[]]], {"as_int": 1}, {"as_int": -8}),
)
HUGE = (1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 62) + 1, (1 << 63) - 1)


def flipped(content: bytes, source: Random) -> bytes:
    """One to eight bits changed."""
    changed = bytearray(content)
    for _ in range(source.randint(1, 8)):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def flipped_early(content: bytes, source: Random) -> bytes:
    """A bit changed in the first 300 bytes, where headers are."""
    changed = bytearray(content)
    changed[source.randrange(min(300, len(changed)))] ^= 1 << source.randrange(8)
    return bytes(changed)


def truncated(content: bytes, source: Random) -> bytes:
    """The end cut off, most of it or a few bytes."""
    return content[: source.randrange(len(content))] if source.random() < 0.5 else content[: -source.randint(1, 64)]


def lengthened(content: bytes, source: Random) -> bytes:
    """Some bytes more, somewhere."""
    at = source.choice((0, len(content), source.randrange(len(content))))
    return content[:at] + source.randbytes(source.randint(1, 40)) + content[at:]


# ---------------------------------------------------------------- zip archives
def _entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(entries: list[tuple[str, bytes]], packed: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_headers(content: bytes, source: Random) -> bytes:
    """A bit of a zip header changed."""
    changed = bytearray(content)
    starts = [i for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6") for i in _all(content, mark)]
    changed[min(source.choice(starts) + source.randrange(46), len(changed) - 1)] ^= 1 << source.randrange(8)
    return bytes(changed)


def _all(content: bytes, mark: bytes) -> Iterator[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


def zip_entries(content: bytes, source: Random) -> bytes:
    """An entry renamed, dropped, doubled, in other case, packed; or two with each other's content."""
    entries = list(_entries(content).items())
    at = source.randrange(len(entries))
    name, data = entries[at]
    packed = zipfile.ZIP_STORED
    match source.choice(("rename", "drop", "double", "case", "swap", "other", "empty", "packed", "nested", "reorder")):
        case "rename":
            entries[at] = (source.choice((name + "x", "x/" + name, "../" + name, name.replace("/", "//"))), data)
        case "drop":
            del entries[at]
        case "double":
            entries.insert(source.randrange(len(entries)), (name, source.choice((data, flipped(data + b"x", source)))))
        case "case":
            head, slash, tail = name.rpartition("/")
            other = (head + slash + tail.swapcase(), flipped(data + b"x", source))
            entries.insert(source.choice((0, len(entries))), other)
        case "swap":
            with_it = source.randrange(len(entries))
            entries[at], entries[with_it] = (name, entries[with_it][1]), (entries[with_it][0], data)
        case "other":
            entries.append((name.partition("/")[0] + source.choice(("/code/a.py", "/x", "/data/1x", "/extra/a")), b"x"))
        case "empty":
            entries[at] = (name, b"")
        case "packed":
            packed = zipfile.ZIP_DEFLATED
        case "nested":
            entries[at] = (name, content)
        case _:
            source.shuffle(entries)
    return _zipped(entries, packed)


def zip_sizes(content: bytes, source: Random) -> bytes:
    """A size in the zip's directory or in a local header is made larger."""
    changed = bytearray(content)
    starts = [(i, (20, 24)) for i in _all(content, b"PK\1\2")] + [(i, (18, 22)) for i in _all(content, b"PK\3\4")]
    start, fields = source.choice(starts)
    for field in source.choice((fields[:1], fields[1:], fields)):
        struct.pack_into("<I", changed, start + field, source.choice((1 << 20, 1 << 30, (1 << 32) - 2, (1 << 32) - 1)))
    return bytes(changed)


def in_entry(ending: str, damage: Damage) -> Damage:
    """The damage in an entry whose name ends so; the checksum is right again."""

    def within(content: bytes, source: Random) -> bytes:
        entries = _entries(content)
        name = source.choice([name for name in entries if name.endswith(ending)])
        entries[name] = damage(entries[name], source)
        return _zipped(list(entries.items()))

    return within


def pickled(content: bytes, source: Random) -> bytes:
    """A number, a string or an operation of a pickle changed."""
    changed = bytearray(content)
    match source.choice(("number", "word", "byte")):
        case "number":
            places = [i for mark in (b"K", b"M", b"J") for i in _all(content, mark) if i + 5 < len(content)]
            at = source.choice(places)
            size = {b"K": 1, b"M": 2, b"J": 4}[content[at : at + 1]]
            number = source.choice((-1, 0, 1, 255, 1 << 20, (1 << 31) - 1))
            changed[at : at + 1 + size] = b"J" + struct.pack("<i", number)
        case "word":
            words = (b"FloatStorage", b"_rebuild_tensor_v2", b"OrderedDict", b"cpu", b"weight", b"storage")
            others = (b"DoubleStorage", b"os", b"system", b"meta", b"cuda", b"", b"HalfStorage")
            return content.replace(source.choice(words), source.choice(others), 1)
        case _:
            changed[source.randrange(len(changed))] = source.randrange(256)
    return bytes(changed)


# ---------------------------------------------------------------- JSON
def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything in nested JSON."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*place, key)
        yield from places(value, (*place, key))


def json_fields(content: bytes, source: Random) -> bytes:
    """One to three fields of a JSON document replaced, exchanged, dropped, retyped, renamed."""
    tree = json.loads(content)
    for _ in range(source.randint(1, 3)):
        found = [place for place in places(tree) if "metadata" not in place[:-1]]
        if not found:
            break
        *way, last = source.choice(found)
        inside: Any = tree
        for key in way:
            inside = inside[key]
        match source.choice(("replace", "retype", "exchange", "drop", "rename")):
            case "replace":
                inside[last] = copy.deepcopy(source.choice(NASTY))
            case "retype":
                inside[last] = _retyped(inside[last])
            case "exchange":
                inside[last] = copy.deepcopy(source.choice([*inside.values()] if isinstance(inside, dict) else inside))
            case "rename" if isinstance(inside, dict):
                inside[last.swapcase()] = inside.pop(last)
            case _:
                del inside[last]
    return json.dumps(tree).encode()


def _retyped(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case int():
            return float(value)
        case str():
            return [value]
        case list():
            return {str(i): each for i, each in enumerate(value)}
        case dict():
            return [*value.items()]
    return str(value)


def json_numbers(content: bytes, source: Random) -> bytes:
    """A whole number of a JSON document made huge."""
    tree = json.loads(content)
    found = []
    for *way, last in places(tree):
        inside: Any = tree
        for key in way:
            inside = inside[key]
        if type(inside[last]) is int and "metadata" not in way:
            found.append((inside, last))
    inside, last = source.choice(found)
    inside[last] = source.choice(HUGE)
    return json.dumps(tree).encode()


# ---------------------------------------------------------------- safetensors
def header(damage: Damage) -> Damage:
    """The damage in the header of a safetensors file, whose length is right again."""

    def within(content: bytes, source: Random) -> bytes:
        size = int.from_bytes(content[:8], "little")
        changed = damage(content[8 : 8 + size], source)
        return len(changed).to_bytes(8, "little") + changed + content[8 + size :]

    return within


def header_length(content: bytes, source: Random) -> bytes:
    """The length of the header wrong."""
    size = int.from_bytes(content[:8], "little")
    other = source.choice((0, size - 1, size + 1, size + 8, 1 << 20, 1 << 29, (1 << 31) + 5, (1 << 63) + 1))
    return other.to_bytes(8, "little") + content[8:]


def header_keys(content: bytes, source: Random) -> bytes:
    """A key of the header twice, or in other case, with other numbers."""
    size = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + size].decode()
    tree = json.loads(text)
    key = source.choice([name for name in tree if name != "__metadata__"])
    entry = json.dumps({source.choice((key, key.upper())): source.choice(list(tree.values()))})[1:-1]
    changed = (text.rstrip()[:-1] + "," + entry + "}").encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :]


# ---------------------------------------------------------------- protocol buffers
def protobuf_fields(content: bytes, source: Random) -> bytes:
    """One to three fields of an ONNX model changed, dropped, doubled or exchanged."""
    model = ModelProto.FromString(content)
    for _ in range(source.randint(1, 3)):
        message, field = source.choice(list(_fields(model)))
        if field.is_repeated:
            _change_list(message, field, source)
        elif source.random() < 0.25:
            message.ClearField(field.name)
        elif field.type != field.TYPE_MESSAGE:
            setattr(message, field.name, _other(field, getattr(message, field.name), source))
    return model.SerializeToString()


def protobuf_numbers(content: bytes, source: Random) -> bytes:
    """A whole number of an ONNX model made huge: a size, a type, a version, an attribute."""
    model = ModelProto.FromString(content)
    whole = [(m, f) for m, f in _fields(model) if f.cpp_type in (f.CPPTYPE_INT64, f.CPPTYPE_INT32, f.CPPTYPE_UINT64)]
    message, field = source.choice(whole)
    value = source.choice([huge for huge in HUGE if huge < 1 << 31 or field.cpp_type != field.CPPTYPE_INT32])
    if field.is_repeated:
        values = getattr(message, field.name)
        values[source.randrange(len(values))] = value
    else:
        setattr(message, field.name, value)
    return model.SerializeToString()


def weight_elsewhere(content: bytes, source: Random) -> bytes:
    """A weight said to lie in a file outside."""
    model = ModelProto.FromString(content)
    tensor = source.choice(model.graph.initializer)
    told: Mapping[str, str] = {
        "location": source.choice(("", ".", "x.data", "../x", "/etc/passwd", "m.onnx", "/dev/zero", "a\0b", "\n")),
        "offset": source.choice(("0", "-1", "x", str(1 << 62), "")),
        "length": source.choice(("4", "-4", str(1 << 40), "1e3", str(len(tensor.raw_data)))),
    }
    for key, value in told.items():
        if source.random() < 0.8:
            tensor.external_data.add(key=key, value=value)
    tensor.data_location = tensor.EXTERNAL
    if source.random() < 0.5:
        tensor.ClearField("raw_data")
    return model.SerializeToString()


def _fields(message: Message) -> Iterator[tuple[Any, Any]]:
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from _fields(inner)


def _change_list(message: Any, field: Any, source: Random) -> None:
    values = getattr(message, field.name)
    at, other = source.randrange(len(values)), source.randrange(len(values))
    inner = field.type == field.TYPE_MESSAGE
    match source.choice(("drop", "double", "exchange", "change")):
        case "drop":
            del values[at]
        case "double":
            values.append(copy.deepcopy(values[at]))
        case "exchange" if inner:
            values[at].CopyFrom(copy.deepcopy(values[other]))
        case "exchange":
            values[at], values[other] = values[other], values[at]
        case "change" if not inner:
            values[at] = _other(field, values[at], source)


def _other(field: Any, value: Any, source: Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        binary = field.type == field.TYPE_BYTES
        if binary:
            return source.choice((b"", value[:-1], value[:-4], value + b"\0" * 4, flipped(value + b"x", source)))
        return source.choice(("", "x", value + "x", value.swapcase(), "Conv", "If", "com.microsoft", "é\u202e"))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return source.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, value + 1))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return source.choice([each.number for each in field.enum_type.values])
    return source.choice((0, 1, -1, 2, value + 1, 3, 17, 100))
