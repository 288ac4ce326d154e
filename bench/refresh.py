"""Claim: after a change of one percent, a warm reader downloads at most five percent of what hydrating everything downloads.

A reader has the whole collection in its cache and has answered. Then one percent of the records is upserted with other embeddings, at
random places; the reader answers again from the overlay; the change is folded; the reader answers a third time. Bytes are those that the
store sent, counted. Peer: the same last answer from an empty cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bench.dataset import Dataset, load
from bench.fill import fill, find, fold_all
from bench.outcome import Figure, Options, Outcome, run, say, work_directory
from bench.servers import Place, seaweed

from chromalith.session import Session
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore

GOAL = 0.05


def measure(options: Options) -> Outcome:
    rows = 12_000 if options.small else 60_000
    data = load(options.data, rows)
    changed = rows // 100
    figures = []
    with work_directory("refresh") as directory, seaweed() as server:
        for name, place in (("directory", Place(str(directory / "store"))), ("SeaweedFS", server.place())):
            fill(place, data)
            figures += _one(name, place, directory / f"cache-{name}", data, changed)
    return Outcome("refresh", data.source, figures, {"records": rows, "dimension": 384, "changed": changed})


def _one(name: str, place: Place, cache: Path, data: Dataset, changed: int) -> list[Figure]:
    counting = CountingStore(open_store(place.url, storage_options=place.options))
    reader = Session(counting, cache_dir=cache)
    _answer(reader, data)
    counting.reset()

    _change(open_store(place.url, storage_options=place.options), data, changed)
    _answer(reader, data)
    overlaid = counting.reset().bytes_read
    fold_all(place)
    _answer(reader, data)
    folded = counting.reset().bytes_read
    reader.close()

    fresh = CountingStore(open_store(place.url, storage_options=place.options))
    other = Session(fresh, cache_dir=cache.with_name(cache.name + "-fresh"))
    _answer(other, data)
    everything = fresh.counts.bytes_read
    other.close()
    say(f"refresh: {name}: overlay {overlaid:,} B, after the fold {folded:,} B, everything {everything:,} B")
    against = "hydrating everything"
    return [
        Figure(f"{name}, after the fold", folded, everything, "bytes", against, goal=GOAL),
        Figure(
            f"{name}, from the overlay and after the fold together", overlaid + folded, everything, "bytes", against, goal=GOAL,
            note="the overlay looks changed ids up in the id table, which a reader without filters or ids had not needed before",
        ),
    ]  # fmt: skip


def _answer(session: Session, data: Dataset) -> None:
    cid = find(session)
    for query in data.queries[:3]:
        session.view(cid).query(query[None, :], 10)


def _change(store: Store, data: Dataset, changed: int) -> None:
    rows = np.random.default_rng(1).choice(len(data), changed, replace=False)
    session = Session(store)
    cid = find(session)
    session.writer.write(
        cid,
        "upsert",
        ids=[data.ids[row] for row in rows],
        embeddings=data.embeddings[rows][:, ::-1],
        documents=[data.documents[row] for row in rows],
        metadatas=[data.metadatas[row] for row in rows],
    )
    session.close()


if __name__ == "__main__":
    run("refresh", measure, __doc__)
