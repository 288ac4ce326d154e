"""The write protocol without any database: what is written where, in which order, and what the journal then says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chromalith.clock import SYSTEM_CLOCK, Clock, ManualClock
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.migrate.dual import DualWriter, Write
from chromalith.migrate.entries import Closing
from chromalith.migrate.follower import Follower
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import DUAL_PHASES, Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, SideKind
from chromalith.migrate.route import Route
from chromalith.migrate.seconds import LATE_MAX
from chromalith.migrate.state import Freeze, Percent, SideName, State, Timing
from chromalith.migrate.states import States, change_of
from chromalith.migrate.tally import Tally
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call, Fault, FaultyStore

SIDE = SideName(SideKind.CLIENT, "source", "t", "d")
S, T = Role.SOURCE, Role.TARGET


class Rig:
    """A writer over two dictionaries, a real journal, and a store whose calls the test can break."""

    def __init__(
        self,
        phase: Phase = Phase.DUAL,
        *,
        clock: Clock | None = None,
        writes: float = 0,
        limit: float = 1.0,
        **timing: float,
    ) -> None:
        self.clock = clock or ManualClock()
        self.choose: Callable[[Call], Fault | None] = lambda call: None
        self.inner = MemoryStore(self.clock)
        self.store = FaultyStore(self.inner, lambda call: self.choose(call), self.clock)
        self.states = States(Place(self.inner, clock=self.clock))
        self.states.create(
            State(
                "default",
                SIDE,
                replace(SIDE, url="target"),
                phase,
                percent=Percent(writes=writes),
                timing=Timing(**timing),
            )
        )
        place = Place(self.store, clock=self.clock)
        self.follower = Follower(States(place), executor=None)
        self.journal = Journal(place, linger_s=0)
        self.tally = Tally()
        self.limit = limit
        self.writer = DualWriter(
            self.follower,
            self.journal,
            may_land=lambda role, error: isinstance(error, Unknown),
            lowered_to=lambda: self.limit,
            tally=self.tally,
        )
        self.rows: dict[Role, dict[str, str]] = {S: {}, T: {}}
        self.order: list[Any] = []
        self.fails: dict[Role, Callable[[], None]] = {}

    def change(self, **fields: Any) -> None:
        self.states.change(lambda state: state.changed(change_of(self.clock, "test", "", "", "", "test"), **fields))

    def write(self, value: str, *ids: str) -> list[Any]:
        def send(role: Role, rows: Sequence[int] | None, second: bool) -> str:
            chosen = list(ids) if rows is None else [ids[row] for row in rows]
            self.order.append((role, tuple(chosen), "second" if second else "first"))
            if role in self.fails:
                self.fails[role]()
            self.rows[role].update(dict.fromkeys(chosen, value))
            return f"{role}:{len(chosen)}"

        return self.writer.write(Write("words", "upsert", ids, send))

    def entries(self) -> dict[tuple[str, ...], tuple[Role, Closing | None]]:
        """The journal: ids → the authority named, and how it ended."""
        assert self.journal.flush() == 0
        reading = Journal(Place(self.inner, clock=self.clock))
        listing = reading.entries()
        found, damaged = reading.read(listing.touched)
        reading.stop()
        assert not damaged
        ends = {item.key: item.closings for item in listing.touched}
        return {
            entry.ids: (entry.authority, ends[entry.key].get(entry.index)) for each in found.values() for entry in each
        }

    def endings(self) -> list[str | None]:
        return sorted(str(closing.second) if closing else "open" for _, closing in self.entries().values())

    def close(self) -> None:
        self.writer.stop(5)
        self.journal.stop()


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def split(route: Route, count: int = 200) -> dict[Role, list[str]]:
    """Ids by their authority."""
    ids = [f"id{n}" for n in range(count)]
    return {role: [ids[row] for row in rows] for role, rows in route.by_authority(ids).items()}


@pytest.mark.parametrize("phase", sorted(DUAL_PHASES))
def test_the_authority_is_written_first_and_its_answer_is_the_callers(phase: Phase) -> None:
    """Then the second; one entry, durable before both, closed as ok."""
    rig = Rig(phase)
    first = T if phase is Phase.CUTOVER else S
    assert rig.write("v", "a", "b") == [f"{first}:2"]
    assert [(role, which) for role, _, which in rig.order] == [(first, "first"), (first.other, "second")]
    assert rig.rows[S] == rig.rows[T] == {"a": "v", "b": "v"}
    assert rig.entries() == {("a", "b"): (first, Closing("ok"))}
    rig.close()


@pytest.mark.parametrize("phase", sorted(set(Phase) - DUAL_PHASES))
def test_a_phase_with_one_side_notes_nothing(phase: Phase) -> None:
    """Only that side is written, and the journal is not asked for."""
    rig = Rig(phase)
    there = T if phase is Phase.COMPLETE else S
    assert rig.write("v", "a") == [f"{there}:1"]
    assert (rig.rows[there], rig.rows[there.other]) == ({"a": "v"}, {})
    assert rig.entries() == {}
    rig.close()


def test_nothing_is_written_without_a_note_in_the_journal() -> None:
    """Whatever happens to the note's request; a note whose reply was lost is called over."""
    for fault, kind in [(Fault.BEFORE, Unavailable), (Fault.LOST, None)]:
        rig = Rig()
        rig.choose = lambda call, fault=fault: fault if call.verb == "put" and "/touched/" in call.key else None  # type: ignore[misc]
        if kind is None:  # looked up, and found
            rig.write("v", "a")
            assert rig.rows[T] == {"a": "v"}
        else:
            with pytest.raises(kind):
                rig.write("v", "a")
            assert rig.order == []
            assert rig.entries() == {}
        rig.close()


