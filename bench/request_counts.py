"""Claim: a warm read at the default level is one LIST and one conditional GET; a write is one PUT and one conditional GET.

Counted at the store, where one call is one request, on a directory, in memory and on SeaweedFS; asserted, so that this bench fails if it
is not so. "Warm" is a process that has written to, or read, the collection before.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.dataset import load
from bench.fill import create
from bench.outcome import Figure, Options, Outcome, run, work_directory
from bench.servers import seaweed

from chromalith.session import Session
from chromalith.store.port import Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import CountingStore

READ = Counter({"list": 1, "get_if_changed": 1})
WRITE = Counter({"put": 1, "get_if_changed": 1})


def measure(options: Options) -> Outcome:
    data = load(options.data, 2_000)
    counted: dict[str, Any] = {}
    figures = []
    with work_directory("requests") as directory, seaweed() as server:
        place = server.place()
        stores = {
            "memory": open_store("memory://bench-requests"),
            "directory": open_store(str(directory / "store")),
            "SeaweedFS": open_store(place.url, storage_options=place.options),
        }
        for name, store in stores.items():
            write, read, after_write = _count(store, data)
            counted[name] = {
                "write": dict(write),
                "read": dict(read),
                "read_after_a_write_by_another": dict(after_write),
            }
            if read != READ or write != WRITE:
                raise AssertionError(f"other requests than claimed store={name} {counted[name]}")
            figures.append(
                Figure(f"warm read, {name}", read.total(), 2, "requests", "1 LIST + 1 conditional GET", goal=1.0)
            )
            figures.append(
                Figure(f"write, {name}", write.total(), 2, "requests", "1 PUT + 1 conditional GET", goal=1.0)
            )
    return Outcome(
        "request_counts", data.source, figures, {"records": len(data), "dimension": 384}, {"requests": counted}
    )


def _count(store: Store, data: Any) -> tuple[Counter[str], Counter[str], Counter[str]]:
    writing, reading = CountingStore(store), CountingStore(store)
    writer, reader = Session(writing), Session(reading)
    cid = create(writer)
    writer.writer.write(cid, "upsert", **data.columns(0, 1_000))
    reader.view(cid).query(data.queries[:1], 10)

    reading.reset()
    reader.view(cid).query(data.queries[1:2], 10)
    read = reading.reset().requests
    writing.reset()
    writer.writer.write(cid, "upsert", **data.columns(1_000, 2_000))
    write = writing.reset().requests
    if reader.view(cid).count() != 2_000:
        raise AssertionError("an acknowledged write was not seen")
    after_write = reading.reset().requests
    writer.close()
    reader.close()
    return write, read, after_write


if __name__ == "__main__":
    run("request_counts", measure, __doc__)
