"""What is wrong with a call is said before anything is written; what Chroma takes is taken."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from chromalith.errors import Invalid
from chromalith.model.operation import Op
from chromalith.write.validate import operations

VECTOR = [[1.0, 2.0]]

WRONG: dict[str, dict[str, Any]] = {
    "no ids": {"ids": []},
    "an empty id": {"ids": [""]},
    "an id that is no text": {"ids": [1]},
    "an id twice": {"ids": ["a", "a"], "embeddings": [[1.0], [2.0]]},
    "half a surrogate pair": {"ids": ["\ud800"]},
    "half a pair in a document": {"documents": ["\udfff"]},
    "half a pair in metadata": {"metadatas": [{"k": "\ud800"}]},
    "half a pair in a list": {"metadatas": [{"k": ["\ud800"]}]},
    "half a pair in a key": {"metadatas": [{"\ud800": 1}]},
    "too few documents": {"documents": []},
    "too many metadatas": {"metadatas": [None, None]},
    "a document that is no text": {"documents": [7]},
    "no embedding": {"embeddings": None},
    "an embedding of None": {"embeddings": [None]},
    "an empty embedding": {"embeddings": [[]]},
    "one axis": {"embeddings": np.zeros(1, np.float32)},
    "three axes": {"embeddings": np.zeros((1, 1, 1), np.float32)},
    "NaN": {"embeddings": [[float("nan"), 1.0]]},
    "infinity": {"embeddings": np.array([[np.inf, 1.0]])},
    "too large for float32": {"embeddings": [[1e300, 1.0]]},
    "too large for float32, as an array": {"embeddings": np.array([[1e300, 1.0]])},
    "ragged": {"ids": ["a", "b"], "embeddings": [[1.0], [1.0, 2.0]]},
    "text": {"embeddings": [["x", "y"]]},
    "an array of text": {"embeddings": np.array([["x", "y"]])},
    "another dimension": {"embeddings": [[1.0, 2.0, 3.0]]},
    "empty metadata": {"metadatas": [{}]},
    "metadata that is no dictionary": {"metadatas": ["x"]},
    "a key that is no text": {"metadatas": [{1: 1}]},
    "an empty key": {"metadatas": [{"": 1}]},
    "a reserved key": {"metadatas": [{"chroma:document": "x"}]},
    "a nested dictionary": {"metadatas": [{"k": {"a": 1}}]},
    "an empty list": {"metadatas": [{"k": []}]},
    "a mixed list": {"metadatas": [{"k": [1, "x"]}]},
    "a list of bool and int": {"metadatas": [{"k": [1, True]}]},
    "a nested list": {"metadatas": [{"k": [[1]]}]},
    "NaN in metadata": {"metadatas": [{"k": float("nan")}]},
    "infinity in a list": {"metadatas": [{"k": [float("inf")]}]},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_is_invalid(what: str) -> None:
    """One reason, with no warning on the way, and a hint or the place."""
    arguments = {"ids": ["a"], "embeddings": VECTOR} | WRONG[what]
    with pytest.raises(Invalid):
        operations(Op.UPSERT, **arguments, dimension=2 if what == "another dimension" else None)


def test_an_add_removes_no_key() -> None:
    """``None`` in metadata removes a key, which only a record that exists has: Chroma refuses it in ``add``."""
    with pytest.raises(Invalid):
        operations(Op.ADD, ["a"], VECTOR, metadatas=[{"k": None}])
    assert operations(Op.UPSERT, ["a"], VECTOR, metadatas=[{"k": None}]).metadata == ['{"k":null}']


def test_a_delete_takes_ids_only() -> None:
    """Whatever else is given is a mistake."""
    assert len(operations(Op.DELETE, ["a", "b"])) == 2
    with pytest.raises(Invalid):
        operations(Op.DELETE, ["a"], documents=["x"])


@pytest.mark.parametrize(
    "embeddings",
    [
        [[1, 2], [3, 4]],
        [(1.0, 2.0), np.array([3.0, 4.0])],
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], np.float64).T.copy().T,
        np.array([[1, 2], [3, 4]], np.float32)[::1],
    ],
)
def test_whatever_makes_a_matrix_is_taken(embeddings: Any) -> None:
    """Lists, tuples, arrays of any number, in any layout, become float32 rows."""
    found = operations(Op.ADD, ["a", "b"], embeddings).embeddings
    assert found is not None
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    assert found.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_an_update_may_bring_vectors_for_some() -> None:
    """Rows without a vector keep theirs."""
    found = operations(Op.UPDATE, ["a", "b", "c"], [None, [1.0, 2.0], None])
    assert found.has_embedding.tolist() == [False, True, False]
    assert operations(Op.UPDATE, ["a"], [None]).embeddings is None
    assert operations(Op.UPDATE, ["a"], documents=["x"]).embeddings is None


def test_numbers_keep_their_kind() -> None:
    """1 and 1.0 and true stay apart; an integer of more than 64 bits becomes a float, as in Chroma, and so does its list."""
    metadata = {"i": 1, "f": 1.0, "b": True, "big": 2**63, "small": -(2**63), "l": [1, 2**63], "z": -0.0}
    (text,) = operations(Op.ADD, ["a"], VECTOR, metadatas=[metadata]).metadata
    found = json.loads(text or "")
    assert {key: (type(value), value) for key, value in found.items()} == {
        "i": (int, 1),
        "f": (float, 1.0),
        "b": (bool, True),
        "big": (float, 2.0**63),
        "small": (int, -(2**63)),
        "l": (list, [1.0, 2.0**63]),
        "z": (float, -0.0),
    }
    assert str(found["z"]) == "-0.0"
    assert [type(item) for item in found["l"]] == [float, float]


def test_metadata_has_one_text() -> None:
    """Equal metadata is equal text, whatever the order of its keys."""
    one, other = ({"b": 1, "a": [True]}, {"a": [True], "b": 1})
    assert operations(Op.ADD, ["a"], VECTOR, metadatas=[one]).metadata == operations(Op.ADD, ["a"], VECTOR, metadatas=[other]).metadata
