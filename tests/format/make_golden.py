"""Write the golden store of the present formats: ``python -m tests.format.make_golden FOLDER``. Done once for each released format.

A golden store is never written again: that today's code still reads what an older one wrote is the point of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.worlds import NEVER, World, vectors

from chromalith.model import layout
from chromalith.model.plan import MergePolicy
from chromalith.read.view import View


def build() -> World:
    """A collection with two indexed segments, deletes, a merge, a quarantined delta, a void, and deltas that wait."""
    world = World(space="cosine")
    writer = world.writer()
    no_merges = MergePolicy(fan_in=99, rows_floor=NEVER, deleted_fraction_max=1)
    writer.write(
        world.cid, "add", ["a", "b", "ü", "日本"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]],
        documents=["one", "", None, "four"], uris=[None, "s3://x/y", None, ""],
        metadatas=[
            {"i": -1, "big": 2**63 - 1, "f": 1.0, "t": True, "s": "null", "é": "e\u0301"},
            {"ints": [1, 2], "floats": [0.5, -0.0], "flags": [True, False], "texts": ["", "x"]},
            None,
            {"f": 1e300},
        ],
    )  # fmt: skip
    world.compactor().run_once(world.cid)
    writer.write(world.cid, "upsert", ["b", "c"], vectors(2, 2), metadatas=[{"ints": None, "n": 7}, {"n": 8}], call_id="a call")
    bad = writer.write(world.cid, "upsert", ["bad"], vectors(1, 3))
    world.store.put(layout.delta_key(world.cid, bad.delta), b"not what was written")
    for value, ids in enumerate(("de", "fg")):
        writer.write(world.cid, "upsert", list(ids), vectors(2, 4.0 + value), documents=["x", "y"])
        world.compact(merge=no_merges, index_threshold=2)
    world.compact(merge=MergePolicy(fan_in=2, rows_floor=NEVER), index_threshold=2)
    world.clock.advance(100)
    writer.write(world.cid, "delete", ["a", "d"])
    world.compact(merge=no_merges, index_threshold=2)
    writer.write(world.cid, "update", ["ü", "absent"], documents=["ü", "never"], metadatas=[{"k": "v"}, None])
    void = writer.write(world.cid, "delete", ["b"])
    world.store.put(layout.delta_key(world.cid, void.delta), b"VOID")
    writer.write(world.cid, "upsert", ["z"], [[9, 8, 7]])
    return world


def shown(view: View) -> dict[str, Any]:
    """Everything that a view answers, as JSON has it."""
    found = view.get(include=("embeddings", "documents", "uris", "metadatas"))
    assert found.embeddings is not None
    nearest = view.query([[1.0, 0.5, 0.25]], 3)[0]  # type: ignore[arg-type]
    return {
        "ids": found.ids,
        "embeddings": found.embeddings.tolist(),
        "documents": found.documents,
        "uris": found.uris,
        "metadatas": found.metadatas,
        "nearest": nearest.ids,
        "version": view.manifest.version,
        "content": str(view.manifest.content),
        "embedding": str(view.manifest.embedding),
        "overlay": [str(delta) for delta in view.overlay],
    }


def main(folder: Path) -> None:
    with build() as world:
        for page in world.store.list(""):
            for entry in page:
                path = folder / "store" / entry.key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(world.store.get(entry.key).body)
        expected = shown(world.view()) | {"collection": world.cid}
        (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
