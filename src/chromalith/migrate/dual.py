"""Writing to two databases so that no acknowledged write is lost and no difference stays unknown. The client's half of the protocol.

One call of ids X, on a state on which both sides are live:

1. The state is fresh, and writes are not frozen (:mod:`chromalith.migrate.follower`).
2. A note of X is made durable in the journal, before anything is written; fails: nothing is written.
3. The state must still hold, *after* that: else a note that took long to write could come after a change of authority had looked for
   notes, and the write would go to the former authority. It does not hold: the note is closed, and all begins again.
4. The authority's write. Its answer is the caller's, and so is its error; then the second is not written.
5. The second's write, for which the caller waits ``second_write_s`` at most; then it goes on by itself. Its failure is never the caller's.
6. The note is closed when the second's write has really ended: in the background. Some reconciliation compares X and removes it.

A call whose ids have two authorities is two parts: all steps 2, then all 4, then all 5. What either
side would refuse about any record is looked for before. If the second part's authority fails all the same, the first part stands, and the
caller gets the error: one call is one write on each side, but not one write over both.

An id whose authority this process lowered to the source by itself (``DELTA_WRITE_PERCENTAGE``) is acknowledged only when both sides have
it: repairs go from the *state's* authority, so a write that only the source had would be undone.

In a phase that is not dual one side is written, and nothing is noted. Unless it took so long that both sides became live meanwhile:
then it is noted afterwards, because a copy may have passed it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Invalid, Unavailable, Unknown
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.entries import Entry
from chromalith.migrate.follower import Follower, View
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.seconds import Failure, Seconds
from chromalith.migrate.state import Timing
from chromalith.migrate.tally import Tally
from chromalith.threads import NewExecutor

Send = Callable[[Role, Sequence[int] | None, bool], Any]
"""Makes the call on one side, for the ids at these positions only (``None``: all), and returns its answer. The last argument: whether
this is the second's write, which the application knows nothing of, and which may be cut to what that side takes at once."""

TRIES = 100
"""Of finding a state that holds. Each takes a freeze or a stalled store; more is no bad luck but a defect."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One writing call of the application.

    Attributes:
        collection: the name of the collection.
        op: as the journal names it: ``add``, ``update``, ``upsert``, ``delete``, ``create``, ``delete_collection``, ``modify``.
        ids: what it touches; none for calls about the collection itself.
        send: makes it.
        check: raises what either side would refuse about any of its records. Asked before a call with two authorities is made in two parts:
            else the one that refuses would be found when the other has written.
    """

    collection: str
    op: str
    ids: tuple[str, ...]
    send: Send
    check: Callable[[], None] = lambda: None


WhenDual = Callable[[View, float], Write]
"""The call as it is to be made while both sides are live, on this state, with this process's limit on the target's part."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What of a call has one authority; ``rows``: ``None`` is all of it. ``lowered``: by this process alone."""

    authority: Role
    ids: tuple[str, ...]
    rows: tuple[int, ...] | None
    lowered: bool = False


@dataclass(slots=True)
class _Noted:
    """A part with its entry in the journal."""

    part: _Part
    entry: Entry
    opened_s: float
    closed: bool = field(default=False)


