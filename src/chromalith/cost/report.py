"""The bill as a value: what ``chromalith cost`` prints, and what a report of a migration quotes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chromalith.cost.baseline import Own, server
from chromalith.cost.model import Activity, Line, activity, usage
from chromalith.cost.prices import Prices
from chromalith.cost.workload import Deployment, Workload


@dataclass(frozen=True, slots=True)
class Bill:
    """An estimate of one month.

    Attributes:
        load, deployment, prices: what was asked.
        done: how often what happens.
        lines: what it takes.
        servers: the baselines by name; none where no listed machine has the memory.
    """

    load: Workload
    deployment: Deployment
    prices: Prices
    done: Activity
    lines: Sequence[Line]
    servers: dict[str, list[Own]]

    @property
    def total(self) -> float:
        """A month, in the prices' currency."""
        return sum(line.cost(self.prices) for line in self.lines)

    def by_group(self) -> dict[str, float]:
        """What each cause costs, in the order of the lines."""
        found: dict[str, float] = {}
        for line in self.lines:
            found[line.group] = found.get(line.group, 0.0) + line.cost(self.prices)
        return found

    def as_json(self) -> dict[str, Any]:
        """The shape of ``chromalith cost --json`` (docs/cli.md)."""
        prices = self.prices
        return {
            "currency": prices.currency,
            "region": prices.region,
            "prices_as_of": prices.as_of,
            "total": _money(self.total),
            "groups": [{"group": name, "cost": _money(cost)} for name, cost in self.by_group().items()],
            "items": [
                {
                    "group": line.group,
                    "item": line.price,
                    "name": prices[line.price].name,
                    "quantity": float(f"{line.quantity:.6g}"),
                    "unit": prices[line.price].unit,
                    "cost": _money(line.cost(prices)),
                    "why": line.why,
                }
                for line in self.lines
            ],
            "servers": [
                {"server": name, "total": _money(sum(each.cost for each in lines)), "items": [_own(each) for each in lines]}
                for name, lines in self.servers.items()
            ],
            "workload": asdict(self.load),
            "deployment": asdict(self.deployment),
        }


def bill(load: Workload, deployment: Deployment, prices: Prices) -> Bill:
    """Estimate a month."""
    done = activity(load, deployment)
    records = done.records * load.collections
    servers = {name: server(load, records, prices, shared=shared) for name, shared in (("ec2_ebs", False), ("ec2_efs", True))}
    fitting = {name: lines for name, lines in servers.items() if lines is not None}
    return Bill(load, deployment, prices, done, usage(load, deployment), fitting)


def _own(each: Own) -> dict[str, Any]:
    return {"name": each.what, "quantity": float(f"{each.quantity:.6g}"), "unit": each.unit, "cost": _money(each.cost)}


def _money(cost: float) -> float:
    return round(cost, 4)
