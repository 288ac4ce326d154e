"""What doctor finds about the store itself, its bucket, and this machine: each finding is planted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from tests.servers import Server
from tests.unit.doctor.examined import examined, findings
from tests.worlds import Settling, World, keys

from chromalith.clock import SYSTEM_CLOCK
from chromalith.doctor import bucket, cache_health, installation, store_health
from chromalith.doctor.codes import CODES, Severity
from chromalith.doctor.examination import Examination
from chromalith.doctor.finding import Finding, Verdict
from chromalith.errors import Invalid
from chromalith.model import layout
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Absent, Condition, Entry, ETag, Matches, PreconditionFailed, Store
from chromalith.store.url import open_store
from chromalith.store.wrappers import DelegatingStore


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


# The probe -------------------------------------------------------------------------------------------------------------


class ReplaceIsARace(DelegatingStore):
    """The condition is looked at before the write, not with it: of those that race, several win."""

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if isinstance(condition, Matches) and key.endswith("replaced"):
            return super().put(key, body)
        return super().put(key, body, condition)


class ListsBySegments(DelegatingStore):
    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        for page in super().list(prefix, start_after=start_after):
            yield sorted(page, key=lambda entry: entry.key.split("/"))


class IgnoresStartAfter(DelegatingStore):
    def list(self, prefix: str, *, start_after: str = "") -> Iterator[list[Entry]]:
        return super().list(prefix)


class IgnoresAbsent(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        return super().put(key, body, None if isinstance(condition, Absent) else condition)


@pytest.mark.parametrize(
    ("broken", "check"),
    [(ReplaceIsARace, "replace_race"), (ListsBySegments, "listing"), (IgnoresStartAfter, "listing"), (IgnoresAbsent, "absent")],
)
def test_store_breaks_promise(world: World, tmp_path: Path, broken: type[DelegatingStore], check: str) -> None:
    report = examined(broken(world.store), world.clock, tmp_path)
    failed = [each for each in report.findings if each.code == "store_breaks_promise"]
    assert f"failed={check}" in " ".join(each.message for each in failed)
    assert report.verdict is Verdict.ILL
    assert keys(world.store, "probe/") == []


def test_all_failed_checks_are_told(world: World, tmp_path: Path) -> None:
    """Doctor goes on after a check that failed: the race of creators fails too."""
    report = examined(IgnoresAbsent(world.store), world.clock, tmp_path)
    assert sum(each.code == "store_breaks_promise" for each in report.findings) == 2


class ReadOnly(DelegatingStore):
    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        raise Invalid("the store refused the credentials", hint="give it the right to write")


def test_store_refuses_writes(world: World, tmp_path: Path) -> None:
    report = examined(ReadOnly(world.store), world.clock, tmp_path)
    assert [each.code for each in report.findings] == ["store_refuses_writes"]
    assert not report.wrote


def test_read_only_writes_nothing(world: World, tmp_path: Path) -> None:
    """Without the probe nothing is put, and the report says that it was left out."""

    class Refuses(DelegatingStore):
        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            raise AssertionError(key)

    report = examined(Refuses(world.store), world.clock, tmp_path, writes=False)
    assert [(each.code, report.skew_s) for each in report.findings] == [("not_checked", None)]


def test_only_the_probe_writes(world: World, tmp_path: Path) -> None:
    """No check puts or deletes anything outside of probe/."""

    class Watching(DelegatingStore):
        def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
            assert key.startswith("probe/")
            return super().put(key, body, condition)

        def delete(self, key: str) -> None:
            assert key.startswith("probe/")
            super().delete(key)

    world.upsert("ab")
    world.compact()
    assert examined(Watching(world.store), world.clock, tmp_path).wrote


class Ahead(DelegatingStore):
    """A store whose clock is ahead of this machine's."""

    def get(self, key: str):  # type: ignore[no-untyped-def]  # as the port's
        found = super().get(key)
        return type(found)(found.key, found.body, found.etag, found.modified_us + 300_000_000)

    def head(self, key: str) -> Entry:
        found = super().head(key)
        return Entry(found.key, found.size, found.etag, found.modified_us + 300_000_000)


def test_clock_skewed(world: World, tmp_path: Path) -> None:
    report = examined(Ahead(world.store), world.clock, tmp_path)
    assert "skew_s=300" in {each.code: each for each in report.findings}["clock_skewed"].message
    assert report.skew_s == pytest.approx(300, abs=2)


def test_whole_seconds_are_not_skew(tmp_path: Path) -> None:
    """A store that cuts its timestamps to seconds, as S3 does, is not taken for one that is behind."""
    with World(remote=True) as world:
        report = examined(world.store, world.clock, tmp_path)
    assert report.findings == ()
    assert report.skew_s == pytest.approx(0, abs=1)


def test_timestamps_coarse(world: World, tmp_path: Path) -> None:
    coarse = Settling(world.store)
    coarse.settle_s = 0.0  # type: ignore[misc]
    assert "timestamps_coarse" in {each.code for each in examined(coarse, world.clock, tmp_path).findings}


