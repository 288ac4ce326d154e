"""``lock`` and ``compact`` with the leases in a DynamoDB table, as a script sees them."""

from __future__ import annotations

import pytest
from tests.dynamo_place import OPTIONS, DynamoPlace, admin
from tests.lease_places import held
from tests.servers import Server
from tests.unit.cli.commands import Shell

from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.lease import Lease, Tenure
from chromalith.model import layout
from chromalith.session import Session
from chromalith.store.url import open_store

pytestmark = pytest.mark.server


@pytest.fixture
def place(moto: Server, monkeypatch: pytest.MonkeyPatch, words: str, store: str) -> DynamoPlace:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", OPTIONS["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OPTIONS["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OPTIONS["secret_access_key"])
    return DynamoPlace(admin(moto.endpoint), store=open_store(store))


def taken(place: DynamoPlace) -> Tenure:
    """Somebody else holds the lease of folds of the collection ``words``, in the table."""
    with Session(place.store) as session:
        cid = session.catalog.lookup("default_tenant", "default_database", "words").collection.id
    lease = Lease(place.table(SYSTEM_CLOCK), layout.lease_key(cid), SYSTEM_CLOCK, purpose="fold", owner="elsewhere/1")
    return held(lease.try_acquire())


@pytest.mark.parametrize("by", ["option", "setting"])
def test_status_and_break_in_the_table(shell: Shell, place: DynamoPlace, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Who holds a lease there is seen and broken, and it is said where; leases in the store are another matter."""
    there = ("--lease-table", place.name) if by == "option" else ()
    if by == "setting":
        monkeypatch.setenv("CHROMALITH_LEASE_TABLE", place.name)
    assert shell("lock", "status", "--json", *there).json["leases"] == []
    tenure = taken(place)
    owner = tenure.record.owner
    for collection in ((), ("words",)):
        found = shell("lock", "status", *collection, "--json", *there).json
        assert found["place"] == f"DynamoDB table {place.name}"
        (lease,) = found["leases"]
        assert (lease["owner"], lease["state"], lease["lease_s"]) == (owner, "held", 30.0)
        assert lease["written"].endswith("Z")
    said = shell("lock", "status", *there)
    assert owner in said.out
    assert place.name in said.err
    monkeypatch.delenv("CHROMALITH_LEASE_TABLE", raising=False)
    assert shell("lock", "status", "--json").json["leases"] == []
    assert shell("lock", "break", "words", "--expect-owner", owner, "--json").json["result"] == "already_released"
    assert tenure.beat()
    if by == "setting":
        monkeypatch.setenv("CHROMALITH_LEASE_TABLE", place.name)
    assert shell("lock", "break", "words", "--expect-owner", "elsewhere/2", *there).code == 3
    broken = shell("lock", "break", "words", "--expect-owner", owner, "--json", *there).json
    assert (broken["result"], broken["place"]) == ("broken", f"DynamoDB table {place.name}")
    assert not tenure.beat()


def test_compact_with_a_table(shell: Shell, place: DynamoPlace) -> None:
    """Its lease is there, released at the end, and none is in the store."""
    (outcome,) = shell("compact", "--lease-table", place.name, "--json").json["outcomes"]
    assert outcome["result"] == "compacted"
    (lease,) = shell("lock", "status", "words", "--lease-table", place.name, "--json").json["leases"]
    assert (lease["purpose"], lease["state"]) == ("fold", "released")
    assert shell("lock", "status", "--json").json["leases"] == []


def test_a_table_that_is_missing(shell: Shell, place: DynamoPlace) -> None:
    """Exit code 2 as for every call that is wrong, with a hint, and nothing is compacted."""
    for command in (("lock", "status"), ("compact",), ("compact", "words")):
        failed = shell(*command, "--lease-table", "no-such-table", "--json")
        assert failed.code == 2
        assert failed.error["kind"] == "invalid"
        assert "no-such-table" in failed.error["message"]
        assert "lease_key" in failed.error["hint"]
    assert shell("status", "--json").json["collections"][0]["version"] == 0


def test_doctor_looks_into_the_table(shell: Shell, place: DynamoPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting, a lease that is held there is found."""
    tenure = taken(place)
    monkeypatch.setenv("CHROMALITH_LEASE_TABLE", place.name)
    findings = {each["code"]: each for each in shell("doctor", "words", "--read-only", "--json").json["findings"]}
    assert tenure.record.owner in findings["lease_held"]["message"]
    monkeypatch.delenv("CHROMALITH_LEASE_TABLE")
    assert "lease_held" not in {each["code"] for each in shell("doctor", "words", "--read-only", "--json").json["findings"]}
