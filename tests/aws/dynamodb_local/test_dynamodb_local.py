"""Leases on AWS's own implementation of DynamoDB: the contract, keys of other types, and items that expire for real."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.dynamo_place import OPTIONS, DynamoPlace, admin
from tests.lease_contract import LeaseContract
from tests.lease_places import Machines, held, refused

from chromalith.aws.dynamodb_lease import HASH_KEY, KEPT_S, TTL_ATTRIBUTE, DynamoLeases
from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.coord.lease import Tenure
from chromalith.coord.lease_table import LEASE_S
from chromalith.errors import Invalid

EXPIRY_S_MAX = 30
"""The server looks every ten seconds or so."""
TABLES_MAX = 4
"""Of a server's life it expires the items of the first few tables only, and now and then not even of these: then another table is tried."""
LATE_US = (KEPT_S - 4) * 1_000_000
"""How far a holder's clock is late whose items expire four seconds after they were written."""


@pytest.fixture(scope="module", autouse=True)
def endpoint(dynamodb_local: str) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_local)
        yield dynamodb_local


@pytest.fixture
def place(endpoint: str) -> DynamoPlace:
    """Without TTL; see :data:`TABLES_MAX`."""
    return DynamoPlace(admin(endpoint), ttl=False)


class TestDynamoDBLocal(LeaseContract):
    pass


@dataclass
class Expiring:
    """A table with TTL, and in it the leases of two holders whose clocks are days late, and one whose clock is right."""

    place: DynamoPlace

    def __post_init__(self) -> None:
        self.held = Machines(self.place)
        self.watched = Machines(self.place)
        self.lost = self.late(self.held)
        self.late(self.watched)
        self.kept = held(Machines(self.place).machine("right")[1].try_acquire())
        self.clock, self.observer = self.watched.machine("observer")
        refused(self.observer.try_acquire())
        self.place.put("lease/words.json", **{TTL_ATTRIBUTE: {"S": "2020-01-31T12:00:00Z"}})

    def late(self, machines: Machines) -> Tenure:
        return held(machines.machine("late", clock=machines.clock(apart_us=-LATE_US))[1].try_acquire())

    def deleted(self) -> bool:
        """Whether DynamoDB deletes what is past within a while."""
        for _ in range(EXPIRY_S_MAX * 2):
            if all(self.place.item(machines.key) is None for machines in (self.held, self.watched)):
                return True
            time.sleep(0.5)
        return False


@pytest.fixture(scope="module")
def expired(endpoint: str) -> Expiring:
    """After DynamoDB has deleted what was past."""
    for _ in range(TABLES_MAX):
        expiring = Expiring(DynamoPlace(admin(endpoint), ttl=True))
        if expiring.deleted():
            return expiring
    pytest.fail("nothing expired")


def test_a_holder_whose_item_expired_has_lost_its_lease(expired: Expiring) -> None:
    """DynamoDB deletes an item whose ``expires_at`` is past, as its clock has it: the holder finds its lease lost, brings nothing back,
    and another acquires it. What is not past stays."""
    tenure = expired.lost
    assert not tenure.lost
    assert not tenure.beat()
    assert tenure.lost
    assert tenure.date_us() is None
    tenure.release()
    assert expired.place.item(expired.held.key) is None
    assert held(expired.held.machine("next")[1].try_acquire()).beat()
    assert not tenure.beat()
    assert expired.kept.beat()
    assert expired.kept.date_us() is not None


def test_an_observer_of_an_expired_item_need_not_wait(expired: Expiring) -> None:
    """Who was waiting to know whether the holder is dead has the lease at once when the item is gone."""
    before_s = expired.clock.monotonic_s()
    held(expired.observer.try_acquire())
    assert expired.clock.monotonic_s() - before_s < LEASE_S


def test_a_date_in_words_never_expires(expired: Expiring) -> None:
    """What the failed predecessor wrote: DynamoDB looks at numbers only. The numbers beside it went, the words stayed."""
    assert expired.place.item("lease/words.json") is not None


@pytest.mark.parametrize("keys", [[("id", "S", "HASH")], [(HASH_KEY, "N", "HASH")], [(HASH_KEY, "S", "HASH"), ("kind", "S", "RANGE")]])
def test_a_table_with_other_keys(place: DynamoPlace, keys: list[tuple[str, str, str]]) -> None:
    """A table that is made for something else is told from one for leases by the first look."""
    name = f"other-{SYSTEM_CLOCK.random_hex(8)}"
    place.client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, _, role in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(Invalid, match="no table for leases"):
        DynamoLeases(name, OPTIONS, place.store, ManualClock()).look("lease/x.json")


def test_a_table_that_is_missing(place: DynamoPlace) -> None:
    with pytest.raises(Invalid, match="no table for leases"):
        DynamoLeases("no-such-table", OPTIONS, place.store, ManualClock()).look("lease/x.json")
