"""Source directories as they are found in the world: each is migrated and verified clean, or refused with a reason and nothing written.

What is in a directory is read by stock Chroma itself, from a copy: it is the judge.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from chromadb.errors import ChromaError
from tests.migrate.live.judge import held, unequal
from tests.migrate.stock_client import stock

import chromalith
from chromalith.chroma.import_ import chroma_directory
from chromalith.cli import app
from chromalith.migrate.places import Place
from chromalith.migrate.state import Timing
from chromalith.migrate.states import States
from chromalith.store.url import open_store
from chromalith.testing.reference import Row

FIXTURES = Path(__file__).parent / "fixtures"
RELEASES = ("0.4.24", "0.5.23", "0.6.3", "1.0.12")
DIFFERENT_SPACES = {"words": "l2", "turns": "cosine", "untouched": "l2"}


def judged(path: Path, scratch: Path) -> dict[str, dict[str, Row]]:
    """What stock Chroma says is in a directory, by collection; read from a copy."""
    copy = scratch / "judged"
    shutil.copytree(path, copy)
    with stock(copy) as client:
        return {each.name: held(client, each.name) for each in client.list_collections()}


@dataclass
class Told:
    """What the command line answered: the code, stdout, stderr."""

    code: int
    out: str
    err: str


Run = Callable[..., Told]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``chromalith migrate …`` in this process."""

    def once(*arguments: str) -> Told:
        capfd.readouterr()
        code = app.run(["migrate", *arguments])
        captured = capfd.readouterr()
        return Told(code, captured.out, captured.err)

    return once


def migrate(run: Run, source: Path, target: Path) -> list[Told]:
    """``start``, ``dual``, ``backfill``, ``verify``; up to the first that does not end with 0."""
    done: list[Told] = []
    for verb in (
        ("start", "--source", f"chroma:{source}", "--target", str(target)),
        ("dual",),
        ("backfill",),
        ("verify", "--json"),
    ):
        done.append(run(*verb, "--store", str(target)))
        if done[-1].code:
            break
        if verb[0] == "start":  # nobody else is there: no need to wait for clients
            States(Place(open_store(str(target)))).change(
                lambda state: replace(state, timing=Timing(0.02, 1.0, 3.0, 1.0))
            )
    return done


def assert_migrated(
    done: list[Told], truth: dict[str, dict[str, Row]], target: Path, spaces: dict[str, str] | None = None
) -> None:
    """Every verb said yes, verify is clean, and the target holds what stock Chroma reads from the source."""
    assert [each.code for each in done] == [0] * 4, done[-1].out + done[-1].err
    assert json.loads(done[-1].out), "verify printed nothing"
    client = chromalith.Client(str(target))
    assert {each.name for each in client.list_collections()} == set(truth)
    for name, rows in truth.items():
        space = (spaces or {}).get(name, "l2")
        assert client.get_collection(name, embedding_function=None).configuration_json["hnsw"]["space"] == space
        assert unequal(rows, held(client, name), name, space) == []


def assert_refused(done: list[Told], target: Path) -> None:
    """Some verb said no with a reason, and the target has no record. (`start` makes empty collections, before anything is read.)"""
    last = done[-1]
    assert last.code in (1, 2, 3, 5), (last.code, last.out, last.err)
    assert "Traceback" not in last.err
    assert last.err.strip(), "refused without a reason"
    assert {each.name: each.count() for each in chromalith.Client(str(target)).list_collections() if each.count()} == {}


def unpacked(release: str, scratch: Path) -> Path:
    with tarfile.open(FIXTURES / f"chroma-{release}.tar.gz") as archive:
        archive.extractall(scratch / "source", filter="data")
    return scratch / "source"


@pytest.mark.parametrize("release", RELEASES)
def test_a_directory_of_an_older_chroma_is_migrated(release: str, tmp_path: Path, run: Run) -> None:
    """One whose index is on disk, one whose records are only in the queue, and one that nobody wrote to."""
    source, target = unpacked(release, tmp_path), tmp_path / "target"
    truth = judged(source, tmp_path)
    assert {name: len(rows) for name, rows in truth.items()} == {"words": 37, "turns": 37, "untouched": 0}
    assert_migrated(migrate(run, source, target), truth, target, DIFFERENT_SPACES)


@pytest.mark.parametrize("release", RELEASES)
def test_the_distance_of_an_older_collection_is_the_one_that_its_engine_measures(release: str, tmp_path: Path) -> None:
    """Its configuration says l2 for a cosine collection; the old key in its metadata is right."""
    source = unpacked(release, tmp_path)
    with chroma_directory(source) as opened:
        assert {name: opened.source(name).definition.space for name in opened.names()} == DIFFERENT_SPACES
    with stock(source) as client:
        found = client.get_collection("turns", embedding_function=None).query(
            query_embeddings=[[1.0, 0.5, 0.0, 0.25]], n_results=37
        )
    assert max(found["distances"][0]) <= 2.0 + 1e-6, "no cosine distance is larger"


