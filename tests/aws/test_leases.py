"""Leases in a DynamoDB table of an account with policies: as a role that has the two permissions that are needed, and nothing else."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.aws.account import Account, allow
from tests.dynamo_place import DynamoPlace
from tests.lease_contract import LeaseContract
from tests.lease_places import Machines, held

from chromalith.aws.dynamodb_lease import TTL_ATTRIBUTE, DynamoLeases
from chromalith.clock import SYSTEM_CLOCK, ManualClock
from chromalith.compacting import compact
from chromalith.coord.heartbeat import Heartbeat
from chromalith.coord.lease import Lease, Tenure, break_lease
from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.store.url import open_store
from chromalith.wiring import Writer

pytestmark = pytest.mark.xdist_group("account")

GET, PUT = "dynamodb:GetItem", "dynamodb:PutItem"
LEASE_S = 3.0
"""A lease time that a process can keep up on a busy machine: it beats every second."""

OBSERVER = """
import sys
from chromalith.aws.dynamodb_lease import DynamoLeases
from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.lease import Lease, Tenure
from chromalith.store.url import open_store
table, url, key, seconds = sys.argv[1:]
leases = DynamoLeases(table, None, open_store(url), SYSTEM_CLOCK)
lease = Lease(leases, key, SYSTEM_CLOCK, purpose="fold", owner="observer", lease_s=3.0)
lease.try_acquire()
print("looking", flush=True)
stop_s = SYSTEM_CLOCK.monotonic_s() + float(seconds)
while SYSTEM_CLOCK.monotonic_s() < stop_s:
    if isinstance(lease.try_acquire(), Tenure):
        print("taken", flush=True)
        sys.exit()
    SYSTEM_CLOCK.sleep(0.05)
print("held", flush=True)
"""

HOLDER = """
import json, sys
from chromalith.aws.dynamodb_lease import DynamoLeases
from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.heartbeat import Heartbeat
from chromalith.coord.lease import Lease
from chromalith.store.url import open_store
table, url, key = sys.argv[1:]
leases = DynamoLeases(table, json.loads(sys.stdin.readline()), open_store(url), SYSTEM_CLOCK)
tenure = Lease(leases, key, SYSTEM_CLOCK, purpose="fold", owner="holder", lease_s=3.0).try_acquire()
with Heartbeat(tenure, leases.address) as beating:
    beating.before_long_call()
    print(beating._process.pid, flush=True)
    SYSTEM_CLOCK.sleep(60)
"""


@pytest.fixture(autouse=True)
def endpoint(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is found by its endpoint; who asks is said by options alone, so that nobody is root by accident."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", account.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def compacting(account: Account) -> Account:
    """A role that may do what docs/format.md says is needed, on tables of leases."""
    arn = f"arn:aws:dynamodb:{account.region}:{account.id}:table/leases-*"
    return account.create_role(account.new_name("compacting"), allow(GET, PUT, on=arn))


def options(identity: Account) -> dict[str, object]:
    """As what a store of another place is opened with: an account, and no endpoint."""
    return {name: value for name, value in identity.storage_options.items() if name != "endpoint"}


@pytest.fixture
def place(account: Account, compacting: Account) -> DynamoPlace:
    return DynamoPlace(account.client("dynamodb"), options(compacting))


class TestMinistack(LeaseContract):
    pass


def test_two_permissions_are_enough(place: DynamoPlace) -> None:
    """To acquire, beat, date, look, break and release; and deleting is not among them."""
    machines = Machines(place)
    clock, a = machines.machine("a")
    tenure = held(a.try_acquire())
    assert tenure.beat()
    assert tenure.date_us() is not None
    assert break_lease(place.table(clock), machines.key, clock, expected_owner=tenure.record.owner) is not None
    assert not tenure.beat()
    held(a.try_acquire()).release()
    item = place.item(machines.key)
    assert item is not None
    assert list(item[TTL_ATTRIBUTE]) == ["N"]
    description = place.client.describe_time_to_live(TableName=place.name)["TimeToLiveDescription"]
    assert (description["TimeToLiveStatus"], description["AttributeName"]) == ("ENABLED", TTL_ATTRIBUTE)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with a collection that waits to be compacted; who asks for its leases is in the environment, as in Lambda."""
    url = f"memory://leases-{SYSTEM_CLOCK.random_hex(8)}"
    with Writer(url) as writer:
        writer.create("words")
        writer.upsert("words", ids=["a"], embeddings=[[1.0, 2.0]])
    return url


def become(monkeypatch: pytest.MonkeyPatch, identity: Account) -> None:
    for name, value in variables(identity).items():
        monkeypatch.setenv(name, value)


def variables(identity: Account) -> Mapping[str, str]:
    return {
        "AWS_REGION": identity.region,
        "AWS_DEFAULT_REGION": identity.region,
        "AWS_ACCESS_KEY_ID": identity.credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": identity.credentials.secret_access_key,
        "AWS_SESSION_TOKEN": identity.credentials.session_token or "",
    }


