"""What ``chromalith aws smoke`` does, step by step: the migration guide's Phase 1, step 3, on a stack that is really there.

1. Who asks, which versions of the functions answer, and the queue. Nothing is written yet.
2. The caller makes a collection of its own: a producer's role may make none.
3. The producer writes records to it; their delta is looked up in the bucket.
4. The compactor folds them. The queue's own run of it may be faster, or have the lease: then it is asked again until they are folded.
5. The query function finds what was written.
6. The caller deletes the collection, whatever came before. What could not be deleted is said.

A step that fails ends the run; those after it are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chromalith.aws.functions import Deployed, Functions
from chromalith.aws.queue import Queue
from chromalith.aws.stack import Stack, queue_url
from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Conflict, Invalid, LeaseHeld, NotFound, Unavailable, Unknown
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.session import Session

RECORDS, DIMENSION = 5, 8
ASKED_FOR = 2
"""The place of the record that is asked for."""
DISTANCE_MAX = 1e-4
"""Of a vector to itself, after an index that keeps bfloat16."""
PATIENCE_S = 120.0
"""For a function that is being deployed; and for the fold: a delta settles in 2 s, a compactor that was killed keeps its lease for 30 s."""
PAUSE_S = 2.0
Result = TypeVar("Result")


class Different(ChromalithError):
    """A step ended, with another result than it must have."""


@dataclass(slots=True)
class Step:
    """One step.

    Attributes:
        name: of the step.
        result: ``done``, ``failed`` or ``left_out``.
        seconds: how long it took.
        what: what was found, for a person.
    """

    name: str
    result: str = "left_out"
    seconds: float = 0.0
    what: str = ""


@dataclass(slots=True)
class Smoke:
    """A run of all steps. ``error`` is what ended it; ``left`` says what of the test could not be deleted."""

    session: Session
    functions: Functions
    stack: Stack
    database: tuple[str, str]
    collection: str
    storage_options: Mapping[str, object]
    tell: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    error: ChromalithError | None = None
    left: str | None = None
    _cid: CollectionId | None = None
    _answer: dict[str, Any] = field(default_factory=dict)

    def run(self, *, keep: bool) -> None:
        """All steps. Raises nothing that a step raised: it is in ``error``."""
        self._step("functions", self._look)
        self._step("queue", self._queue)
        self._step("create", self._create)
        try:
            self._step("produce", self._produce)
            self._step("list", self._list)
            self._step("compact", self._compact)
            self._step("query", self._query)
            self._step("count", self._count)
        finally:
            if keep:
                self.left = f"the collection {self.collection!r} was kept; {self._by_hand}"
            else:
                self._clean_up()

    @property
    def _by_hand(self) -> str:
        return f"to delete it: chromalith collections delete {self.collection} --yes --store {self.session.store.url}"

    @property
    def clock(self) -> Clock:
        return self.session.clock

    # -- the steps -----------------------------------------------------------------------------------------------------

    def _look(self) -> str:
        found = [self._ready(name) for name in self.stack.functions.values()]
        for each in found:
            self._check_store(each)
        return ", ".join(f"{each.name} version {each.version}" for each in found)

    def _ready(self, name: str) -> Deployed:
        """A function that can answer; one that was deployed just now is waited for. An ``Inactive`` one wakes when it is invoked."""
        stop_s = self.clock.monotonic_s() + PATIENCE_S
        while (found := self.functions.look(name, self.stack.alias)).state == "Pending" and self.clock.monotonic_s() < stop_s:
            self.tell(f"functions: {name} is being deployed")
            self.clock.sleep(PAUSE_S)
        if found.state in ("Pending", "Failed"):
            raise Unavailable(f"the function is not ready function={name} state={found.state}", hint="deploy it again, or wait")
        return found

    def _check_store(self, found: Deployed) -> None:
        theirs = found.environment.get("CHROMADB_BUCKET")
        if theirs is not None and theirs.removeprefix("s3://").strip("/") != self.stack.bucket:
            raise Invalid(
                f"the function works on another bucket function={found.name} bucket={theirs} expected={self.stack.bucket}",
                hint="give --bucket, or --stack",
            )

    def _queue(self) -> str:
        depth = Queue(queue_url(self.stack.queue, self.storage_options), self.storage_options).depth()
        return f"{self.stack.queue}: {depth.visible} messages wait, {depth.in_flight} in flight"

    def _create(self) -> str:
        named = self.session.catalog.create(
            *self.database, self.collection, configuration={"hnsw": {"space": "l2"}}, dimension=DIMENSION
        )
        self._cid = named.collection.id
        return f"collection {self.collection} id {self._cid}"

    def _produce(self) -> str:
        payload = {
            "collection": self.collection,
            "ids": [_id(row) for row in range(RECORDS)],
            "embeddings": [_vector(row) for row in range(RECORDS)],
            "documents": [_text(row) for row in range(RECORDS)],
            "metadatas": [{"row": row} for row in range(RECORDS)],
        }
        self._answer = self._invoke("producer", payload)
        self._same("records written", self._answer.get("item_count"), RECORDS)
        if not self._answer.get("queued"):
            raise Different(
                "the delta is durable, but the producer sent no message to the queue",
                hint=f"its role needs sqs:SendMessage on {self.stack.queue}, and its environment DELTA_QUEUE_URL; see its log",
            )
        return f"{RECORDS} records in one delta of {self._answer['delta_size_bytes']:,} bytes; its message is in the queue"

    def _list(self) -> str:
        key = str(self._answer["delta_key"])
        keys = {entry.key for page in self.session.store.list(f"{key.rpartition('/')[0]}/") for entry in page}
        if key not in keys or layout.parse_delta_key(key)[0] != self._cid:
            raise Different(f"the delta is not in the bucket key={key}", hint="does the producer write to another bucket")
        return key

    def _compact(self) -> str:
        stop_s, asked = self.clock.monotonic_s() + PATIENCE_S, 0
        reason: ChromalithError | None = None
        while True:
            asked += 1
            try:
                told = self._invoke("compactor", {"source": "manual", "collection": self.collection})["collections"]
                if told and told[0]["version"] and not told[0]["deltas_waiting"]:
                    return f"folded; version {told[0]['version']}, after {asked} {'invocation' if asked == 1 else 'invocations'}"
                reason = None
            except (Conflict, LeaseHeld, Unavailable) as error:  # the queue's own run is at it
                reason = error
            if self.clock.monotonic_s() > stop_s:
                late = Unavailable(f"the delta was not folded within {PATIENCE_S:g} s", hint="`chromalith lock status` says who is at it")
                raise reason or late
            self.tell("compact: not folded yet, asking again")
            self.clock.sleep(PAUSE_S)

    def _query(self) -> str:
        payload = {"collection": self.collection, "query_embeddings": [_vector(ASKED_FOR)], "n_results": 2}
        found = self._invoke("query", payload)
        self._same("nearest id", found["ids"][0][:1], [_id(ASKED_FOR)])
        self._same("its document", found["documents"][0][:1], [_text(ASKED_FOR)])
        self._same("its metadata", found["metadatas"][0][:1], [{"row": ASKED_FOR}])
        distance = found["distances"][0][0]
        if distance > DISTANCE_MAX:
            raise Different(f"a record is not at its own place distance={distance}", hint="is the query function of this release")
        return f"nearest is {_id(ASKED_FOR)!r}, at distance {distance:g}, from version {found['version']}"

    def _count(self) -> str:
        found = self._invoke("query", {"collection": self.collection, "count": True})
        self._same("records", found["count"], RECORDS)
        return f"{RECORDS} records"

    def _clean_up(self) -> None:
        if self._cid is None and not isinstance(self.error, Unknown):
            return  # it was never made
        first, self.error = self.error, None
        if not self._step("delete", self._delete):
            self.left = f"the collection {self.collection!r} could not be deleted; {self._by_hand}"
        if first is not None:
            self.error = first

    def _delete(self) -> str:
        try:
            self.session.catalog.delete(*self.database, self.collection)
        except NotFound:
            return "there is nothing to delete"
        return "the collection is gone; the next sweep deletes its objects"

    # -- beside them ---------------------------------------------------------------------------------------------------

    def _invoke(self, role: str, payload: dict[str, Any]) -> Any:
        answer = self.functions.invoke(self.stack.functions[role], payload, self.stack.alias)
        if not isinstance(answer, dict):
            raise Different(
                f"the function answered something else function={self.stack.functions[role]} answer={str(answer)[:80]!r}",
                hint="is it one of chromalith's",
            )
        return answer

    def _same(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise Different(f"{what}: found={found!r} expected={expected!r}", hint="are all functions of one release")

    def _step(self, name: str, act: Callable[[], str]) -> bool:
        """Do a step, unless an earlier one failed; whether it went well."""
        step = Step(name)
        self.steps.append(step)
        if self.error is not None:
            return False
        self.tell(name)
        began = self.clock.monotonic_s()
        try:
            step.what, step.result = act(), "done"
        except ChromalithError as error:
            step.what, step.result, self.error = error.message, "failed", error
        except (KeyError, TypeError, IndexError) as error:  # an answer of another shape
            self.error = Different(f"the function answered something else step={name}: {error!r}", hint="are all functions of one release")
            step.what, step.result = self.error.message, "failed"
        step.seconds = self.clock.monotonic_s() - began
        return step.result == "done"


def _id(row: int) -> str:
    return f"smoke-{row}"


def _text(row: int) -> str:
    return f"record {row} of a smoke test"


def _vector(row: int) -> list[float]:
    """Unit vectors: far from each other, and exact in every float."""
    return [1.0 if place == row else 0.0 for place in range(DIMENSION)]
