"""The protocol of two live sides as a small machine: every interleaving of writers, reconcilers, a backfill and a change of authority.

One record. A value is the number of the write that made it: positive, or negative where that write deleted the record. A process is a
generator that yields atomic steps; a step maps the world to its possible outcomes ``(answer, world)``: none means that it must wait, and
several are chance (a request fails, its answer is lost, it lands late, its process dies). Faults are taken from a budget.

What is assumed, and modelled as such, because no process can see it in another:

- After the tool waited for the propagation time, a client that then *begins* its authority's write has read the state after the freeze was
  published (a client measures the age of its state when that write begins, not earlier).
- An entry is abandoned, or its late request taken for dead, only when its process is dead, and its request has landed or never will;
  or (a fault) while its process lives and waits for the answer, if the entry was not renewed in time (:func:`sending`).

What must hold in every world that can be reached (:func:`wrong`): an empty journal means equal sides if the record was touched or
backfilled (and none is late); and what the authority holds was not overwritten, for good, by an acknowledged write that began later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

SOURCE, TARGET = 0, 1
NEVER = -100
"""The value of a record that the target never had."""
FIRST = 50
"""The value that was there before everybody."""


@dataclass(frozen=True)
class World:
    """Everything that processes share.

    Attributes:
        sides: the value at the source and at the target.
        authority, freeze, flips, waits: of the state; how often a tool's propagation time has passed.
        journal: (entry, status): ``open``, ``doubtful`` (closed, and its request may land), ``ended``.
        flying: (side, value, entry, owner): requests that may land later.
        dead, late: processes that died; entries that were not renewed in time, until they are noted again.
        begun: for each write, the writes that had ended when it began.
        over, acked: writes that ended; that were acknowledged.
        faults: how many may still happen.
        touched: whether anything was written, or the record's chunk was backfilled.
    """

    sides: tuple[int, int]
    authority: int = SOURCE
    freeze: str | None = None
    flips: int = 0
    waits: int = 0
    journal: frozenset[tuple[str, str]] = frozenset()
    flying: frozenset[tuple[int, int, str]] = frozenset()
    dead: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    begun: frozenset[tuple[int, frozenset[int]]] = frozenset()
    over: frozenset[int] = frozenset({FIRST})
    acked: frozenset[int] = frozenset()
    faults: int = 0
    touched: bool = False


SEEN = ("authority", "freeze", "flips", "waits")
Outcomes = list[tuple[Any, World]]
Step = tuple[str, Callable[[World], Outcomes]]
Process = Generator[Step, Any, Any]
DEAD = "dead"


class Violation(AssertionError):
    """A world that must not be; the message has the steps that lead to it."""


def same(one: int, other: int) -> bool:
    """Whether two values are the same record, or both none."""
    return one == other or (one < 0 and other < 0)


def wrong(world: World) -> str | None:
    """What must not be, or ``None``."""
    if not (world.journal or world.late) and world.touched and not same(*world.sides):
        return "the journal is empty, and the sides differ"
    held = abs(world.sides[world.authority])
    for write, before in world.begun:
        if write in world.acked and held != write and held in before:
            return f"write {write} was acknowledged, and is lost"
    return None


def explore(
    first: World, processes: dict[str, Callable[[], Process]], *, hasty: bool = False, worlds_max: int = 3_000_000
) -> int:
    """Visit every world that can be reached; how many there were. Raises :class:`Violation`.

    ``hasty``: entries of living processes are taken for abandoned, too.
    """
    names = list(processes)

    @cache
    def following(number: int, answers: tuple[Any, ...]) -> Step | None:
        process = processes[names[number]]()
        try:
            step = next(process)
            for answer in answers:
                step = process.send(answer)
        except StopIteration:
            return None
        return step

    start: tuple[World, tuple[tuple[Any, ...], ...]] = (first, ((),) * len(names))
    came_from: dict[Any, Any] = {start: None}
    stack = [start]
    while stack:
        here = stack.pop()
        world, answers = here
        error = wrong(world)
        if error is not None:
            raise Violation(f"{error}: {'; '.join(_path(came_from, here))}")
        assert len(came_from) < worlds_max, "too many worlds"
        nexts: list[tuple[str, Any]] = []
        for number, name in enumerate(names):
            if name in world.dead or (step := following(number, answers[number])) is None:
                continue
            text, act = step
            for answer, after in act(world):
                given = (*answers[:number], (*answers[number], answer), *answers[number + 1 :])
                if answer == DEAD:
                    after, given = replace(after, dead=after.dead | {name}), answers
                nexts.append((f"{name}: {text} -> {answer}", (after, given)))
        nexts.extend((f"time: {text}", (after, answers)) for text, after in _time(world, hasty))
        for label, there in nexts:
            if there not in came_from:
                came_from[there] = (here, label)
                stack.append(there)
    return len(came_from)


def _path(came_from: dict[Any, Any], here: Any) -> Sequence[str]:
    path: list[str] = []
    while came_from[here] is not None:
        here, label = came_from[here]
        path.append(label)
    return path[::-1]


def _time(world: World, hasty: bool) -> Outcomes:
    """What happens by itself: a late request lands, or never will; then the dead process's entry becomes abandoned."""
    found: Outcomes = []
    for flight in world.flying:
        side, value, _ = flight
        rest = world.flying - {flight}
        found.append(("a request lands", replace(put(world, side, value), flying=rest)))
        found.append(("a request is dropped", replace(world, flying=rest)))
    for entry, status in world.journal:
        left = hasty or entry in world.late or entry.split("/")[0] in world.dead
        waits = status == "doubtful" or (status == "open" and left)
        if waits and not any(of == entry for _, _, of in world.flying):
            found.append((f"{entry} is old", note(world, entry, "ended")))
    return found


