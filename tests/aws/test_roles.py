"""What each function's role may do in the deployed stack works, and what it may not do is refused by AWS, not by our code.

The requests here are the roles' own: a role's credentials, and boto3 or the library. What the functions do with them: ``test_phase1.py``.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.aws.account import Account
from tests.aws.deployed import DIMENSION, STACK, Deployed

from chromalith.clock import SYSTEM_CLOCK
from chromalith.coord.catalog import Catalog
from chromalith.model import layout
from chromalith.model.hint import Hint
from chromalith.model.ids import CollectionId, DeltaId, collection_id
from chromalith.store.port import NotAllowed
from chromalith.store.url import open_store
from chromalith.wiring import Reader, Writer

pytestmark = pytest.mark.xdist_group("account")

NO_DELTA = f"{0:016x}-{0:032x}-{0:08x}-{0:016x}"
ROLES = ("producer", "compactor", "query", "sweep", "health")
MAY_PUT = {
    "producer": {"delta"},
    # The last five are for the migration payload; with `enableImport` off, they are not granted (test_infra_policies.py).
    "compactor": {"segment", "folded", "snapshot", "lease", "catalog", "collection", "delta", "probe", "store.json"},
    "sweep": {"snapshot", "folded", "tag", "lease", "collection", "catalog"},
    "query": set[str](),
    "health": set[str](),
}
ROOTS = ("delta", "segment", "folded", "snapshot", "lease", "tag", "collection", "catalog", "probe", "quarantine", "store.json", "other")


@pytest.fixture(scope="module")
def roles(deployed: Deployed) -> dict[str, Account]:
    """The account as each role sees it."""
    found = {}
    for name in ROLES:
        with deployed.as_role(name) as role:
            found[name] = role
    return found


@pytest.fixture(scope="module")
def cid(deployed: Deployed) -> CollectionId:
    """A collection with one delta, made by an administrator."""
    name = deployed.account.new_name("words")
    with Writer(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options, queue_url="") as writer:
        writer.create(name, dimension=DIMENSION)
        receipt = writer.upsert(name, ids=["a"], embeddings=[[0.0] * DIMENSION])
        return receipt.collection


def refused(act: Any, **arguments: Any) -> bool:
    """Whether AWS denied the request; what fails otherwise, fails the test."""
    try:
        act(**arguments)
    except ClientError as error:
        if "AccessDenied" in error.response["Error"]["Code"]:
            return True
        raise
    return False


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.usefixtures("cid")
def test_a_role_puts_where_it_writes_and_nowhere_else(deployed: Deployed, roles: dict[str, Account], name: str) -> None:
    """Each root with a new key, and the condition that the bucket's policy asks for."""
    s3 = roles[name].client("s3")
    for root in ROOTS:
        key = root if "." in root else f"{root}/{SYSTEM_CLOCK.random_hex(8)}"
        try:
            denied = refused(s3.put_object, Bucket=deployed.bucket, Key=key, Body=b"x", IfNoneMatch="*")
        except ClientError as error:  # store.json is there: S3 itself answered, so the role may
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            denied = False
        assert denied is (root not in MAY_PUT[name]), f"{name} {key}"
        if not denied and "." not in root:
            deployed.account.client("s3").delete_object(Bucket=deployed.bucket, Key=key)


@pytest.mark.parametrize("name", ROLES)
def test_nobody_writes_a_pointer_without_a_condition(
    deployed: Deployed, roles: dict[str, Account], cid: CollectionId, name: str
) -> None:
    """The bucket's policy holds even for who may write pointers: the same put with a condition reaches S3's own answer."""
    s3, key = roles[name].client("s3"), layout.pointer_key(cid)
    assert refused(s3.put_object, Bucket=deployed.bucket, Key=key, Body=b"mine")
    stale = {"Bucket": deployed.bucket, "Key": key, "Body": b"mine", "IfMatch": '"00000000000000000000000000000000"'}
    if "snapshot" in MAY_PUT[name]:
        with pytest.raises(ClientError) as error:
            s3.put_object(**stale)
        assert error.value.response["Error"]["Code"] == "PreconditionFailed"
    else:
        assert refused(s3.put_object, **stale)


@pytest.mark.parametrize("name", ROLES)
def test_the_guides_commands_as_each_role(
    deployed: Deployed, roles: dict[str, Account], cid: CollectionId, name: str, tmp_path: Path
) -> None:
    """With the AWS CLI: each lists the deltas; none invokes a function, and none copies a file over the pointer."""
    (tmp_path / "pointer.txt").write_text("snapshot/initial/\n")

    def aws(*command: str) -> tuple[int, str]:
        done = subprocess.run(["aws", *command], env=roles[name].environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    code, said = aws("s3", "ls", f"s3://{deployed.bucket}/delta/")
    assert (code, cid in said) == (0, True), said
    code, said = aws("s3", "cp", "pointer.txt", f"s3://{deployed.bucket}/{layout.pointer_key(cid)}")
    assert (code, "AccessDenied" in said) == (1, True), said
    code, said = aws("lambda", "invoke", "--function-name", f"chromadb-producer-{STACK}", "--payload", "{}", "response.json")
    assert code, said
    assert "AccessDenied" in said


def test_an_administrator_is_bound_too(deployed: Deployed, cid: CollectionId) -> None:
    """Whoever may do everything with the bucket may still not put a delta twice, or a pointer blindly."""
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    admin = deployed.account.create_role(deployed.account.new_name("admin"), {"Version": "2012-10-17", "Statement": [everything]})
    s3 = admin.client("s3")
    delta = s3.list_objects_v2(Bucket=deployed.bucket, Prefix=layout.delta_prefix(cid))["Contents"][0]["Key"]
    assert refused(s3.put_object, Bucket=deployed.bucket, Key=layout.pointer_key(cid), Body=b"x")
    assert refused(s3.put_object, Bucket=deployed.bucket, Key=delta, Body=b"x")
    assert refused(s3.copy_object, Bucket=deployed.bucket, Key=delta, CopySource={"Bucket": deployed.bucket, "Key": delta})
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=deployed.bucket, Key=delta, Body=b"x", IfNoneMatch="*")
    assert error.value.response["Error"]["Code"] == "PreconditionFailed"


