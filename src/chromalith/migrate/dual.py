"""Writing to two databases so that no acknowledged write is lost and no difference stays unknown. The client's half of the protocol.

One call of ids X, on a state on which both sides are live:

1. The state is fresh, and writes are not frozen (:mod:`chromalith.migrate.follower`).
2. A note of X is made durable in the journal, before anything is written; fails: nothing is written.
3. The state must still hold, *after* that: else a note that took long to write could come after a change of authority had looked for
   notes, and the write would go to the former authority. It does not hold: the note is closed, and all begins again.
4. The authority's write. Its answer is the caller's, and so is its error; then the second is not written. It is begun in the first half of
   ``timing.abandoned_s`` after the note, and one that ends later is looked after: noted again, and no success if the authority changed.
5. The second's write, for which the caller waits ``second_write_s`` at most; then it goes on by itself, its note renewed for as long as it
   may land (:mod:`chromalith.migrate.renewals`). Its failure is never the caller's.
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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chromalith.clock import Clock
from chromalith.errors import ChromalithError, Invalid, Unavailable, Unknown
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.entries import Second
from chromalith.migrate.follower import Follower, View
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role
from chromalith.migrate.renewals import LOOK_S, Kept, Renewals
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
LOG_EVERY_S = 60.0


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


@dataclass(frozen=True, slots=True)
class _Noted:
    """A part with what the journal has of it."""

    part: _Part
    kept: Kept


class DualWriter:
    """Makes writing calls by the migration's protocol. Safe to share between threads.

    Args:
        follower: of the state.
        journal: of the migration.
        may_land: whether a write that a side failed with this may still be applied later: then it is not called over until it is too old.
        lowered_to: this process's limit on the target's part of the ids (0 to 1); asked for each call; may raise ``Invalid``.
        tally: counts what was done.
        executor: where the threads come from that write the second.
        look_s: between two looks at seconds that hang.
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
        look_s: float = LOOK_S,
    ) -> None:
        self._follower = follower
        self._journal = journal
        self._may_land = may_land
        self._lowered_to = lowered_to
        self._tally = tally or Tally()
        self._clock: Clock = journal.place.clock
        self._seconds = Seconds(self._clock, executor)
        self._renewals = Renewals(executor, look_s=look_s)
        self._log_from_s = 0.0

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
            try:
                confirmed = self._follower.confirm(view)
            except BaseException:
                self._close_all(noted)
                raise
            if confirmed is not None:
                return self._both(wanted, confirmed, noted)
            self._close_all(noted)
        raise Unavailable("the migration's state does not hold still", hint="nothing was written; try again")

    def stop(self, timeout_s: float) -> None:
        """Wait for writes to the second that are under way, for so long at most, and let the threads go. What hangs longer stays noted."""
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
        part = _Part(view.main(call.collection), call.ids, None)
        try:
            answer = call.send(part.authority, None, False)
        except BaseException as error:
            if self._lands(part.authority, error):
                self._note_late(call, view, part, "unknown")
            raise
        self._tally.wrote(part.authority)
        if self._note_late(call, view, part, "failed"):
            raise _overtaken(part.authority)
        return answer

    def _note_late(self, call: Write, view: View, part: _Part, ending: Any) -> bool:
        """The call began while one side was live; if both became so while it took its time, somebody must compare what it wrote.
        Whether even the authority became another one."""
        if self._clock.monotonic_s() - view.at_s <= view.age_max_s:
            return False
        try:
            now = self._follower.look()
            if now.is_dual(call.collection):
                entry = self._journal.open(call.collection, call.ids, authority=part.authority, op=call.op)
                self._journal.close(entry, ending, "begun before both sides were live")
        except ChromalithError as error:  # the write itself is done; `migrate verify` compares everything anyway
            _log.warning("a slow write could not be noted collection=%r: %s", call.collection, error)
            return False
        return _moved(part, call.collection, view, now)

    # -- both sides --------------------------------------------------------------------------------------------------

    def _note(self, call: Write, parts: Sequence[_Part]) -> list[_Noted]:
        noted: list[_Noted] = []
        try:
            for part in parts:
                opened_s = self._clock.monotonic_s()
                entry = self._journal.open(call.collection, part.ids, authority=part.authority, op=call.op)
                noted.append(_Noted(part, Kept(self._journal, entry, opened_s)))
        except BaseException:
            self._close_all(noted)
            raise
        return noted

    def _both(self, call: Write, view: View, noted: Sequence[_Noted]) -> list[Any]:
        answers: list[Any] = []
        try:
            for each in noted:
                answers.append(self._first(call, view, each))  # noqa: PERF401  # what was answered before an error counts
        except BaseException:
            for each, _ in zip(noted, answers, strict=False):
                each.kept.close("failed", "another part of the call failed")
            self._close_all(noted[len(answers) :])
            raise
        self._write_seconds(call, view.state.timing, noted)
        return answers

    def _first(self, call: Write, view: View, each: _Noted) -> Any:
        """The authority's write. Definite or not, its failure is the caller's."""
        if each.kept.is_old():
            raise Unavailable(
                "a part of the call could not begin in time",
                hint="another part of it took too long; it was written: try again",
            )
        try:
            answer = call.send(each.part.authority, each.part.rows, False)
        except BaseException as error:
            # A side may have logged what it then failed to apply. So what failed late, and may be noted no more, is noted again.
            over: Second = "failed" if each.kept.is_old() else "not_written"
            each.kept.close("unknown" if self._lands(each.part.authority, error) else over, error)
            raise
        self._tally.wrote(each.part.authority)
        if each.kept.is_old():
            try:
                self._look_after(call, each, view)
            except BaseException as error:
                each.kept.close("failed", error)
                raise
        return answer

    def _look_after(self, call: Write, each: _Noted, view: View) -> None:
        """The authority took so long that the entry may have been called abandoned, and the authority changed. Raises ``Unknown`` then."""
        try:
            each.kept.renew()
            now = self._follower.look()  # after the new entry: who changes the authority from now on sees that
        except ChromalithError as error:
            raise Unknown(
                f"the write took too long, and whether it stands can't be looked up: {error.message}", hint=_AGAIN
            ) from error
        if now.state.freeze is not None or _moved(each.part, call.collection, view, now):
            raise _overtaken(each.part.authority)

    def _write_seconds(self, call: Write, timing: Timing, noted: Sequence[_Noted]) -> None:
        """The other side's writes, all at once. Raises only for parts that this process lowered."""
        until_s = self._clock.monotonic_s() + timing.second_write_s
        begun: list[tuple[_Noted, Future[Failure]]] = []
        refused: ChromalithError | None = None
        try:
            begun.extend((each, self._begin_second(call, timing, each)) for each in noted)
            for each, future in begun:
                ended, error = self._seconds.wait(future, max(0.0, until_s - self._clock.monotonic_s()))
                if not ended:
                    self._tally.was_late()
                    self._renewals.keep(future, each.kept)
                if each.part.lowered and (error is not None or not ended):
                    refused = _not_both(error, ended)
        except BaseException:  # the caller is interrupted (Ctrl-C, a framework's time limit); what it began goes on
            for each, future in begun:
                self._renewals.keep(future, each.kept)
            raise
        if refused is not None:
            raise refused

    def _begin_second(self, call: Write, timing: Timing, each: _Noted) -> Future[Failure]:
        def act() -> Failure:
            if each.kept.is_old():
                # The other half is for the call itself: an entry that looks abandoned must have nothing under way.
                return self._second_failed(each, Unavailable("the second write could not begin in time"))
            try:
                call.send(each.part.authority.other, each.part.rows, True)
            except BaseException as error:
                return self._second_failed(each, error)
            self._tally.wrote(each.part.authority.other)
            each.kept.close("ok")
            return None

        def skip(reason: Exception) -> Failure:
            self._tally.was_skipped()
            return self._second_failed(each, reason)

        return self._seconds.begin(act, timing, skip)

    def _second_failed(self, each: _Noted, error: BaseException) -> BaseException:
        self._tally.second_failed(error)
        each.kept.close("unknown" if self._lands(each.part.authority.other, error) else "failed", error)
        with suppress(Exception):  # a broken handler of the application must not fail a call that is done
            self._log_failure(each, error)
        return error

    def _log_failure(self, each: _Noted, error: BaseException) -> None:
        """In full, which the journal does not keep; once in a minute, because where thousands of writes fail they fail alike."""
        now_s = self._clock.monotonic_s()
        if now_s < self._log_from_s:
            return
        self._log_from_s = now_s + LOG_EVERY_S
        _log.warning(
            "the %s missed a write, which is noted and will be repaired collection=%r: %s: %s",
            each.part.authority.other,
            each.kept.entry.collection,
            type(error).__name__,
            error,
        )

    def _lands(self, role: Role, error: BaseException) -> bool:
        """Also if the thread was interrupted: its request may be on the way."""
        return not isinstance(error, Exception) or self._may_land(role, error)

    @staticmethod
    def _close_all(noted: Sequence[_Noted]) -> None:
        for each in noted:
            each.kept.close("not_written")


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


def _moved(part: _Part, collection: str, before: View, now: View) -> bool:
    """Whether the part's authority is another one now, or was in between."""
    if not now.covers(collection):
        return False
    role = part.authority.other if part.lowered else part.authority
    route = Route(now.state)
    roles = {route.authority(record_id) for record_id in part.ids} or {now.state.main}
    since = [line for line in now.state.history if line.epoch > before.state.epoch]
    return (
        now.state.epoch < before.state.epoch  # another migration of this name
        or roles != {role}
        or any(line.note.startswith("flip ") for line in since)
    )


def _overtaken(role: Role) -> ChromalithError:
    return Unknown(
        f"the write took so long that the migration may have gone on meanwhile, and the {role} counts no more",
        hint=_AGAIN,
    )


_AGAIN = "look at the record, then repeat the write if it is needed"


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
