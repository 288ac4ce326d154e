"""The prices: a data file, because they are other people's numbers, change without us, and differ between regions and contracts.

``prices.json`` says when and from where its numbers were taken. A file of the same form replaces it (``chromalith cost --prices``); it
may name only the prices that differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from chromalith.errors import Invalid

_HINT = "see the prices.json of chromalith.cost for the form"


@dataclass(frozen=True, slots=True)
class Price:
    """What ``per`` units of something cost.

    Attributes:
        name: for people.
        price: in the file's currency.
        per: how many units that buys.
        unit: what is counted.
    """

    name: str
    price: float
    per: float
    unit: str

    def of(self, quantity: float) -> float:
        """What ``quantity`` units cost."""
        return quantity * self.price / self.per


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine to rent: what a server of one's own is compared by."""

    name: str
    memory_gb: float
    hour: float


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list.

    Attributes:
        region, currency, as_of, source, note: what the file says about itself.
        prices: by the keys of ``prices.json``.
        instances: by rising memory.
    """

    region: str
    currency: str
    as_of: str
    source: str
    note: str
    prices: Mapping[str, Price]
    instances: Sequence[Instance]

    def __getitem__(self, key: str) -> Price:
        return self.prices[key]

    def instance_for(self, memory_gb: float) -> Instance | None:
        """The smallest machine with this much memory; ``None``: there is none in the list."""
        return next((each for each in self.instances if each.memory_gb >= memory_gb), None)


def packaged_prices() -> Prices:
    """The list that comes with this release."""
    return parse_prices((files("chromalith.cost") / "prices.json").read_text(encoding="utf-8"))


def parse_prices(text: str, over: Prices | None = None) -> Prices:
    """A price list from its JSON; over another one, whatever it leaves out is that one's.

    Raises ``Invalid``."""
    try:
        value = json.loads(text)
        prices = {name: _price(name, each, over) for name, each in value.get("prices", {}).items()}
        instances = [Instance(each["name"], float(each["memory_gb"]), float(each["hour"])) for each in value.get("instances", [])]
        named = {name: str(value[name]) for name in ("region", "currency", "as_of", "source", "note") if over is None or name in value}
    except Invalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(f"not a list of prices: {type(error).__name__}: {error}", hint=_HINT) from error
    if over is not None:
        kept = {"prices": {**over.prices, **prices}, "instances": instances or over.instances}
        return replace(over, **named, **kept)  # type: ignore[arg-type]
    return Prices(**named, prices=prices, instances=sorted(instances, key=lambda each: each.memory_gb))


def _price(name: str, value: Any, over: Prices | None) -> Price:
    if over is not None:
        if name not in over.prices:
            raise Invalid(f"no such price name={name!r}", hint=f"the names are {', '.join(sorted(over.prices))}")
        known = over.prices[name]
        value = {"name": known.name, "per": known.per, "unit": known.unit, **(value if isinstance(value, dict) else {"price": value})}
    price = Price(str(value["name"]), float(value["price"]), float(value["per"]), str(value["unit"]))
    if not (math.isfinite(price.price) and price.price >= 0 and price.per > 0):
        raise Invalid(f"a price is a number that is not negative name={name!r} price={price.price}", hint=_HINT)
    return price
