"""What each process of the application says of itself: which state it follows, what it wrote and read, and how the second side did.

One object for each client, ``clients/<id>.json``, overwritten by that client alone: about every :data:`EVERY_S` while it is used, when it
sees another state, and when it is closed. Nothing depends on it but people and the gates they may overrule. A process that can't write it
goes on working, and one that does nothing says nothing: before it does something again it reads the state. Ages are by the store's dates.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chromalith.coord.store_date import date_by
from chromalith.errors import ChromalithError, NotFound
from chromalith.migrate.places import Place
from chromalith.store.port import Entry
from chromalith.threads import NewExecutor

FORMAT = 1
PART = "clients"
EVERY_S = 10.0
READS_AT_ONCE = 8
LIVE_S = 60.0
"""A client that said nothing for so long is not live: six times :data:`EVERY_S`."""
STOP_S = 5.0
"""The most that closing waits for the last words: a store that hangs must not keep an application from ending."""


@dataclass(frozen=True, slots=True)
class Presence:
    """One client, as it last described itself.

    Attributes:
        id: of the client.
        app: what the application calls itself.
        host, pid: where it runs.
        chromalith, chromadb: versions.
        epoch, phase: of the state that it follows; 0 and ``direct``: it has seen none.
        started_us, seen_us: wall time of that machine, microseconds since 1970.
        ended: whether it was closed.
        writes, reads: calls that were answered, by side.
        write_minutes: calls that wrote, by minute since 1970, of the last :data:`~chromalith.migrate.tally.MINUTES_MAX`.
        second_failures, second_late, second_skipped, read_fallbacks, last_failure: see :class:`~chromalith.migrate.tally.Tally`.
        state_failures: how often the state could not be read.
        shadow: what shadow reads found, as :mod:`chromalith.migrate.shadow` says it.
        seen_s: how long ago this was written, by the store's dates; set when it is read.
    """

    id: str
    app: str = ""
    host: str = ""
    pid: int = 0
    chromalith: str = ""
    chromadb: str = ""
    epoch: int = 0
    phase: str = "direct"
    started_us: int = 0
    seen_us: int = 0
    ended: bool = False
    writes: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, int] = field(default_factory=dict)
    write_minutes: Mapping[str, int] = field(default_factory=dict)
    second_failures: int = 0
    second_late: int = 0
    second_skipped: int = 0
    read_fallbacks: int = 0
    last_failure: str | None = None
    state_failures: int = 0
    shadow: Mapping[str, Any] = field(default_factory=dict)
    seen_s: float = 0.0

    def encode(self) -> bytes:
        """As JSON."""
        value = {"format": FORMAT, **asdict(self)}
        del value["seen_s"]
        return json.dumps(value, ensure_ascii=True).encode()

    @classmethod
    def decode(cls, body: bytes) -> Presence | None:
        """The inverse; ``None`` for what is no presence that this release knows. Unknown fields are left out."""
        try:
            value = json.loads(body)
            if value.pop("format") != FORMAT:
                return None
            known = {name: part for name, part in value.items() if name in cls.__dataclass_fields__}
            return cls(**known)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class Announcer:
    """Writes one client's presence. Safe to share between threads.

    Args:
        place: of the migration.
        client: its id.
        describe: says what to write.
        executor: where its one thread comes from; ``None``: only :meth:`stop` writes.
    """

    def __init__(
        self,
        place: Place,
        client: str,
        describe: Callable[[], Presence],
        *,
        executor: NewExecutor | None = ThreadPoolExecutor,
    ) -> None:
        self._place = place
        self._key = place.prefix(PART) + f"{client}.json"
        self._describe = describe
        self._executor = executor
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pool: Executor | None = None
        self._under_way: Future[None] | None = None
        self._at_s: float | None = None
        self._epoch = 0
        self._stopped = False

    def touch(self, epoch: int) -> None:
        """The client was used on this state: write, in the background, if it is time. Returns at once, raises nothing."""
        if self._executor is None or not self._due(epoch) or os.getpid() != self._process:
            return  # a forked child is another process than the one that this object describes
        with self._lock:
            if not self._due(epoch) or (self._under_way is not None and not self._under_way.done()):
                return  # behind a store that does not answer nothing queues up, for whose end a close would wait
            self._at_s, self._epoch = self._place.clock.monotonic_s(), epoch
            if self._pool is None:
                self._pool = self._executor(1, "chromalith-presence")
            with suppress(RuntimeError):  # the interpreter ends
                self._under_way = self._pool.submit(self._put, ended=False)

    def _due(self, epoch: int) -> bool:
        if self._stopped or self._at_s is None or epoch != self._epoch:
            return not self._stopped
        return self._place.clock.monotonic_s() - self._at_s >= EVERY_S

    def stop(self) -> None:
        """Write for the last time, and wait :data:`STOP_S` for it at most. Calling it again is allowed."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            pool, self._pool = self._pool, None
        if self._executor is None:
            self._put(ended=True)
            return
        pool = pool or self._executor(1, "chromalith-presence")
        try:
            last = pool.submit(self._put, ended=True)
        except RuntimeError:  # the interpreter ends: no thread begins anything any more
            self._put(ended=True)
            return
        wait([last], STOP_S)
        pool.shutdown(wait=False)

    def _put(self, *, ended: bool) -> None:
        with suppress(ChromalithError):
            self._place.store.put(self._key, replace(self._describe(), ended=ended).encode())


def read_all(place: Place, within_s: float = math.inf) -> list[Presence]:
    """All clients that ever said something, or did so lately, the latest first. Raises ``Unavailable``."""
    entries = [entry for page in place.store.list(place.prefix(PART)) for entry in page]
    if not entries:
        return []
    date_us = date_by(place.store, place.date_key, place.clock)
    wanted = [entry for entry in entries if date_us - entry.modified_us <= within_s * 1_000_000]

    def read(entry: Entry) -> Presence | None:
        with suppress(NotFound):
            presence = Presence.decode(place.store.get(entry.key).body)
            return presence and replace(presence, seen_s=max(0, date_us - entry.modified_us) / 1_000_000)
        return None

    # Workers that live for seconds leave thousands of them.
    with ThreadPoolExecutor(READS_AT_ONCE, "chromalith-presence") as pool:
        found = [presence for presence in pool.map(read, wanted) if presence is not None]
    return sorted(found, key=lambda presence: presence.seen_s)


def live(place: Place, within_s: float = LIVE_S) -> list[Presence]:
    """Those that were not closed and said something lately. Raises ``Unavailable``."""
    return [presence for presence in read_all(place, within_s) if not presence.ended and presence.seen_s <= within_s]
