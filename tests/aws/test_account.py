"""What the emulated account enforces, so that tests on top of it mean something: README.md's table, row by row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.aws.account import Account, Ministack, allow, refused

pytestmark = pytest.mark.xdist_group("account")

POINTER = "snapshot/c/latest/pointer.txt"


@pytest.fixture
def bucket(account: Account) -> str:
    """A bucket with one object of each kind."""
    name = account.new_name("bucket")
    account.client("s3").create_bucket(Bucket=name)
    for key in ("delta/old", "snapshot/c/1", POINTER):
        account.client("s3").put_object(Bucket=name, Key=key, Body=b"1")
    return name


@pytest.fixture
def producer(account: Account, bucket: str) -> Account:
    """A role that may put and read deltas, and list them only."""
    arn = f"arn:aws:s3:::{bucket}"
    listing = allow("s3:ListBucket", on=arn, condition={"StringLike": {"s3:prefix": ["delta/*"]}})
    return account.create_role(account.new_name("producer"), allow("s3:PutObject", "s3:GetObject", on=f"{arn}/delta/*"), listing)


@pytest.fixture
def owner(account: Account, bucket: str) -> Account:
    """A role that may do everything with the bucket."""
    return account.create_role(account.new_name("owner"), allow("s3:*", on=[f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]))


def denied(act: Callable[..., Any], **arguments: Any) -> bool:
    """Whether a call was refused for want of permission; any other error is the test's."""
    try:
        act(**arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403) and "AccessDenied" in error.response["Error"]["Code"]:
            return True
        raise
    return False


def deny(account: Account, bucket: str, resource: str, condition: dict[str, Any], action: str = "s3:PutObject") -> None:
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resource, "Condition": condition}
    account.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def test_a_role_does_what_its_policy_says_and_nothing_else(producer: Account, bucket: str) -> None:
    s3 = producer.client("s3")
    s3.put_object(Bucket=bucket, Key="delta/new", Body=b"1")
    assert s3.get_object(Bucket=bucket, Key="delta/new")["Body"].read() == b"1"
    assert denied(s3.put_object, Bucket=bucket, Key="snapshot/c/2", Body=b"1")
    assert denied(s3.get_object, Bucket=bucket, Key="snapshot/c/1")
    assert denied(s3.delete_object, Bucket=bucket, Key="delta/old")


def test_a_listing_is_granted_by_its_prefix(producer: Account, bucket: str) -> None:
    s3 = producer.client("s3")
    assert s3.list_objects_v2(Bucket=bucket, Prefix="delta/")["KeyCount"] == 1
    assert denied(s3.list_objects_v2, Bucket=bucket)
    assert denied(s3.list_objects_v2, Bucket=bucket, Prefix="snapshot/")


def test_absence_is_told_only_to_whoever_may_list(account: Account, producer: Account, bucket: str) -> None:
    getter = account.create_role(account.new_name("getter"), allow("s3:GetObject", on=f"arn:aws:s3:::{bucket}/*"))
    assert denied(getter.client("s3").get_object, Bucket=bucket, Key="delta/absent")
    with pytest.raises(ClientError) as error:
        producer.client("s3").get_object(Bucket=bucket, Key="delta/absent")
    assert error.value.response["Error"]["Code"] == "NoSuchKey"


def test_a_bucket_policy_can_demand_a_condition_of_a_put(account: Account, owner: Account, bucket: str) -> None:
    key_arn = f"arn:aws:s3:::{bucket}/snapshot/*/latest/pointer.txt"
    deny(account, bucket, key_arn, {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}})
    s3 = owner.client("s3")
    assert denied(s3.put_object, Bucket=bucket, Key=POINTER, Body=b"2")
    assert denied(s3.copy_object, Bucket=bucket, Key=POINTER, CopySource={"Bucket": bucket, "Key": "delta/old"})
    s3.put_object(Bucket=bucket, Key="snapshot/c/2", Body=b"2")
    s3.put_object(Bucket=bucket, Key=POINTER, Body=b"2", IfMatch=s3.head_object(Bucket=bucket, Key=POINTER)["ETag"])
    s3.put_object(Bucket=bucket, Key="snapshot/d/latest/pointer.txt", Body=b"2", IfNoneMatch="*")
    account.client("s3").put_object(Bucket=bucket, Key=POINTER, Body=b"root")  # the emulator's gap: root is not looked at


def test_a_bucket_policy_can_demand_tls(ministack: Ministack, account: Account, owner: Account, bucket: str) -> None:
    plain = dataclasses.replace(owner, endpoint=ministack.without_tls.endpoint)
    plain.client("s3").get_object(Bucket=bucket, Key="delta/old")
    deny(account, bucket, f"arn:aws:s3:::{bucket}/*", {"Bool": {"aws:SecureTransport": "false"}}, "s3:*")
    assert denied(plain.client("s3").get_object, Bucket=bucket, Key="delta/old")
    assert owner.client("s3").get_object(Bucket=bucket, Key="delta/old")["Body"].read() == b"1"


def test_a_wrong_secret_or_an_unknown_key_is_refused(account: Account, owner: Account) -> None:
    for change, code in (({"secret_access_key": "wrong"}, "SignatureDoesNotMatch"), ({"access_key_id": "AKIA" + "0" * 16}, "Invalid")):
        wrong = dataclasses.replace(owner, credentials=dataclasses.replace(owner.credentials, **change))
        with pytest.raises(ClientError) as error:
            wrong.client("s3").list_buckets()
        assert code in error.value.response["Error"]["Code"]
    root = dataclasses.replace(account, credentials=dataclasses.replace(account.credentials, secret_access_key="wrong"))
    root.client("s3").list_buckets()  # the emulator's gap: root's key with any secret


def test_a_role_is_assumed_only_by_whom_it_trusts(account: Account) -> None:
    """A function's role trusts Lambda: another role can't be it, though its own policy would let it."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    name = account.new_name("function")
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    account.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
    other = account.create_role(account.new_name("other"), allow("sts:AssumeRole", on="*"))
    with pytest.raises(ClientError) as error:
        other.assume(name)
    assert refused(error) == "AccessDenied"
    account.assume(name)  # the emulator's gap: root may


def test_a_queue_obeys_identity_and_queue_policies(account: Account) -> None:
    sqs = account.client("sqs")
    url = sqs.create_queue(QueueName=account.new_name("queue"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sender = account.create_role(account.new_name("sender"), allow("sqs:SendMessage", on=arn)).client("sqs")
    sender.send_message(QueueUrl=url, MessageBody="one")
    sent = sender.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "two"}])
    assert [each["Id"] for each in sent["Successful"]] == ["1"]
    assert denied(sender.receive_message, QueueUrl=url)
    never = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [never]})})
    assert denied(sender.send_message, QueueUrl=url, MessageBody="three")


def test_a_table_obeys_actions_and_leading_keys(account: Account) -> None:
    table = account.new_name("table")
    account.client("dynamodb").create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": "lease_key", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "lease_key", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    arn = f"arn:aws:dynamodb:{account.region}:{account.id}:table/{table}"
    condition = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["lease/*"]}}
    holder = account.create_role(account.new_name("holder"), allow("dynamodb:PutItem", on=arn, condition=condition)).client("dynamodb")
    holder.put_item(TableName=table, Item={"lease_key": {"S": "lease/a"}})
    with pytest.raises(ClientError) as error:
        holder.put_item(TableName=table, Item={"lease_key": {"S": "other"}})
    assert refused(error) == "AccessDeniedException"
    assert denied(holder.delete_item, TableName=table, Key={"lease_key": {"S": "lease/a"}})
