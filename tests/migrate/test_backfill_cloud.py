"""Chroma Cloud as a side: within its quotas in both directions, and what it does not take is found before anything is written.

What these tests can't show stands in :mod:`tests.migrate.cloud_like`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.migrate.backfill_world import BackfillWorld, fill, memory_side, records
from tests.migrate.cloud_like import CloudLike, cloud_like
from tests.servers import ChromaServer

from chromalith.chroma.side import ChromaSide
from chromalith.chroma.side_opening import cloud_side
from chromalith.errors import Invalid
from chromalith.migrate.backfill_checks import Refused
from chromalith.migrate.opening import open_side, side_name

KEY = "ck-secret"
TENANT = "default_tenant"


@pytest.fixture
def proxy(chroma_server: ChromaServer) -> Iterator[CloudLike]:
    with cloud_like(chroma_server.url, KEY) as found:
        yield found


@pytest.fixture
def cloud(proxy: CloudLike, chroma_server: ChromaServer) -> Iterator[ChromaSide]:
    side = cloud_side(TENANT, chroma_server.new_database(), api_key=KEY, host="127.0.0.1", port=proxy.port, ssl=False)
    yield side
    side.close()


def test_a_backfill_to_and_from_cloud_stays_within_its_quotas(proxy: CloudLike, cloud: ChromaSide) -> None:
    there = BackfillWorld(memory_side("source"), cloud)
    source = fill(there.source, "words", 750)
    assert there.backfill().counts.copied == 750
    assert there.differing("words") == []
    back = BackfillWorld(cloud, memory_side("target"))
    assert back.backfill().counts.copied == 750
    assert back.target.collection("words").count() == source.count()
    assert back.differing("words") == []
    assert proxy.refused == []
    assert any(path.endswith("/add") for _, path in proxy.requests)


def test_records_beyond_its_limits_are_listed_before_anything_is_written(proxy: CloudLike, cloud: ChromaSide) -> None:
    world = BackfillWorld(memory_side("source"), cloud)
    collection = fill(world.source, "words", 20)
    columns = records(3, first=100)
    columns["documents"] = ["x" * 16_385, "é" * 8_192, "y" * 16_384]
    columns["metadatas"] = [{"a": 1}, {"k" * 36: 1}, {"k" * 37: 1, "ü" * 20: 2}]
    collection.write("add", **columns)
    with pytest.raises(Refused) as caught:
        world.backfill()
    assert {each.id for each in caught.value.rejects} == {"id-00100", "id-00102"}
    assert "16385" in caught.value.rejects[0].reason
    assert not any(path.endswith("/add") for _, path in proxy.requests)
    outcome = world.backfill(skip_rejects=True)
    assert {each.id for each in outcome.rejects} == {"id-00100", "id-00102"}
    assert outcome.counts.rejected == 2
    assert sorted(world.differing("words")) == ["id-00100", "id-00102"], "verify shows them as missing"
    assert proxy.refused == []


def test_ids_are_listed_whole_by_pages_and_again_if_a_delete_moves_them(cloud: ChromaSide) -> None:
    collection = fill(cloud, "words", 650)
    assert collection.ids() == [f"id-{n:05d}" for n in range(650)]
    pages = [0]
    answer = cloud.server._get

    def get(*arguments: object, **named: object) -> object:
        pages[0] += 1
        if pages[0] == 2:  # between the first page and the second, more is deleted than two pages have in common
            collection.delete([f"id-{n:05d}" for n in range(100)])
        return answer(*arguments, **named)  # type: ignore[arg-type]

    cloud.server._get = get  # type: ignore[method-assign, assignment]
    assert sorted(collection.ids()) == [f"id-{n:05d}" for n in range(100, 650)]


def test_a_wrong_key_is_told_as_such(proxy: CloudLike) -> None:
    with pytest.raises(Invalid, match="denies") as caught:
        cloud_side(TENANT, "default_database", api_key="wrong-key", host="127.0.0.1", port=proxy.port, ssl=False)
    assert "wrong-key" not in str(caught.value)


def test_a_server_that_asks_for_a_token_gets_it_from_the_environment(
    proxy: CloudLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    monkeypatch.delenv("CHROMALITH_CHROMA_TOKEN", raising=False)
    with pytest.raises(Invalid, match="denies"):
        open_side(url)
    monkeypatch.setenv("CHROMALITH_CHROMA_TOKEN", KEY)
    side = open_side(url)
    assert KEY not in side.place
    side.close()
    assert KEY not in repr(side_name(url))
