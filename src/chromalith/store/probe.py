"""Whether a place really keeps the port's promises, asked once, when it gets its first collection.

Some services accept conditional headers and ignore them, and nothing else would notice until a write is lost. So a new
place is tried before it is trusted, with small objects under ``probe/``:

=================  ===============================================================================
check              what must be seen
=================  ===============================================================================
``read_back``      an object just put is read, headed and listed, with its bytes and one entity tag
``absent``         a second ``put(Absent())`` is refused, and changes nothing
``matches``        ``put(Matches(tag))`` with the current tag succeeds; with an old tag, or on nothing, it is refused
``race``           of 8 threads that create one key, one succeeds, and its body is there
``replace_race``   of 8 threads that replace one object that all have read, one succeeds, and its body is there
``conditional_get`` a conditional read answers "unchanged" for the current tag, and the object for an old one
``listing``        keys are listed at once, ascending by their bytes, and ``start_after`` is honoured
``timestamps``     later objects have no earlier timestamps
``delete``         a deleted object is gone from reads and listings
=================  ===============================================================================

What it saw is a :class:`ProbeReport`, kept in ``store.json``. The probe deletes what it wrote; what a crash leaves is
garbage under ``probe/``. :func:`try_out` makes the same checks and goes on after one that failed: ``doctor`` tells of each.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Barrier

from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Invalid, NotFound, Unavailable, Unknown
from chromalith.store.port import Absent, Condition, ETag, Matches, PreconditionFailed, Store

RACERS = 8

_HINT = (
    "this store must not be used: two writers would overwrite each other; use another service or a newer version of it"
)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe found at a place that passed.

    ``clock_skew_us`` is the store's time less this machine's: a rough figure, from one object, for ``doctor``."""

    url: str
    settle_s: float
    checks: tuple[str, ...]
    clock_skew_us: int
    whole_seconds: bool
    duration_s: float

    def as_json(self) -> dict[str, object]:
        """For ``store.json``."""
        return {
            "url": self.url,
            "settle_s": self.settle_s,
            "checks": list(self.checks),
            "clock_skew_us": self.clock_skew_us,
            "whole_seconds": self.whole_seconds,
            "duration_s": round(self.duration_s, 3),
        }


@dataclass(frozen=True, slots=True)
class TryOut:
    """What a probe found at a place that may not have passed.

    Attributes:
        report: as of a place that passed; ``checks`` are those that it did pass.
        failed: the checks that it did not pass, by name, with what was seen.
        skew_us: bounds of the store's clock less this machine's, from all samples; the first is above the second where one
            of the clocks was set meanwhile.
    """

    report: ProbeReport
    failed: dict[str, ChromalithError]
    skew_us: tuple[int, int]


def probe(store: Store, clock: Clock) -> ProbeReport:
    """Try the place out. About 65 small requests.

    Raises:
        Invalid: a check failed; the message names it (``check=…``). Or the place cannot be written at all.
        Unavailable: it could not be reached.
    """
    return _run(store, clock, ends=True).report


def try_out(store: Store, clock: Clock) -> TryOut:
    """As :func:`probe`, but going on after a check that failed. Raises ``Unavailable``; ``Invalid`` if nothing can be written."""
    return _run(store, clock, ends=False)


def _run(store: Store, clock: Clock, *, ends: bool) -> TryOut:
    begun_s = clock.monotonic_s()
    trial = _Trial(store, clock, f"probe/{clock.random_hex(16)}")
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("read_back", trial.read_back),
        ("absent", trial.absent),
        ("matches", trial.matches),
        ("race", trial.race),
        ("replace_race", trial.replace_race),
        ("conditional_get", trial.conditional_get),
        ("listing", trial.listing),
        ("timestamps", trial.timestamps),
        ("delete", trial.delete),
    )
    failed: dict[str, ChromalithError] = {}
    try:
        for name, check in checks:
            trial.check = name
            try:
                check()
            except (Invalid, NotFound) as error:
                if ends or not trial.has_written:
                    raise
                failed[name] = error
    finally:
        trial.clean()
    report = ProbeReport(
        url=store.url,
        settle_s=store.settle_s,
        checks=tuple(name for name, _ in checks if name not in failed),
        clock_skew_us=trial.clock_skew_us,
        whole_seconds=all(stamp % 1_000_000 == 0 for stamp in trial.stamps_us),
        duration_s=clock.monotonic_s() - begun_s,
    )
    return TryOut(report, failed, trial.skew_us())


