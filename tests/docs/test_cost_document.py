"""The figures of docs/cost.md are those of the model, and its list of prices says what it is."""

from __future__ import annotations

import json
import re

import pytest
from tests.docs.blocks import ROOT

from chromalith.cli.app import run
from chromalith.cost.model import WRITE, Line, activity, usage
from chromalith.cost.prices import packaged_prices, parse_prices
from chromalith.cost.report import bill
from chromalith.cost.requests import WARM_READ, Requests, fold, look, merge
from chromalith.cost.workload import Deployment, Workload
from chromalith.errors import Invalid
from chromalith.observe.metrics import METRICS
from chromalith.store.remote import SETTLE_S

DOCUMENT = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^\| (.+?) \| `(--.+?)` \|(.*)\|$", re.MULTILINE)
GROUPS = (("storage",), ("writes",), ("compaction",), ("reads",), ("queue", "functions"), ("watching", "idle"))


def row(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The figures of one example, as the table has them: to the dollar, below ten to the cent."""
    capsys.readouterr()
    assert run(["cost", *arguments.split(), "--json"]) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    costs = {each["group"]: each["cost"] for each in told["groups"]}
    figures = [sum(costs.get(name, 0.0) for name in group) for group in GROUPS]
    assert sum(figures) == pytest.approx(told["total"], abs=0.01), "a group is missing from the table"
    return " | ".join(money(each) for each in (*figures, told["total"], told["servers"][0]["total"]))


def money(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.995 else f"{value:.2f}"


def test_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row of the table is what the command prints now."""
    examples = EXAMPLE.findall(DOCUMENT)
    assert len(examples) == 6
    for name, arguments, figures in examples:
        assert figures.strip() == row(arguments, capsys), name


def test_the_table_of_requests() -> None:
    """The requests that the document names are those of the formulas, which a test holds to the real code."""
    assert Requests(puts=1, gets=1) == WRITE
    assert Requests(lists=1, gets=1) == WARM_READ
    assert (look(), fold(5), merge(8)) == (
        Requests(lists=2, gets=8, puts=2),
        Requests(lists=3, gets=12 + 5, puts=8),
        Requests(gets=16, puts=6),
    )
    for said in ("2 LIST, 8 GET, 2 PUT", "3 LIST, 12 + *n* GET, 8 PUT", "16 GET, 6 PUT"):
        assert said in DOCUMENT


def test_every_line_has_a_price_and_every_price_says_where_it_is_from() -> None:
    """Whatever the model can count is in the list; the list has a date, a source, and the advice to check it."""
    prices = packaged_prices()
    busy = Workload(writes_per_s=1, reads_per_s=1, updates=0.5, cold_starts_per_day=1, collections=3)
    everything = Deployment(lambda_producer=True, lambda_query=True, infrequent=0.5)
    counted: list[Line] = usage(busy, everything)
    assert {line.price for line in counted} <= set(prices.prices)
    assert all(line.cost(prices) >= 0 for line in counted)
    assert prices.region == "us-east-1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", prices.as_of)
    assert "check" in prices.note
    assert prices.source


def test_own_prices_replace_some() -> None:
    """A file may name only what differs; a name that no list has, and a price below nothing, are refused."""
    packaged = packaged_prices()
    ours = parse_prices('{"region": "elsewhere", "prices": {"s3_put": 1.0, "s3_get": {"price": 2, "per": 10}}}', packaged)
    assert (ours.region, ours["s3_put"].of(1_000), ours["s3_get"].of(10)) == ("elsewhere", 1.0, 2.0)
    assert ours["s3_list"] == packaged["s3_list"]
    for wrong in ('{"prices": {"s3_putt": 1}}', '{"prices": {"s3_put": -1}}', "[]", '{"prices": {"s3_put": "dear"}}', "{"):
        with pytest.raises(Invalid):
            parse_prices(wrong, packaged)


def test_more_work_never_costs_less() -> None:
    """More writes, more reads, more and larger records: each raises the bill, or leaves it as it is."""
    prices = packaged_prices()
    base = {"writes_per_s": 0.5, "rows": 50.0, "reads_per_s": 1.0, "records": 200_000.0, "text_bytes": 100.0}
    total = bill(Workload(**base), Deployment(), prices).total  # type: ignore[arg-type]
    for name, value in base.items():
        more = bill(Workload(**{**base, name: value * 4}), Deployment(), prices).total  # type: ignore[arg-type]
        assert more >= total * 0.999, name


def test_nothing_written_compacts_nothing() -> None:
    """Without writes there are no folds, no looks and no merges, however long the month."""
    done = activity(Workload(records=1e6), Deployment())
    assert (done.folds, done.looks, done.rewritten, done.wakes) == (0, 0, 0, 0)
    assert {line.group for line in usage(Workload(records=1e6), Deployment())} == {"storage", "idle", "queue", "functions", "watching"}


def test_the_defaults_are_those_of_the_infrastructure() -> None:
    """Memory of functions, the schedule, the window, the retention and the number of alarms are what the Pulumi program declares."""
    program = ROOT / "infra" / "chromadb_compaction" / "pipeline"
    config, alarms = ((program / name).read_text(encoding="utf-8") for name in ("config.py", "alarms.py"))
    assumed = Deployment()
    memory = {name: int(size.replace("_", "")) / 1024 for name, size in re.findall(r"^(\w+) = Size\(([\d_]+),", config, re.MULTILINE)}
    assert (memory["COMPACTOR"], memory["PRODUCER"], memory["QUERY"]) == (assumed.compactor_gb, assumed.producer_gb, assumed.query_gb)
    assert f'"rate({assumed.schedule_s / 60:g} minutes)"' in config
    assert f"noncurrent_days: int = _setting({assumed.noncurrent_days:g}," in config
    assert f"queue_window_s: int = _setting({assumed.window_s:g}," in config
    assert assumed.settle_s == SETTLE_S
    assert len(re.findall(r"^        Alarm\(", alarms, re.MULTILINE)) == assumed.alarms
    assert len(METRICS) == assumed.metrics
