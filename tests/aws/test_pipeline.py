"""The whole pipeline on real servers: producers in several processes → queue → compactor's function → query's function, on a bad day.

Objects are in SeaweedFS; queue and lease table are in the emulated account. Half of the producers go through the producer's function, half
through the library's writer, which ends like a killed process. Two pumps, each a process with the compactor's function in it, deliver the
messages: some they drop, double, hold back or deliver again, some answers they lose, and one collection they never tell of. Poison is in
between. The judge knows what the producers were told, and the objects: nothing of the product's own bookkeeping.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.aws.account import Account, aws_variables
from tests.aws.crew import Call, Job, acknowledged, produce_by_handler, produce_by_writer, pump
from tests.aws.pump import Context
from tests.servers import Server

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.verify import examine
from chromalith.coord.catalog import Catalog
from chromalith.coord.folded_parts import Folded, FoldedParts
from chromalith.coord.history import published_keys
from chromalith.coord.listing import list_deltas
from chromalith.coord.pointer import read_current, read_manifest
from chromalith.model.folded import State
from chromalith.model.ids import CollectionId, DeltaId
from chromalith.model.order import Listed
from chromalith.store.port import Store
from chromalith.store.url import open_store

pytestmark = pytest.mark.xdist_group("pipeline")

COLLECTIONS = ("words", "lines", "quiet")
QUIET = "quiet"
"""The collection that no message ever tells of."""
POISON = (
    "x",
    "{",
    "[]",
    '{"format": 99, "collection": "x"}',
    '{"format": 1, "collection": "no-uuid", "delta": "d", "rows": 1, "bytes": 1}',
)
TENANT, DATABASE = "default_tenant", "default_database"


LONG = pytest.mark.skipif("'slow' not in config.option.markexpr", reason="long: run with -m slow")


@pytest.fixture(params=[pytest.param((12, 4), id="short"), pytest.param((300, 10), id="long", marks=[pytest.mark.slow, LONG])])
def pipeline(seaweed: Server, account: Account, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Bucket, queue with its dead-letter queue, table, and the collections, made by an administrator."""
    calls, rows = request.param
    seed = int(os.environ.get("CHROMALITH_TEST_SEED", "0")) or SYSTEM_CLOCK.now_us() % 1_000_000
    print(f"\nseed={seed} (again with CHROMALITH_TEST_SEED={seed})")
    bucket = seaweed.new_bucket()
    sqs = account.client("sqs")
    dead = sqs.create_queue(QueueName=account.new_name("dead"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "6"})
    url = sqs.create_queue(QueueName=account.new_name("hints"), Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    table = account.new_name("leases")
    account.client("dynamodb").create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "lease_key", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "lease_key", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    variables = aws_variables(account) | {
        "CHROMALITH_STORE": f"s3://{bucket}?endpoint={seaweed.endpoint}",
        "CHROMALITH_LEASE_TABLE": table,
        "CHROMALITH_QUEUE_URL": url,
        "DELTA_QUEUE_URL": url,
        "DEAD_QUEUE_URL": dead,
        "POWERTOOLS_SERVICE_NAME": "chromalith-test",
    }
    job = Job(variables, tmp_path, seed, COLLECTIONS, calls, rows)
    catalog = Catalog(opened(job))
    for name in COLLECTIONS:
        catalog.create(TENANT, DATABASE, name, configuration={"hnsw": {"space": "l2"}})
    return job


def opened(job: Job) -> Store:
    options = {"access_key_id": job.environment["AWS_ACCESS_KEY_ID"], "secret_access_key": job.environment["AWS_SECRET_ACCESS_KEY"]}
    return open_store(job.environment["CHROMALITH_STORE"], storage_options=options)


def ids_of(job: Job) -> dict[str, CollectionId]:
    catalog = Catalog(opened(job))
    return {name: catalog.lookup(TENANT, DATABASE, name).collection.id for name in COLLECTIONS}


def test_nothing_is_lost_and_each_delta_is_folded_once(pipeline: Job, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to messages, the records are those of the acknowledged calls, in the store's order, each delta folded once."""
    job = pipeline
    for name, value in job.environment.items():
        monkeypatch.setenv(name, value)
    cids = ids_of(job)
    witness = Witness(opened(job), cids)
    seen = run(job, account, witness, silenced=(str(cids[QUIET]),))
    calls = acknowledged(job)
    quiet = [call for call in calls if call.collection == QUIET]

    assert len(calls) == 4 * job.calls
    assert quiet
    assert all(seen[what] for what in ("drop", "double", "again", "hold", "lost_answer", "redelivered")), seen
    assert Counter(bodies(account, job.environment["DEAD_QUEUE_URL"])) == Counter(POISON), "the dead-letter queue has the poison, all of it"
    assert read_current(opened(job), cids[QUIET]).manifest.version == 0, "no message told of it, so nothing was folded yet"

    leases = account.client("dynamodb").scan(TableName=job.environment["CHROMALITH_LEASE_TABLE"])["Items"]
    assert leases, "compactors worked under leases of the table"
    folded = sum(measured(path, "DeltasFolded") for path in job.folder.glob("pump-*.log"))
    assert folded + schedule_until_idle() == len(calls), "each delta was folded once"
    for name, cid in cids.items():
        deltas = witness.deltas(cid)
        assert {str(each) for each in deltas} == {call.delta for call in calls if call.collection == name}
        records = after_all({call.delta: call for call in calls}, deltas)
        judge(job, cid, deltas, records)
        ask(name, records)


class Witness:
    """Sees each delta in the store, with its timestamp, before a compactor may delete it (a minute after its fold)."""

    def __init__(self, store: Store, cids: dict[str, CollectionId]) -> None:
        self._store = store
        self._seen: dict[CollectionId, dict[DeltaId, Listed]] = {cid: {} for cid in cids.values()}

    def look(self) -> None:
        for cid, seen in self._seen.items():
            seen.update((each.id, each) for each in list_deltas(self._store, cid))

    def deltas(self, cid: CollectionId) -> list[DeltaId]:
        """In the order of docs/protocol.md: the store's timestamp, then the id."""
        return [each.id for each in sorted(self._seen[cid].values(), key=lambda each: (each.modified_us, str(each.id)))]


def run(job: Job, account: Account, witness: Witness, silenced: tuple[str, ...]) -> Counter[str]:
    """All processes from start to end; what the pumps did to messages. Fails if one of them failed."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    pumps = [spawn.Process(target=pump, args=(job, number, silenced, stop)) for number in range(2)]
    by = (produce_by_handler, produce_by_writer, produce_by_handler, produce_by_writer)
    producers = [spawn.Process(target=act, args=(job, number)) for number, act in enumerate(by)]
    for process in (*pumps, *producers):
        process.start()
    for body in POISON:
        account.client("sqs").send_message(QueueUrl=job.environment["DELTA_QUEUE_URL"], MessageBody=body)
    while any(process.is_alive() for process in producers):
        witness.look()
        producers[0].join(1)
        SYSTEM_CLOCK.sleep(0.5)
    witness.look()
    assert [process.exitcode for process in producers] == [0, 0, 0, 0]
    stop.set()
    seen: Counter[str] = Counter()
    for number, process in enumerate(pumps):
        process.join(300)
        assert process.exitcode == 0
        told = json.loads((job.folder / f"pump-{number}.json").read_text())
        assert told["errors"] == []
        seen.update(told["seen"])
    print(dict(seen))
    return seen


def bodies(account: Account, url: str) -> list[str]:
    """What is in a queue."""
    found: dict[str, str] = {}
    while messages := account.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60).get("Messages", []):
        found.update((message["MessageId"], message["Body"]) for message in messages)
    return list(found.values())


def measured(log: Path, name: str) -> float:
    """The sum of a metric in a function's output, as CloudWatch would take it from there."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"_aws"')]
    return sum(sum(values) if isinstance(values := line[name], list) else values for line in lines if name in line)


