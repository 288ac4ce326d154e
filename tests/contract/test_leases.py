"""The contract of leases, wherever they are kept.

On an emulated account: ``tests/aws/test_leases.py``; on AWS's own DynamoDB Local: ``make test-dynamodb``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dynamo_place import DynamoPlace, admin
from tests.lease_contract import LeaseContract
from tests.lease_places import ObjectPlace
from tests.servers import Server

from chromalith.store.port import Store
from chromalith.store.url import open_store


class TestDirectory(LeaseContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> ObjectPlace:
        return ObjectPlace(open_store(str(tmp_path / "store")))


@pytest.mark.server
class TestSeaweedFS(LeaseContract):
    racers = 12  # forty on one object take it a quarter of a minute

    @pytest.fixture
    def place(self, seaweed_store: Store) -> ObjectPlace:
        return ObjectPlace(seaweed_store)


@pytest.mark.server
class TestMotoDynamoDB(LeaseContract):
    @pytest.fixture
    def place(self, moto: Server, monkeypatch: pytest.MonkeyPatch) -> DynamoPlace:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto.endpoint)
        return DynamoPlace(admin(moto.endpoint))