# -- steps -----------------------------------------------------------------------------------------------------------


def put(world: World, side: int, value: int) -> World:
    sides = (value, world.sides[1]) if side == SOURCE else (world.sides[0], value)
    return replace(world, sides=sides, touched=True)


def note(world: World, entry: str, status: str | None) -> World:
    rest = frozenset(item for item in world.journal if item[0] != entry)
    return replace(world, journal=rest if status is None else rest | {(entry, status)})


def one(text: str, act: Callable[[World], tuple[Any, World]]) -> Step:
    """A step with one outcome."""
    return text, lambda world: [act(world)]


def opening(entry: str) -> Step:
    return one(f"open {entry}", lambda world: ("open", note(world, entry, "open")))


def closing(entry: str, status: str | None) -> Step:
    """``None``: it is removed. An entry that was removed by others meanwhile (it was abandoned) stays so."""

    def act(world: World) -> tuple[Any, World]:
        there = any(item[0] == entry for item in world.journal)
        return "closed", note(world, entry, status) if there else world

    return one(f"close {entry} {status}", act)


def reading(side: int) -> Step:
    return one(f"read {'ST'[side]}", lambda world: (world.sides[side], world))


def looking() -> Step:
    return one("state", lambda world: ((world.authority, world.freeze, world.flips, world.waits), world))


def sending(entry: str) -> Step:
    """A request goes out that is done with the next step: soon, or (a fault) so late that its entry, not renewed, is too old."""

    def act(world: World) -> Outcomes:
        late = replace(world, faults=world.faults - 1, late=world.late | {entry})
        return [("soon", world), ("late", late)] if world.faults else [("soon", world)]

    return f"send under {entry}", act


def noting_again(entry: str) -> Step:
    """A new entry in the place of one that is late."""
    new = f"{entry} again"
    return one(new, lambda it: (new, note(note(replace(it, late=it.late - {entry}), entry, None), new, "open")))


def writing(side: int, value: int, entry: str, op: str = "upsert") -> Step:
    """One request to write: done, or a fault: refused, lost (applied now, later, or never), or its process dies.

    As in Chroma, ``add`` leaves alone what is there, and ``update`` what is not: then it is ``ignored``, and its caller isn't told."""

    def act(world: World) -> Outcomes:
        there = world.sides[side] > 0
        ignored = (op == "add" and there) or (op == "update" and not there)
        done = world if ignored else put(world, side, value)
        found: Outcomes = [("ignored" if ignored else "ok", done)]
        if world.faults:
            less = replace(world, faults=world.faults - 1)
            flying = less if ignored else replace(less, flying=less.flying | {(side, value, entry)})
            found += [("failed", less), ("unknown", flying), (DEAD, less), (DEAD, flying)]
        return found

    return f"write {'ST'[side]}={value}", act


