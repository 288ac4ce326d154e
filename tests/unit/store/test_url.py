"""From a URL to a place, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chromalith.clock import SYSTEM_CLOCK
from chromalith.errors import Invalid
from chromalith.store.port import Store
from chromalith.store.remote import RemoteStore
from chromalith.store.remote_open import open_remote
from chromalith.store.url import canonical_url, open_store, parse_url


@pytest.fixture(autouse=True)
def _no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/some/prefix//", "s3://bucket/some/prefix"),
        ("s3://bucket/p?endpoint=http://127.0.0.1:9000/", "s3://bucket/p?endpoint=http://127.0.0.1:9000"),
        ("s3://bucket?region=eu-west-1", "s3://bucket"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a?account=me", "az://container/a?account=me"),
        ("memory://name", "memory://name"),
        ("memory://name/a/", "memory://name/a"),
    ],
)
def test_each_place_has_one_canonical_url(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


def test_directories_are_known_by_their_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "real place"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    expected = f"file://{str(real).replace(' ', '%20')}"
    for url in (
        str(real), f"{real}/", "real place", "./real place/", "link", f"{tmp_path}/x/../link/", f"file://{real}",
        f"file://localhost{real}", f"file:{real}", expected,
    ):  # fmt: skip
        assert canonical_url(url) == expected, url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3:/bucket", "did you mean s3://bucket"),
        ("s3:bucket", "did you mean s3://bucket"),
        ("s4://bucket", "did you mean s3://bucket"),
        ("s3a://bucket/x", "did you mean s3://bucket/x"),
        ("gcs://bucket", "did you mean gs://bucket"),
        ("azure://c", "did you mean az://c"),
        ("memry://c", "did you mean memory://c"),
        ("https://host/bucket", "?endpoint="),
        ("s3://", "s3://bucket/prefix"),
        ("s3:///prefix", "s3://bucket/prefix"),
        ("memory://", "memory://name"),
        ("file://relative/path", "did you mean file:///relative/path"),
        ("ftp://host", "supported are"),
        ("", "supported are"),
        ("s3://bucket/a//b", "none empty"),
        ("s3://bucket/../x", "none beginning with a dot"),
        ("s3://bucket?endpont=http://x", "endpoint, region"),
    ],
)
def test_a_mistyped_url_is_refused_with_what_was_meant(url: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        canonical_url(url)
    assert says in str(caught.value)


def test_the_endpoint_and_the_account_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bucket's name at two endpoints is two places, wherever the endpoint was set; what is nearest wins."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general:1")
    assert canonical_url("s3://b") == "s3://b?endpoint=http://general:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://special:2")
    assert canonical_url("s3://b") == "s3://b?endpoint=http://special:2"
    assert canonical_url("s3://b?endpoint=http://url:3") == "s3://b?endpoint=http://url:3"
    assert canonical_url("s3://b", storage_options={"endpoint": "http://option:4"}) == "s3://b?endpoint=http://option:4"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    assert canonical_url("az://c") == "az://c?account=me"


def test_the_opened_store_has_the_canonical_url(tmp_path: Path) -> None:
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    for url, options in (
        (f"{tmp_path}/store/", None),
        ("memory://somewhere/prefix", None),
        ("s3://bucket/prefix?endpoint=http://127.0.0.1:1", keys),
        ("s3://bucket", keys),
        ("az://container/p", {"account": "me", "account_key": "YQ=="}),
        ("gs://bucket/p", {"anonymous": True}),
    ):
        store = open_store(url, storage_options=options)
        assert isinstance(store, Store)
        assert store.url == canonical_url(url, storage_options=options)
        assert store.settle_s == (0 if url.startswith(("/", "memory")) else 2)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_url_is_one_store_in_the_process() -> None:
    name = SYSTEM_CLOCK.random_hex(8)
    open_store(f"memory://{name}/a").put("key", b"x")
    assert open_store(f"memory://{name}").get("a/key").body == b"x"


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="bukket") as caught:
        open_store("s3://b", storage_options={"bukket": "x"})
    assert "access_key_id" in str(caught.value.hint)
    with pytest.raises(Invalid, match="takes no storage options"):
        open_store("memory://x", storage_options={"endpoint": "x"})
    with pytest.raises(Invalid, match="timeout_s"):
        open_store("s3://b", storage_options={"timeout_s": "soon"})
    with pytest.raises(Invalid, match="cannot be opened"):
        open_store("az://container")


def test_a_missing_profile_is_refused_when_opening() -> None:
    pytest.importorskip("boto3")
    with pytest.raises(Invalid, match="profile=no-such-profile"):
        open_store("s3://b", storage_options={"profile": "no-such-profile"})


@pytest.mark.parametrize(
    ("environment", "region"),
    [({}, "sa-east-1"), ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"), ({"AWS_REGION": "eu-central-1"}, "eu-central-1")],
)
def test_the_environments_region_goes_before_a_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], region: str
) -> None:
    """What the hint of a wrong region says to set works for who logs in by a profile, too."""
    (tmp_path / "config").write_text("[profile work]\nregion = sa-east-1\naws_access_key_id = k\naws_secret_access_key = s\n")
    for name, value in {"AWS_CONFIG_FILE": str(tmp_path / "config"), **environment}.items():
        monkeypatch.setenv(name, value)
    store = open_remote("s3", "b", {"profile": "work"}, "s3://b")
    assert isinstance(store, RemoteStore)
    assert store._client.config["region"] == region


def test_parsing_keeps_bucket_prefix_and_options_apart() -> None:
    place = parse_url("s3://b/x/y?region=eu-west-1", {"endpoint": "http://h:1/", "access_key_id": "k"})
    assert (place.scheme, place.bucket, place.prefix) == ("s3", "b", "x/y")
    assert place.options == {"endpoint": "http://h:1", "region": "eu-west-1", "access_key_id": "k"}