# store.json ------------------------------------------------------------------------------------------------------------


def test_store_empty(tmp_path: Path) -> None:
    report = examined(MemoryStore(SYSTEM_CLOCK), SYSTEM_CLOCK, tmp_path)
    assert [each.code for each in report.findings] == ["store_empty"]


def test_store_object_missing(world: World, tmp_path: Path) -> None:
    world.store.delete(layout.store_key())
    assert set(findings(world, tmp_path)) == {"store_object_missing"}


@pytest.mark.parametrize(("body", "code"), [(b"?", "store_object_corrupt"), (b'{"format": 99}', "store_newer_format")])
def test_store_object_corrupt_or_newer(world: World, tmp_path: Path, body: bytes, code: str) -> None:
    world.store.put(layout.store_key(), body)
    assert set(findings(world, tmp_path)) == {code}


# Directories -----------------------------------------------------------------------------------------------------------


def test_directory_on_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount that holds the directory decides, also with a blank in its name."""
    mounts = "/dev/a / ext4 rw 0 0\nhost:/x /mnt/my\\040share nfs4 rw 0 0\n"
    assert store_health.file_system(Path("/mnt/my share/store"), mounts) == "nfs4"
    assert store_health.file_system(Path("/mnt/other"), mounts) == "ext4"
    (tmp_path / "mounts").write_text(f"/dev/a / ext4 rw 0 0\nhost:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(store_health, "MOUNTS", tmp_path / "mounts")
    report = examined(open_store(str(tmp_path / "store")), SYSTEM_CLOCK, tmp_path / "cache")
    assert "directory_on_network" in {each.code for each in report.findings}


def test_directory_symlinks(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put("x/y", b"1")
    (tmp_path / "store" / "x" / "link").symlink_to("/etc")
    report = examined(store, SYSTEM_CLOCK, tmp_path / "cache")
    assert "directory_symlinks" in {each.code for each in report.findings}


def test_a_directory_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    report = examined(open_store(str(tmp_path / "store")), SYSTEM_CLOCK, tmp_path / "cache")
    assert [each.code for each in report.findings] == ["not_checked", "store_empty"]
    assert not (tmp_path / "store").exists()


# The bucket ------------------------------------------------------------------------------------------------------------

DELETES, ARCHIVES = "lifecycle_deletes_live_data", "lifecycle_archives_live_data"


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ({"Expiration": {"Days": 30}}, [DELETES]),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "data/"}}, [DELETES]),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "data/delta/"}}, [DELETES]),
        ({"Expiration": {"Days": 30}, "Prefix": "data/store"}, [DELETES]),
        ({"Expiration": {"Days": 30}, "Filter": {"And": {"Prefix": "da", "ObjectSizeGreaterThan": 10}}}, [DELETES]),
        ({"Expiration": {"Date": "2030-01-01"}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, [DELETES, ARCHIVES]),
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER_IR"}]}, []),
        ({"Expiration": {"Days": 30}, "Status": "Disabled"}, []),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "data/probe/"}}, []),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "logs/"}}, []),
        ({"Expiration": {"Days": 30}, "Filter": {"Tag": {"Key": "a", "Value": "b"}}}, []),
        ({"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}, []),
        ({"Expiration": {"ExpiredObjectDeleteMarker": True}}, []),
        ({"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}, []),
    ],
)
def test_lifecycle_rules(rule: dict[str, object], codes: list[str]) -> None:
    """lifecycle_deletes_live_data and lifecycle_archives_live_data, and rules that do no harm."""
    found = bucket.findings_of_rules([{"ID": "r", "Status": "Enabled"} | rule], "data")
    assert [each.code for each in found] == codes


def _codes(report_findings: tuple[Finding, ...]) -> set[str]:
    return {each.code for each in report_findings}


@pytest.mark.server
def test_a_bucket_on_moto(moto: Server, tmp_path: Path) -> None:
    """versioning_off, then versions_never_expire, then a lifecycle rule that deletes, as the server tells of them."""
    import boto3

    name = moto.new_bucket()
    options = moto.storage_options
    store: Store = open_store(f"s3://{name}/some/prefix", storage_options=options)
    client = boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="testsecret"
    )
    try:
        report = examined(store, SYSTEM_CLOCK, tmp_path, storage_options=options)
        assert _codes(report.findings) == {"store_empty", "versioning_off"}
        assert report.verdict is Verdict.HEALTHY
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        report = examined(store, SYSTEM_CLOCK, tmp_path, storage_options=options)
        assert _codes(report.findings) == {"store_empty", "versions_never_expire"}
        rules = [
            {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
            {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "some/prefix/delta/"}, "Expiration": {"Days": 7}},
        ]
        client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
        report = examined(store, SYSTEM_CLOCK, tmp_path, storage_options=options)
        assert _codes(report.findings) == {"store_empty", "lifecycle_deletes_live_data"}
        assert "rule=logs after=7 days covers=delta/" in report.findings[-1].message
    finally:
        client.close()


@pytest.mark.server
def test_a_bucket_on_seaweedfs(seaweed: Server, tmp_path: Path) -> None:
    """A real server passes the probe, and what it cannot tell of its bucket is a finding, not a crash."""
    options = seaweed.storage_options
    store = open_store(f"s3://{seaweed.new_bucket()}", storage_options=options)
    report = examined(store, SYSTEM_CLOCK, tmp_path, storage_options=options)
    assert _codes(report.findings) <= {"store_empty", "versioning_off", "not_checked"}
    assert report.wrote


def test_not_checked_for_want_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    class OnS3(MemoryStore):
        url = "s3://bucket/prefix"  # type: ignore[assignment]

    (found,) = bucket.check_bucket(Examination(OnS3(SYSTEM_CLOCK), SYSTEM_CLOCK, Path("/nonexistent"), 0))
    assert (found.code, found.remedy) == ("not_checked", "pip install 'chromalith[aws]'")


# This machine ----------------------------------------------------------------------------------------------------------


def test_python_unsupported(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "PYTHON_MIN", (99, 0))
    assert "python_unsupported" in findings(world, tmp_path)


def test_library_unsupported(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pyarrow": "19.0.1", "chromadb": "2.0.0"}
    monkeypatch.setattr(installation, "version", lambda name: versions.get(name) or metadata.version(name))
    report = examined(world.store, world.clock, tmp_path)
    assert {each.code for each in report.findings} == {"library_unsupported"}
    told = " ".join(each.remedy for each in report.findings)
    assert "pyarrow>=20" in told
    assert "chromadb" in told


@pytest.mark.parametrize(
    ("found", "clauses", "holds"),
    [("1.5.9", ">=1.5.2,<2", True), ("1.5.1", ">=1.5.2,<2", False), ("2.0", ">=1.5.2,<2", False), ("2.0.0rc1", ">=2.0", True),
     ("0.12", ">=0.12.0", True), ("26.0.0", ">=20", True), ("3", "==3.0", True), ("3.1", "!=3.1", False)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(found: str, clauses: str, holds: bool) -> None:
    assert installation.satisfies(found, clauses) is holds


def test_declared_versions_of_the_project() -> None:
    """What this project declares for the libraries that doctor watches can be read."""
    clauses = installation.declared(metadata.requires("chromalith") or [])
    assert set(installation.WATCHED) <= set(clauses)


def test_cache_not_writable(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cache_not_writable" in findings(world, tmp_path / "file" / "cache")


def test_cache_over_size(world: World, tmp_path: Path) -> None:
    place = tmp_path / ("0" * 32) / "segment"
    place.mkdir(parents=True)
    (place / "x").write_bytes(b"123")
    assert set(findings(world, tmp_path, cache_bytes_max=2)) == {"cache_over_size"}


def test_cache_disk_full(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_health, "SPARE_BYTES", 2**62)
    assert "cache_disk_full" in findings(world, tmp_path)


def test_cache_file_corrupt(world: World, tmp_path: Path) -> None:
    """A bit that flipped on this machine's disk is found, though the size is right; and the remedy heals it."""
    world.upsert("ab", 1)
    world.compact()
    with Session(world.store, cache_dir=tmp_path, clock=world.clock) as session:
        session.view(world.cid).get(include=("documents",))
    assert findings(world, tmp_path) == {}
    (file,) = tmp_path.rglob("records.parquet")
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    found = findings(world, tmp_path)
    assert str(file) in found["cache_file_corrupt"].message
    assert os.system(found["cache_file_corrupt"].remedy.partition(":")[0]) == 0
    assert findings(world, tmp_path) == {}


def test_cache_foreign_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    (tmp_path / ("0" * 32) / "segment").mkdir(parents=True)
    (tmp_path / ("0" * 32) / "segment" / "link").symlink_to("/etc/hostname")
    found = findings(world, tmp_path)["cache_foreign_files"]
    assert "files=2" in found.message


# The registry ----------------------------------------------------------------------------------------------------------


def test_every_code_is_planted() -> None:
    """Each code stands in a test of this folder, in quotes or in a test's name."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = [code for code in CODES if f'"{code}"' not in text]
    assert missing == []


def test_an_unregistered_code_cannot_be_found() -> None:
    with pytest.raises(AssertionError):
        Finding("bad_luck", "", "")
    assert {code.severity for code in CODES.values()} == set(Severity)


class LosesRaces(DelegatingStore):
    """Every conditional create is refused."""

    def put(self, key: str, body: bytes, condition: Condition = None) -> ETag:
        if isinstance(condition, Absent):
            raise PreconditionFailed("refused")
        return super().put(key, body, condition)


def test_a_condition_that_holds_must_not_be_refused(world: World, tmp_path: Path) -> None:
    report = examined(LosesRaces(world.store), world.clock, tmp_path)
    assert {each.code for each in report.findings} == {"store_breaks_promise"}