class DualWriter:
    """Makes writing calls by the migration's protocol. Safe to share between threads.

    Args:
        follower: of the state.
        journal: of the migration.
        may_land: whether a write that a side failed with this may still be applied later: then it is not called over until it is too old.
        lowered_to: this process's limit on the target's part of the ids (0 to 1); asked for each call; may raise ``Invalid``.
        tally: counts what was done.
        executor: where the threads come from that write the second.
    """

    def __init__(
        self,
        follower: Follower,
        journal: Journal,
        *,
        may_land: Callable[[Role, Exception], bool],
        lowered_to: Callable[[], float] = lambda: 1.0,
        tally: Tally | None = None,
        executor: NewExecutor = DaemonExecutor,
    ) -> None:
        self._follower = follower
        self._journal = journal
        self._may_land = may_land
        self._lowered_to = lowered_to
        self._tally = tally or Tally()
        self._clock: Clock = journal.place.clock
        self._seconds = Seconds(self._clock, executor)

    def write(self, call: Write, *, when_dual: WhenDual | None = None) -> list[Any]:
        """Make the call; the answers of its authorities, one for each part.

        Args:
            call: what to write.
            when_dual: the call as it is to be made while both sides are live, if that differs (a delete by filter is resolved first);
                asked on each try, with the state and this process's limit.

        Raises what the authority raises; ``Unavailable``, ``Unknown`` (the state or the journal can't be had: nothing was written),
        ``Invalid`` (the environment asks for what the phase forbids).
        """
        for _ in range(TRIES):
            view = self._follower.writable()
            limit = self._limit(view)
            if not view.is_dual(call.collection):
                return [self._single(call, view)]
            wanted = call if when_dual is None else when_dual(view, limit)
            if wanted.op == "delete" and not wanted.ids:
                return []
            self._journal.timing = view.state.timing
            parts = _parts(wanted, view, limit)
            if len(parts) > 1:
                wanted.check()
            noted = self._note(wanted, parts)
            if self._follower.holds(view):
                return self._both(wanted, view, noted)
            for each in noted:
                self._close(each, "not_written")
        raise Unavailable("the migration's state does not hold still", hint="nothing was written; try again")

    def stop(self, timeout_s: float) -> None:
        """Wait for writes to the second that are under way, for so long at most, and let the threads go."""
        self._seconds.stop(timeout_s)

    # -- one side ----------------------------------------------------------------------------------------------------

    def _limit(self, view: View) -> float:
        limit = self._lowered_to()
        if limit < 1 and view.state.phase in (Phase.CUTOVER, Phase.COMPLETE):
            raise Invalid(
                f"DELTA_WRITE_PERCENTAGE can't be below 1 any more value={limit:g} phase={view.state.phase}",
                hint="unset it in this process's environment; `chromalith migrate rollback` is the way back. Nothing was written",
            )
        return limit

    def _single(self, call: Write, view: View) -> Any:
        role = view.main(call.collection)
        try:
            answer = call.send(role, None, False)
        except BaseException as error:
            if self._lands(role, error):
                self._note_late(call, view, role, "unknown")
            raise
        self._tally.wrote(role)
        self._note_late(call, view, role, "failed")
        return answer

    def _note_late(self, call: Write, view: View, role: Role, ending: Any) -> None:
        """The call began while one side was live; if both became so while it took its time, somebody must compare what it wrote."""
        if self._clock.monotonic_s() - view.at_s <= view.age_max_s:
            return
        try:
            now = self._follower.look()
            if now.is_dual(call.collection):
                entry = self._journal.open(call.collection, call.ids, authority=role, op=call.op)
                self._journal.close(entry, ending, "begun before both sides were live")
        except ChromalithError as error:  # the write itself is done; `migrate verify` compares everything anyway
            _log.warning("a slow write could not be noted collection=%r: %s", call.collection, error)

    # -- both sides --------------------------------------------------------------------------------------------------

    def _note(self, call: Write, parts: Sequence[_Part]) -> list[_Noted]:
        noted: list[_Noted] = []
        try:
            for part in parts:
                opened_s = self._clock.monotonic_s()
                entry = self._journal.open(call.collection, part.ids, authority=part.authority, op=call.op)
                noted.append(_Noted(part, entry, opened_s))
        except BaseException:
            for each in noted:
                self._close(each, "not_written")
            raise
        return noted

    def _both(self, call: Write, view: View, noted: Sequence[_Noted]) -> list[Any]:
        answers: list[Any] = []
        try:
            for each in noted:
                answers.append(self._first(call, each))  # noqa: PERF401  # what was answered before an error counts
        except BaseException:
            for each, _ in zip(noted, answers, strict=False):
                self._close(each, "failed", "another part of the call failed")
            for each in noted[len(answers) :]:
                self._close(each, "not_written")
            raise
        self._write_seconds(call, view.state.timing, noted)
        return answers

    def _first(self, call: Write, each: _Noted) -> Any:
        """The authority's write. Definite or not, its failure is the caller's."""
        try:
            answer = call.send(each.part.authority, each.part.rows, False)
        except BaseException as error:
            self._close(each, "unknown" if self._lands(each.part.authority, error) else "not_written", _text(error))
            raise
        self._tally.wrote(each.part.authority)
        return answer

    def _write_seconds(self, call: Write, timing: Timing, noted: Sequence[_Noted]) -> None:
        """The other side's writes, all at once. Raises only for parts that this process lowered."""
        until_s = self._clock.monotonic_s() + timing.second_write_s
        begun = [(each, self._begin_second(call, timing, each)) for each in noted]
        refused: ChromalithError | None = None
        for each, future in begun:
            ended, error = self._seconds.wait(future, max(0.0, until_s - self._clock.monotonic_s()))
            if not ended:
                self._tally.was_late()
            if each.part.lowered and (error is not None or not ended):
                refused = _not_both(error, ended)
        if refused is not None:
            raise refused

    def _begin_second(self, call: Write, timing: Timing, each: _Noted) -> Future[Failure]:
        def act() -> Failure:
            if self._clock.monotonic_s() - each.opened_s > timing.abandoned_s / 2:
                # The other half is for the call itself: an entry that looks abandoned must have nothing under way.
                return self._second_failed(each, Unavailable("the second write could not begin in time"))
            try:
                call.send(each.part.authority.other, each.part.rows, True)
            except BaseException as error:
                return self._second_failed(each, error)
            self._tally.wrote(each.part.authority.other)
            self._close(each, "ok")
            return None

        def skip(reason: Exception) -> Failure:
            self._tally.was_skipped()
            return self._second_failed(each, reason)

        return self._seconds.begin(act, timing, skip)

    def _second_failed(self, each: _Noted, error: BaseException) -> BaseException:
        self._tally.second_failed(error)
        self._close(each, "unknown" if self._lands(each.part.authority.other, error) else "failed", _text(error))
        return error

    def _lands(self, role: Role, error: BaseException) -> bool:
        """Also if the thread was interrupted: its request may be on the way."""
        return not isinstance(error, Exception) or self._may_land(role, error)

    def _close(self, each: _Noted, ending: Any, error: str | None = None) -> None:
        if not each.closed:
            each.closed = True
            self._journal.close(each.entry, ending, error)


