"""A delta that another program wrote, digest and all, and that no fold could apply: quarantined with the reason, and it blocks nothing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.worlds import World

from chromalith.errors import Corrupt
from chromalith.model import layout
from chromalith.model.arrow import fixed_size_list
from chromalith.model.ids import DeltaId, body_digest

Columns = dict[str, pa.Array]


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        world.upsert("a", 1)
        world.compact()
        yield world


def planted(world: World, change: Callable[[Columns], object]) -> DeltaId:
    """Put a delta of two upserts, changed, where a writer would."""
    columns: Columns = {
        "op": pa.array(["upsert", "upsert"]),
        "id": pa.array(["b", "c"]),
        "embedding": fixed_size_list(np.ones((2, 3), np.float32)),
        "document": pa.array(["x", None], pa.string()),
        "uri": pa.nulls(2, pa.string()),
        "metadata": pa.array(['{"n":1}', None], pa.string()),
    }
    change(columns)
    table = pa.table(columns)
    meta = {"format": "1", "collection": world.cid, "rows": str(table.num_rows)}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({f"chromalith.delta.{key}": value for key, value in meta.items()}), sink)
    body = sink.getvalue()
    delta = DeltaId(world.clock.now_us() << 12, "f" * 32, 1, body_digest(body))
    world.store.put(layout.delta_key(world.cid, delta), body)
    return delta


BAD: dict[str, Callable[[Columns], object]] = {
    "an id that is null": lambda c: c.update(id=pa.array(["b", None])),
    "an id that is empty": lambda c: c.update(id=pa.array(["b", ""])),
    "ids that are numbers": lambda c: c.update(id=pa.array([1, 2])),
    "an unknown operation": lambda c: c.update(op=pa.array(["upsert", "merge"])),
    "an operation that is null": lambda c: c.update(op=pa.array(["upsert", None])),
    "an embedding that is no number": lambda c: c.update(embedding=fixed_size_list(np.array([[1, 2, np.nan]] * 2, np.float32))),
    "an embedding without end": lambda c: c.update(embedding=fixed_size_list(np.array([[1, 2, np.inf]] * 2, np.float32))),
    "embeddings of another width": lambda c: c.update(embedding=fixed_size_list(np.ones((2, 4), np.float32))),
    "embeddings of float64": lambda c: c.update(embedding=pa.array([[1.0] * 3] * 2, pa.list_(pa.float64(), 3))),
    "embeddings of any width": lambda c: c.update(embedding=pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32()))),
    "metadata that is no JSON": lambda c: c.update(metadata=pa.array(["{", None])),
    "metadata that is a list": lambda c: c.update(metadata=pa.array(["[1]", None])),
    "metadata with an object": lambda c: c.update(metadata=pa.array(['{"a":{}}', None])),
    "metadata with a NaN": lambda c: c.update(metadata=pa.array(['{"a":NaN}', None])),
    "metadata with 65 bits": lambda c: c.update(metadata=pa.array(['{"a":99999999999999999999}', None])),
    "metadata with half a pair": lambda c: c.update(metadata=pa.array(['{"a":"\\ud800"}', None])),
    "metadata with a mixed list": lambda c: c.update(metadata=pa.array(['{"a":[1,"x"]}', None])),
    "documents that are bytes": lambda c: c.update(document=pa.array([b"\xff", None])),
    "a column that is missing": lambda c: c.pop("uri"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_applied_is_quarantined(world: World, name: str) -> None:
    """A default read says so by its name; a fold goes on past it, and so do reads after that."""
    delta = planted(world, BAD[name])
    world.clock.advance(1)
    world.upsert("z", 9)
    with pytest.raises(Corrupt, match=str(delta)):
        world.documents()
    world.compact()
    assert [each.delta for each in world.current().quarantined] == [str(delta)]
    assert set(world.documents()) == {"a", "z"}


def test_a_sound_one_is_applied(world: World) -> None:
    """The plants above are refused for what is wrong with them, and for nothing else."""
    planted(world, lambda columns: None)
    assert set(world.documents()) == {"a", "b", "c"}
    world.compact()
    assert (world.current().quarantined, set(world.documents())) == ((), {"a", "b", "c"})
