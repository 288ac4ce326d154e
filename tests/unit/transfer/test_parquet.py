from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.transfers import Records, assert_same, batch, read

from chromalith.errors import Corrupt, Invalid
from chromalith.transfer.parquet import KEY, ParquetSource, ParquetTarget
from chromalith.transfer.port import Definition, Sums


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    definition = Definition({"hnsw": {"space": "ip", "ef_search": 77}}, {"keys": {}}, {"about": "ü"})
    written = ParquetTarget(tmp_path / "a.parquet").write(Records(batch(100), definition=definition, version=7))
    source = ParquetSource(tmp_path / "a.parquet")
    assert_same(read(source, 33), batch(100))
    assert (source.name, source.definition, source.version, source.total()) == ("words", definition, 7, 100)
    assert source.sums == written.sums == Sums().plus(batch(100))


def test_an_empty_collection_is_a_file_without_rows(tmp_path: Path) -> None:
    ParquetTarget(tmp_path / "a.parquet").write(Records(batch(0)))
    source = ParquetSource(tmp_path / "a.parquet")
    assert (source.total(), list(source.batches(10)), source.sums) == (0, [], Sums())


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("fixed", [True, False])
def test_lists_of_any_float_are_embeddings(tmp_path: Path, kind: pa.DataType, fixed: bool) -> None:
    rows = [[0.5, -1.0], [2.0, 0.25], [1.0, 3.0]]
    column = pa.array(rows, pa.list_(kind, 2) if fixed else pa.list_(kind))
    source = ParquetSource(write(tmp_path / "a.parquet", id=["a", "b", "c"], embedding=column))
    parts = list(source.batches(2))
    assert np.concatenate([part.embeddings for part in parts]).tolist() == rows
    assert {part.embeddings.dtype for part in parts} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "column",
    [
        pa.array(['{"a": 1, "b": null}', None, "{}"]),
        pa.array([{"a": 1, "b": None}, None, {"a": None, "b": None}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int64())),
    ],
    ids=["json", "struct", "map"],
)
def test_metadata_is_json_a_struct_or_a_map(tmp_path: Path, column: pa.Array) -> None:
    path = write(tmp_path / "a.parquet", id=[1, 2, 3], embedding=[[1.0]] * 3, metadata=column)
    found = read(ParquetSource(path))
    assert found.metadatas == [{"a": 1}, None, None]
    assert found.ids == ["1", "2", "3"]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", _id=["a"], minilm=[[1.0]], text=["t"])
    found = read(ParquetSource(path, columns={"embedding": "minilm"}))
    assert (found.ids, found.documents) == (["a"], ["t"])
    with pytest.raises(Invalid, match=r"no column for embedding .*columns=_id,minilm,text"):
        ParquetSource(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", "b"], "embedding": [[1.0, 2.0], [1.0]]}, r"different lengths dimension=1 before=2 .*row=1"),
        ({"id": ["a", "b"], "embedding": [[1.0], None]}, r"an embedding is null .*row=1"),
        ({"id": ["a", None], "embedding": [[1.0], [2.0]]}, r"an id is null .*row=1"),
        ({"id": ["a"], "embedding": ["text"]}, r"embeddings are not lists"),
        ({"id": ["a"], "embedding": [["text"]]}, r"not lists of numbers"),
        ({"id": [1.5], "embedding": [[1.0]]}, r"neither text nor integers"),
        ({"id": ["a", "b"], "embedding": [[1.0], [2.0]], "metadata": ["{}", "{nope"]}, r"neither JSON nor a map .*row=1"),
        ({"id": ["a"], "embedding": [[1.0]], "metadata": ["[]"]}, r"metadata is not an object .*row=0"),
        ({"id": ["a"], "embedding": [[1.0]], "document": [5]}, r"not text .*column=document"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_row(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.parquet", **columns)
    with pytest.raises(Invalid, match=message) as caught:
        list(ParquetSource(path).batches(10))
    assert "bad.parquet" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_file_that_was_cut_short_is_refused_before_a_record_is_read(tmp_path: Path, keep: int) -> None:
    ParquetTarget(tmp_path / "a.parquet").write(Records(batch(100)))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:keep])
    with pytest.raises(Invalid, match=r"not a whole Parquet file file=.*cut\.parquet"):
        ParquetSource(tmp_path / "cut.parquet")


def test_a_flipped_bit_in_a_page_is_found_while_reading(tmp_path: Path) -> None:
    ParquetTarget(tmp_path / "a.parquet").write(Records(batch(100)))
    body = bytearray((tmp_path / "a.parquet").read_bytes())
    at = bytes(body).index(batch(100).embeddings[50].tobytes())
    body[at] ^= 1
    (tmp_path / "a.parquet").write_bytes(body)
    with pytest.raises(Invalid, match="not a whole Parquet file"):
        read(ParquetSource(tmp_path / "a.parquet"))


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "embedding": [[1.0]]}).replace_schema_metadata({KEY: json.dumps({"format": 99})})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(Invalid, match="newer format"):
        ParquetSource(tmp_path / "a.parquet")


def test_records_that_are_not_those_of_the_version_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="not those of the version"):
        ParquetTarget(tmp_path / "a.parquet").write(Records(batch(100), sums=Sums().plus(batch(99))))
    assert list(tmp_path.iterdir()) == []
