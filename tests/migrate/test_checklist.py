"""The checklist answers from evidence, tells "not met" from "nobody looked", and can't be talked into more than it saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.docs.shapes import documented, same, shape
from tests.migrate.evidence_samples import (
    BEGIN_US,
    HOUR_US,
    NOW_US,
    SHADOW,
    cheaper,
    latency,
    producer,
    scanned,
    shadow,
    state,
    stored,
    whole,
)
from tests.queue_contract import named_by_the_environment
from tests.servers import Server
from tests.unit.cli.commands import Shell

from chromalith.aws.clients import client
from chromalith.aws.stack import caller
from chromalith.cost.prices import packaged_prices
from chromalith.cost.workload import Deployment, Workload
from chromalith.migrate.evidence.cost import Counted, compare, workload
from chromalith.migrate.evidence.gather import Evidence, Part, gather
from chromalith.migrate.evidence.infrastructure import look
from chromalith.migrate.evidence.item import Item, Outcome
from chromalith.migrate.evidence.steps import checklist
from chromalith.migrate.phases import Phase
from chromalith.migrate.shadow_stats import ShadowStats
from chromalith.migrate.state import Change, Percent
from chromalith.migrate.states import States
from chromalith.migrate.workflow.ports import Lag
from chromalith.store.url import open_store

MET, NOT_MET, NO_EVIDENCE = Outcome.MET, Outcome.NOT_MET, Outcome.NO_EVIDENCE


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def answers(e: Evidence) -> dict[str, Item]:
    found = {item.id: item for item in checklist(e)}
    assert len(found) == len(checklist(e)), "ids are unique"
    return found


def with_state(**fields: Any) -> Callable[[Evidence], Evidence]:
    return lambda e: replace(e, state=state(**fields))


def verify_with(**fields: Any) -> Callable[[Evidence], Evidence]:
    return lambda e: replace(e, state=replace(e.state, verify={**e.state.verify, **fields}))


def waits(**lag: Any) -> Callable[[Evidence], Evidence]:
    """A journal, while both sides are still written."""
    return lambda e: replace(e, state=state(phase=Phase.CUTOVER), lag=Lag(**lag))


def test_a_whole_migration_meets_everything() -> None:
    """With all evidence there and good, every item is met, and says what it saw."""
    found = answers(whole())
    assert {item.outcome for item in found.values()} == {MET}
    assert all(item.evidence and not item.todo for item in found.values())
    assert [item.phase for item in checklist(whole())] == sorted(item.phase for item in checklist(whole()))
    assert sum(item.phase == 0 for item in found.values()) == 6


def test_a_migration_that_just_began_meets_nothing() -> None:
    """Without evidence nothing is met, and each item says how to get it."""
    found = answers(Evidence(NOW_US, "memory://x", state(Phase.DIRECT, verify={}, backfill={})))
    assert {item.outcome for item in found.values()} == {NOT_MET, NO_EVIDENCE}
    assert all(item.todo and item.evidence for item in found.values())
    assert {name for name, item in found.items() if item.phase == 0 and item.outcome is NOT_MET} == set()


@pytest.mark.parametrize(
    ("item", "change", "outcome", "says"),
    [
        ("producers", lambda e: replace(e, producers=[]), NO_EVIDENCE, "0 clients"),
        ("producers", lambda e: replace(e, producers=[producer(1, writes={})]), NO_EVIDENCE, "none of them wrote"),
        (
            "producers",
            lambda e: replace(e, producers=[producer(1, seen_us=NOW_US - 25 * HOUR_US)]),
            NO_EVIDENCE,
            "0 clients",
        ),
        ("producers", with_state(phase=Phase.RAMP), NOT_MET, "the source's answer still counts"),
        (
            "producers",
            lambda e: replace(e, producers=[producer(1), producer(2, app="old", epoch=4)]),
            NOT_MET,
            "older state: old",
        ),
        (
            "producers",
            lambda e: replace(e, producers=[producer(1), producer(2, epoch=4, ended=True)]),
            MET,
            "1 of them",
        ),
        (
            "producers",
            lambda e: replace(e, producers=[producer(1, epoch=4, ended=True)]),
            NO_EVIDENCE,
            "since the switch",
        ),
        ("code", lambda e: replace(e, scans=[]), NO_EVIDENCE, "no scan"),
        ("code", lambda e: replace(e, scans=[scanned(), scanned(errors=1, places=["a.py:1:1"])]), NOT_MET, "a.py:1:1"),
        ("code", lambda e: replace(e, scans=[scanned(errors=1), scanned()]), MET, "0 direct writes"),
        ("code", lambda e: replace(e, scans=[scanned(unreadable=1)]), NOT_MET, "1 not readable"),
        ("code", lambda e: replace(e, scans=[scanned(root="jobs", errors=1), scanned()]), NOT_MET, "jobs at"),
        ("code", lambda e: replace(e, scans=[scanned(root="jobs"), scanned()]), MET, "jobs at"),
        ("code", lambda e: replace(e, scans=[scanned(files=0)]), NO_EVIDENCE, "no file"),
        (
            "code",
            lambda e: replace(e, scans=[scanned(root="me/shop/src", errors=1), scanned(root="me/shop")]),
            MET,
            "shop",
        ),
        (
            "code",
            lambda e: replace(e, scans=[scanned(root="me/shop", errors=1), scanned(root="me/shop/src")]),
            NOT_MET,
            "1 d",
        ),
        (
            "code",
            lambda e: replace(e, scans=[scanned(root="me/shop-2", errors=1), scanned(root="me/shop")]),
            NOT_MET,
            "1 d",
        ),
        ("code", lambda e: replace(e, scans=[scanned(warnings=3)]), MET, "3 other uses"),
        ("performance", lambda e: replace(e, shadow=ShadowStats()), NO_EVIDENCE, "0 reads"),
        (
            "performance",
            lambda e: replace(e, shadow=shadow(latency((8, 99)), latency((4, 99)))),
            NO_EVIDENCE,
            "99 reads",
        ),
        ("performance", lambda e: replace(e, shadow=shadow(latency((8, 500)), latency((16, 500)))), NOT_MET, "p50"),
        (
            "performance",
            lambda e: replace(e, shadow=shadow(latency((8, 500)), latency((4, 400), (80, 100)))),
            NOT_MET,
            "p95: source 8.",
        ),
        (
            "performance",  # the few that were answered in time were fast
            lambda e: replace(e, shadow=shadow(latency((8, 200)), latency((4, 200)), matches=200, timeouts=30)),
            NOT_MET,
            "30 more took longer",
        ),
        (
            "performance",
            lambda e: replace(e, shadow=shadow(latency((8, 500)), latency((4, 500)), matches=500, timeouts=3)),
            MET,
            "3 more took longer",
        ),
        ("data", verify_with(clean=False, missing=3), NOT_MET, "3 missing"),
        ("data", verify_with(different=1), NOT_MET, "1 different"),
        ("data", verify_with(clean=False), NOT_MET, "did not end clean"),
        ("data", verify_with(epoch=6), NO_EVIDENCE, "older than the change to cutover"),
        ("data", verify_with(in_flight=2), NO_EVIDENCE, "2 records were being written"),
        ("data", lambda e: replace(e, state=replace(e.state, verify={})), NO_EVIDENCE, "not compared yet"),
        ("data", waits(entries=5, open=2, missed=3), NOT_MET, "3 calls wait to be repaired"),
        ("data", waits(entries=5, open=2, oldest_s=61), NOT_MET, "3 calls wait to be compared"),
        ("data", waits(entries=40, open=2, oldest_s=3), MET, "none of the 38 calls"),
        ("data", waits(entries=1, unreadable=1), NOT_MET, "1 calls wait"),
        ("data", waits(entries=2, open=2), MET, "2 calls under way"),
        ("data", lambda e: replace(e, lag=Lag(entries=62, missed=1, oldest_s=90)), MET, "62 calls were not compared"),
        ("data", lambda e: replace(e, lag=None), NO_EVIDENCE, "could not be read"),
        (
            "cost",
            lambda e: replace(e, cost=None, cost_missing="nobody knows how many"),
            NO_EVIDENCE,
            "nobody knows how many",
        ),
        ("cost", lambda e: replace(e, cost=replace(cheaper(), before=1.0)), NOT_MET, "before: 1.00"),
        ("cost", with_state(phase=Phase.CUTOVER), NOT_MET, "still kept, and paid"),
        ("several", lambda e: replace(e, producers=[producer(1)]), NO_EVIDENCE, "at most 1"),
        (
            "several",
            lambda e: replace(
                e, producers=[producer(n, write_minutes={str(NOW_US // 60_000_000 - n): 5}) for n in (1, 2)]
            ),
            NO_EVIDENCE,
            "at most 1",
        ),
        (
            "several",
            lambda e: replace(e, producers=[producer(1), producer(2, host="host-1")]),
            NO_EVIDENCE,
            "at most 1",
        ),
        (
            "several",
            lambda e: replace(
                e, producers=[producer(1, seen_us=NOW_US - 9), producer(2, started_us=NOW_US - 8, seen_us=NOW_US)]
            ),
            NO_EVIDENCE,
            "at most 1",
        ),
        ("several", lambda e: verify_with(different=2)(e), NOT_MET, "the sides differ"),
        (
            "several",
            lambda e: replace(
                e, producers=[producer(n, write_minutes={str(BEGIN_US // 60_000_000 + 5): 9}) for n in (1, 2)]
            ),
            NO_EVIDENCE,
            "since `dual`",  # they wrote side by side to the old system, before it
        ),
        ("infrastructure", lambda e: replace(e, stack=None), NO_EVIDENCE, "nobody looked"),
        (
            "infrastructure",
            lambda e: replace(e, stack=[Part("bucket b"), Part("queue q", "no such queue")]),
            NOT_MET,
            "no such queue",
        ),
        ("clients", lambda e: replace(e, producers=[]), NO_EVIDENCE, "no client"),
        ("scanned", lambda e: replace(e, scans=[]), NO_EVIDENCE, "no scan"),
        ("scanned", lambda e: replace(e, scans=[scanned(files=0)]), NO_EVIDENCE, "no file"),
        ("cleaned", lambda e: replace(e, scans=[scanned(files=0)]), NO_EVIDENCE, "no file"),
        ("dual", with_state(phase=Phase.DIRECT), NOT_MET, "never dual"),
        ("dual", lambda e: replace(e, producers=[producer(1, writes={"source": 5})]), NO_EVIDENCE, "both sides"),
        ("repaired", waits(entries=7, oldest_s=90), NOT_MET, "7 calls wait"),
        ("repaired", waits(entries=7, oldest_s=1, missed=1), NOT_MET, "1 calls wait to be repaired"),
        ("repaired", waits(entries=7, oldest_s=3), MET, "none of the 7 calls"),
        ("copied", with_state(backfill={}), NO_EVIDENCE, "no backfill"),
        ("copied", with_state(backfill={"finished": False}), NOT_MET, "not finished"),
        (
            "agreement",
            lambda e: replace(e, shadow=shadow(latency((1, 1)), latency((1, 1)), matches=99)),
            NO_EVIDENCE,
            "99 reads",
        ),
        (
            "agreement",
            lambda e: replace(e, shadow=shadow(latency((1, 1)), latency((1, 1)), matches=980, errors=20)),
            NOT_MET,
            "98.00 %",
        ),
        ("gradual", with_state(phase=Phase.VERIFY), NO_EVIDENCE, "no ramp"),
        ("gradual", lambda e: replace(e, state=_without_ramp()), NOT_MET, "at once"),
        ("gradual", lambda e: replace(e, state=_with_shadow_ramp_only()), NOT_MET, "at once"),
        ("gradual", lambda e: replace(e, state=_rolled_back_and_dual()), NO_EVIDENCE, "no ramp"),
        ("reads", with_state(phase=Phase.RAMP), NOT_MET, "50 % now"),
        ("reads", lambda e: replace(e, producers=[producer(1, reads={"source": 4})]), NO_EVIDENCE, "the target 0"),
        ("switched", with_state(phase=Phase.RAMP), NOT_MET, "ramp"),
        ("counts", verify_with(extra=1), NOT_MET, "1 extra"),
        ("completed", with_state(phase=Phase.CUTOVER), NOT_MET, "still gets every write"),
        ("cleaned", lambda e: replace(e, scans=[scanned(warnings=1)]), NOT_MET, "1 uses"),
        ("cleaned", with_state(phase=Phase.CUTOVER), NO_EVIDENCE, "not scanned since"),
        (
            "cleaned",
            lambda e: replace(e, scans=[replace(scanned(root="jobs"), at_us=BEGIN_US), scanned()]),
            NO_EVIDENCE,
            "jobs was not scanned since",
        ),
    ],
)
def test_each_item(item: str, change: Callable[[Evidence], Evidence], outcome: Outcome, says: str) -> None:
    """One piece of evidence changed changes its item, and the item says why."""
    found = answers(change(whole()))[item]
    assert found.outcome is outcome
    assert says in " ".join(found.evidence)
    assert bool(found.todo) is (outcome is not MET)


def _without_ramp() -> Any:
    now = state()
    return replace(now, history=tuple(change for change in now.history if change.verb != "ramp"))


def _with_shadow_ramp_only() -> Any:
    """Reads were repeated on the target, and answered by the source until the switch."""
    now = _without_ramp()
    shadow_only = Change(5, BEGIN_US + 6 * HOUR_US, "ann@host", "ramp", "verify", "ramp reads=0 writes=0 shadow=10")
    return replace(now, history=(*now.history[:4], shadow_only, *now.history[4:]))


def _rolled_back_and_dual() -> Any:
    """An earlier attempt had a ramp; this one has not."""
    now = state(Phase.RAMP)
    more = [("rollback", "ramp reads=50 writes=0 shadow=10", "direct"), ("dual", "direct", "dual")]
    lines = [Change(7 + n, BEGIN_US + (9 + n) * HOUR_US, "ann@host", *change) for n, change in enumerate(more)]
    return replace(now, phase=Phase.DUAL, percent=Percent(), history=(*now.history, *lines), epoch=8)


def test_the_items_named_above_are_all_there_are() -> None:
    """Each item has a case in which it is not met: none is ticked whatever happens."""
    marks = test_each_item.pytestmark  # type: ignore[attr-defined]
    cases = next(mark.args[1] for mark in marks if mark.name == "parametrize")
    assert {case[0] for case in cases if case[2] is not MET} == set(answers(whole()))


def test_evidence_is_gathered_from_a_store() -> None:
    """What stands in the store comes back as evidence, shadow reads of all clients added up."""
    e = whole()
    found = gather(stored(e))
    assert (found.state, found.shadow, found.lag) == (e.state, SHADOW, Lag())
    assert {each.id for each in found.producers} == {"c1", "c2"}
    assert found.scan is not None
    assert found.scan.found == e.scans[0].found
    assert found.together()[0] == 2
    assert found.counted == Counted(2_000, 20_000, (35 * HOUR_US - 5_000_000) / 1e6, 200_000)
    assert not found.unreadable


def test_shadow_reads_of_an_earlier_attempt_are_no_evidence() -> None:
    """After a rollback, or `migrate shadow --clear`, clients that have ended still say what they found before."""
    e = whole()
    place = stored(replace(e, state=replace(e.state, shadow_since=SHADOW.since + 1)))
    assert gather(place).shadow.total.judged == 0


def test_damaged_evidence_is_named() -> None:
    """A record that is none does not count, and does not hide the rest."""
    place = stored(whole())
    place.store.put(f"{place.prefix('evidence', 'scan')}9.json", b"{}")
    found = gather(place)
    assert found.scan is None
    assert found.producers
    assert any("evidence" in each for each in found.unreadable)


def test_the_load_is_of_the_time_in_which_clients_were_seen() -> None:
    """A pause between two clients is no time: else a month of it would make an expensive load look cheap."""
    hour = [
        producer(1, started_us=BEGIN_US, seen_us=BEGIN_US + HOUR_US),
        producer(2, started_us=BEGIN_US + 9, seen_us=BEGIN_US + 10),
    ]
    later = producer(3, started_us=BEGIN_US + 700 * HOUR_US, seen_us=BEGIN_US + 701 * HOUR_US)
    counted = replace(whole(), producers=[*hour, later]).counted
    assert (counted.seconds, counted.writes) == (7_200, 3_000)


def test_the_load_is_counted_or_given() -> None:
    """Counted loads need ten minutes; what a person says wins; records are needed."""
    load, said = workload(Counted(360, 720, 3_600, 1_000), {"rows": 10.0})
    assert load is not None
    assert (load.writes_per_s, load.reads_per_s, load.records, load.rows) == (0.1, 0.2, 1_000, 10)
    assert "counted over 1.0 h" in said
    assert workload(Counted(360, 720, 599, 1_000), {})[0] is None
    given = {"writes_per_s": 1.0, "reads_per_s": 2.0}
    load, said = workload(Counted(0, 0, 0, 5), given)
    assert load == Workload(writes_per_s=1, reads_per_s=2, records=5)
    assert workload(Counted(0, 0, 0, None), given)[0] is None


def test_cost_is_compared_with_the_cheaper_server() -> None:
    """Without what is really paid, no reduction is claimed against the dearer of the model's servers."""
    load = Workload(writes_per_s=0.1, reads_per_s=1, records=1_000_000)
    found = compare(load, "", Deployment(), packaged_prices(), None, None)
    dear = compare(load, "", Deployment(), packaged_prices(), "ec2_efs", None)
    assert not isinstance(found, str)
    assert not isinstance(dear, str)
    totals = {name: sum(each.cost for each in lines) for name, lines in found.after.servers.items()}
    assert found.before == min(totals.values())
    assert dear.before == totals["ec2_efs"]
    huge = compare(Workload(records=1e12, dimension=4_096), "", Deployment(), packaged_prices(), None, None)
    assert isinstance(huge, str)