def beginning(write: int) -> Step:
    return one(f"begin {write}", lambda world: (None, replace(world, begun=world.begun | {(write, world.over)})))


def ending(write: int, *, acked: bool) -> Step:
    def act(world: World) -> tuple[Any, World]:
        return None, replace(world, over=world.over | {write}, acked=world.acked | {write} if acked else world.acked)

    return one(f"end {write} {'acknowledged' if acked else 'refused'}", act)


# -- processes ---------------------------------------------------------------------------------------------------------


def writer(
    name: str,
    number: int,
    *,
    op: str = "upsert",
    lowered: bool = False,
    note_first: bool = True,
    fresh_after_open: bool = True,
    both: bool = True,
    doubts: bool = True,
    waits_for_thaw: bool = True,
    hangs: str | None = None,
    notes_again: str | None = "before",
    unchanged: Collection[str] = ("flips", "freeze"),
) -> Process:
    """A dual write. ``lowered``: by its environment it writes the source first, whatever the state says.

    ``hangs``: the side (``authority``, ``second``) whose answer may be late. The authority's counts all the same if the state, looked at
    after the ids were noted again, has ``unchanged`` what it had at the beginning; else the caller is told that nobody knows."""
    entry, value = f"{name}/w", -number if op == "delete" else number
    yield beginning(number)
    state = authority, freeze, _, waits = yield looking()
    if freeze is not None and waits_for_thaw:
        return (yield ending(number, acked=False))
    first = SOURCE if lowered else authority
    if note_first:
        yield opening(entry)
    if fresh_after_open:
        now = yield one("age of the state", lambda world: (world.waits, world))
        if now != waits:
            yield closing(entry, None)
            return (yield ending(number, acked=False))
    late = hangs == "authority" and (yield sending(entry)) == "late"
    answer = yield writing(first, value, entry, op)
    if answer not in ("ok", "ignored"):
        if answer != "unknown":  # else it may still land, and rightly: its caller was told that nobody knows
            yield ending(number, acked=False)
        return (yield closing(entry, "doubtful" if answer == "unknown" and doubts else "ended"))
    if late:
        entry = (yield noting_again(entry)) if notes_again == "before" else entry
        now = yield looking()
        entry = (yield noting_again(entry)) if notes_again == "after" else entry
        stands = [before == since for what, before, since in zip(SEEN, state, now, strict=True) if what in unchanged]
        yield ending(number, acked=answer == "ok" and all(stands))
        return (yield closing(entry, "ended"))
    if hangs == "second":  # its caller waits no longer
        yield ending(number, acked=True)
        late = (yield sending(entry)) == "late"
    second = yield writing(1 - first, value, entry, op)
    entry = (yield noting_again(entry)) if late else entry
    if not note_first:
        yield opening(entry)
    relies_on_both = both and first != authority
    if hangs != "second" and (not relies_on_both or second != "unknown"):
        yield ending(number, acked=answer == "ok" and (second in ("ok", "ignored") or not relies_on_both))
    return (yield closing(entry, "doubtful" if second == "unknown" and doubts else "ended"))


def reconciler(
    name: str,
    *,
    passes: int = 1,
    freeze: str | None = None,
    ended_only: bool = True,
    own_entry: bool = True,
    state_after_open: bool = True,
    heeds_freeze: bool = True,
    looks_back: bool = True,
    named: Callable[[str], int] | None = None,
) -> Process:
    """Passes over the journal; returns whether the last found it empty. ``named``: repairs go from the authority that entries name."""
    for number in range(passes):
        permitted = yield looking()
        listed = yield one("list", lambda world: (world.journal, world))
        if not listed:
            return True
        ended = sorted(entry for entry, status in listed if status == "ended" or not ended_only)
        busy = any(status != "ended" for _, status in listed)
        if not ended:
            continue
        source = yield reading(SOURCE)
        target = yield reading(TARGET)
        if not same(source, target):
            if busy:
                continue
            entry = f"{name}/r{number}"
            forced = None if named is None else named(ended[-1])
            equal = yield from mending(
                entry,
                freeze,
                permitted=None if state_after_open else permitted,
                own_entry=own_entry,
                heeds_freeze=heeds_freeze,
                looks_back=looks_back,
                forced=forced,
            )
            if not equal:
                continue
        for entry in ended:
            yield closing(entry, None)
    return not (yield one("list", lambda world: (bool(world.journal), world)))