def test_nobody_without_tls(deployed: Deployed, roles: dict[str, Account], cid: CollectionId, ministack: Any) -> None:
    """The same request that is answered over TLS is refused without, by bucket and queue."""
    for name in ("query", "producer"):
        key = layout.collection_key(cid)
        assert roles[name].client("s3").get_object(Bucket=deployed.bucket, Key=key)["Body"].read()
        plain = dataclasses.replace(roles[name], endpoint=ministack.without_tls.endpoint)
        assert refused(plain.client("s3").get_object, Bucket=deployed.bucket, Key=key)
    url = deployed.queue_url.replace(deployed.account.endpoint, ministack.without_tls.endpoint)
    assert refused(plain.client("sqs").send_message, QueueUrl=url, MessageBody="x")


def test_a_producer_reads_no_snapshot_and_a_reader_deletes_nothing(
    deployed: Deployed, roles: dict[str, Account], cid: CollectionId
) -> None:
    bucket, pointer = deployed.bucket, layout.pointer_key(cid)
    delta = deployed.account.client("s3").list_objects_v2(Bucket=bucket, Prefix=layout.delta_prefix(cid))["Contents"][0]["Key"]
    assert refused(roles["producer"].client("s3").get_object, Bucket=bucket, Key=pointer)
    assert refused(roles["producer"].client("s3").list_objects_v2, Bucket=bucket, Prefix="snapshot/")
    assert refused(roles["producer"].client("s3").delete_object, Bucket=bucket, Key=delta)
    for name in ("query", "health"):
        assert roles[name].client("s3").get_object(Bucket=bucket, Key=pointer)["Body"].read()
        assert refused(roles[name].client("s3").delete_object, Bucket=bucket, Key=delta)
    assert refused(roles["compactor"].client("s3").delete_object, Bucket=bucket, Key=pointer)
    assert refused(roles["sweep"].client("s3").delete_object, Bucket=bucket, Key=layout.database_key("t", "d"))


def test_queue_and_table_are_their_users_alone(deployed: Deployed, roles: dict[str, Account]) -> None:
    url, table = deployed.queue_url, deployed.outputs["lock_table"]
    about_nothing = Hint(collection_id(SYSTEM_CLOCK.random_uuid()), DeltaId.parse(NO_DELTA), 1, 1).encode()
    roles["producer"].client("sqs").send_message(QueueUrl=url, MessageBody=about_nothing)
    for name in ("query", "sweep", "health"):
        assert refused(roles[name].client("sqs").send_message, QueueUrl=url, MessageBody="x"), name
    assert refused(roles["producer"].client("sqs").receive_message, QueueUrl=url)
    for name in ("producer", "query", "sweep", "health"):
        item = {"lease_key": {"S": "x"}}
        assert refused(roles[name].client("dynamodb").put_item, TableName=table, Item=item), name
    roles["compactor"].client("dynamodb").get_item(TableName=table, Key={"lease_key": {"S": "x"}})


def test_a_producer_is_told_clearly_that_it_creates_nothing(deployed: Deployed, roles: dict[str, Account]) -> None:
    """The library with a producer's role: what it may not do says which request of which key was refused."""
    producer = roles["producer"]
    store = f"s3://{deployed.bucket}"
    with Writer(store, storage_options=producer.storage_options, queue_url="") as writer, pytest.raises(NotAllowed) as error:
        writer.create(producer.new_name("mine"))
    assert "verb=put key=collection/" in error.value.message


def test_a_reader_reads_and_needs_no_more(deployed: Deployed, roles: dict[str, Account], cid: CollectionId) -> None:
    """The library with the query's role finds an acknowledged write, folded or not."""
    query = roles["query"]
    name = next(each.name for each in _listing(deployed) if each.collection.id == cid)
    with Reader(f"s3://{deployed.bucket}", storage_options=query.storage_options) as reader:
        assert reader.view(name).get().ids == ["a"]
    store = open_store(f"s3://{deployed.bucket}", storage_options=query.storage_options)
    with pytest.raises(NotAllowed):
        store.put("segment/x", b"x")


def _listing(deployed: Deployed) -> Any:
    store = open_store(f"s3://{deployed.bucket}", storage_options=deployed.account.storage_options)
    return Catalog(store).listing("default_tenant", "default_database")
