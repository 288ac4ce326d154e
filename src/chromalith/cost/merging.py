"""How much merging a stream of folds causes: the compactor's own policy (:func:`chromalith.model.plan.plan_merges`), run on sizes alone.

A few thousand folds are played. What a larger collection adds is regular: one more rewrite of each row for each factor of ``fan_in``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from chromalith.cost.sizes import has_index
from chromalith.model.plan import MergePolicy, plan_merges

FOLDS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class _Sized:
    rows: int
    live: int


@dataclass(frozen=True, slots=True)
class Merging:
    """What comes with one fold, on average.

    Attributes:
        merges: how many.
        inputs: segments read by them.
        rows: records rewritten by them.
        indexed: merges whose output has an index.
        segments: how many a version has, on average.
        large: of these, with more than ``rows_floor`` records.
    """

    merges: float
    inputs: float
    rows: float
    indexed: float
    segments: float
    large: float


@lru_cache(maxsize=64)
def merging(fold_rows: int, records: int, policy: MergePolicy | None = None) -> Merging:
    """Folds of ``fold_rows`` new records each, until there are ``records``.

    Averages over the growth: a collection that stays at its size merges no more than that."""
    policy = policy or MergePolicy()
    fold_rows = max(1, fold_rows)
    folds = max(1, math.ceil(records / fold_rows))
    played = min(folds, FOLDS_MAX)
    merges = inputs = rows = indexed = segments = large = 0
    now: list[_Sized] = []
    for _ in range(played):
        now.append(_Sized(fold_rows, fold_rows))
        while groups := plan_merges(cast("list[Any]", now), policy):
            for group in groups:
                merged = sum(now[position].live for position in group)
                merges, inputs, rows = merges + 1, inputs + len(group), rows + merged
                indexed += has_index(merged)
                now.append(_Sized(merged, merged))
            gone = {position for group in groups for position in group}
            now = [each for position, each in enumerate(now) if position not in gone]
        segments += len(now)
        large += sum(each.live > policy.rows_floor for each in now)
    reached = played * fold_rows
    # Beyond what was played, a row is rewritten once for each further tier, up to the largest segment that a merge makes.
    tiers = max(0.0, math.log(min(max(records, reached), max(policy.rows_max, reached)) / reached, policy.fan_in))
    full = max(0, records - reached) / policy.rows_max
    return Merging(
        merges / played,
        inputs / played,
        rows / played + tiers * fold_rows,
        indexed / played,
        segments / played + tiers * (policy.fan_in - 1) / 2 + full,
        large / played + tiers * (policy.fan_in - 1) / 2 + full,
    )


def rewritten_by_updates(policy: MergePolicy | None = None) -> float:
    """Rows rewritten for each row that dies: a segment is written again when a fifth of it is dead, so four rows go with each that went."""
    part = (policy or MergePolicy()).deleted_fraction_max
    return (1 - part) / part
