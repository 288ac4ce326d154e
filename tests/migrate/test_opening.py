"""From a URL to a side: every form that means one, and a hint for every form that means none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.migrate.backfill_world import fill

from chromalith.errors import Invalid
from chromalith.migrate.opening import open_side, side_name
from chromalith.migrate.port import SideKind
from chromalith.migrate.state import SideName

HERE = ("default_tenant", "default_database")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost", SideName(SideKind.SERVER, "http://localhost:8000", *HERE)),
        ("http://localhost:9000/", SideName(SideKind.SERVER, "http://localhost:9000", *HERE)),
        ("http://[::1]:9000", SideName(SideKind.SERVER, "http://[::1]:9000", *HERE)),
        ("HTTPS://chroma.example.org", SideName(SideKind.SERVER, "https://chroma.example.org:443", *HERE)),
        ("https://example.org/chroma/api/v2", SideName(SideKind.SERVER, "https://example.org:443/chroma", *HERE)),
        ("http://localhost:8000?tenant=t&database=d", SideName(SideKind.SERVER, "http://localhost:8000", "t", "d")),
        (
            "cloud://my-tenant/my-database",
            SideName(SideKind.CLOUD, "cloud://my-tenant/my-database", "my-tenant", "my-database"),
        ),
        ("s3://bucket/prefix", SideName(SideKind.CHROMALITH, "chromalith:s3://bucket/prefix", *HERE)),
        (
            "s3://bucket/p?endpoint=http://h&database=d",
            SideName(SideKind.CHROMALITH, "chromalith:s3://bucket/p?endpoint=http://h", HERE[0], "d"),
        ),
        ("memory://name", SideName(SideKind.CHROMALITH, "chromalith:memory://name", *HERE)),
        ("chromalith:memory://name?tenant=t", SideName(SideKind.CHROMALITH, "chromalith:memory://name", "t", HERE[1])),
        ("gs://bucket/p", SideName(SideKind.CHROMALITH, "chromalith:gs://bucket/p", *HERE)),
        ("chroma:/data/chroma", SideName(SideKind.DIRECTORY, "chroma:/data/chroma", *HERE)),
        ("chroma:///data/chroma?database=d", SideName(SideKind.DIRECTORY, "chroma:/data/chroma", HERE[0], "d")),
    ],
)
def test_a_url_has_one_name_and_the_name_means_the_same_side(
    url: str, name: SideName, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    assert side_name(url) == name
    assert side_name(name.url, tenant=name.tenant, database=name.database) == name


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "a path, chroma:PATH"),
        ("localhost:8000", "http://localhost:8000"),
        ("http://", "http://host:port"),
        ("http://host:port", "http://host:port"),
        ("http://user:password@host:1", "header"),
        ("http://host:1?other=1", "tenant"),
        ("https://api.trychroma.com:8000", "cloud://tenant/database"),
        ("cloud://tenant", "cloud://tenant/database"),
        ("cloud:tenant/database", "cloud://tenant/database"),
        ("cloud://tenant/database/more", "cloud://tenant/database"),
        ("chroma:", "chroma:PATH"),
        ("chroma://data/chroma", "chroma:data/chroma"),
        ("/data/chroma/chroma.sqlite3", "/data/chroma"),
        ("chroma:/data/chroma/chroma.sqlite3", "/data/chroma"),
        ("s3:bucket", "s3://bucket"),
        ("ftp://host", "supported"),
        ("memory://x?tenant=", "NAME"),
    ],
)
def test_a_url_that_means_no_side_is_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        side_name(url)
    assert hint in str(caught.value.hint)
    assert "password" not in str(caught.value)
    with pytest.raises(Invalid):
        open_side(url)


def test_a_path_is_what_is_there(tmp_path: Path) -> None:
    """A Chroma directory if it is one, else a Chromalith store; a prefix says which is meant."""
    place = tmp_path / "data"
    assert side_name(str(place)).kind is SideKind.CHROMALITH
    side = open_side(f"chroma:{place}")
    fill(side, "words", 3)
    side.close()
    for form in (str(place), f"file://{place}", f"{place}?tenant=default_tenant"):
        assert side_name(form) == SideName(SideKind.DIRECTORY, f"chroma:{place}", *HERE)
    side = open_side(str(place), write=False)
    assert side.collection("words").count() == 3
    side.close()
    assert side_name(f"chromalith:{place}").kind is SideKind.CHROMALITH


def test_tenant_and_database_are_said_once() -> None:
    assert side_name("memory://x?database=d", database="d").database == "d"
    for url, other in (("memory://x?database=d", {"database": "e"}), ("cloud://t/d", {"tenant": "u"})):
        with pytest.raises(Invalid, match="names another"):
            side_name(url, **other)  # type: ignore[arg-type]


def test_cloud_asks_for_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_API_KEY", raising=False)
    with pytest.raises(Invalid) as caught:
        open_side("cloud://tenant/database")
    assert "CHROMA_API_KEY" in str(caught.value.hint)


def test_a_store_without_credentials_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first mistake of most: it is told as what it is, whatever Chroma's client makes of it."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Invalid, match="no credentials for the store") as caught:
        open_side("s3://bucket/vectors", storage_options={"endpoint": "http://127.0.0.1:9"})
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
