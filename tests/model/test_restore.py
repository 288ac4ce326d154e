"""A restore against folds and late writers, in every interleaving (``compaction/restore.py``): each delta is somewhere, and once.

A version is (content, folded, aside): tuples of deltas. Deltas are ``d/<n>``. Version 0 is empty; a fold appends what is
pending; the restore goes back to the content of version 0, and sets the pending ones aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.model.explorer import Process, Stored, Violation, explore

EMPTY: tuple[Any, ...] = ((), (), ())


def writer(*keys: str) -> Process:
    for key in keys:
        yield ("put", key, "rows", "absent")


def folder(*, again: bool = True) -> Process:
    """List, read the pointer, publish; start again from the LIST after a lost race (or, broken, only publish again)."""
    pending: tuple[str, ...] | None = None
    for _ in range(3):
        if pending is None or again:
            listed = yield ("list", "d/")
            pending = tuple(key for key, _ in listed)
        pointer = yield ("get", "p")
        content, folded, aside = pointer[0]
        new = tuple(key for key in pending if not again or key not in (*folded, *aside))
        if not new:
            return "idle"
        if (yield ("put", "p", (content + new, folded + new, aside), pointer[1])) == "ok":
            return "folded"
    return "lost"


def restorer(*, list_first: bool = True, current_folded: bool = True, again: bool = True) -> Process:
    """List, read the pointer, publish the empty content with what is pending set aside."""
    listed: Any = None
    for _ in range(3):
        if list_first and (listed is None or again):
            listed = yield ("list", "d/")
        pointer = yield ("get", "p")
        if not list_first:
            listed = yield ("list", "d/")
        _, folded, aside = pointer[0]
        new = tuple(key for key, _ in listed if key not in (*folded, *aside))
        version = ((), folded if current_folded else (), aside + new)
        if (yield ("put", "p", version, pointer[1])) == "ok":
            return "restored"
    return "lost"


def judge(store: Stored, endings: Sequence[Any]) -> str | None:
    """No delta is applied twice, none is folded and set aside, and one folded before the restore does not come back."""
    content, folded, aside = store["p"][0]
    if len(set(content)) != len(content):
        return f"applied twice {content}"
    if len({*folded, *aside}) != len(folded) + len(aside):
        return f"folded and set aside folded={folded} aside={aside}"
    return None


def never_returns(store: Stored, endings: Sequence[Any]) -> str | None:
    """What a restore has undone stays undone: the first delta was folded before it began, and nobody replays it."""
    content, folded, aside = store["p"][0]
    pending = [key for key in store if key.startswith("d/") and key not in (*folded, *aside)]
    if endings[0] == "restored" and ("d/1" in content or "d/1" in pending):
        return "an undone delta came back"
    return judge(store, endings)


def test_restores_and_folds_lose_and_double_nothing() -> None:
    """Two folds, a restore and a writer: whatever the order."""
    assert explore({"p": EMPTY, "d/1": "rows"}, [restorer, folder, folder, lambda: writer("d/2")], judge) > 100


def test_what_was_undone_stays_undone() -> None:
    """The restored version keeps the current folded set."""
    world = {"p": (("d/1",), ("d/1",), ()), "d/1": "rows"}
    assert explore(world, [restorer, folder, lambda: writer("d/2")], never_returns) > 50


def test_the_old_folded_set_would_bring_it_back() -> None:
    """The mutant: with the restored version's own folded set, the next fold takes the delta in again."""
    world = {"p": (("d/1",), ("d/1",), ()), "d/1": "rows"}
    with pytest.raises(Violation, match="came back"):
        explore(world, [lambda: restorer(current_folded=False), folder], never_returns)


def test_a_fold_that_does_not_start_again_folds_what_was_set_aside() -> None:
    """The mutant: a fold that lost the race and publishes what it chose before."""
    with pytest.raises(Violation):
        explore({"p": EMPTY, "d/1": "rows"}, [restorer, lambda: folder(again=False)], judge)
