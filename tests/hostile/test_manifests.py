"""A manifest that somebody made on purpose, hash and all: it cannot make a reader write outside of its cache, nor exhaust its memory."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.worlds import World

from chromalith.errors import ChromalithError, Corrupt, Invalid
from chromalith.model.layout import pointer_key
from chromalith.model.manifest import FileRef
from chromalith.session import Session
from chromalith.store.cache import Cache
from chromalith.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        for number in range(3):
            world.upsert("abc", number)
            world.compact()
        yield world


def planted(world: World, change: Change) -> None:
    """Change the current manifest in place, and give it the hash that it then must have."""
    current = world.current()
    value = json.loads(world.store.get(current.key).body)
    del value["sha256"]
    change(value)
    body = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    world.store.put(current.key, json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def segment(**fields: Any) -> Change:
    return lambda value: value["segments"][0].update(fields)


def files(name: str) -> Change:
    def change(value: dict[str, Any]) -> None:
        held = value["segments"][0]["files"]
        held[name] = held.pop("records.parquet")

    return change


def sized(size: object) -> Change:
    return lambda value: value["segments"][0]["files"]["records.parquet"].update(size=size)


FILE = {"size": 4, "sha256": "0" * 64}
JOB = "0000000000000000-" + "a" * 32
REFUSED: dict[str, Change] = {
    "a segment above": segment(id="../../../../evil"),
    "a segment at the root": segment(id="/tmp/evil"),
    "a segment with a line end": segment(id=JOB + "\n"),
    "a file above": files("../../../../../../evil"),
    "a file at the root": files("/tmp/evil"),
    "an index above": segment(index={"kind": "../../../../../evil", "library": "x", "config": {}, "file": FILE}),
    "an index with a slash": segment(index={"kind": "a/b", "library": "x", "config": {}, "file": FILE}),
    "deletes above": segment(deletes={"id": "../../../../evil", "rows": 1, "file": FILE}),
    "buckets above": lambda value: value.update(buckets={"id": "../../evil", "file": FILE}),
    "a folded part above": lambda value: value.update(
        folded_parts=[{"id": "../../evil", "intervals": 1, "version": 1, "day": 1, "file": FILE}]
    ),
    "another collection": lambda value: value.update(collection="../../../evil"),
    "a write id above": lambda value: value.update(write_id="../" * 10),
    "a parent elsewhere": lambda value: value.update(parent="../../etc/passwd"),
    "rows without end": segment(rows=2**62),
    "rows below nothing": segment(rows=-1),
    "rows in parts": segment(rows=1.5),
    "more dead than rows": segment(deletes={"id": JOB, "rows": 2**29, "file": FILE}),
    "a size without end": sized(2**62),
    "a size below nothing": sized(-1),
    "a true size": sized(True),
    "many segments of many rows": lambda value: value["segments"].extend(
        {**value["segments"][0], "id": f"0000000000000000-{number:032x}", "rows": 2**28, "deletes": None} for number in range(8)
    ),
    "a version without end": lambda value: value.update(version=10**30),
    "a next number below nothing": lambda value: value.update(next_seq=-1),
    "a folded run without end": lambda value: value.update(folded={"0" * 32: [[0, 2**62, "f", 1, 1]]}),
    "a writer above": lambda value: value.update(folded={"../" + "0" * 29: [[0, 1, "f", 1, 1]]}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(world: World, tmp_path: Path, name: str) -> None:
    """Corrupt, and nothing was written anywhere but below the cache's directory."""
    cache = tmp_path / "a" / "b" / "c" / "cache"
    planted(world, REFUSED[name])
    with Session(world.store, cache_dir=cache, clock=world.clock) as session, pytest.raises((Corrupt, Invalid)):
        session.view(world.cid).get(include=("documents", "embeddings"))
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(cache)]
    assert outside == []
    assert not Path("/tmp/evil").exists()
    assert not Path("/evil").exists()


def test_the_plant_is_read_where_it_is_harmless(world: World) -> None:
    """A manifest that was planted without a change is read: the refusals above are not those of a broken hash."""
    planted(world, lambda value: None)
    assert set(world.documents()) == set("abc")


ENORMOUS: dict[str, Change] = {
    "a large size": sized(2**37),
    "many rows": segment(rows=2**30),
    "a wide dimension": lambda value: value.update(dimension=2**60),
    "a late number": lambda value: value.update(next_seq=2**61),
    "an index that looks everywhere": segment(
        index={"kind": "usearch", "library": "usearch 2", "config": {"ef_search": 2**60, "max_neighbors": 1}, "file": FILE}
    ),
    "an index of another kind": segment(index={"kind": "annoy", "library": "x", "config": {"x": 1}, "file": FILE}),
}

