"""One process of the application that is migrated while it works: ``python -m tests.migrate.live.application PROCESS < plan.json``.

It adds, updates, upserts, deletes, deletes by filter and reads, and writes down each call before it makes it and when it was answered.
A read of its own ids is held against what it wrote: at once, because nobody else writes them. Killed and started again, it goes on
after the last call in its diary; the one that was under way then may have happened.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import chromadb.errors
import httpx
import numpy as np
from tests.migrate.live import diary, mutants, story
from tests.migrate.live.diary import ACKNOWLEDGED, FAILED, UNKNOWN, Diary, Told
from tests.migrate.live.judge import Possible, own_states, rows_of, same
from tests.migrate.live.story import COLLECTIONS, Call

from chromalith.errors import Bug, ChromalithError, Corrupt, Invalid, NotFound

DEFINITE = (chromadb.errors.InvalidArgumentError, chromadb.errors.NotFoundError, httpx.ConnectError, Invalid, NotFound)
"""It did not happen. Of every other error nobody can say."""
OUTAGE = (ChromalithError, chromadb.errors.ChromaError, httpx.HTTPError, OSError)
"""What a real application meets, and survives. Anything else is a defect, and so are ``Bug`` and ``Corrupt``."""


@dataclass(frozen=True)
class Plan:
    """Where everything is, and how much of it there is.

    Attributes:
        source, target, state: URLs (``state`` empty: at the target).
        migration: its name; empty: the application talks to the source directly.
        processes, pool: how many there are, and how many ids each owns in each collection.
        pause_s: between two calls.
    """

    source: str
    target: str
    state: str
    migration: str
    folder: str
    processes: int
    pool: int
    pause_s: float
    seed: str
    collections: tuple[str, ...] = tuple(COLLECTIONS)

    def diary(self, process: int) -> Path:
        return Path(self.folder) / f"process-{process}.diary"

    def file(self, name: str) -> Path:
        """``stop``: everybody ends; ``pause``: everybody waits, and says so in ``paused-<process>``."""
        return Path(self.folder) / name

    def encoded(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> Plan:
        value = json.loads(text)
        return cls(**value | {"collections": tuple(value["collections"])})


def open_client(plan: Plan) -> Any:
    """The application's client."""
    if not plan.migration:
        return source_client(plan)
    import chromalith

    state = plan.state or None
    return chromalith.MigratingClient(plan.source, plan.target, migration=plan.migration, state=state)


def source_client(plan: Plan) -> Any:
    """A plain client of the source, which is a server."""
    import chromadb
    from chromadb.config import Settings

    host, port = plan.source.removeprefix("http://").split(":")
    return chromadb.HttpClient(host, int(port), settings=Settings(anonymized_telemetry=False))


def let_go(client: Any) -> None:
    """Close a client. An HTTP client of 1.5.9 leaves the sockets of both its halves to the garbage collector."""
    if hasattr(client, "close"):
        client.close()
    for half in (client, getattr(client, "_admin_client", None)):
        session = getattr(getattr(half, "_server", None), "_session", None)
        if session is not None:
            session.close()


