"""What kinds of histories there are, and how a seed makes one of its kind.

Each profile is a small scene: two or three actors find most of what there is to find, and a history of fifty calls is
read in a minute. Its numbers are drawn within bounds at which the product can work at all: without that, a simulation
reports what nobody promised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chromalith.clock import Chance
from chromalith.compaction.compactor import CompactionSettings
from chromalith.model.plan import MergePolicy
from chromalith.model.retention import Retention
from chromalith.read.reader import ReadLevel
from chromalith.testing.simulator.bases import NEVER, Base
from chromalith.testing.simulator.clients import FEW, MANY
from chromalith.testing.simulator.weather import Fate, Weather

NO_MERGE = MergePolicy(fan_in=NEVER, rows_floor=NEVER, deleted_fraction_max=1)


class Work(StrEnum):
    """What a compactor does."""

    FOLD = "fold"
    MERGE = "merge"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Plan:
    """One history, before it runs.

    Attributes:
        base: what it begins from.
        settle_s: of the store; 0 for one whose timestamps rise strictly.
        page_entries: how many entries a page of a listing has.
        attempts: of the product's own retries.
        skew_s: how wrong the machines' clocks are, at most.
        clients: for each, how many calls, and the share of writes among them.
        client_rest_s: how long at most a client rests before a call.
        compactors: for each, how many runs, and whether they fold, merge, or do both.
        rest_s: how long at most a compactor rests between two runs.
        compaction: their settings.
        sweepers, restorers, taggers, forkers, deleters: for each, how many runs.
        retention: what sweeps keep.
        sweep_rest_s: how long at most a sweeper rests before each run.
        grace_s: how long folded deltas stay.
        ids, blind, named, staleness_s, levels, tokens: see :class:`~chromalith.testing.simulator.clients.Shared`.
    """

    profile: str
    base: Base = Base.EMPTY
    settle_s: float = 2.0
    page_entries: int = 1_000
    attempts: int = 2
    skew_s: float = 120.0
    clients: tuple[tuple[int, float], ...] = ()
    client_rest_s: float = 0.0
    compactors: tuple[tuple[int, Work], ...] = ()
    rest_s: float = 5.0
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    sweepers: tuple[int, ...] = ()
    restorers: tuple[int, ...] = ()
    taggers: tuple[int, ...] = ()
    forkers: tuple[int, ...] = ()
    deleters: tuple[int, ...] = ()
    retention: Retention = field(default_factory=Retention)
    sweep_rest_s: float = 30.0
    grace_s: float = 60.0
    ids: tuple[str, ...] = FEW
    blind: bool = False
    named: float = 0.3
    staleness_s: float = 30.0
    levels: tuple[ReadLevel, ...] = (ReadLevel.INDEX_AND_WAL,)
    tokens: bool = False
    weather: Weather = field(default_factory=Weather)


LOSSY = ((Fate.BEFORE, 2.0), (Fate.LOST, 3.0), (Fate.LATE, 3.0), (Fate.CRASH_LATE, 0.5), (Fate.TWICE, 0.5))
TWO = ((2, Work.BOTH), (1, Work.FOLD))

Profile = Callable[[Plan, Chance], Plan]


def writing(plan: Plan, chance: Chance) -> Plan:
    """Two writers and a reader; one compactor folds what they write."""
    return replace(plan, clients=((3, 1.0), (3, 0.7), (3, 0.0)), compactors=((2, Work.BOTH),))


def racing(plan: Plan, chance: Chance) -> Plan:
    """Several compactors fold and merge at once, without a lease between them."""
    return _merging(replace(plan, clients=((5, 0.9), (2, 0.0)), compactors=((2, Work.BOTH), (2, Work.BOTH), (1, Work.BOTH))), lease=False)


def merging(plan: Plan, chance: Chance) -> Plan:
    """Segments are merged while folds kill rows in them."""
    work = ((3, Work.FOLD), (3, Work.MERGE), (2, Work.MERGE))
    plan = replace(plan, base=Base.WIDE, ids=MANY, clients=((3, 1.0), (1, 0.0)), compactors=work, rest_s=1.0)
    return _merging(replace(plan, restorers=(1,) if chance.random() < 0.3 else ()), lease=False)


def settling(plan: Plan, chance: Chance) -> Plan:
    """Writers with different clocks write at once, and a compactor that hardly rests folds what it sees."""
    weather = replace(plan.weather, leap=0.0, stall=0.0, fault=0.0, pause=0.02, pace_s=0.1)
    plan = replace(plan, settle_s=2.0, clients=((4, 1.0), (4, 1.0), (4, 1.0)), compactors=((12, Work.FOLD),), rest_s=1.0)
    return replace(plan, skew_s=300.0, weather=weather, base=chance.choice((Base.EMPTY, Base.PAST)))


def overtaking(plan: Plan, chance: Chance) -> Plan:
    """Readers stall for minutes, while what they listed is folded and swept."""
    weather = replace(plan.weather, stall=0.15, stall_s=200.0, staller="client", fault=0.0, leap=0.0)
    plan = replace(plan, clients=((4, 1.0), (5, 0.0)), client_rest_s=60.0, compactors=((7, Work.FOLD),), rest_s=70.0)
    return replace(plan, base=Base.WIDE, weather=weather)


def doubting(plan: Plan, chance: Chance) -> Plan:
    """The answers to publishes are lost, and whoever asks what became of them is slow."""
    weather = replace(plan.weather, fault=0.35, weights=LOSSY, target="pointer.txt", stall=0.2, stall_s=30.0, staller="compactor")
    work = ((3, Work.BOTH), (3, Work.BOTH), (2, Work.BOTH))
    plan = replace(plan, base=Base.WIDE, ids=MANY, clients=((4, 1.0),), compactors=work, rest_s=1.0, weather=weather)
    return _merging(replace(plan, restorers=(2,), sweepers=(1,), retention=_little(chance)), lease=False)


def causal(plan: Plan, chance: Chance) -> Plan:
    """Processes whose clocks differ read each other's writes, and write, within one tick of the store's clock."""
    weather = replace(plan.weather, fault=0.0, stall=0.0, leap=0.0, pause=0.0, pace_s=0.05)
    plan = replace(plan, clients=((5, 0.5), (5, 0.5)), compactors=((1, Work.FOLD),), tokens=chance.random() < 0.5, weather=weather)
    return replace(plan, settle_s=2.0, skew_s=300.0)


def flaky(plan: Plan, chance: Chance) -> Plan:
    """A store that fails one call in four, under clients that do not repeat theirs."""
    weather = replace(plan.weather, fault=chance.choice((0.2, 0.4)), weights=LOSSY, stall=0.0)
    plan = replace(plan, attempts=1, named=chance.choice((0.0, 0.5)))
    return replace(plan, clients=((5, 1.0), (4, 0.8)), compactors=((2, Work.BOTH),), weather=weather)


def paging(plan: Plan, chance: Chance) -> Plan:
    """Listings take several pages, and deltas are written before and behind the page that is being read."""
    plan = replace(plan, base=Base.WIDE, page_entries=2, clients=((5, 1.0), (5, 1.0), (3, 0.0)), compactors=((1, Work.FOLD),))
    plan = replace(plan, compaction=replace(plan.compaction, fold_deltas_max=100))
    return replace(plan, skew_s=300.0, weather=replace(plan.weather, fault=0.0, leap=0.0))


def deleting(plan: Plan, chance: Chance) -> Plan:
    """The collection is deleted while others write, read and compact it."""
    plan = replace(plan, clients=((5, 1.0), (5, 0.5)), compactors=((2, Work.BOTH),), deleters=(2,), levels=tuple(ReadLevel))
    return replace(plan, client_rest_s=chance.choice((0.0, 3.0)), named=0.3)


def aging(plan: Plan, chance: Chance) -> Plan:
    """Weeks pass: entries of the folded set expire, versions and grace periods too."""
    weather = replace(plan.weather, far=0.3, far_s=(86_400.0, 20 * 86_400.0), leap=0.05)
    plan = replace(plan, named=0.0, clients=((6, 1.0), (3, 0.0)), client_rest_s=40.0, compactors=((8, Work.BOTH),), rest_s=60.0)
    return _merging(replace(plan, sweepers=(2,), retention=_little(chance), weather=weather), lease=False)


def forking(plan: Plan, chance: Chance) -> Plan:
    """Collections are forked while theirs is written, folded, merged and swept."""
    plan = replace(plan, clients=((5, 1.0),), compactors=TWO, forkers=(2,), sweepers=(2,), retention=_little(chance))
    return _merging(plan, lease=False)


def leasing(plan: Plan, chance: Chance) -> Plan:
    """Two compactors under leases that run out while they work."""
    settings = replace(plan.compaction, lease=True, lease_s=chance.choice((0.2, 1.0, 30.0)))
    return _merging(replace(plan, clients=((4, 0.9),), compactors=((3, Work.BOTH), (3, Work.BOTH)), compaction=settings), lease=True)


def levels(plan: Plan, chance: Chance) -> Plan:
    """Processes that write and read at every level, and wait for each other's writes."""
    return replace(
        plan,
        clients=((5, 0.5), (4, 0.3), (5, 0.0)),
        compactors=((2, Work.BOTH),),
        levels=tuple(ReadLevel),
        staleness_s=chance.choice((1.0, 10.0, 300.0)),
        tokens=True,
    )