def test_nothing_is_written_on_a_state_that_can_not_be_read() -> None:
    """Five seconds after the last reading; neither side, and no note."""
    rig = Rig()
    rig.write("v", "a")
    rig.choose = lambda call: Fault.BEFORE
    assert isinstance(rig.clock, ManualClock)
    rig.clock.advance(5.1)
    rig.order.clear()
    with pytest.raises(Unavailable):
        rig.write("w", "a")
    assert rig.order == []
    rig.choose = lambda call: None
    rig.clock.advance(0.1)
    rig.write("x", "a")
    assert rig.rows[T] == {"a": "x"}
    rig.close()


@pytest.mark.parametrize("change", [{"phase": Phase.CUTOVER}, {"freeze": Freeze("f", "switch", "tool", 0)}])
def test_a_write_begins_only_on_a_state_that_holds_after_its_note_stands(change: dict[str, Any]) -> None:
    """The note took so long that the authority changed (or is about to): the note is called over, and all begins again."""
    rig = Rig()
    rig.follower.look()
    clock = rig.clock
    assert isinstance(clock, ManualClock)
    stalled: list[Call] = []

    def stall(call: Call) -> Fault | None:
        if call.verb == "put" and "/touched/" in call.key and not stalled:
            stalled.append(call)
            clock.advance(20)
            rig.change(**change)
            if "freeze" in change:  # and the tool flips when it finds no open entry
                rig.change(phase=Phase.CUTOVER, freeze=None)
        return None

    rig.choose = stall
    rig.write("v", "a")
    assert rig.order == [(T, ("a",), "first"), (S, ("a",), "second")]
    assert rig.endings() == ["not_written", "ok"] or rig.endings() == ["ok"]  # both name the same ids
    rig.close()