class _Trial:
    """The state of one probe: what it wrote, and what it saw."""

    def __init__(self, store: Store, clock: Clock, prefix: str) -> None:
        self._store = store
        self._clock = clock
        self._prefix = prefix
        self.check = ""
        self.clock_skew_us = 0
        self.stamps_us: list[int] = []
        self._taken_us: list[tuple[int, int]] = []

    @property
    def has_written(self) -> bool:
        """Whether the place took anything at all."""
        return bool(self._taken_us)

    def read_back(self) -> None:
        body = self._body()
        before_us = self._clock.now_us()
        etag = self._put("first", body)
        self._taken_us.append((before_us, self._clock.now_us()))
        found = self._store.get(self._key("first"))
        self.stamps_us.append(found.modified_us)
        self.clock_skew_us = found.modified_us - before_us
        self._must(found.body == body, "an object just written reads differently")
        self._must(
            found.etag == etag == self._store.head(self._key("first")).etag, "put, get and head tell different tags"
        )
        self._must(self._listed() == [self._key("first")], "an object just written is not listed")

    def absent(self) -> None:
        first, second = self._body(), self._body()
        self._put("absent", first, Absent())
        self._must(not self._wins("absent", second, Absent()), "a second put with Absent() succeeded")
        self._must(self._store.get(self._key("absent")).body == first, "a refused put changed the object")

    def matches(self) -> None:
        old = self._put("matches", self._body())
        current = self._put("matches", self._body(), Matches(old))
        self._must(current != old, "the entity tag did not change with the object")
        self._must(not self._wins("matches", self._body(), Matches(old)), "a put with an old entity tag succeeded")
        self._must(not self._wins("nothing", self._body(), Matches(current)), "a put over an absent object succeeded")
        self._must(self._store.get(self._key("matches")).etag == current, "a refused put changed the object")

    def race(self) -> None:
        self._race("race", Absent(), "created one object")

    def replace_race(self) -> None:
        self._race("replaced", Matches(self._put("replaced", self._body())), "replaced one object that all had read")

    def _race(self, name: str, condition: Condition, did: str) -> None:
        bodies = [self._body() for _ in range(RACERS)]
        together = Barrier(RACERS)

        def run(body: bytes) -> bool:
            together.wait()
            return self._wins(name, body, condition)

        with ThreadPoolExecutor(RACERS) as pool:
            won = list(pool.map(run, bodies))
        self._must(sum(won) == 1, f"of {RACERS} writers that {did} {sum(won)} were told that they had won")
        self._must(self._store.get(self._key(name)).body == bodies[won.index(True)], "the winner's object is not there")

    def conditional_get(self) -> None:
        old = self._put("read", self._body())
        self._must(
            self._store.get_if_changed(self._key("read"), old) is None, "a conditional read found a change that is none"
        )
        body = self._body()
        self._put("read", body)
        changed = self._store.get_if_changed(self._key("read"), old)
        self._must(changed is not None and changed.body == body, "a conditional read missed a change")

    def listing(self) -> None:
        # Keys around the slash are where stores that sort by path instead of by bytes differ.
        keys = sorted(self._key(f"list{end}") for end in ("-b", ".b", "/b", "0", "a/b", "a-b"))
        for key in reversed(keys):
            self._store.put(key, self._body())
        listed = [entry.key for page in self._store.list(self._key("list")) for entry in page]
        self._must(sorted(listed) == keys, "objects just written are not listed")
        self._must(listed == keys, "a listing is not in the order of its keys' bytes")
        after = [entry.key for page in self._store.list(self._key("list"), start_after=keys[2]) for entry in page]
        self._must(after == keys[3:], "a listing does not begin where it was asked to")

    def timestamps(self) -> None:
        for number in range(3):
            before_us = self._clock.now_us()
            self._put(f"stamp{number}", self._body())
            self._taken_us.append((before_us, self._clock.now_us()))
            self.stamps_us.append(self._store.head(self._key(f"stamp{number}")).modified_us)
        self._must(self.stamps_us == sorted(self.stamps_us), "a later object has an earlier timestamp")

    def skew_us(self) -> tuple[int, int]:
        """Bounds of the store's clock less this machine's: a timestamp was taken while its put ran, and may be cut to seconds."""
        coarse_us = 999_999 if all(stamp % 1_000_000 == 0 for stamp in self.stamps_us) else 0
        samples = list(zip(self.stamps_us, self._taken_us, strict=False))  # a check that failed may lack its stamp
        lowest_us = max((stamp - after for stamp, (_, after) in samples), default=0)
        return lowest_us, min((stamp + coarse_us - before for stamp, (before, _) in samples), default=0)

    def delete(self) -> None:
        self.clean()
        self._must(self._listed() == [], "a deleted object is listed")
        with suppress(NotFound):
            self._store.get(self._key("first"))
            self._must(False, "a deleted object can be read")

    def clean(self) -> None:
        """Delete whatever is under the probe's prefix, as far as the store lets it."""
        with suppress(Unavailable, Unknown):
            for key in self._listed():
                self._store.delete(key)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _body(self) -> bytes:
        return self._clock.random_hex(32).encode()

    def _listed(self) -> list[str]:
        return [entry.key for page in self._store.list(f"{self._prefix}/") for entry in page]

    def _put(self, name: str, body: bytes, condition: Condition = None) -> ETag:
        try:
            return self._store.put(self._key(name), body, condition)
        except PreconditionFailed as error:
            raise self._failed("a condition that holds was refused") from error

    def _wins(self, name: str, body: bytes, condition: Condition) -> bool:
        try:
            self._store.put(self._key(name), body, condition)
        except PreconditionFailed:
            return False
        return True

    def _must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise self._failed(otherwise)

    def _failed(self, what: str) -> ChromalithError:
        return Invalid(f"the store fails a check: {what} check={self.check} store={self._store.url}", hint=_HINT)