def sweeping(plan: Plan, chance: Chance) -> Plan:
    """Sweeps overtake folds, merges, reads and tags."""
    weather = replace(plan.weather, leap=chance.choice((0.0, 0.1)))
    plan = replace(plan, base=chance.choice((Base.WIDE, Base.PAST)), weather=weather, retention=_little(chance))
    plan = replace(plan, clients=((4, 0.8), (3, 0.0)), compactors=TWO, sweepers=(2, 1), taggers=(3,))
    return _merging(replace(plan, sweep_rest_s=chance.choice((3.0, 30.0))), lease=False)


def restoring(plan: Plan, chance: Chance) -> Plan:
    """Older versions are restored while others write, fold, merge and sweep."""
    plan = replace(plan, clients=((4, 0.8), (2, 0.3)), compactors=TWO, restorers=(2,), taggers=(2,), retention=_little(chance))
    plan = replace(plan, sweepers=(1,) if chance.random() < 0.5 else ())
    return _merging(plan, lease=False)


def storm(plan: Plan, chance: Chance) -> Plan:
    """Everything at once, and much of it fails."""
    weather = replace(plan.weather, fault=0.12, stall=0.05, leap=0.05)
    plan = replace(plan, clients=((4, 0.7), (4, 0.7)), compactors=TWO, sweepers=(1,), restorers=(1,), taggers=(1,), weather=weather)
    return _merging(replace(plan, retention=_little(chance), levels=tuple(ReadLevel)), lease=False)