def test_an_authority_that_fails_is_the_callers_error_and_the_second_is_not_written() -> None:
    """Certainly not applied: not_written. It may land later: the entry counts as under way."""
    for error, ending in [
        (Invalid("no"), "not_written"),
        (Unavailable("down"), "not_written"),
        (Unknown("lost"), "unknown"),
    ]:
        rig = Rig()
        rig.fails[S] = raising(error)
        with pytest.raises(type(error)) as caught:
            rig.write("v", "a")
        assert caught.value is error
        assert [role for role, *_ in rig.order] == [S]
        assert rig.endings() == [ending]
        assert rig.tally.failures == 0
        rig.close()


def test_an_interrupted_call_is_not_called_over() -> None:
    """Nobody knows what became of it: the entry counts as under way until it is too old."""
    rig = Rig()

    def interrupt() -> None:
        raise KeyboardInterrupt

    rig.fails[S] = interrupt
    with pytest.raises(KeyboardInterrupt):
        rig.write("v", "a")
    assert rig.endings() == ["unknown"]
    rig.close()


def test_a_second_that_fails_is_never_the_callers_error() -> None:
    """Whatever it raises. The entry says so, and the failure is counted."""
    for error, ending in [
        (Unavailable("down"), "failed"),
        (Unknown("lost"), "unknown"),
        (RuntimeError("nonsense"), "failed"),
    ]:
        rig = Rig()
        rig.fails[T] = raising(error)
        assert rig.write("v", "a") == ["source:1"]
        (_, closing), *_ = rig.entries().values()
        assert closing is not None
        assert (closing.second, str(error) in (closing.error or "")) == (ending, True)
        assert (rig.tally.failures, rig.tally.writes) == (1, {S: 1, T: 0})
        rig.close()


def test_a_second_that_hangs_costs_its_limit_and_its_entry_stays_open_until_it_ends() -> None:
    """The caller is answered; the write ends behind his back; then, and not before, the entry is closed."""
    rig = Rig(clock=SYSTEM_CLOCK, second_write_s=0.05)
    go = threading.Event()
    rig.fails[T] = lambda: go.wait(20) and None  # type: ignore[func-returns-value]
    assert rig.write("v", "a") == ["source:1"]
    assert (rig.rows[T], rig.endings(), rig.tally.late) == ({}, ["open"], 1)
    go.set()
    rig.writer.stop(20)
    assert (rig.rows[T], rig.endings()) == ({"a": "v"}, ["ok"])
    rig.close()


def test_while_seconds_hang_no_further_ones_are_begun_and_callers_do_not_wait() -> None:
    """What is skipped is noted as failed; when the second answers again, it is written again."""
    rig = Rig(clock=SYSTEM_CLOCK, second_write_s=0.02)
    go = threading.Event()
    rig.fails[T] = lambda: go.wait(30) and None  # type: ignore[func-returns-value]
    for n in range(LATE_MAX):
        rig.write("v", f"hang{n}")
    for n in range(20):
        rig.write("v", f"skip{n}")
    assert rig.tally.skipped == 20
    assert [role for role, *_ in rig.order].count(T) == LATE_MAX
    assert rig.endings() == ["failed"] * 20 + ["open"] * LATE_MAX
    go.set()
    rig.writer.stop(20)
    rig.write("v", "again")
    assert rig.rows[T].keys() == {*(f"hang{n}" for n in range(LATE_MAX)), "again"}
    rig.close()


def test_a_second_that_could_not_begin_in_time_is_not_begun() -> None:
    """An authority that took half of the age at which an entry counts as abandoned leaves no time for the second's call."""
    rig = Rig()
    clock = rig.clock
    assert isinstance(clock, ManualClock)
    rig.fails[S] = lambda: clock.advance(61)
    assert rig.write("v", "a") == ["source:1"]
    assert [role for role, *_ in rig.order] == [S]
    assert rig.endings() == ["failed"]
    rig.close()


