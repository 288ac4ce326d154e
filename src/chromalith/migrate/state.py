"""What a migration's state is: one small JSON object that every process of the application follows.

It holds what *routes* (phase, percentages, freeze), what *was found* (summaries of backfill and verify) and *who changed what when*. What
is large or changes often stands in objects of its own below the same prefix: checkpoints, the journal of touched ids, mismatches,
what each client has seen (:mod:`chromalith.migrate.places`).

Pure: no I/O and no clock. Changed by compare-and-set only (:mod:`chromalith.migrate.states`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chromalith.errors import Corrupt
from chromalith.migrate.phases import DUAL_PHASES, Phase, Verb
from chromalith.migrate.port import Role, SideKind

FORMAT = 1
HISTORY_MAX = 1_000
"""Entries of the audit log that are kept; each is about 250 bytes, and a migration has some dozens."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The bounds that all processes of one migration must agree on; so they stand in its state. Seconds.

    Attributes:
        state_age_max_s: no write begins on a state that was read longer ago.
        freeze_limit_s: a freeze is cancelled after this long, by whoever notices.
        abandoned_s: an entry of the journal that was opened this long ago and never closed belongs to a process that died: no call
            to a side may take longer. The one timing assumption of the protocol besides those of DESIGN 5.
        second_write_s: how long the caller waits for the side that is not the authority; then the write goes on behind its back.
    """

    state_age_max_s: float = 5.0
    freeze_limit_s: float = 30.0
    abandoned_s: float = 120.0
    second_write_s: float = 10.0

    @property
    def propagation_s(self) -> float:
        """After this long, no client acts on the state before a change."""
        return 2 * self.state_age_max_s


@dataclass(frozen=True, slots=True)
class SideName:
    """How a side is found again: its kind, its URL (no secrets), and its tenant and database."""

    kind: SideKind
    url: str
    tenant: str
    database: str


@dataclass(frozen=True, slots=True)
class Percent:
    """0 to 100: of the calls that read (``reads``), of the ids whose authority is the target (``writes``), of the reads that are
    repeated on the other side and compared (``shadow``)."""

    reads: float = 0.0
    writes: float = 0.0
    shadow: float = 0.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """Writes wait, because the authority is about to change. ``id`` tells freezes apart; ``verb`` is what it is for."""

    id: str
    verb: str
    by: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit log: who did what and when (``at_us``: wall time of who did it, microseconds since 1970)."""

    epoch: int
    at_us: int
    who: str
    verb: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """See the module's docstring. ``epoch`` grows with each change.

    Attributes:
        collections: the names that are moved; ``None``: all of the source's database.
        backfill, verify: summaries of the last run of each, as their owners write them (``{}``: none yet).
        paused: a person asked the backfill to wait.
        shadow_since: the epoch at which shadow reads began to be counted anew (``chromalith migrate shadow --clear``).
    """

    name: str
    source: SideName
    target: SideName
    phase: Phase = Phase.DIRECT
    epoch: int = 1
    percent: Percent = Percent()
    freeze: Freeze | None = None
    collections: tuple[str, ...] | None = None
    paused: bool = False
    backfill: Mapping[str, Any] = field(default_factory=dict)
    verify: Mapping[str, Any] = field(default_factory=dict)
    shadow_since: int = 0
    timing: Timing = Timing()
    history: tuple[Change, ...] = ()
    history_dropped: int = 0

    @property
    def is_dual(self) -> bool:
        """Whether both sides get every write."""
        return self.phase in DUAL_PHASES

    @property
    def main(self) -> Role:
        """The authority of everything that has no id (the catalog), and of each id outside of the ramp's percentage."""
        return Role.TARGET if self.phase in (Phase.CUTOVER, Phase.COMPLETE) else Role.SOURCE

    def changed(self, change: Change, **fields: Any) -> State:
        """The next state: ``fields`` replaced, ``change`` at the end of the history, epoch one more."""
        history = _shortened((*self.history, replace(change, epoch=self.epoch + 1)))
        dropped = len(self.history) + 1 - len(history)
        return replace(
            self, **fields, epoch=self.epoch + 1, history=history, history_dropped=self.history_dropped + dropped
        )

    def encode(self) -> dict[str, Any]:
        """As JSON."""
        value = asdict(self)
        value["format"] = FORMAT
        value["collections"] = None if self.collections is None else list(self.collections)
        value["history"] = [asdict(change) for change in self.history]
        return value

    @classmethod
    def decode(cls, value: Mapping[str, Any], key: str) -> State:
        """The inverse of :meth:`encode`. Raises ``Corrupt`` with the ``key``; also for a newer format, which this release can't follow."""
        try:
            if value["format"] != FORMAT:
                raise Corrupt(
                    f"a migration of another format key={key} format={value['format']!r}",
                    hint="use the newest chromalith",
                )
            freeze = value["freeze"]
            return cls(
                name=str(value["name"]),
                source=_side(value["source"]),
                target=_side(value["target"]),
                phase=Phase(value["phase"]),
                epoch=int(value["epoch"]),
                percent=Percent(**{name: float(part) for name, part in value["percent"].items()}),
                freeze=None if freeze is None else Freeze(**freeze),
                collections=None if value["collections"] is None else tuple(str(name) for name in value["collections"]),
                paused=bool(value["paused"]),
                backfill=dict(value["backfill"]),
                verify=dict(value["verify"]),
                shadow_since=int(value["shadow_since"]),
                timing=Timing(**{name: float(part) for name, part in value["timing"].items()}),
                history=tuple(Change(**change) for change in value["history"]),
                history_dropped=int(value["history_dropped"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(
                f"not the state of a migration key={key}", hint="restore the object from the bucket's versions"
            ) from error


def _shortened(history: tuple[Change, ...]) -> tuple[Change, ...]:
    """At most :data:`HISTORY_MAX` lines. The oldest go first, but those that changed nothing before those that did: gates ask when a phase
    was entered, and a comparison every few minutes would push that out within days."""
    if len(history) <= HISTORY_MAX:
        return history
    plain = next(
        (row for row, change in enumerate(history) if change.before == change.after and change.verb != Verb.DUAL), 0
    )
    return history[:plain] + history[plain + 1 :]


def _side(value: Mapping[str, Any]) -> SideName:
    return SideName(SideKind(value["kind"]), str(value["url"]), str(value["tenant"]), str(value["database"]))
