"""Which segments to merge: a tiered policy, as Lucene's TieredMergePolicy, as a pure function.

Segments of similar size form a tier; a tier with ``fan_in`` members is merged into one of the next. So each record is rewritten
about log(total / first fold) / log(``fan_in``) times, which bounds the bytes written a byte ingested. A segment of which more than
``deleted_fraction_max`` is dead is rewritten alone, or with its tier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chromalith.model.manifest import Segment


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """The policy's numbers.

    Attributes:
        fan_in: how many segments of one tier make a merge. 8: a store that grew from 1,000-record folds to a million
            records has at most three tiers, so at most four writes of a byte.
        rows_floor: smaller segments count as this large: the lowest tier.
        rows_max: no merge makes a larger segment. 1,000,000 x 384 float32 are 1.5 GB, one PUT, and an index of under 1 GB.
        deleted_fraction_max: rewrite a segment when more of it is dead.
    """

    fan_in: int = 8
    rows_floor: int = 1_000
    rows_max: int = 1_000_000
    deleted_fraction_max: float = 0.2


def tier(live: int, policy: MergePolicy) -> int:
    """The tier of a segment by its live rows: 0 up to the floor, one more for each factor of ``fan_in``."""
    return max(0, math.ceil(math.log(max(live, 1) / policy.rows_floor, policy.fan_in) - 1e-9))


def plan_merges(segments: Sequence[Segment], policy: MergePolicy) -> list[list[int]]:
    """Groups of positions in ``segments`` to merge, disjoint; empty when nothing is worth it."""
    tiers: dict[int, list[int]] = {}
    for position, segment in enumerate(segments):
        if segment.live < policy.rows_max:
            tiers.setdefault(tier(segment.live, policy), []).append(position)
    groups: list[list[int]] = []
    taken: set[int] = set()
    for members in tiers.values():
        group: list[int] = []
        rows = 0
        for position in sorted(members, key=lambda p: segments[p].live):
            if len(group) == policy.fan_in or rows + segments[position].live > policy.rows_max:
                break
            group.append(position)
            rows += segments[position].live
        if len(group) == policy.fan_in:
            groups.append(group)
            taken.update(group)
    for position, segment in enumerate(segments):
        dead = segment.rows - segment.live
        if position not in taken and dead > policy.deleted_fraction_max * segment.rows:
            groups.append([position])
    return groups