def test_a_call_with_two_authorities_is_two_parts() -> None:
    """Both notes, then both authorities, then both seconds; every id is on both sides, by its own authority's entry."""
    rig = Rig(Phase.RAMP, writes=40)
    groups = split(Route(rig.states.get()))
    ids = sorted(groups[S] + groups[T])
    answers = rig.write("v", *ids)
    assert sorted(answers) == sorted([f"source:{len(groups[S])}", f"target:{len(groups[T])}"])
    assert [which for *_, which in rig.order] == ["first", "first", "second", "second"]
    assert {role: set(chosen) for role, chosen, which in rig.order if which == "first"} == {
        r: set(groups[r]) for r in Role
    }
    assert {authority: set(found) for found, (authority, _) in rig.entries().items()} == {
        r: set(groups[r]) for r in Role
    }
    assert rig.rows[S] == rig.rows[T] == dict.fromkeys(ids, "v")
    assert rig.endings() == ["ok", "ok"]
    rig.close()


def test_if_one_of_two_authorities_refuses_the_other_part_is_reconciled() -> None:
    """The caller gets the error; what was written is noted as differing, what was not as not written."""
    for refusing in Role:
        rig = Rig(Phase.RAMP, writes=40)
        groups = split(Route(rig.states.get()))
        rig.fails[refusing] = raising(Invalid("no"))
        with pytest.raises(Invalid):
            rig.write("v", *groups[S], *groups[T])
        written = {role: set(rows) for role, rows in rig.rows.items()}
        assert written[refusing] == set()
        endings = {authority: closing and closing.second for authority, closing in rig.entries().values()}
        assert endings[refusing] == "not_written"
        assert endings[refusing.other] in ("failed", "not_written")
        assert (endings[refusing.other] == "failed") == bool(written[refusing.other])
        rig.close()


def test_the_percentage_is_the_part_of_ids_whose_authority_is_the_target() -> None:
    """Of 2,000 ids, within three points; a larger percentage only adds ids."""
    before: set[str] = set()
    for percent in (1.0, 10.0, 50.0, 90.0):
        rig = Rig(Phase.RAMP, writes=percent)
        groups = split(Route(rig.states.get()), 2_000)
        assert abs(len(groups[T]) / 20 - percent) < 3
        assert before <= set(groups[T])
        before = set(groups[T])
        rig.close()


def test_a_lowered_process_is_acknowledged_only_by_both_sides() -> None:
    """Ids that the environment takes from the target: source first, and the target's failure is raised; other ids are as ever."""
    rig = Rig(Phase.RAMP, writes=100, limit=0.0)
    assert rig.write("v", "a") == ["source:1"]
    assert [(role, which) for role, _, which in rig.order] == [(S, "first"), (T, "second")]
    rig.fails[T] = raising(Unavailable("down"))
    with pytest.raises(Unknown, match="DELTA_WRITE_PERCENTAGE"):
        rig.write("w", "a")
    assert rig.endings() == ["failed"] or rig.endings() == ["failed", "ok"]
    rig.close()
    rig = Rig(Phase.RAMP, writes=0, limit=0.0)  # nothing to lower
    rig.fails[T] = raising(Unavailable("down"))
    assert rig.write("v", "a") == ["source:1"]
    rig.close()


def test_a_lowered_process_is_not_acknowledged_by_a_target_that_hangs() -> None:
    """It may be undone, so it is Unknown."""
    rig = Rig(Phase.RAMP, clock=SYSTEM_CLOCK, writes=100, limit=0.0, second_write_s=0.05)
    go = threading.Event()
    rig.fails[T] = lambda: go.wait(20) and None  # type: ignore[func-returns-value]
    with pytest.raises(Unknown, match="in time"):
        rig.write("v", "a")
    go.set()
    rig.close()


def test_the_environment_can_not_raise_and_not_act_after_the_cutover() -> None:
    """1 is the state's own percentage; below 1 in cutover and after it is refused before anything is written."""
    rig = Rig(Phase.RAMP, writes=10, limit=1.0)
    groups = split(Route(rig.states.get()))
    rig.write("v", *groups[S])
    assert rig.order[0][0] is S
    rig.close()
    for phase in (Phase.CUTOVER, Phase.COMPLETE):
        rig = Rig(phase, limit=0.5)
        with pytest.raises(Invalid, match="DELTA_WRITE_PERCENTAGE can't be below 1"):
            rig.write("v", "a")
        assert (rig.order, rig.entries()) == ([], {})
        rig.limit = 1.0
        rig.write("v", "a")
        rig.close()