def test_the_command(shell: Shell, tmp_path: Path) -> None:
    """The documented shape; exit code 4 while something is open; a table for people."""
    url = str(tmp_path / "state")
    place = stored(whole())
    store = open_store(url)
    for page in place.store.list("migration/"):
        for entry in page:
            store.put(entry.key, place.store.get(entry.key).body)
    said = shell(
        "migrate", "checklist", "--state", url, "--paid", 5_000, "--writes-per-s", 0.1, "--reads-per-s", 1, "--json"
    )
    assert said.code == 4, "nobody looked at a stack, and the clients of the sample were seen long ago"
    assert same(shape(said.json), documented("migrate checklist"))
    outcomes = {item["id"]: item["outcome"] for item in said.json["items"]}
    assert (outcomes["cost"], outcomes["data"], outcomes["infrastructure"]) == ("met", "met", "no_evidence")
    out = shell("migrate", "checklist", "--state", url).out
    assert "✓ met Nothing that failed" in out
    assert "Phase 3" in out
    assert shell("migrate", "checklist", "--state", url, "--name", "other").code == 1
    assert shell("migrate", "checklist", "--state", url, "--baseline", "mainframe").code == 2
    assert (
        json.loads(shell("migrate", "checklist", "--state", url, "--name", "other", "--json").err)["error"]["kind"]
        == "not_found"
    )
    assert States(place).find() == whole().state


@pytest.mark.server
def test_a_stack_is_asked(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is a part, what is missing is a part with a problem; without an account there is one problem."""
    for _ in named_by_the_environment(moto, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
        account = caller().account
        before = {part.name: part.problem for part in look("proof", {})}
        bucket, queue = f"bucket chromadb-vectors-proof-{account}", "queue chromadb-delta-queue"
        assert set(before) == {
            bucket,
            queue,
            *(f"function chromadb-{role}-proof" for role in ("producer", "compactor", "query")),
        }
        assert before[bucket] is not None
        assert before["function chromadb-query-proof"] is not None
        client("s3").create_bucket(Bucket=f"chromadb-vectors-proof-{account}")
        client("sqs").create_queue(QueueName="chromadb-delta-queue")
        after = {part.name: part.problem for part in look("proof", {})}
        assert (after[bucket], after[queue]) == (None, None)
        assert answers(replace(whole(), stack=look("proof", {})))["infrastructure"].outcome is NOT_MET
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (alone,) = look("proof", {})
    assert alone.problem is not None