READ = """
import os, pickle, resource, sys
from pathlib import Path
from chromalith.clock import ManualClock
from chromalith.errors import ChromalithError
from chromalith.session import Session
from chromalith.store.memory import MemoryStore
import numpy as np
objects, cid, cache = pickle.loads(Path(sys.argv[1]).read_bytes())
store = MemoryStore(ManualClock())
for key, body in objects.items():
    store.put(key, body)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2048 * 2**20,) * 2)
with Session(store, cache_dir=Path(cache)) as session:
    for ask in (
        lambda view: view.count(),
        lambda view: view.get(include=("documents", "embeddings")),
        lambda view: view.query(np.zeros((1, 3), np.float32), 2),
    ):
        try:
            ask(session.view(cid))
            print("answered")
        except ChromalithError as error:
            print("refused", error)
sys.stdout.flush()
os._exit(0)  # under the limit, a library's thread that could not start can abort the interpreter's end
"""


@pytest.mark.parametrize("name", ENORMOUS)
def test_what_is_enormous_does_not_exhaust_memory(world: World, tmp_path: Path, name: str) -> None:
    """Within the limits of a field, but not what the objects are: every question is answered or refused within 2 GiB."""
    import pickle

    planted(world, ENORMOUS[name])
    objects = {entry.key: world.store.get(entry.key).body for page in world.store.list("") for entry in page}
    (tmp_path / "store").write_bytes(pickle.dumps((objects, world.cid, str(tmp_path / "cache"))))
    command = [sys.executable, "-c", READ, str(tmp_path / "store")]
    # The limit is one of addresses: without this, glibc reserves 64 MiB of them for each thread, whatever the thread needs.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert ended.returncode == 0, ended.stderr[-3_000:]
    assert len(ended.stdout.splitlines()) == 3
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "cache").rglob("*")) < 2**24


# The cache -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "a//x", "a/./x", "", "a\0x", ".hidden/x", "x" * 901])
def test_a_cache_takes_keys_only(tmp_path: Path, key: str) -> None:
    store = MemoryStore(World().clock)
    cache = Cache(store, tmp_path / "cache", World().clock)
    with pytest.raises(Invalid):
        cache.file(key, FileRef.of(b"x"))
    with pytest.raises(Invalid):
        cache.derived(key, "x", lambda path: None)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_link_in_the_cache_leads_nowhere(world: World, tmp_path: Path, depth: int) -> None:
    """A link in the place of a directory of the cache: nothing is written through it, and the error names it."""
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir()
    home = cache / hashlib.sha256(world.store.url.encode()).hexdigest()[:32]
    place = [home, home / "segment", home / "segment" / world.cid][depth - 1]
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    with Session(world.store, cache_dir=cache, clock=world.clock) as session, pytest.raises(Invalid, match="leads out of the cache"):
        session.view(world.cid).get(include=("documents",))
    assert list(outside.rglob("*")) == []


def test_a_link_in_place_of_a_cached_file_is_replaced(world: World, tmp_path: Path) -> None:
    """What the link leads to is neither read, nor written, nor touched."""
    cache, secret = tmp_path / "cache", tmp_path / "secret"
    with Session(world.store, cache_dir=cache, clock=world.clock) as session:
        session.view(world.cid).get(include=("documents",))
    (file, *_) = cache.rglob("records.parquet")
    secret.write_bytes(file.read_bytes())
    before = secret.stat().st_mtime_ns
    for path in file.parent.iterdir():
        path.unlink()
    file.symlink_to(secret)
    with Session(world.store, cache_dir=cache, clock=world.clock) as session:
        assert len(session.view(world.cid).get(include=("documents",)).ids) == 3
    assert not file.is_symlink()
    assert secret.stat().st_mtime_ns == before


def test_a_cache_directory_that_is_a_link_works(world: World, tmp_path: Path) -> None:
    """A cache that was moved to another disk by its owner is no attack."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    with Session(world.store, cache_dir=tmp_path / "cache", clock=world.clock) as session:
        assert len(session.view(world.cid).get(include=("documents",)).ids) == 3


def test_eviction_leaves_what_is_not_its_own(world: World, tmp_path: Path) -> None:
    """A cache directory with other files in it, and links: a cache that is too small removes its own files only."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_bytes(b"x" * 10_000)
    os.utime(tmp_path / "thesis" / "chapter.txt", (0, 0))
    with Session(world.store, cache_dir=tmp_path, clock=world.clock, cache_bytes_max=1) as session:
        session.view(world.cid).get(include=("documents",))
        world.clock.advance(3_600)
        world.upsert("d", 9)
        world.compact()
        session.view(world.cid).get(include=("documents",))
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_a_pointer_cannot_name_a_path(world: World) -> None:
    """The pointer's first line is a manifest's key of this collection, or nothing."""
    for line in ("../../../etc/passwd", "/etc/passwd", f"snapshot/{world.cid}/../../x", "snapshot/x/0000000000000001-a.json"):
        world.store.put(pointer_key(world.cid), f"{line}\nx\n".encode())
        with pytest.raises(ChromalithError) as caught:
            world.documents()
        assert isinstance(caught.value, Corrupt)