def mending(
    entry: str,
    freeze: str | None,
    *,
    permitted: tuple[int, str | None, int, int] | None = None,
    own_entry: bool = True,
    heeds_freeze: bool = True,
    looks_back: bool = True,
    forced: int | None = None,
    opened: bool = False,
    settles_refused: str | None = "ended",
) -> Process:
    """Make the second equal to the authority under an entry of its own; whether they are known to be equal.

    ``opened``: the entry is the caller's, and something was written under it: a refusal must leave it to a reconciler.
    """
    if own_entry and not opened:
        yield opening(entry)
    authority, stands, *_ = permitted if permitted is not None else (yield looking())
    if stands != freeze and heeds_freeze:
        yield closing(entry, settles_refused if opened else None)
        return False
    authority = authority if forced is None else forced
    wanted = yield reading(authority)
    there = yield reading(1 - authority)
    if not same(wanted, there):
        answer = yield writing(1 - authority, wanted, entry)
        if answer != "ok":
            yield closing(entry, "doubtful" if answer == "unknown" else "ended")
            return False
        if not looks_back:
            yield closing(entry, None)
            return True
        wanted = yield reading(authority)
        there = yield reading(1 - authority)
    equal = same(wanted, there)
    yield closing(entry, None if equal else "ended")
    return equal


def backfill(
    name: str, *, own_entry: bool = True, looks_again: bool = True, settles_refused: str | None = "ended"
) -> Process:
    """One chunk of one record, which the target did not have when the backfill began: read it, add it, see whether it is still there."""
    entry = f"{name}/b"
    done = one("the chunk is done", lambda world: (None, replace(note(world, entry, None), touched=True)))
    if own_entry:
        yield opening(entry)
    _, freeze, *_ = yield looking()
    if freeze is not None:
        return (yield closing(entry, None))
    wanted = yield reading(SOURCE)
    if wanted < 0:
        return (yield done)
    answer = yield writing(TARGET, wanted, entry, "add")
    if answer not in ("ok", "ignored"):
        return (yield closing(entry, "doubtful" if answer == "unknown" else "ended"))
    if not looks_again or (yield reading(SOURCE)) > 0:
        return (yield done)
    if (yield from mending(entry, None, own_entry=own_entry, opened=own_entry, settles_refused=settles_refused)):
        yield done
    return None


def switch(name: str, *, waits: bool = True, drains: bool = True, conditional: bool = True, passes: int = 2) -> Process:
    """A change of authority, once the copy is whole: freeze, wait, drain, and flip if the journal is empty and the freeze stands."""
    mine = f"freeze of {name}"
    yield "the copy is whole", lambda world: [] if NEVER in world.sides else [(None, world)]
    yield one("freeze", lambda world: ("ok", replace(world, freeze=mine)))
    if waits:
        yield one("propagation", lambda world: (None, replace(world, waits=world.waits + 1)))

    def flip(world: World) -> tuple[Any, World]:
        if conditional and world.freeze != mine:
            return "refused", world
        return "flipped", replace(world, authority=1 - world.authority, flips=world.flips + 1, freeze=None)

    if drains and not (yield from reconciler(name, passes=passes, freeze=mine)):
        return (yield thaw(mine))
    return (yield one("flip", flip))


def thaw(freeze: str | None = None) -> Step:
    """Cancel the freeze: by its tool, or (``None``) by a client for which it lasted too long."""

    def act(world: World) -> tuple[Any, World]:
        mine = freeze is None or world.freeze == freeze
        return "thawed", replace(world, freeze=None) if mine else world

    return one("thaw", act)


def impatient() -> Process:
    """A client that cancels a freeze at some moment."""
    yield "the freeze lasts too long", lambda world: [("thawed", replace(world, freeze=None))] if world.freeze else []
