"""One call and its late twin, in every interleaving: what a writer may say of a PUT whose answer was lost (``write/writer.py``).

A delta's key is ``d/<id>``; its value is (call, body). Of deltas with one call the first in the store's order counts; ``VOID``
stands for no operation. The request whose answer was lost is a process of its own: it lands whenever it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.model.explorer import Process, Stored, Violation, explore

VOID = "void"


def request(key: str) -> Process:
    """The PUT that was sent, and whose answer nobody will see."""
    yield ("put", key, ("call", "rows"), "absent")


def gives_up(key: str, *, void: bool = True, look: bool = True) -> Process:
    """The writer after the lost answer, without a call_id: take the key, or find the delta there."""
    if look:
        found = yield ("get", key)
        if found is not None:
            return "happened" if found[0][1] != VOID else "did not happen"
    if not void:
        return "did not happen"
    if (yield ("put", key, ("call", VOID), "absent")) == "ok":
        return "did not happen"
    found = yield ("get", key)
    return "happened" if found[0][1] != VOID else "did not happen"


def repeats(first: str, second: str, *, void: bool = False) -> Process:
    """The writer after the lost answer, with a call_id: the same call again, under a later id."""
    if void:
        yield ("put", first, ("call", VOID), "absent")
    if (yield ("put", second, ("call", "rows"), "absent")) == "ok":
        return "happened"
    return "refused"


def applied(store: Stored) -> int:
    """How often the call's rows are applied: of one call, only the first in the order counts."""
    deltas = sorted((tag, key, value) for key, (value, tag) in store.items())
    return int(bool(deltas) and deltas[0][2][1] != VOID)


def judge(store: Stored, endings: Sequence[Any]) -> str | None:
    """A call that was said to have happened is applied; one that was said not to have happened is not."""
    said = endings[-1]
    if said == "happened" and not applied(store):
        return "acknowledged, and lost"
    if said == "did not happen" and applied(store):
        return "refused, and applied"
    return None


def test_giving_up_settles_whether_the_call_happened() -> None:
    """With the void delta, what the caller was told is true however late the request lands."""
    assert explore({}, [lambda: request("d/1"), lambda: gives_up("d/1")], judge) > 3


def test_without_a_void_delta_a_refused_call_can_happen() -> None:
    """The rule is needed: a look alone is outrun by the late request."""
    with pytest.raises(Violation, match="refused, and applied"):
        explore({}, [lambda: request("d/1"), lambda: gives_up("d/1", void=False)], judge)


def test_a_named_call_counts_once_however_often_it_is_sent() -> None:
    """With a call_id the call is repeated under another id, and its twins are duplicates."""
    assert explore({}, [lambda: request("d/1"), lambda: repeats("d/1", "d/2")], judge) > 3


def test_a_void_delta_would_swallow_a_named_call() -> None:
    """The reason for ``docs/decisions/0005``: a void delta carries the call too, and comes first in the order."""
    with pytest.raises(Violation, match="acknowledged, and lost"):
        explore({}, [lambda: request("d/1"), lambda: repeats("d/1", "d/2", void=True)], judge)