def _merging(plan: Plan, *, lease: bool) -> Plan:
    """With merges at every opportunity."""
    merge = MergePolicy(fan_in=2, rows_floor=NEVER, deleted_fraction_max=0.2)
    return replace(plan, compaction=replace(plan.compaction, merge=merge, lease=lease))


def _little(chance: Chance) -> Retention:
    return Retention(
        keep_versions=chance.choice((1, 2, 4)),
        keep_age_s=chance.choice((0.0, 0.0, 60.0)),
        job_grace_s=chance.choice((0.0, 0.0, 30.0, 3600.0)),
    )


PROFILES: dict[str, Profile] = {
    "writing": writing,
    "racing": racing,
    "merging": merging,
    "settling": settling,
    "overtaking": overtaking,
    "flaky": flaky,
    "doubting": doubting,
    "causal": causal,
    "paging": paging,
    "deleting": deleting,
    "aging": aging,
    "forking": forking,
    "leasing": leasing,
    "levels": levels,
    "sweeping": sweeping,
    "restoring": restoring,
    "storm": storm,
}


def plan(profile: str, chance: Chance) -> Plan:
    """The plan of one history: what all profiles have in common, then the profile's own."""
    common = Plan(
        profile,
        base=chance.choice((Base.EMPTY, Base.PAST, Base.FORMAT_1)),
        settle_s=chance.choice((2.0, 2.0, 0.0)),
        page_entries=chance.choice((1_000, 3)),
        attempts=chance.choice((1, 2, 3)),
        skew_s=chance.choice((0.0, 1.0, 300.0)),
        blind=chance.random() < 0.3,
        weather=Weather(
            fault=chance.choice((0.0, 0.03, 0.08)),
            stall=chance.choice((0.0, 0.04)),
            stick=chance.choice((0.0, 0.5, 0.8)),
            leap=chance.choice((0.0, 0.05)),
        ),
        compaction=CompactionSettings(
            merge=NO_MERGE,
            fold_deltas_max=chance.choice((1, 2, 100)),
            folded_inline_bytes_max=chance.choice((1, 200, 100_000)),
            lease=chance.random() < 0.3,
            lease_s=chance.choice((0.5, 30.0)),
        ),
    )
    return PROFILES[profile](common, chance)
