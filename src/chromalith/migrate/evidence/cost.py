"""What the migrated workload costs a month, before and after: criterion 5 of the guide, computed by :mod:`chromalith.cost`.

The load is what the clients counted, unless a person says another one. Before: what is really paid, if somebody says it; else the
cheaper of the two servers that the model knows, so that a reduction is not claimed against the dearer one. No claim is better than a
flattering one: what is not known is said to be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chromalith.cost.prices import Prices
from chromalith.cost.report import Bill, bill
from chromalith.cost.workload import Deployment, Workload

BASELINES = {"ec2_ebs": "a Chroma server with its data on EBS", "ec2_efs": "a Chroma server with its data on EFS"}


@dataclass(frozen=True, slots=True)
class CostFound:
    """Before and after, a month, in the currency of the prices.

    Attributes:
        before: what the old system costs; ``what`` says what it is.
        after: what Chromalith is estimated to cost.
        load: from where the load is.
        is_stated: whether a person said what it costs before; else it is an estimate, too.
    """

    before: float
    what: str
    after: Bill
    load: str
    is_stated: bool

    @property
    def is_lower(self) -> bool:
        return self.after.total < self.before

    @property
    def currency(self) -> str:
        return self.after.prices.currency

    def as_json(self) -> dict[str, Any]:
        """For the checklist and the report."""
        return {
            "before": round(self.before, 2),
            "what": self.what,
            "after": round(self.after.total, 2),
            "currency": self.currency,
            "load": self.load,
            "is_stated": self.is_stated,
            "is_lower": self.is_lower,
        }


@dataclass(frozen=True, slots=True)
class Counted:
    """What the clients of a migration counted: calls, over the seconds in which they were seen. ``records`` as the last comparison or
    copy found them."""

    writes: int
    reads: int
    seconds: float
    records: int | None


SECONDS_MIN = 600.0
"""Ten minutes: less is a sample of one moment, and a month made of it would be a guess."""


def workload(counted: Counted, given: Mapping[str, Any]) -> tuple[Workload | None, str]:
    """The load, and from where it is; without one, what is missing.

    Args:
        given: fields of ``Workload`` that a person said; they win."""
    values = dict(given)
    said = sorted(values)
    measured = []
    if "writes_per_s" not in values or "reads_per_s" not in values:
        if counted.seconds < SECONDS_MIN:
            seen = f"the clients were seen for {counted.seconds:.0f} s, and {SECONDS_MIN:.0f} are needed"
            return None, f"{seen}: wait, or give --writes-per-s and --reads-per-s"
        for name, count in (("writes_per_s", counted.writes), ("reads_per_s", counted.reads)):
            if name not in values:
                values[name] = count / counted.seconds
                measured.append(
                    f"{name.replace('_per_s', '')} {values[name]:.3g} a second, counted over {counted.seconds / 3600:.1f} h"
                )
    if values.get("records") is None:
        if counted.records is None:
            return None, "nobody knows how many records there are: verify, or give --records"
        values["records"] = float(counted.records)
        measured.append(f"{counted.records:,} records, as the last comparison found them")
    from_person = f"given: {', '.join(said)}" if said else ""
    return Workload(**values), "; ".join(filter(None, [*measured, from_person]))


def compare(
    load: Workload, source: str, deployment: Deployment, prices: Prices, baseline: str | None, paid: float | None
) -> CostFound | str:
    """Before and after; or why that can't be said.

    Args:
        source: from where the load is.
        baseline: one of ``BASELINES``; ``None``: the cheaper.
        paid: what the old system really costs a month; wins."""
    after = bill(load, deployment, prices)
    if paid is not None:
        return CostFound(paid, "what is paid now, as it was given", after, source, is_stated=True)
    servers = {name: sum(each.cost for each in lines) for name, lines in after.servers.items()}
    if baseline is not None:
        servers = {name: cost for name, cost in servers.items() if name == baseline}
    if not servers:
        return "no machine of the price list has the memory for a Chroma server of this size: give --paid, what the old system costs"
    name = min(servers, key=lambda each: servers[each])
    return CostFound(servers[name], BASELINES[name], after, source, is_stated=False)