def schedule_until_idle() -> int:
    """What the schedule's rule sends, until there is nothing left to fold; how many deltas were."""
    from chromalith.lambdas.compactor import handler

    folded = 0
    answer: dict[str, Any] = {}
    for number in range(5):
        answer = handler({"source": "scheduled", "action": "compact"}, Context(f"schedule-{number}"))
        folded += answer["deltas_folded"]
        if answer["status"] == "success" and answer["deltas_waiting"] == 0:
            return folded
    raise AssertionError(f"deltas wait after five scheduled runs {answer}")


def after_all(calls: dict[str, Call], deltas: list[DeltaId]) -> dict[str, Call]:
    """Which call each record is of, after all calls in the deltas' order."""
    records: dict[str, Call] = {}
    for delta in deltas:
        call = calls[str(delta)]
        for record_id in call.ids:
            if call.op == "delete":
                records.pop(record_id, None)
            else:
                records[record_id] = call
    return records


def judge(job: Job, cid: CollectionId, deltas: list[DeltaId], records: dict[str, Call]) -> None:
    """Each delta was folded, by one version, and stayed so; what is stored is sound, and as many records as there must be."""
    store = opened(job)
    parts = FoldedParts.from_store(store)
    folded_by: dict[DeltaId, int] = {}
    for key in reversed(published_keys(store, cid).values()):
        manifest = read_manifest(store, key)
        for delta, known in zip(deltas, Folded(manifest, parts).find_all(deltas), strict=True):
            assert known is None or known.state is State.FOLDED
            assert known is not None or delta not in folded_by, f"a folded delta was forgotten {delta}"
            if known is not None:
                folded_by.setdefault(delta, manifest.version)
    assert set(folded_by) == set(deltas)
    report = examine(store, cid, deep=True)
    assert not report.findings
    assert report.live == len(records)


def ask(name: str, records: dict[str, Call]) -> None:
    """The query's function answers with the records that there must be, and with their number."""
    from chromalith.lambdas.query import handler

    def asked(**payload: Any) -> Any:
        return handler({"collection": name, "read_level": "INDEX_ONLY", "max_staleness_s": 0.0, **payload}, Context("query"))

    texts = {record_id: call.texts[call.ids.index(record_id)] for record_id, call in records.items()}
    assert asked(count=True)["count"] == len(records)
    found = asked(limit=1000)
    assert dict(zip(found["ids"], found["documents"], strict=True)) == texts
    for record_id, call in list(records.items())[:5]:
        answer = asked(query_embeddings=list(call.vectors[call.ids.index(record_id)]), n_results=1)
        assert answer["ids"] == [[record_id]]
        assert answer["documents"] == [[texts[record_id]]]
