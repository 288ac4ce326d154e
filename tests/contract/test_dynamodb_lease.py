"""Leases in DynamoDB beyond the contract: lost answers, throttling, tables that are none, the item itself, and who shares it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.replies import (
    APPLIED_THEN_DROPPED,
    DROPPED,
    PASS,
    REPEATED,
    Proxy,
    Reply,
    applied_then,
    proxy_before,
    refused_with,
)
from tests.dynamo_place import OPTIONS, DynamoPlace, admin
from tests.lease_places import Machines, held
from tests.servers import Server

from chromalith.aws.dynamodb_lease import HASH_KEY, KEPT_S, TTL_ATTRIBUTE, DynamoLeases
from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.coord.lease import Lease, Tenure, break_lease
from chromalith.coord.lease_table import LEASE_S, LeaseRecord
from chromalith.errors import Invalid, Unavailable, Unknown
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.readback import READBACK_POLICY
from chromalith.store.wrappers import PrefixStore

pytestmark = pytest.mark.server

THROTTLED = Reply(forward=False, status=400, body=json.dumps({"__type": "x#ProvisionedThroughputExceededException"}).encode())
NO_SERVICE = refused_with(503)
ATTRIBUTES = {HASH_KEY, TTL_ATTRIBUTE, "format", "owner", "token", "lease_s", "purpose", "released", "written_us"}
GET, PUT = "GetItem", "PutItem"


@pytest.fixture(scope="module")
def proxy(moto: Server) -> Iterator[Proxy]:
    with proxy_before(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
def place(moto: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> DynamoPlace:
    """Made and looked at directly; leases go through the proxy."""
    place = DynamoPlace(admin(moto.endpoint))
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.endpoint)
    proxy.script.clear()
    proxy.seen.clear()
    return place


@pytest.fixture
def machines(place: DynamoPlace) -> Machines:
    return Machines(place)


def item(place: DynamoPlace, key: str) -> dict[str, Any]:
    found = place.item(key)
    assert found is not None
    return found


# -- answers that are lost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [APPLIED_THEN_DROPPED, DROPPED, applied_then(500), applied_then(503), NO_SERVICE])
def test_an_acquisition_whose_answer_is_lost(machines: Machines, place: DynamoPlace, proxy: Proxy, reply: Reply) -> None:
    """It is read back before it is believed, and sent again only if it was not applied: the lease is held, and its holder can beat."""
    proxy.script[:] = [PASS, reply]
    tenure = held(machines.machine("a")[1].try_acquire())
    assert machines.record().owner == tenure.record.owner
    assert tenure.beat()


@pytest.mark.parametrize("reply", [APPLIED_THEN_DROPPED, DROPPED, applied_then(500), REPEATED])
def test_a_beat_whose_answer_is_lost(machines: Machines, place: DynamoPlace, proxy: Proxy, reply: Reply) -> None:
    """It has happened, or is repeated; the lease is not lost by it."""
    tenure = held(machines.machine("a")[1].try_acquire())
    token = machines.record().token
    proxy.script[:] = [reply]
    assert tenure.beat()
    assert machines.record().token != token
    assert tenure.beat()
    assert not tenure.lost


def test_a_request_that_was_repeated_on_its_way_meets_itself(machines: Machines, proxy: Proxy) -> None:
    """The second copy is refused because of the first: the item that comes with the refusal has the very token, so it was a success."""
    proxy.script[:] = [PASS, REPEATED]
    tenure = held(machines.machine("a")[1].try_acquire())
    assert len(proxy.seen) == 2  # a look and a write: the refusal needed no third request
    assert tenure.beat()


def test_what_can_not_be_told_is_not_told(machines: Machines, place: DynamoPlace, proxy: Proxy) -> None:
    """An answer is lost, and then nothing answers: the write's ending is unknown, never a yes or a no; an acquisition is not held."""
    clock = machines.clock()
    record = LeaseRecord("me", "t" * 32, LEASE_S, "fold", False)
    proxy.script[:] = [APPLIED_THEN_DROPPED, *[NO_SERVICE] * 50]
    with pytest.raises(Unknown):
        place.table(clock).write(machines.key, record, None)
    proxy.script[:] = [APPLIED_THEN_DROPPED, *[NO_SERVICE] * 50]
    tenure_of = machines.machine("a", clock=clock)[1]
    proxy.script.insert(0, PASS)
    place.remove(machines.key)
    with pytest.raises(Unavailable):
        tenure_of.try_acquire()
    proxy.script.clear()
    assert machines.record().owner.startswith("a/")  # it had arrived; it runs out like that of a dead holder


def test_a_beat_that_is_lost_from_sight_loses_nothing(machines: Machines, proxy: Proxy) -> None:
    """The next one tells."""
    tenure = held(machines.machine("a")[1].try_acquire())
    proxy.script[:] = [APPLIED_THEN_DROPPED, *[NO_SERVICE] * 50]
    with pytest.raises(Unavailable):
        tenure.beat()
    proxy.script.clear()
    assert not tenure.lost
    assert tenure.beat()


# -- throttling --------------------------------------------------------------------------------------------------------


def test_throttling_is_waited_out(machines: Machines, proxy: Proxy) -> None:
    """A few refusals for want of capacity are no failure, for reads and for writes."""
    proxy.script[:] = [THROTTLED, THROTTLED, PASS, THROTTLED, THROTTLED]
    clock, a = machines.machine("a")
    held(a.try_acquire())
    assert proxy.script == []
    assert clock.slept_s > 0