class Process:
    """One process at work."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._number = number
        before = diary.read(plan.diary(number), number)
        self._possible: Possible = own_states(before.calls, number, plan.pool)
        self._next = before.number + 1
        self._own = story.own_ids(number, plan.pool)
        self._diary = Diary(plan.diary(number))
        self._client = open_client(plan)
        self._collections: dict[str, Any] = {}

    def run(self) -> None:
        """Call after call, until the plan's ``stop`` file is there."""
        plan = self._plan
        while not plan.file("stop").exists():
            if plan.file("pause").exists():
                self._wait()
                continue
            call = story.call(plan.seed, self._number, self._next, plan.pool, list(plan.collections))
            self._next += 1
            self._one(self._careful(call))
            time.sleep(plan.pause_s)
        self._diary.note("stopped")
        let_go(self._client)

    def _wait(self) -> None:
        said = self._plan.file(f"paused-{self._number}")
        said.touch()
        while self._plan.file("pause").exists() and not self._plan.file("stop").exists():
            time.sleep(0.02)
        said.unlink()

    def _careful(self, call: Call) -> Call:
        """The call without what a stock server alone gets wrong, so that whatever is found is the migration's.

        With several writers, an ``update`` that names an embedding of an id that is not there is kept for its vector: a later ``add`` of
        that id is acknowledged, and its embedding is ignored (seen with 1.5.9, without any migration). So an id that is missing is
        updated by metadata alone."""
        if call.op != "update" or call.column("embedding") is None:
            return call
        surely = [row for row in call.rows if None not in self._possible.of(call.collection, row["id"])]
        if surely:
            return replace(call, rows=tuple(surely))
        rows = ({"id": row["id"], "metadata": {"owner": self._number, "batch": 1}} for row in call.rows)
        return replace(call, rows=tuple(rows))

    def _one(self, call: Call) -> None:
        self._diary.begun(call)
        told = Told(self._number, call, time.monotonic())
        try:
            answer = self._made(call)
            told.outcome = ACKNOWLEDGED
        except (Bug, Corrupt):
            raise
        except OUTAGE as error:
            told.outcome, told.error = _outcome(error), f"{type(error).__name__}: {error}"
            self._collections.pop(call.collection, None)
            time.sleep(0.1)
            answer = None
        self._diary.ended(call, told.outcome, told.error)
        if call.writes:
            self._possible.happened(told, self._own)
        elif answer is not None:
            self._check(call, answer)

    def _made(self, call: Call) -> Any:
        collection = self._collections.get(call.collection)
        if collection is None:
            collection = self._collections[call.collection] = self._client.get_collection(
                call.collection, embedding_function=None
            )
        return PERFORM[call.op](collection, call)

    def _check(self, call: Call, answer: Any) -> None:
        """Hold the answer to a read against what this process knows of its own ids."""
        if call.op == "count":
            return
        if call.op == "query":
            ids = answer["ids"][0]
            if len(set(ids)) != len(ids):
                self._diary.wrong(call, "false", f"doubled ids={ids}")
            dead = [own for own in ids if own in self._own and self._possible.of(call.collection, own) == [None]]
            foreign = [own for own in ids if own not in self._own and not own.startswith("s-")]
            if dead or foreign:
                self._diary.wrong(call, "stale", f"deleted={dead} foreign={foreign}")
            return
        rows = {record: row for record, row in rows_of(answer).items() if record in self._own}
        for record in call.ids if call.op == "get" else self._own:
            found = rows.get(record)
            states = self._possible.of(call.collection, record)
            space = COLLECTIONS[call.collection]
            if call.op == "owned":  # by filter: a record whose `owner` is named
                states = [
                    state if state is not None and (state.metadata or {}).get("owner") == self._number else None
                    for state in states
                ]
            if any(same(state, found, space) for state in states):
                continue
            former = self._possible.former[call.collection, record]
            kind = "stale" if any(same(state, found, space) for state in former) else "false"
            self._diary.wrong(
                call, kind, f"{call.op} {call.collection}/{record} must be one of {states} and is {found}"
            )


def _outcome(error: Exception) -> str:
    # A stock server refuses an `add` with a metadata value of None, as it can't parse it; a Chromalith store takes it.
    refused = isinstance(error, DEFINITE) or "Failed to deserialize the JSON body" in str(error)
    return FAILED if refused else UNKNOWN


def _columns(call: Call) -> dict[str, Any]:
    embeddings = call.column("embedding")
    columns = {"documents": call.column("document"), "uris": call.column("uri"), "metadatas": call.column("metadata")}
    given = {name: column for name, column in columns.items() if column is not None}
    if embeddings is not None:
        given["embeddings"] = np.array(embeddings, np.float32)
    return given


EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]
PERFORM: dict[str, Callable[[Any, Call], Any]] = {
    "add": lambda collection, call: collection.add(ids=call.ids, **_columns(call)),
    "update": lambda collection, call: collection.update(ids=call.ids, **_columns(call)),
    "upsert": lambda collection, call: collection.upsert(ids=call.ids, **_columns(call)),
    "delete": lambda collection, call: collection.delete(ids=call.ids),
    "delete_where": lambda collection, call: collection.delete(where=dict(call.where or {})),
    "get": lambda collection, call: collection.get(ids=call.ids, include=EVERYTHING),
    "owned": lambda collection, call: collection.get(where=dict(call.where or {}), include=EVERYTHING),
    "query": lambda collection, call: collection.query(
        query_embeddings=np.array(call.column("embedding"), np.float32), n_results=5, where=dict(call.where or {})
    ),
    "count": lambda collection, call: collection.count(),
}


def seed(plan: Plan) -> None:
    """Make the collections at the source and write what is there before the migration begins; each process's part into its own diary."""
    client = source_client(plan)
    for name in plan.collections:
        space = {"hnsw": {"space": COLLECTIONS[name]}}
        client.get_or_create_collection(name, configuration=space, embedding_function=None, metadata={"about": name})
    for process in range(plan.processes):
        notes = Diary(plan.diary(process))
        for name in plan.collections:
            call = story.seeds(process, name, plan.pool)
            notes.begun(call)
            PERFORM["add"](client.get_collection(name, embedding_function=None), call)
            notes.ended(call, ACKNOWLEDGED)
        notes.close()
    let_go(client)


def main() -> None:
    """See the module's docstring."""
    plan, number = Plan.decoded(sys.stdin.read()), int(sys.argv[1])
    mutants.arm()
    try:
        Process(plan, number).run()
    except BaseException as error:
        Diary(plan.diary(number)).note("defect", f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
