"""A table of DynamoDB for tests: made as docs/format.md says, on whichever server answers for AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.servers import ACCESS_KEY, SECRET_KEY

from chromalith.aws.dynamodb_lease import HASH_KEY, TTL_ATTRIBUTE, DynamoLeases
from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.store.port import Store
from chromalith.store.url import open_store

OPTIONS = {"region": "us-east-1", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
"""Who asks. The server is named by ``AWS_ENDPOINT_URL_DYNAMODB``, as for boto3 anywhere."""


def admin(endpoint: str, options: Mapping[str, Any] = OPTIONS) -> Any:
    """A client that may do everything."""
    import boto3

    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name=options["region"],
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
        aws_session_token=options.get("session_token"),
    )


def create_table(client: Any, *, ttl: bool = True) -> str:
    """A table for leases, with a name of its own."""
    name = f"leases-{SYSTEM_CLOCK.random_hex(8)}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": HASH_KEY, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": HASH_KEY, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    if ttl:
        client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE})
    return name


class DynamoPlace:
    """Leases in a table of its own; see ``tests/lease_contract.py``. The store is only whose leases they are, and dates them."""

    def __init__(self, client: Any, options: Mapping[str, Any] = OPTIONS, store: Store | None = None, *, ttl: bool = True) -> None:
        self.client = client
        self.options = options
        self.store = store or open_store(f"memory://leases-{SYSTEM_CLOCK.random_hex(8)}/prefix")
        self.name = create_table(client, ttl=ttl)

    def table(self, clock: Clock) -> DynamoLeases:
        return DynamoLeases(self.name, self.options, self.store, clock)

    def hash_key(self, key: str) -> str:
        """What the item of a lease stands under."""
        return f"{self.store.url}/{key}"

    def item(self, key: str) -> dict[str, Any] | None:
        """The item itself, in DynamoDB's own notation."""
        found = self.client.get_item(TableName=self.name, Key={HASH_KEY: {"S": self.hash_key(key)}}, ConsistentRead=True)
        item: dict[str, Any] | None = found.get("Item")
        return item

    def put(self, key: str, **attributes: Mapping[str, object]) -> None:
        """Write an item as somebody else would."""
        self.client.put_item(TableName=self.name, Item={HASH_KEY: {"S": self.hash_key(key)}, **attributes})

    def remove(self, key: str) -> None:
        self.client.delete_item(TableName=self.name, Key={HASH_KEY: {"S": self.hash_key(key)}})

    def spoil(self, key: str, damage: str) -> None:
        owner = {"owner": {"S": "a"}, "format": {"N": "2"}}
        items: dict[str, dict[str, dict[str, Any]]] = {
            "empty": {},
            "no token": owner,
            "a token that is no text": owner | {"token": {"N": "17"}},
            "an empty token": owner | {"token": {"S": ""}},
            "a format to come": {"format": {"N": "99"}, "owner": {"S": "a"}, "token": {"S": "t"}, "until": {"M": {"day": {"N": "1"}}}},
        }
        self.put(key, **items[damage])