def test_the_source_is_not_changed(tmp_path: Path, run: Run) -> None:
    """A directory that is only read has the same bytes afterwards."""
    source, target = unpacked("0.6.3", tmp_path), tmp_path / "target"
    before = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    migrate(run, source, target)
    assert {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


WRITER = """
import sys, chromadb
from chromadb.config import Settings
client = chromadb.PersistentClient(sys.argv[1], Settings(anonymized_telemetry=False))
words = client.get_or_create_collection("words", configuration={"hnsw": {"space": "l2", "sync_threshold": 40}}, embedding_function=None)
for number in range(100_000):
    ids = [f"w-{number}-{part}" for part in range(15)]
    vectors = [[float(number % 97), float(part), 1.0] for part in range(15)]
    words.add(ids=ids, embeddings=vectors, documents=[f"text {own}" for own in ids], metadatas=[{"n": number}] * 15)
    if number % 3 == 2:
        words.delete(ids=[f"w-{number - 1}-{part}" for part in range(5)])
        words.update(ids=[f"w-{number - 2}-1"], metadatas=[{"changed": True}])
    print(number, flush=True)
"""


@pytest.mark.parametrize("calls", [2, 9, 23])
def test_a_directory_of_a_chroma_that_was_killed_in_mid_write_is_migrated(calls: int, tmp_path: Path, run: Run) -> None:
    """What was acknowledged before the kill is there, and the target holds what stock Chroma makes of the rest. Killed between two of its
    files it can't read them itself, now and then: then the copy is refused, too."""
    source, target = tmp_path / "source", tmp_path / "target"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(source)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(calls):
        process.stdout.readline()
    time.sleep(0.007 * calls)  # somewhere in the call after it
    process.kill()
    process.wait()
    process.stdout.close()
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    try:
        truth = judged(copied, tmp_path)
    except ChromaError:
        assert_refused(migrate(run, copied, target), target)
        return
    assert {f"w-{calls - 1}-{part}" for part in range(5, 15)} <= set(
        truth["words"]
    )  # the next call may delete the others
    assert_migrated(migrate(run, copied, target), truth, target)


def test_an_empty_chroma_is_migrated(tmp_path: Path, run: Run) -> None:
    """No collection: nothing to copy, nothing different."""
    source, target = tmp_path / "source", tmp_path / "target"
    with stock(source):
        pass
    assert_migrated(migrate(run, source, target), {}, target)


def test_fifty_collections_are_migrated(tmp_path: Path, run: Run) -> None:
    """Of each distance, of several dimensions, some without a record."""
    source, target = tmp_path / "source", tmp_path / "target"
    spaces = {f"collection-{number}": ("l2", "cosine", "ip")[number % 3] for number in range(50)}
    with stock(source) as client:
        for number, (name, space) in enumerate(spaces.items()):
            made = client.create_collection(
                name, configuration={"hnsw": {"space": space}}, embedding_function=None, metadata={"number": number}
            )
            if number % 5:
                rows = range(number % 7 + 1)
                vectors = [[float(row + 1)] * (number % 4 + 2) for row in rows]
                made.add(ids=[f"r{row}" for row in rows], embeddings=vectors, metadatas=[{"row": row} for row in rows])
    truth = judged(source, tmp_path)
    assert_migrated(migrate(run, source, target), truth, target, spaces)
    described = {each.name: each.metadata for each in chromalith.Client(str(target)).list_collections()}
    assert described == {name: {"number": number} for number, name in enumerate(spaces)}


def _no_database(source: Path) -> None:
    (source / "chroma.sqlite3").unlink()


def _empty_database(source: Path) -> None:
    (source / "chroma.sqlite3").write_bytes(b"")


def _other_file(source: Path) -> None:
    (source / "chroma.sqlite3").write_bytes(b"not a database at all" * 500)


def _half_database(source: Path) -> None:
    path = source / "chroma.sqlite3"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zeros_in_database(source: Path) -> None:
    path = source / "chroma.sqlite3"
    body = bytearray(path.read_bytes())
    body[8_192:] = bytes(len(body) - 8_192)
    path.write_bytes(body)


def _no_vectors(source: Path) -> None:
    for path in source.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _no_index_names(source: Path) -> None:
    for path in source.glob("*/index_metadata.pickle"):
        path.unlink()


def _half_vectors(source: Path) -> None:
    for path in source.glob("*/data_level0.bin"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _garbage_index_names(source: Path) -> None:
    for path in source.glob("*/index_metadata.pickle"):
        path.write_bytes(b"\x80\x04garbage")


DAMAGES = [
    _no_database, _empty_database, _other_file, _half_database, _zeros_in_database,
    _no_vectors, _no_index_names, _half_vectors, _garbage_index_names,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__.strip("_"))
def test_a_damaged_directory_is_refused_with_a_reason(damage: Callable[[Path], None], tmp_path: Path, run: Run) -> None:
    """Whatever is broken: no verb ends with a traceback, none with success, and nothing was written."""
    source, target = tmp_path / "source", tmp_path / "target"
    with stock(source) as client:
        made = client.create_collection("words", configuration={"hnsw": {"sync_threshold": 2}}, embedding_function=None)
        for start in range(0, 200, 50):
            made.add(
                ids=[f"r{start + n}" for n in range(50)], embeddings=[[float(start), float(n), 1.0] for n in range(50)]
            )
    damage(source)
    assert_refused(migrate(run, source, target), target)


def test_a_folder_that_is_no_chroma_is_refused(tmp_path: Path, run: Run) -> None:
    """An empty folder is not an empty Chroma: reading it as one would "migrate" nothing, and say yes."""
    (tmp_path / "source").mkdir()
    assert_refused(migrate(run, tmp_path / "source", tmp_path / "target"), tmp_path / "target")
