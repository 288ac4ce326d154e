"""Calls whose ids have two authorities, processes that lower them, changes while a write is under way, and many threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.migrate.dual_world import Rig, S, T, raising, split

from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.migrate.dual import Write
from chromalith.migrate.journal import Journal
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.route import Route
from chromalith.migrate.state import Freeze, Percent


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
