from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.transfers import Records, assert_same, batch, read

from chromalith.errors import Invalid
from chromalith.transfer.jsonl import JsonlSource, JsonlTarget
from chromalith.transfer.port import Batch

GOOD = '{"id": "a", "metadata": {"k": 1}, "embedding": [0.5, 1], "text_chunk": "t"}\n'


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    JsonlTarget(tmp_path / "a.jsonl").write(Records(batch(100)))
    assert_same(read(JsonlSource(tmp_path / "a.jsonl"), 33), batch(100))


def test_every_float32_survives_the_text(tmp_path: Path) -> None:
    """Any bit pattern that is a finite number: subnormal ones, the largest, and minus zero."""
    bits = np.random.default_rng(1).integers(0, 2**32, (200, 64), dtype=np.uint32)
    bits[0, :4] = [0x80000000, 0x00000001, 0x7F7FFFFF, 0x00800000]
    values = np.where(np.isfinite(bits.view(np.float32)), bits.view(np.float32), np.float32(1))
    nothing = [None] * len(values)
    records = Batch([str(i) for i in range(len(values))], values, list(nothing), list(nothing), list(nothing))
    JsonlTarget(tmp_path / "a.jsonl").write(Records(records))
    assert read(JsonlSource(tmp_path / "a.jsonl")).embeddings.tobytes() == values.tobytes()


def test_a_line_has_the_keys_of_the_record_format_in_its_order(tmp_path: Path) -> None:
    JsonlTarget(tmp_path / "a.jsonl").write(Records(batch(2)))
    first, second = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert list(first) == ["id", "metadata", "embedding", "text_chunk"]
    assert list(second) == ["id", "metadata", "embedding", "text_chunk", "uri"]


def test_documents_have_several_names_and_empty_lines_none(tmp_path: Path) -> None:
    lines = ['{"id": "a", "embedding": [1], "document": "d"}', "", '{"id": "b", "embedding": [1], "text": "t", "metadata": {}}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(JsonlSource(tmp_path / "a.jsonl"))
    assert (found.ids, found.documents, found.metadatas) == (["a", "b"], ["d", "t"], [None, None])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "embedding": [0.5, 1', "the file ends within it"),
        ("nonsense\n", "not JSON"),
        ("[1]\n", "not an object"),
        ('{"embedding": [1, 2]}\n', "no id"),
        ('{"id": "", "embedding": [1, 2]}\n', "no id"),
        ('{"id": 5, "embedding": [1, 2]}\n', "no id"),
        ('{"id": "b", "embedding": null}\n', "no embedding"),
        ('{"id": "b"}\n', "no embedding"),
        ('{"id": "b", "embedding": [1, 2, 3]}\n', "different lengths dimension=3 before=2"),
        ('{"id": "b", "embedding": [1, "2"]}\n', "not a list of numbers"),
        ('{"id": "b", "embedding": [1, true]}\n', "not a list of numbers"),
        ('{"id": "b", "embedding": [1, NaN]}\n', "NaN or an infinity"),
        ('{"id": "b", "embedding": [1, 1e39]}\n', "too large for float32"),
        ('{"id": "b", "embedding": [1, 2], "metadata": [1]}\n', "metadata is not an object"),
        ('{"id": "b", "embedding": [1, 2], "text_chunk": 5}\n', "not text"),
        (b'{"id": "b\xff", "embedding": [1, 2]}\n', "not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(tmp_path: Path, line: str | bytes, message: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(GOOD.encode() + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(Invalid, match=message) as caught:
        list(JsonlSource(tmp_path / "bad.jsonl").batches(10))
    assert caught.value.message.endswith("bad.jsonl line=2")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no such file file=.*a\.jsonl"):
        JsonlSource(tmp_path / "a.jsonl")
