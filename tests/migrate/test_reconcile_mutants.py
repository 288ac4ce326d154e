"""The tests of crash points can fail: each rule of the code that is left out is noticed by one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.migrate import test_reconcile_crash as crash
from tests.migrate.worlds import NAME, Two

from chromalith.migrate import journal_reader, mend, mend_catalog, reconcile
from chromalith.migrate.entries import Touched
from chromalith.migrate.port import Role
from chromalith.testing.faulty import Fault

Patch = Callable[[pytest.MonkeyPatch], None]


def settles_doubts(patch: pytest.MonkeyPatch) -> None:
    """A write that may land later leaves no entry."""
    patch.setattr(mend.Mender, "_end", staticmethod(lambda kept, writes, error: kept.settle()))


def no_entry(patch: pytest.MonkeyPatch) -> None:
    """A repair makes no entry."""

    def mended(self: Any, pair: Any, ids: Any, freeze_id: Any) -> mend.Mended:
        writes, young = mend._Writes(), SimpleNamespace(is_old=lambda: False)
        applied, busy = self._rounds(pair, ids, mend.Route(self._states.get()), young, writes)
        return mend.Mended(len(ids), applied, busy)

    patch.setattr(mend.Mender, "_mend", mended)


def takes_doubtful(patch: pytest.MonkeyPatch) -> None:
    """An entry with a request that may land counts as ended."""
    patch.setattr(Touched, "under_way", lambda self, index: not self.abandoned and index not in self.closings)


def takes_open(patch: pytest.MonkeyPatch) -> None:
    """Entries under way are removed like ended ones."""
    patch.setattr(Touched, "ended", property(lambda self: True))


def removes_first(patch: pytest.MonkeyPatch) -> None:
    """Entries are removed before their ids are compared."""
    inner = reconcile._Pass._collection

    def collection(self: Any, name: str, objects: Any) -> None:
        self._journal.remove(list(objects))
        inner(self, name, objects)

    patch.setattr(reconcile._Pass, "_collection", collection)


def believes_the_write(patch: pytest.MonkeyPatch) -> None:
    """What failed is taken for done."""
    inner = mend.Mender._mend

    def mended(self: Any, pair: Any, ids: Any, freeze_id: Any) -> mend.Mended:
        return replace(inner(self, pair, ids, freeze_id), left=frozenset())

    patch.setattr(mend.Mender, "_mend", mended)


def drops_without_a_note(patch: pytest.MonkeyPatch) -> None:
    """A step about a collection has no entry that outlives a failure, and its failure is not told."""

    def carried_out(self: Any, name: str, step: str, deleted: bool, freeze_id: Any) -> None:
        try:
            entry = self._journal.open(name, (), authority=Role.SOURCE, op=step)
            kept = mend.Kept(self._journal, entry, self._journal.place.clock.monotonic_s())
            self._write(kept, name, step, Role.SOURCE, deleted, self.find(Role.SOURCE, name))
        except mend_catalog.ChromalithError:
            return

    patch.setattr(mend_catalog.CatalogMender, "_carry_out", carried_out)


MUTANTS: list[Patch] = [
    settles_doubts,
    no_entry,
    takes_doubtful,
    removes_first,
    believes_the_write,
    drops_without_a_note,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_rule_left_out_is_noticed(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rule left out, some call that goes wrong breaks the claim."""
    mutant(monkeypatch)
    noticed = []
    for fault in (Fault.LATE, Fault.CRASH_AFTER, Fault.BEFORE):
        for test in (
            crash.test_a_pass_can_end_at_any_call_of_a_side,
            crash.test_a_write_that_came_between,
            crash.test_a_pass_can_end_at_any_call_of_the_store,
        ):
            try:
                test(fault)
            except AssertionError:
                noticed.append((fault, test.__name__))
                return
    raise AssertionError(f"{mutant.__doc__} was not noticed")


def test_an_open_entry_that_is_removed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that takes entries of living writers leaves a difference that no entry names."""
    takes_open(monkeypatch)
    two = Two()
    entry = two.journal.open(NAME, ["a"], authority=Role.SOURCE, op="add")
    assert two.reconciler().pass_once().empty
    two.source.collections[NAME]._write("add", "a", (1.0,), None, None, None)
    with pytest.raises(AssertionError):
        crash.check(two, entry)


def test_closings_of_the_journal_are_listed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """(The order of the two listings has its own test; here it is shown that the code can be asked to break it.)"""
    calls: list[str] = []
    inner = journal_reader.JournalReader._list
    monkeypatch.setattr(
        journal_reader.JournalReader, "_list", lambda self, part: calls.append(part) or inner(self, part)
    )
    Two().journal.entries()
    assert calls == ["closed", "touched"]
