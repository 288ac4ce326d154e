"""Tag, untag, restore and sweep, in every interleaving: the rules of ``coord/tags.py``, and what each of them is for.

The world: version 5 of a collection, whose one segment is ``segment``; version 6 is current. A sweep raises the horizon to 7,
its own version. Versions that no tag keeps lose their segment. A *tag* value is (version or None, held, released versions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.model.explorer import Process, Start, Stored, Violation, explore

OLD, TAG, POINTER, SEGMENT = 5, "tag/t", "pointer", "segment"
FREE = (None, False, ())
HELD = (OLD, True, ())


def tagger(*, check: bool = True, hold: bool = True) -> Process:
    """Tag the old version: write, read the pointer, then mark the tag as held."""
    found = yield ("get", TAG)
    old = FREE if found is None else found[0]
    kept = tuple(v for v in old[2] if v != OLD)
    if (yield ("put", TAG, (OLD, not hold, kept), "absent" if found is None else found[1])) != "ok":
        return "lost"
    if check:
        pointer = yield ("get", POINTER)
        if pointer[0][1] > OLD:
            yield from untagger()
            return "refused"
    if hold:
        found = yield ("get", TAG)
        if found is None or found[0][0] != OLD or (yield ("put", TAG, (OLD, True, found[0][2]), found[1])) != "ok":
            return "lost"
    return "held"


def untagger(*, remember: bool = True) -> Process:
    """Release the tag: the version moves to the released ones."""
    found = yield ("get", TAG)
    if found is None or found[0][0] is None:
        return "nothing"
    released = (*(v for v in found[0][2] if v != found[0][0]), found[0][0]) if remember else ()
    done = yield ("put", TAG, (None, False, released), found[1])
    return "released" if done == "ok" else "lost"


def restorer(*, pointer_first: bool = True, held_only: bool = True) -> Process:
    """Publish the old version's segment again, if a tag keeps it or it is not below the horizon."""
    if pointer_first:
        pointer = yield ("get", POINTER)
        tag = yield ("get", TAG)
    else:
        tag = yield ("get", TAG)
        pointer = yield ("get", POINTER)
    version, horizon, _ = pointer[0]
    tagged = tag is not None and tag[0][0] == OLD and (tag[0][1] or not held_only)
    if horizon > OLD and not tagged:
        return "refused"
    done = yield ("put", POINTER, (version + 1, horizon, True), pointer[1])
    return "restored" if done == "ok" else "lost"


def sweeper(*, first: bool = True, publish: bool = True) -> Process:
    """List tags, publish the horizon, list tags again, delete what is kept by none."""
    before = (yield ("list", "tag/")) if first else ()
    pointer = yield ("get", POINTER)
    version, _, names = pointer[0]
    if publish and (yield ("put", POINTER, (version + 1, version + 1, names), pointer[1])) != "ok":
        return "lost"
    after = yield ("list", "tag/")
    live = {value[0] for _, value in (*before, *after)}
    known = {v for _, value in before for v in value[2]} if first else {OLD}
    released = {v for _, value in after for v in value[2]} - known
    current = yield ("get", POINTER)
    if names or current[0][2] or OLD in live or OLD in released:
        return "kept"
    yield ("delete", SEGMENT)
    return "deleted"


def judge(store: Stored, endings: Sequence[Any]) -> str | None:
    """No version that is current, and no tag that says it holds, names a segment that is gone."""
    if SEGMENT in store:
        return None
    if store[POINTER][0][2]:
        return "the current version names a deleted segment"
    if TAG in store and store[TAG][0][:2] == (OLD, True):
        return "a tag that holds names a deleted segment"
    return None


def world(tag: Any = None, horizon: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {POINTER: (6, horizon, False), SEGMENT: "rows"}
    return found if tag is None else {**found, TAG: tag}


SCENES: dict[str, tuple[dict[str, Any], list[Start]]] = {
    "tag, sweep": (world(), [tagger, sweeper]),
    "untag, restore, sweep": (world(HELD, horizon=6), [untagger, restorer, sweeper]),
    "tag, untag, restore, sweep": (world(), [tagger, untagger, restorer, sweeper]),
    "untag, restore, two sweeps": (world(HELD, horizon=6), [untagger, restorer, sweeper, sweeper]),
    "tag, restore, sweep": (world(), [tagger, restorer, sweeper]),
}


@pytest.mark.parametrize("scene", SCENES)
def test_no_interleaving_leaves_a_name_without_its_object(scene: str) -> None:
    """Whatever the order of the calls, nothing that a version or a tag relies on is deleted."""
    initial, processes = SCENES[scene]
    assert explore(initial, processes, judge) > 50


def broken(name: str) -> tuple[dict[str, Any], list[Start]]:
    """A scene with one rule left out."""
    return {
        "a tag that is not checked": (world(), [lambda: tagger(check=False), sweeper]),
        "tags listed only after the publish": (
            world(HELD, horizon=6), [lambda: untagger(remember=False), restorer, lambda: sweeper(first=False)],
        ),
        "a restore that reads the tag first": (
            world(HELD, horizon=6), [untagger, lambda: restorer(pointer_first=False), sweeper],
        ),
        "a sweep that publishes nothing": (world(HELD, horizon=6), [untagger, restorer, lambda: sweeper(publish=False)]),
        "a restore that relies on a tag that was not checked": (
            world(), [tagger, lambda: restorer(held_only=False), sweeper],
        ),
        "released versions forgotten at once": (world(), [tagger, lambda: untagger(remember=False), restorer, sweeper]),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "rule",
    [
        "a tag that is not checked",
        "tags listed only after the publish",
        "a restore that reads the tag first",
        "a sweep that publishes nothing",
        "a restore that relies on a tag that was not checked",
        "released versions forgotten at once",
    ],
)
def test_each_rule_is_needed(rule: str) -> None:
    """Without the rule, some interleaving deletes what is relied on: the model can fail."""
    initial, processes = broken(rule)
    with pytest.raises(Violation):
        explore(initial, processes, judge)
