"""Bytes that stand for far more than they are: refused before anything of that size is allocated.

Each runs in a process whose memory is limited, because what is looked for is an allocation, and the Parquet library's are not Python's.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fuzz.corpus import FOLDER
from tests.fuzz.targets import CID, JSONL, TARGETS

from chromalith.errors import Invalid
from chromalith.model.delta import OPERATIONS_MAX, encode_delta
from chromalith.model.operation import Op, Operations
from chromalith.model.parquet_footer import read_footer
from chromalith.model.parquet_limits import OverLimits, read_bounded
from chromalith.model.segment import encode_deletes

ROOMY = 700 * 2**20
"""More than any refusal takes, less than any of these would fill."""

TRY = """
import json, os, resource, sys
from pathlib import Path
from tests.fuzz.targets import TARGETS
target, inputs = TARGETS[sys.argv[1]], [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
for seed in target.seeds():
    target.accepts(seed)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
print(json.dumps([target.accepts(data) for data in inputs]), flush=True)
os._exit(0)  # under the limit, a library's thread that could not start can abort the interpreter's end
"""


def accepted(name: str, inputs: list[bytes], tmp_path: Path, roomy: int = ROOMY) -> list[bool]:
    """Which of the inputs the target accepts, in a process that could not hold what they stand for."""
    (tmp_path / "inputs").mkdir()
    for number, data in enumerate(inputs):
        assert len(data) < 2**21
        (tmp_path / "inputs" / f"{number:03d}").write_bytes(data)
    command = [sys.executable, "-c", TRY, name, str(tmp_path / "inputs"), str(roomy)]
    # The limit is one of addresses: without this, glibc reserves 64 MiB of them for each thread, whatever the thread needs.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[2], env=environment)
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2_000:])
    return list(json.loads(ended.stdout))


def refused(name: str, data: bytes, tmp_path: Path, roomy: int = ROOMY) -> None:
    """The target refuses ``data`` in a process that could not hold what it stands for."""
    assert accepted(name, [data], tmp_path, roomy) == [False]


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **({"compression": "zstd", "use_dictionary": False} | options))
    return sink.getvalue()


def delta_of(rows: int, **columns: pa.Array) -> pa.Table:
    """A delta's table of deletes, some columns replaced."""
    nothing = pa.nulls(rows, pa.string())
    whole = {"op": pa.array(["delete"] * rows), "id": pa.array([f"{n}" for n in range(rows)]), "document": nothing, "uri": nothing}
    meta = {"format": "1", "collection": CID, "rows": str(rows)}
    table = pa.table(whole | {"metadata": nothing} | columns)
    return table.replace_schema_metadata({f"chromalith.delta.{key}": value for key, value in meta.items()})


def test_the_table_that_the_bombs_are_made_of_is_a_delta() -> None:
    """Else they would be refused for another reason."""
    assert TARGETS["delta"].accepts(parquet(delta_of(5)))


def test_repeated_documents(tmp_path: Path) -> None:
    """A document of 8 MB that a dictionary repeats a thousand times, in a few kilobytes."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array(["x" * 2**23]))
    table = delta_of(1_000)
    table = table.set_column(2, "document", long)
    body = parquet(table, use_dictionary=["document"], dictionary_pagesize_limit=2**26)
    assert len(body) < 50_000
    refused("delta", body, tmp_path)


def test_documents_of_zeros(tmp_path: Path) -> None:
    """2 GB of one letter under zstd."""
    sink = io.BytesIO()
    one = delta_of(20, document=pa.array(["x" * 10**7] * 20))
    with pq.ParquetWriter(sink, one.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(10):
            writer.write_table(one)
    refused("delta", sink.getvalue(), tmp_path)


def test_documents_that_share_their_beginning(tmp_path: Path) -> None:
    """Delta encoding: each text is the one before and a letter."""
    texts = pa.array(["x" * 2**17] * 9_000)
    body = parquet(delta_of(9_000, document=texts), column_encoding={"document": "DELTA_BYTE_ARRAY"})
    refused("delta", body, tmp_path, roomy=400 * 2**20)


def test_wide_embeddings_that_are_not_there(tmp_path: Path) -> None:
    """Null rows of a list of 2**20 elements take nothing in the file, and 4 MB each in memory."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 2**20)
    values = pa.array(np.zeros(2**20, np.float32))
    absent = delta_of(1, embedding=pa.FixedSizeListArray.from_arrays(values, type=kind, mask=pa.array([True])))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, absent.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(400):
            writer.write_table(absent)
    refused("delta", sink.getvalue(), tmp_path)


@pytest.mark.parametrize("name", ["delta", "deletes", "folded", "ids", "records", "import"])
def test_rows_that_are_promised(name: str, tmp_path: Path) -> None:
    """A footer that promises 2**40 rows, or a few less, in all or in one of its parts: nothing of that size is allocated."""
    body = TARGETS[name].seeds()[0]
    rows = read_footer(body).rows
    inputs = [data for promised in (2**40, 2**31, 10**6) for data in _promising(body, rows, promised)]
    found = accepted(name, inputs, tmp_path)
    assert False in found or name == "import"  # there it is only what progress is measured by


def _promising(body: bytes, rows: int, promised: int) -> list[bytes]:
    """``body`` with its number of rows, in the footer and in its row groups, replaced: where the fields are is found by trying."""
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    footer, old, new = body[start:-8], _zigzag(rows), _zigzag(promised)
    found = []
    for at in range(len(footer)):
        if footer[at : at + 1] == b"\x16" and footer[at + 1 : at + 1 + len(old)] == old:  # the next field, an i64
            changed = footer[: at + 1] + new + footer[at + 1 + len(old) :]
            found.append(body[:start] + changed + len(changed).to_bytes(4, "little") + b"PAR1")
    assert found
    return found


def _zigzag(value: int) -> bytes:
    value, out = value << 1, b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_pages_that_a_footer_lies_about() -> None:
    """A footer that says of a column that it is smaller than its pages are is not believed."""
    body = parquet(pa.table({"a": ["x" * 5_000] * 1_000}))
    size = next(iter(read_footer(body).chunks)).size
    assert size > 5_000_000
    for data in _promising(body, size, 1_000):
        with pytest.raises(OverLimits):
            read_bounded(data, rows_max=1_000, bytes_max=2_000_000)


def test_deep_json(tmp_path: Path) -> None:
    """A million brackets are an error, not the end of the stack."""
    for name in ("manifest", "tag", "collection", "database", "tenant", "store", "bundle"):
        assert not TARGETS[name].accepts(b"[" * 10**6)
        assert not TARGETS[name].accepts(b'{"format":' * 10**5)
    assert not TARGETS["jsonl"].accepts(JSONL + b"[" * 10**6)
    TARGETS["lease"].accepts(b"[" * 10**6)


def test_sound_objects_are_within_the_limits() -> None:
    """The largest that our own encoders write are read: a full call of wide embeddings, a million deletes of ids, of rows."""
    rows = OPERATIONS_MAX
    wide = np.ones((rows, 1_536), np.float32)
    ids, none = [f"id-{number}" for number in range(rows)], [None] * rows
    call = Operations([Op.UPSERT] * rows, ids, wide, np.ones(rows, np.bool_), ["text " * 10] * rows, none, ['{"a":1}'] * rows)
    assert TARGETS["delta"].accepts(encode_delta(CID, call))
    rows = 10**6
    ids, none = [f"id-{number}" for number in range(rows)], [None] * rows
    gone = Operations([Op.DELETE] * rows, ids, None, np.zeros(rows, np.bool_), none, none, none)
    assert TARGETS["delta"].accepts(encode_delta(CID, gone))
    assert TARGETS["deletes"].accepts(encode_deletes(np.arange(rows, dtype=np.uint32)))


def test_a_dictionary_of_another_program_is_read() -> None:
    """A delta that pyarrow's defaults wrote, dictionaries and all, is a delta: it is measured, not refused."""
    table = delta_of(1_000, document=pa.array(["the same long text " * 50] * 1_000))
    assert TARGETS["delta"].accepts(parquet(table, use_dictionary=True, compression="snappy"))


def test_what_would_not_be_read_is_not_written() -> None:
    """A call whose delta would be over the limits of readers is refused with the limit."""
    rows = 6_000
    none = [None] * rows
    ids = [f"id-{number}" for number in range(rows)]
    call = Operations([Op.UPSERT] * rows, ids, np.ones((rows, 2), np.float32), np.ones(rows, np.bool_), ["x" * 100_000] * rows, none, none)
    with pytest.raises(Invalid, match="too large"):
        encode_delta(CID, call)


def test_limits_are_seen_before_reading() -> None:
    """The table of limits holds by itself, whatever an object is for."""
    body = parquet(pa.table({"a": ["x" * 100] * 100}))
    assert read_bounded(body, rows_max=100, bytes_max=20_000).num_rows == 100
    for limits in ({"rows_max": 99, "bytes_max": 20_000}, {"rows_max": 100, "bytes_max": 10_000}):
        with pytest.raises(OverLimits):
            read_bounded(body, **limits)


def test_the_measure_is_real() -> None:
    """The limit on memory stops what the limits of the decoders do not: without them these tests could not fail."""
    code = f"import resource, numpy; resource.setrlimit(resource.RLIMIT_AS, ({2**31}, {2**31})); numpy.ones(2**29)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