def _parts(call: Write, view: View, limit: float) -> list[_Part]:
    """The call by authority. What is about no ids is the catalog's, which has one."""
    if not call.ids:
        return [_Part(view.state.main, (), None)]
    route, asked = Route(view.state, limit), Route(view.state)
    groups: dict[tuple[Role, bool], list[int]] = {}
    for row, record_id in enumerate(call.ids):
        role = route.authority(record_id)
        groups.setdefault((role, role is not asked.authority(record_id)), []).append(row)
    if len(groups) == 1:
        (role, lowered), _ = groups.popitem()
        return [_Part(role, call.ids, None, lowered)]
    return [
        _Part(role, tuple(call.ids[row] for row in rows), tuple(rows), lowered)
        for (role, lowered), rows in sorted(groups.items())
    ]


def _not_both(error: BaseException | None, ended: bool) -> ChromalithError:
    """What a caller is told whose ids this process lowered, and whose write not both sides have."""
    hint = "DELTA_WRITE_PERCENTAGE makes the source first here: then a write counts when both sides have it; try again, or unset it"
    if not ended:
        return Unknown("the target did not answer in time, and the write may be undone", hint=hint)
    fresh = Unknown(f"the target did not take the write, and it may be undone: {_text(error)}", hint=hint)
    fresh.__cause__ = error
    return fresh


def _text(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}"[:300]
