"""Filters mean what they mean in stock Chroma: the same records and filters go to both, and the same ids come back in order."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromalith.engine.part import ArrowPart
from chromalith.engine.search import select
from chromalith.errors import Invalid

chromadb = pytest.importorskip("chromadb")

# Few values, so that filters hit; the odd ones are where int64, float64, bool and str could be mistaken for each other.
INTS = st.sampled_from([0, 1, 2, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 1.5, -0.5, -1.5, 2.0**53, 2.0**63, -(2.0**63), 1e300, 0.1])
STRINGS = st.sampled_from(["", "1", "a", "A", "ab", "true", "é", "e\u0301", "x\ny", "日本", "\U0001f600", "%"])
SCALARS = st.one_of(INTS, FLOATS, st.booleans(), STRINGS)
LISTS = st.one_of(*(st.lists(kind, min_size=1, max_size=3) for kind in (INTS, FLOATS, st.booleans(), STRINGS)))
KEYS = st.sampled_from(["a", "b", "é"])
METADATA = st.none() | st.dictionaries(KEYS, SCALARS | LISTS, min_size=1, max_size=3)
TEXTS = st.sampled_from(
    ["", "a", "ab", "aab", "AB", "a%b", "a_b", "hello world", "héllo", "x\ny", "日本語", "don't", '"q"', "1 2"]
)
RECORDS = st.lists(st.tuples(METADATA, st.none() | TEXTS), min_size=1, max_size=12)

ORDERS = ["$gt", "$gte", "$lt", "$lte"]
LEAVES = st.one_of(
    st.builds(lambda key, value: {key: value}, KEYS, SCALARS),
    st.builds(lambda key, op, value: {key: {op: value}}, KEYS, st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.builds(lambda key, op, value: {key: {op: value}}, KEYS, st.sampled_from(ORDERS), INTS | FLOATS),
    st.builds(lambda key, op, values: {key: {op: values}}, KEYS, st.sampled_from(["$in", "$nin"]), LISTS),
    st.builds(
        lambda key, op, value: {key: {op: value}}, KEYS, st.sampled_from(["$contains", "$not_contains"]), SCALARS
    ),
    st.builds(lambda op, text: {"#document": {op: text}}, st.sampled_from(["$contains", "$not_contains"]), TEXTS),
    st.builds(lambda text: {"chroma:document": text}, TEXTS),
)
PATTERNS = st.sampled_from(
    [r"a+b", r"^a", r"b$", r"^$", r"(?i)ab", r"\w+", r"\W", r"\s", r"\S\s\S", r"\d", r"\D", r".", r"(?s)x.y", r"x.y",
     r"[^a-z]", r"\p{Han}", r"[\w']+t", r"(?m)^y", r"a{2}", r"h.llo", r"\bb", r"o\b", r"\Bb", r"\bl", r"l\b", r"é|q", r"[\d\s]"]
)  # fmt: skip
DOCUMENT_LEAVES = st.one_of(
    st.builds(lambda op, text: {op: text}, st.sampled_from(["$contains", "$not_contains"]), TEXTS.filter(bool)),
    st.builds(lambda op, pattern: {op: pattern}, st.sampled_from(["$regex", "$not_regex"]), PATTERNS),
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda children: st.builds(
            lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or"]), st.lists(children, min_size=2, max_size=3)
        ),
        max_leaves=5,
    )


@pytest.fixture(scope="module")
def oracle() -> Any:
    return chromadb.EphemeralClient(settings=chromadb.Settings(anonymized_telemetry=False))


def part_of(records: list[tuple[dict[str, Any] | None, str | None]]) -> ArrowPart:
    rows = len(records)
    return ArrowPart(
        seq=np.arange(rows, dtype=np.int64),
        ids=pa.array([f"r{i}" for i in range(rows)]),
        vectors=np.zeros((rows, 2), dtype=np.float32),
        documents=pa.array([document for _, document in records], pa.string()),
        metadata=pa.array([None if m is None else json.dumps(m) for m, _ in records], pa.string()),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=RECORDS,
    filters=st.lists(
        st.tuples(st.none() | trees(LEAVES), st.none() | trees(DOCUMENT_LEAVES)), min_size=10, max_size=30
    ),
)
def test_filters_select_what_chroma_selects(oracle: Any, records: Any, filters: Any) -> None:
    """For any records and filters, the ids and their order are Chroma's; what Chroma refuses is refused."""
    # Never deleted: stock Chroma 1.5.9 leaves the list elements of a deleted collection behind, under row ids that it uses
    # again, so that records of a later collection seem to have them.
    collection = oracle.create_collection(f"oracle-{oracle.count_collections()}", embedding_function=None)
    ids = [f"r{i}" for i in range(len(records))]
    # One call a record where a document or metadata is missing in some: Chroma takes whole columns or none.
    for i, (metadata, document) in zip(ids, records, strict=True):
        collection.add(
            ids=[i],
            embeddings=[[1.0, 0.0]],
            metadatas=None if metadata is None else [metadata],
            documents=None if document is None else [document],
        )
    part = part_of(records)
    for where, where_document in filters:
        try:
            expected = collection.get(where=where, where_document=where_document, include=[])["ids"]
        except Exception as refusal:
            with pytest.raises(Invalid):
                select([part], where=where, where_document=where_document)
            assert "nvalid" in type(refusal).__name__ or isinstance(refusal, ValueError)
            continue
        found = [f"r{row}" for _, row in select([part], where=where, where_document=where_document)]
        assert found == expected, (where, where_document, records)


# Pieces of patterns, joined at random: most are patterns, some are not, and both sides must agree on which.
PIECES = st.sampled_from(
    ["a", "b", "é", "日", "x", ".", "^", "$", "|", "(", ")", "(?:", "*", "+", "?", "{2}", "{1,}", r"\d", r"\D", r"\w", r"\W",
     r"\s", r"\S", r"\b", r"\B", "[ab]", "[^a]", r"[\wé-]", r"[^\s]", r"[\W_]", r"\n", r"\.", "(?i)", "(?s)", "(?m)", "%", "]",
     r"\x61", r"\u{e9}", "[a-é]", "²", "[[:digit:]]", r"\pL", r"\P{Lu}", "A", "_"]
)  # fmt: skip
ANY_TEXT = st.lists(
    st.sampled_from(
        ["a", "b", "A", "é", "É", "e\u0301", "日", "x", "²", "٣", "_", " ", "\n", "\u00a0", "%", "-", "1", "\u200d"]
    ),
    max_size=5,
).map("".join)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(ANY_TEXT, min_size=1, max_size=12),
    patterns=st.lists(st.lists(PIECES, min_size=1, max_size=6).map("".join), min_size=10, max_size=20),
)
def test_patterns_match_what_chroma_s_match(oracle: Any, documents: list[str], patterns: list[str]) -> None:
    """Whatever pattern is accepted means what it means in Chroma; what Chroma refuses is never accepted."""
    collection = oracle.create_collection(f"oracle-{oracle.count_collections()}", embedding_function=None)
    ids = [f"r{i}" for i in range(len(documents))]
    collection.add(ids=ids, embeddings=[[1.0, 0.0]] * len(ids), documents=documents)
    part = part_of([(None, document) for document in documents])
    for pattern in patterns:
        try:
            found = [f"r{row}" for _, row in select([part], where_document={"$regex": pattern})]
        except Invalid:
            continue  # refused: at worst less than Chroma has, never something else
        expected = collection.get(where_document={"$regex": pattern}, include=[])["ids"]
        assert found == expected, (pattern, documents)