def test_a_compaction_with_its_leases_there(place: DynamoPlace, compacting: Account, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, compacting)
    (outcome,) = compact(url, lease_table=place.name)
    assert outcome.folded == 1
    place.store = open_store(url)
    item = place.item(layout.lease_key(outcome.collection))
    assert item is not None
    assert item["released"] == {"BOOL": True}


@pytest.mark.parametrize("missing", [GET, PUT])
def test_a_missing_permission_stops_before_anything_is_done(
    account: Account, place: DynamoPlace, url: str, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """It is said which, with a hint, and nothing was published."""
    (has,) = {GET, PUT} - {missing}
    arn = f"arn:aws:dynamodb:{account.region}:{account.id}:table/{place.name}"
    role = account.create_role(account.new_name("half"), allow(has, on=arn))
    become(monkeypatch, role)
    with pytest.raises(Invalid, match=place.name) as error:
        compact(url, lease_table=place.name)
    assert missing.partition(":")[2] in f"{error.value.message} {error.value.hint}"
    assert not [entry for page in open_store(url).list("segment/") for entry in page]


def test_wrong_credentials(place: DynamoPlace, compacting: Account) -> None:
    wrong = replace(compacting, credentials=replace(compacting.credentials, secret_access_key="not-the-secret"))
    with pytest.raises(Invalid, match="credentials") as error:
        DynamoLeases(place.name, options(wrong), place.store, ManualClock()).look("lease/x.json")
    assert "not-the-secret" not in str(error.value)


def test_no_region(place: DynamoPlace) -> None:
    with pytest.raises(Invalid, match="region"):
        DynamoLeases(place.name, {}, place.store, ManualClock()).look("lease/x.json")


# -- the heartbeat's process -------------------------------------------------------------------------------------------


def acquired(place: DynamoPlace, key: str) -> Tenure:
    return held(Lease(place.table(SYSTEM_CLOCK), key, SYSTEM_CLOCK, purpose="fold", owner="holder", lease_s=LEASE_S).try_acquire())


def hold_the_global_lock(seconds: float) -> None:
    """As a library does that builds an index without letting other threads run."""
    ctypes.PyDLL(None).usleep(ctypes.c_uint(round(seconds * 1e6)))


@pytest.mark.slow
@pytest.mark.parametrize("process", [True, False])
def test_a_process_beats_while_python_stands_still(place: DynamoPlace, account: Account, process: bool) -> None:
    """It is told table, region and credentials on its standard input, and keeps the lease in DynamoDB; without it, the lease is taken."""
    key = layout.lease_key(_collection())
    tenure = acquired(place, key)
    command = [sys.executable, "-c", OBSERVER, place.name, place.store.url, key, str(2.2 * LEASE_S)]
    observer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=account.environment())
    with observer, Heartbeat(tenure, place.table(SYSTEM_CLOCK).address if process else None) as beating:
        assert observer.stdout is not None
        assert observer.stdout.readline() == "looking\n"
        beating.before_long_call()
        child = beating._process
        if process:
            assert child is not None
            shown = Path(f"/proc/{child.pid}/cmdline").read_bytes()
            assert b"chromalith.aws.dynamodb_lease" in shown
            for secret in (place.name, *(str(place.options[each]) for each in ("secret_access_key", "session_token"))):
                assert secret.encode() not in shown
        hold_the_global_lock(1.8 * LEASE_S)
        assert observer.stdout.readline() == ("held\n" if process else "taken\n")
    assert tenure.beat() is process
    assert child is None or child.poll() is not None
    tenure.release()


@pytest.mark.slow
def test_a_killed_holder_takes_its_process_with_it(place: DynamoPlace) -> None:
    """SIGKILL gives no chance to say goodbye: the process sees its input end, and the lease runs out for the next."""
    key = layout.lease_key(_collection())
    command = [sys.executable, "-c", HOLDER, place.name, place.store.url, key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(json.dumps(place.options) + "\n")
        holder.stdin.flush()
        child = int(holder.stdout.readline())
        before = _token(place, key)
        SYSTEM_CLOCK.sleep(LEASE_S / 2)
        assert _token(place, key) != before
        assert b"chromalith.aws.dynamodb_lease" in Path(f"/proc/{child}/cmdline").read_bytes()  # it runs
        holder.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        SYSTEM_CLOCK.sleep(0.1)
    else:
        pytest.fail("the heartbeat outlived its holder")
    lease = Lease(place.table(SYSTEM_CLOCK), key, SYSTEM_CLOCK, purpose="fold", owner="next", lease_s=LEASE_S)
    assert held(lease.acquire(20)).beat()


def _collection() -> Any:
    return SYSTEM_CLOCK.random_uuid()


def _token(place: DynamoPlace, key: str) -> str:
    item = place.item(key)
    assert item is not None
    return str(item["token"]["S"])