def test_throttling_without_end_is_unavailable(machines: Machines, place: DynamoPlace, proxy: Proxy) -> None:
    """After as many attempts as the policy has, and nothing was written."""
    proxy.script[:] = [THROTTLED] * 100
    with pytest.raises(Unavailable, match="throttled"):
        machines.machine("a")[1].try_acquire()
    assert len(proxy.seen) == READBACK_POLICY.attempts
    proxy.script[:] = [PASS, *[THROTTLED] * 100]
    proxy.seen.clear()
    with pytest.raises(Unavailable, match="throttled"):
        machines.machine("a")[1].try_acquire()
    assert len(proxy.seen) == 1 + READBACK_POLICY.attempts
    assert place.item(machines.key) is None


# -- what it costs, and what stands there ------------------------------------------------------------------------------


def test_what_a_lease_costs(machines: Machines, proxy: Proxy) -> None:
    """Acquiring is a read and a write; a beat and a release are a write each, also if they find another's record."""
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())
    assert len(proxy.seen) == 2
    tenure.beat()
    assert len(proxy.seen) == 3
    break_lease(machines.place.table(clock), machines.key, clock, expected_owner=tenure.record.owner)
    proxy.seen.clear()
    assert not tenure.beat()
    assert len(proxy.seen) == 1
    tenure.release()
    assert len(proxy.seen) == 1


def test_the_item(machines: Machines, place: DynamoPlace) -> None:
    """It has the attributes that docs/format.md names, under the URL of the object that it stands for; ``expires_at`` is a number, whole
    seconds, at least a day ahead, and moves with each write."""
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())

    def checked() -> dict[str, Any]:
        found = item(place, machines.key)
        assert set(found) == ATTRIBUTES
        assert found[HASH_KEY] == {"S": f"{place.store.url}/{machines.key}"}
        assert list(found[TTL_ATTRIBUTE]) == ["N"]
        assert int(found[TTL_ATTRIBUTE]["N"]) == clock.now_us() // 1_000_000 + KEPT_S
        return found

    first = checked()
    assert KEPT_S >= 86_400
    assert first["owner"] == {"S": tenure.record.owner}
    assert first["released"] == {"BOOL": False}
    clock.advance(100)
    tenure.beat()
    assert checked()["token"] != first["token"]
    tenure.release()
    assert checked()["released"] == {"BOOL": True}


def test_an_item_that_should_have_expired_counts_as_any_other(machines: Machines, place: DynamoPlace) -> None:
    """Expiry is DynamoDB's affair: nobody here looks at the attribute, whatever it says, or whether it is there."""
    tenure = held(machines.machine("a")[1].try_acquire())
    before = item(place, machines.key)
    for expires in ({"N": "1"}, {"S": "2026-01-31T12:00:00Z"}, None):
        attributes = {name: value for name, value in before.items() if name not in (HASH_KEY, TTL_ATTRIBUTE)}
        place.put(machines.key, **attributes, **({} if expires is None else {TTL_ATTRIBUTE: expires}))
        assert not isinstance(machines.machine("b")[1].try_acquire(), Tenure)
    assert tenure.beat()


# -- tables that are none ----------------------------------------------------------------------------------------------


def test_a_table_that_is_missing(place: DynamoPlace) -> None:
    """Says so, and what to do; not as ``NotFound``, which is a collection that is gone, and is passed over."""
    clock = ManualClock()
    missing = DynamoLeases("no-such-table", OPTIONS, place.store, clock)
    record = LeaseRecord("a", "t", LEASE_S, "fold", False)
    for ask in (lambda: missing.look("lease/x.json"), lambda: missing.write("lease/x.json", record, None)):
        with pytest.raises(Invalid, match="no-such-table") as error:
            ask()
        assert "lease_key" in str(error.value.hint)
    assert clock.slept_s == 0


@pytest.mark.parametrize("keys", [[("id", "S", "HASH")], [(HASH_KEY, "S", "HASH"), ("kind", "S", "RANGE")]])
def test_a_table_with_other_keys(place: DynamoPlace, keys: list[tuple[str, str, str]]) -> None:
    """A table that is made for something else is told from one for leases by the first look.

    A hash key of another type too, which moto lets pass: see ``tests/aws/dynamodb_local``."""
    name = f"other-{SYSTEM_CLOCK.random_hex(8)}"
    place.client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, _, role in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(Invalid, match="no table for leases") as error:
        DynamoLeases(name, OPTIONS, place.store, ManualClock()).look("lease/x.json")
    assert "lease_key" in str(error.value.hint)


# -- who shares it -----------------------------------------------------------------------------------------------------


def test_stores_share_a_table_without_sharing_leases(place: DynamoPlace) -> None:
    """Each has its own, also of a collection that both have (one is a copy of the other); however the store is reached it is one."""

    class At(PrefixStore):
        def __init__(self, url: str) -> None:
            super().__init__(MemoryStore(SYSTEM_CLOCK), "p")
            self._url = url

        @property
        def url(self) -> str:
            return self._url

    def acquired(store: Store) -> bool:
        clock = ManualClock(seed=int(SYSTEM_CLOCK.random_hex(8), 16))
        lease = Lease(DynamoLeases(place.name, OPTIONS, store, clock), "lease/x.json", clock, purpose="fold")
        return isinstance(lease.try_acquire(), Tenure)

    assert acquired(At("s3://one/prefix"))
    assert acquired(At("s3://two/prefix"))
    assert acquired(At("s3://one"))
    assert not acquired(At("s3://one/prefix?endpoint=https://s3.example.com"))
