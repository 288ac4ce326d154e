"""Which side is asked, and which is believed: a pure function of the state and of the record or the caller.

Percentages choose by hash, not by chance: the same id has the same authority in every process that sees the same state, and a caller
who asks for it (``sticky``) reads from the same side each time. A larger percentage only adds ids, so a ramp never moves one back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role
from chromalith.migrate.state import State

_POINTS = 10_000
"""Percentages are exact to a hundredth."""


def point(text: str, *, salt: str = "") -> float:
    """Where a text falls in [0, 100), evenly, the same everywhere; another ``salt`` is another, independent place."""
    digest = hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % _POINTS * 100 / _POINTS


@dataclass(frozen=True, slots=True)
class Route:
    """How one client acts on one state.

    Args:
        state: the migration's.
        writes_fraction_max: the environment's ``DELTA_WRITE_PERCENTAGE`` (0 to 1): the target's part of the ids is at most this
            much. It can only lower the state's, and only before the cutover.
    """

    state: State
    writes_fraction_max: float = 1.0

    @property
    def writes_percent(self) -> float:
        """Of the ids, how many have the target as their authority."""
        if self.state.phase in (Phase.CUTOVER, Phase.COMPLETE):
            return 100.0
        if self.state.phase is not Phase.RAMP:
            return 0.0
        return min(self.state.percent.writes, 100 * self.writes_fraction_max)

    def authority(self, record_id: str) -> Role:
        """The side whose answer counts for this id."""
        percent = self.writes_percent
        if percent in (0.0, 100.0):
            return Role.SOURCE if percent == 0.0 else Role.TARGET
        return Role.TARGET if point(record_id, salt="writes") < percent else Role.SOURCE

    def by_authority(self, ids: Sequence[str]) -> dict[Role, list[int]]:
        """The positions in ``ids`` by authority; only sides that have one."""
        found: dict[Role, list[int]] = {}
        for position, record_id in enumerate(ids):
            found.setdefault(self.authority(record_id), []).append(position)
        return found

    def reads(self, key: str) -> Role:
        """The side that answers a read whose sticky key, or number, is ``key``."""
        if self.state.phase in (Phase.CUTOVER, Phase.COMPLETE):
            return Role.TARGET
        if self.state.phase is not Phase.RAMP:
            return Role.SOURCE
        return Role.TARGET if point(key, salt="reads") < self.state.percent.reads else Role.SOURCE

    def shadows(self, key: str) -> bool:
        """Whether a read is repeated on the other side, and compared."""
        if self.state.phase not in (Phase.VERIFY, Phase.RAMP, Phase.CUTOVER):
            return False
        return point(key, salt="shadow") < self.state.percent.shadow
