"""Our reading of Parquet's footer, with the Parquet library as the oracle."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chromalith.model.parquet_footer import read_footer

ENCODINGS = {
    "PLAIN": 0, "PLAIN_DICTIONARY": 2, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5, "DELTA_BYTE_ARRAY": 7, "RLE_DICTIONARY": 8,
}  # fmt: skip
TYPES = {"BOOLEAN": 0, "INT32": 1, "INT64": 2, "INT96": 3, "FLOAT": 4, "DOUBLE": 5, "BYTE_ARRAY": 6, "FIXED_LEN_BYTE_ARRAY": 7}


def table(rows: int) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(rows * 3, np.float32)), 3)
    texts = pa.array([None if n % 7 == 0 else f"text {n % 5}" * 20 for n in range(rows)], pa.string())
    nested = pa.array([{"a": n, "b": [str(n)] * (n % 3)} for n in range(rows)], pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}))
    flags = pa.array([n % 2 == 0 for n in range(rows)], pa.bool_())
    return pa.table({"n": pa.array(range(rows), pa.int64()), "text": texts, "vector": vectors, "flag": flags, "nested": nested})


@pytest.mark.parametrize("rows", [0, 1, 5_000])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"use_dictionary": False}, {"compression": "zstd", "row_group_size": 700}, {"data_page_version": "2.0"},
        {"write_statistics": False}, {"write_page_checksum": True}, {"data_page_size": 100}, {"write_page_index": True},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}},
    ],
    ids=str,
)  # fmt: skip
def test_it_says_what_the_library_says(rows: int, options: dict[str, object]) -> None:
    """Of every column of every row group: and the pages of a sound file are found to be as the footer says."""
    sink = io.BytesIO()
    pq.write_table(table(rows), sink, **options)
    metadata = pq.ParquetFile(io.BytesIO(sink.getvalue())).metadata
    footer = read_footer(sink.getvalue())
    assert footer.rows == metadata.num_rows == rows
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    expected = [group.column(at) for group in groups for at in range(group.num_columns)]
    assert len(footer.chunks) == len(expected)
    for ours, theirs in zip(footer.chunks, expected, strict=True):
        assert (ours.path, ours.type) == (theirs.path_in_schema, TYPES[theirs.physical_type])
        assert (ours.values, ours.size) == (theirs.num_values, theirs.total_uncompressed_size)
        assert ours.encodings == {ENCODINGS[name] for name in theirs.encodings}


CUT = [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\0" * 4 + b"PAR1", b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1"]


@pytest.mark.parametrize("body", CUT)
def test_what_is_no_footer_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_footer(body)
