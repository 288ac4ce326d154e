"""The collections of the source, made at the target: with their definitions, and refused before anything is written where that can't be.

Records are the backfill's. A collection that is made here is empty, so taking it back destroys nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chromalith.errors import Invalid, NotFound
from chromalith.migrate.port import Side, SideCollection, Sides


@dataclass(frozen=True, slots=True)
class Found:
    """What ``start`` found of one collection: records at the source, and at the target (``None``: it is not there).

    ``same_id``: both sides call it by the same id. Each makes its own, so the two are then one place under two names, or one is a copy
    of the other's files."""

    name: str
    space: str
    dimension: int | None
    source_records: int
    target_records: int | None
    same_id: bool = False


def wanted_names(sides: Sides, chosen: Sequence[str] | None) -> list[str]:
    """The names that are moved. Raises ``Invalid`` for a chosen one that the source does not have."""
    names = sides.source.names()
    if chosen is None:
        return names
    absent = [name for name in chosen if name not in names]
    if absent:
        raise Invalid(
            f"the source has no such collection name={absent[0]!r} place={sides.source.place}",
            hint=f"it has {', '.join(sorted(names)[:8]) or 'none'}",
        )
    return list(chosen)


def examine(sides: Sides, chosen: Sequence[str] | None) -> list[Found]:
    """What is there, compared as far as definitions go; nothing is written. Raises ``Invalid`` for what can't be moved."""
    if sides.source is sides.target:
        raise Invalid(
            f"source and target are the same place={sides.source.place}",
            hint="give another --target, or another database in it",
        )
    there = set(sides.target.names())
    return [
        _compared(sides.source.collection(name), sides.target.collection(name) if name in there else None)
        for name in wanted_names(sides, chosen)
    ]


def strangers(sides: Sides, chosen: Sequence[str] | None) -> dict[str, int]:
    """The collections with records that only the target has, and how many; none where it was said which are moved: others don't matter."""
    if chosen is not None:
        return {}
    ours = set(sides.source.names())
    counts = {name: sides.target.collection(name).count() for name in sides.target.names() if name not in ours}
    return {name: count for name, count in counts.items() if count}


def _compared(source: SideCollection, target: SideCollection | None) -> Found:
    space = source.definition.space
    if target is not None:
        pairs = (
            ("distance", space, target.definition.space),
            ("dimension", source.dimension, target.dimension),
        )
        for what, at_source, at_target in pairs:
            if None not in (at_source, at_target) and at_source != at_target:
                raise Invalid(
                    f"the target has the collection with another {what} name={source.name!r} source={at_source} target={at_target}",
                    hint="delete it at the target, or choose another target or database",
                )
    there = None if target is None else target.count()
    return Found(
        source.name, space, source.dimension, source.count(), there, target is not None and target.id == source.id
    )


def mirror(sides: Sides, chosen: Sequence[str] | None) -> list[str]:
    """Create at the target what the source has and the target does not; the names that were created. Can be run again.

    A collection that is deleted at the source at the same time is taken back: without the second look, the target would keep it,
    because the application's own delete may have come before our create."""
    there = set(sides.target.names())
    made = []
    for name in wanted_names(sides, None) if chosen is None else chosen:
        if name in there:
            continue
        try:
            sides.target.create(name, sides.source.collection(name).definition)
        except NotFound:
            continue  # gone at the source since it was listed
        if name in sides.source.names():
            made.append(name)
        else:
            _take_back(sides.target, name)
    return made


def _take_back(target: Side, name: str) -> None:
    try:
        if target.collection(name).count() == 0:
            target.drop(name)
    except NotFound:
        pass
