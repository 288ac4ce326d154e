"""Bytes made from bytes: the mutations of a fuzzer that knows JSON, Parquet and lines.

Everything is drawn from the ``random.Random`` that is given, so an input is known by its seed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = [
    0, 1, -1, 2, 127, 128, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**64), 10**40,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, "", "x", "\0", "\ud800", "../../../etc/passwd", "/etc/passwd", "a/b", "é" * 200, [], {}, [[]], {"a": {}}, [None],
    1.5, float("inf"), float("nan"), -0.0, "0" * 64, "g" * 64, "0000000000000001-" + "a" * 32,
    "11111111-2222-4333-8444-555555555555", *NUMBERS,
]  # fmt: skip
TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"true", b"1e999", b"NaN", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\0", b"\n",
          b"\r", b"PAR1", b"..", b"/", b"-1", b"18446744073709551616", b"[" * 3000, b"VOID"]  # fmt: skip


def mutated(seed: bytes, kind: str, chance: Random, others: list[bytes]) -> bytes:
    """One mutation, or a few on top of each other."""
    special: dict[str, Callable[[bytes, Random], bytes]] = {"json": _json, "parquet": _parquet, "lines": _lines}
    data = seed
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if kind in special and chance.random() < (0.7 if kind == "json" else 0.15):
            data = special[kind](data, chance)
        else:
            data = _bytes(data, chance, others)
    return data[: 2**16]


def _bytes(data: bytes, chance: Random, others: list[bytes]) -> bytes:
    body = bytearray(data)
    at = chance.randrange(len(body) + 1)
    match chance.randrange(9):
        case 0 if body:
            body[at % len(body)] ^= 1 << chance.randrange(8)
        case 1 if body:
            body[at % len(body)] = chance.randrange(256)
        case 2:
            body[at:at] = chance.choice(TOKENS)
        case 3:
            del body[at : at + chance.choice((1, 2, 4, 8, 64))]
        case 4:
            del body[at:]
        case 5:
            size = chance.choice((2, 4, 8))
            body[at : at + size] = (chance.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, chance.choice(("little", "big")))
        case 6:
            start = chance.randrange(len(body) + 1)
            body[at:at] = body[start : start + chance.choice((1, 4, 16, 64))]
        case 7:
            other = chance.choice(others)
            body = body[:at] + other[chance.randrange(len(other) + 1) :]
        case _:
            body[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 4))))
    return bytes(body)


def _json(data: bytes, chance: Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, inner in list(items)[:200]:
            places.append((node, key))
            walk(inner)

    walk(value)
    if not places:
        return json.dumps(chance.choice(VALUES)).encode()
    node, key = chance.choice(places)
    match chance.randrange(6):
        case 0 if isinstance(node, dict):
            del node[key]
        case 1 if isinstance(node, dict):
            node[str(chance.choice(VALUES))] = node[key]
        case 2 if isinstance(node, list):
            node.append(node[key])
        case 3:
            other, there = chance.choice(places)
            node[key] = json.loads(json.dumps(other[there]))
        case _:
            node[key] = chance.choice(VALUES)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _lines(data: bytes, chance: Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            lines[at] = _json(lines[at], chance)
        case 1:
            lines.insert(at, chance.choice(lines))
        case 2:
            del lines[at]
        case _:
            lines[at] = chance.choice(TOKENS) + lines[at]
    return b"\n".join(lines)


def _parquet(data: bytes, chance: Random) -> bytes:
    """A sound Parquet file of another shape: other types, nulls, columns, encodings, metadata."""
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
        names = table.column_names
    except Exception:
        return data
    if not table.num_columns or table.num_rows > 1_000:
        return data
    at = chance.randrange(table.num_columns)
    name, rows = names[at], table.num_rows
    match chance.randrange(8):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.set_column(at, name, pa.nulls(rows, table.column(at).type))
        case 2:
            kind = chance.choice(
                (pa.string(), pa.large_string(), pa.int64(), pa.float64(), pa.binary(), pa.list_(pa.float64()), pa.bool_(), pa.uint32())
            )
            table = table.set_column(at, name, pa.nulls(rows, kind) if chance.random() < 0.3 else _column(kind, rows, chance))
        case 3:
            table = pa.concat_tables([table, table])
        case 4:
            table = table.slice(0, chance.randrange(rows + 1))
        case 5:
            table = table.append_column(name, table.column(at))
        case 6:
            metadata = dict(table.schema.metadata or {b"a": b"b"})
            metadata[chance.choice(list(metadata))] = str(chance.choice(VALUES)).encode("utf-8", "replace")
            table = table.replace_schema_metadata(metadata)
        case _:
            table = (
                table.select(chance.sample(table.column_names, table.num_columns))
                if len(set(table.column_names)) == table.num_columns
                else table
            )
    sink = io.BytesIO()
    try:
        pq.write_table(
            table,
            sink,
            use_dictionary=chance.random() < 0.5,
            compression=chance.choice(("none", "zstd", "snappy")),
            write_page_checksum=chance.random() < 0.5,
        )
    except Exception:
        return data
    return sink.getvalue()


def _column(kind: pa.DataType, rows: int, chance: Random) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.array([[1.0] * chance.randrange(4) for _ in range(rows)], kind)
    texts = [
        "",
        "x",
        "NaN",
        "{",
        "[1]",
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":[1,"x"]}',
        '{"a":{}}',
        '{"a":99999999999999999999}',
        '{"a":"\\ud800"}',
        "null",
        "upsert",
        "[" * 5000,
    ]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array([chance.choice(texts) for _ in range(rows)], kind)
    if pa.types.is_binary(kind):
        return pa.array([b"\xff\xfe"] * rows, kind)
    if pa.types.is_boolean(kind):
        return pa.array([True] * rows, kind)
    if pa.types.is_floating(kind):
        return pa.array([float(chance.choice((0, 1, -1, 2**70)))] * rows, kind)
    return pa.array([chance.choice((0, 1, 2, 2**31))] * rows, kind)
