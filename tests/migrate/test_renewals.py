"""The tools of the migration hang like anybody: what they noted stays noted until nothing of theirs can land."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
from tests.migrate.client_world import words, world
from tests.migrate.memory_side import MemoryCollection
from tests.migrate.worlds import NAME, Two

from chromalith.clock import ManualClock
from chromalith.errors import Unavailable, Unknown
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.entries import DELETE_COLLECTION
from chromalith.migrate.journal import Journal
from chromalith.migrate.mend import Mender
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role
from chromalith.migrate.renewals import RENEWED_MAX_S, Kept, Renewals
from chromalith.store.memory import MemoryStore
from chromalith.testing.faulty import Call


@pytest.mark.parametrize("error", [Unavailable("down"), Unknown("lost"), RuntimeError("nonsense")])
def test_a_repair_that_fails_after_its_note_was_called_abandoned_is_noted_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others removed the entry when the sides were equal for a moment; what the repair wrote, or may write yet, needs another look."""
    two = Two()
    two.write("add", ["a"], second=False)
    journal = two.new_journal()
    for item in journal.entries().touched:
        journal.remove([item.key])
    hung = threading.Event()

    def hang(self: Any, *_: Any) -> None:
        journal.remove([item.key for item in journal.entries().touched])
        two.clock.advance(130)
        hung.set()
        raise error

    monkeypatch.setattr(MemoryCollection, "write", hang)
    mender = two.reconciler().mender
    try:
        assert mender.mend(NAME, ["a"]).left == {"a"}
    except RuntimeError:
        assert isinstance(error, RuntimeError)
    assert hung.is_set()
    mender._journal.flush()
    assert not two.new_journal().entries().empty


def test_a_collection_is_not_dropped_under_a_note_that_was_called_abandoned() -> None:
    """A side hung while the tool looked whether it is still to be dropped; by then that side is the authority, and has it again."""
    two = Two()
    two.source.drop(NAME)
    two.journal.close(two.journal.open(NAME, (), authority=Role.SOURCE, op=DELETE_COLLECTION), "failed")
    journal = two.new_journal()
    known = journal.entries().touched

    def hang(call: Call) -> None:
        ours = {item.key for item in journal.entries().touched} - {item.key for item in known}
        if ours and two.states().get().phase is Phase.DUAL:
            two.clock.advance(130)
            journal.remove(list(ours))
            two.set(phase=Phase.CUTOVER)

    two.faults.choose = hang
    two.reconciler().pass_once()
    assert two.states().get().phase is Phase.CUTOVER
    assert NAME in two.target.collections


def test_while_a_drop_of_a_collection_hangs_it_stays_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with writes: else a change of authority could come before it lands."""
    two = Two()
    two.source.drop(NAME)
    journal, noted = two.new_journal(), []

    def hang(self: Any, name: str) -> None:
        before = {item.key for item in journal.entries().touched}
        two.clock.advance(70)
        until_s = time.monotonic() + 10
        while not noted and time.monotonic() < until_s:
            time.sleep(0.01)
            noted.extend({item.key for item in journal.entries().touched} - before)

    monkeypatch.setattr(type(two.target), "drop", hang)
    Mender(two.new_journal(), two.states(), two.sides, look_s=0.01).catalog.mend(NAME, deleted=True)
    assert noted


def test_a_call_that_hangs_for_an_hour_is_not_renewed_any_more() -> None:
    """A change of authority must not wait for ever; an entry is at most half its life old till then."""
    clock = ManualClock()
    journal = Journal(Place(MemoryStore(clock), "m", clock), linger_s=0)
    kept = Kept(journal, journal.open("words", ["a"], authority=Role.SOURCE, op="add"), clock.monotonic_s())
    renewed = 0
    while kept.renew_in_time():
        before = kept.entry.key
        clock.advance(50)
        journal.flush()
        assert journal.entries().open >= 1
        renewed += kept.entry.key != before or kept.is_old()
        assert clock.monotonic_s() <= RENEWED_MAX_S + 50
    assert clock.monotonic_s() > RENEWED_MAX_S
    journal.stop()


def test_a_machine_that_was_suspended_finds_its_notes_old_by_the_wall_clock() -> None:
    """Its steady clock may have stood still meanwhile."""
    clock = ManualClock()
    journal = Journal(Place(MemoryStore(clock), "m", clock), linger_s=0)
    kept = Kept(journal, journal.open("words", ["a"], authority=Role.SOURCE, op="add"), clock.monotonic_s())
    assert not kept.is_old()
    clock.wall_us += 61_000_000
    assert kept.is_old()
    journal.stop()


def test_the_thread_that_renews_ends_with_the_last_call_and_begins_again() -> None:
    renewals = Renewals(DaemonExecutor, look_s=0.01)
    for _ in range(3):
        asked, call = threading.Event(), Future[None]()

        class Asked:
            def renew_in_time(self, asked: threading.Event = asked) -> bool:
                asked.set()
                return True

        renewals.keep(call, Asked())  # type: ignore[arg-type]
        assert asked.wait(10)
        threads = [each for each in threading.enumerate() if each.name.startswith("chromalith-renewals")]
        call.set_result(None)
        for each in threads:
            each.join(10)
            assert not each.is_alive()


def test_at_the_end_of_the_process_nothing_that_waits_is_begun() -> None:
    """A daemon thread that is cut off inside foreign code may take the process's exit code with it."""
    code = """
import atexit, time
from chromalith.migrate import daemons
atexit.register(time.sleep, 0.6)  # others have much to do at the end, too
daemons.EXIT_S = 0.05
pool = daemons.DaemonExecutor(1, "test")
pool.submit(time.sleep, 0.3)
pool.submit(print, "begun", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_thread_of_a_migrating_client_keeps_its_process_from_ending() -> None:
    """Each may hang in a request to a store or side that is away, for minutes; what it would write is found abandoned, or said anew."""
    before = set(threading.enumerate())
    with world() as made:
        made.become(Phase.DUAL)
        words(made.client, 3).get()
        threads = [
            each
            for each in set(threading.enumerate()) - before
            if each.name.startswith(
                ("chromalith-second", "chromalith-closings", "chromalith-follower", "chromalith-presence")
            )
        ]
        assert {each.name.split("-")[1].split("_")[0] for each in threads} >= {"second", "closings", "presence"}
        assert all(each.daemon for each in threads), threads


def test_a_forked_child_renews_though_its_parent_did_when_it_was_forked() -> None:
    """The thread that renews is the parent's; a child that waited for it would let its own notes grow old."""
    code = """
import os, threading
from concurrent.futures import Future
from chromalith.migrate.daemons import DaemonExecutor
from chromalith.migrate.renewals import Renewals

class Asked:
    def __init__(self):
        self.asked = threading.Event()
    def renew_in_time(self):
        self.asked.set()
        return True

renewals, parents = Renewals(DaemonExecutor, look_s=0.01), Asked()
renewals.keep(Future(), parents)
assert parents.asked.wait(10)
child = os.fork()
if child == 0:
    childs = Asked()
    renewals.keep(Future(), childs)
    os._exit(7 if childs.asked.wait(5) else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