def test_a_slow_write_that_began_before_both_sides_were_live_is_noted_afterwards() -> None:
    """A copy may have passed its ids. One that was answered in time is not noted."""
    rig = Rig(Phase.DIRECT)
    clock = rig.clock
    assert isinstance(clock, ManualClock)

    def slow() -> None:
        clock.advance(20)
        rig.change(phase=Phase.DUAL)

    rig.write("v", "fast")
    assert rig.entries() == {}
    rig.fails[S] = slow
    rig.write("v", "slow")
    entries = rig.entries()
    assert list(entries) == [("slow",)]
    assert entries["slow",][1] is not None
    assert entries["slow",][1].second == "failed"
    rig.close()


def test_many_threads_write_at_once_and_each_call_has_its_entry() -> None:
    """Sixteen threads, 40 calls each, a second that fails sometimes: every acknowledged id is noted, and every entry is closed."""
    rig = Rig(clock=SYSTEM_CLOCK, writes=0)
    flaky = threading.Lock()
    count = 0

    def sometimes() -> None:
        nonlocal count
        with flaky:
            count += 1
            if count % 7 == 0:
                raise Unavailable("now and then")

    rig.fails[T] = sometimes

    def work(thread: int) -> None:
        for n in range(40):
            rig.write(f"{thread}/{n}", f"id{thread}-{n}", f"shared{n % 5}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    entries = rig.entries()
    noted = {record_id for ids in entries for record_id in ids}
    assert noted == {f"id{thread}-{n}" for thread in range(16) for n in range(40)} | {f"shared{n}" for n in range(5)}
    assert rig.tally.failures == rig.endings().count("failed") == 640 // 7
    assert "open" not in rig.endings()
    missing = rig.rows[S].keys() - rig.rows[T].keys()
    failed = {i for ids, (_, closing) in entries.items() if closing and closing.second == "failed" for i in ids}
    assert missing <= failed
    rig.close()


def test_an_authority_never_changes_under_a_write() -> None:
    """Threads write while a tool freezes, waits for open entries and flips, again and again: no write is on its way at a flip."""
    rig = Rig(Phase.RAMP, clock=SYSTEM_CLOCK, state_age_max_s=0.2, freeze_limit_s=20.0)
    stop, wrong = threading.Event(), []
    now: dict[str, Role] = {"main": S}
    active = {"count": 0}
    lock = threading.Lock()

    def send(role: Role, rows: Sequence[int] | None, second: bool) -> None:
        if not second:
            with lock:
                active["count"] += 1
                if role is not now["main"]:
                    wrong.append((role, now["main"]))
            time.sleep(0.002)
            with lock:
                active["count"] -= 1

    def application(number: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            rig.writer.write(Write("words", "upsert", (f"{number}-{n}",), send))

    tool = Journal(Place(rig.inner, clock=SYSTEM_CLOCK))

    def flip(percent: float) -> None:
        rig.change(freeze=Freeze(f"f{percent}", "ramp", "tool", 0))
        time.sleep(0.4)  # propagation_s
        while tool.entries().open:
            time.sleep(0.01)
        with lock:
            assert active["count"] == 0
            now["main"] = T if percent else S
        rig.change(percent=Percent(writes=percent), freeze=None)

    threads = [threading.Thread(target=application, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for percent in (100.0, 0.0, 100.0):
            time.sleep(0.15)
            flip(percent)
        time.sleep(0.15)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert wrong == []
    assert rig.tally.writes[S]
    assert rig.tally.writes[T]
    tool.stop()
    rig.close()
