"""Multipart uploads that nobody finished, on real S3 servers: found by boto3, and aborted when they are a day old."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.servers import ACCESS_KEY, SECRET_KEY, Server

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compaction.garbage import Reason
from chromalith.compaction.reclaim import StoreSweep
from chromalith.coord.catalog import Catalog
from chromalith.errors import Unavailable
from chromalith.model import layout
from chromalith.model.retention import Retention
from chromalith.store.leftovers import Leftovers
from chromalith.store.multipart import unfinished_uploads
from chromalith.store.port import Entry
from chromalith.store.url import open_store

PREFIX = "some/where"


@pytest.fixture(params=["moto", "seaweed"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    import boto3

    made = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    with closing(made):
        yield made


def uploads(client: Any, bucket: str) -> set[str]:
    return {each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())}


class ADayAgo:
    """Says of each leftover that it began two days earlier than it did: no server can be told to wait."""

    def __init__(self, inner: Leftovers) -> None:
        self.inner = inner
        self.kind = inner.kind

    def find(self) -> list[Entry]:
        return [Entry(e.key, e.size, e.etag, e.modified_us - 2 * 86_400_000_000) for e in self.inner.find()]

    def remove(self, entry: Entry) -> None:
        self.inner.remove(entry)


@pytest.mark.server
def test_unfinished_uploads(server: Server, client: Any) -> None:
    """Those below our own roots are found, and aborted once they are a day old; those of others in the bucket are not seen."""
    bucket = server.new_bucket()
    url = f"s3://{bucket}/{PREFIX}"
    store = open_store(url, storage_options=server.storage_options)
    ours = [f"{PREFIX}/{layout.SEGMENT_ROOT}x/{name}" for name in ("a", "b")]
    theirs = [f"{PREFIX}/mine/a", f"{PREFIX}/migration/a", "segment/x/a", f"{PREFIX}x/segment/a"]
    for key in (*ours, *theirs):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    found = unfinished_uploads(url, server.storage_options, layout.OWN_ROOTS)
    assert found is not None

    def run(leftovers: Leftovers, *, delete: bool) -> list[tuple[str, Reason]]:
        catalog = Catalog(store)
        outcomes = StoreSweep(store, SYSTEM_CLOCK, catalog, Retention(), delete=delete, leftovers=[leftovers]).run()
        assert not outcomes[-1].skipped
        return [(each.key, each.reason) for each in outcomes[-1].garbage]

    expected = [(key.removeprefix(f"{PREFIX}/"), Reason.UPLOAD) for key in ours]
    with closing(found):
        if "2010" not in client.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Initiated"].isoformat():  # moto says so of each
            assert run(found, delete=True) == []  # they began just now
        assert sorted(run(ADayAgo(found), delete=False)) == expected
        assert uploads(client, bucket) == {*ours, *theirs}
        assert sorted(run(ADayAgo(found), delete=True)) == expected
        assert uploads(client, bucket) == {*theirs}
        assert run(ADayAgo(found), delete=True) == []
        found.remove(Entry("segment/x/a", 0, "no-such-upload", 0))


@pytest.mark.server
def test_no_bucket(moto: Server) -> None:
    """What the service refuses is told as what could not be done."""
    found = unfinished_uploads("s3://no-such-bucket-at-all", moto.storage_options, layout.OWN_ROOTS)
    assert found is not None
    with closing(found), pytest.raises(Unavailable) as error:
        found.find()
    assert error.value.hint


@pytest.mark.parametrize("url", ["memory://x", "./store", "gs://bucket"])
def test_only_on_s3(url: str) -> None:
    """Other stores have none."""
    assert unfinished_uploads(url, None, layout.OWN_ROOTS) is None
