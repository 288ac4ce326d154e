"""Planted differences between real sides: each is found, with the field named and the count exact, and mended by a repair.

Chromalith against a stock directory, a stock server and itself, both ways; and the three distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.servers import ChromaServer

from chromalith.clock import SYSTEM_CLOCK
from chromalith.compacting import compact
from chromalith.migrate.diff import Options, Verifier
from chromalith.migrate.diff_report import VerifyReport
from chromalith.migrate.opening import open_side, side_of_client
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, Side, SideCollection, SideKind, Sides
from chromalith.migrate.records import COSINE_TOLERANCE
from chromalith.migrate.state import SideName, State
from chromalith.migrate.states import States
from chromalith.store.memory import MemoryStore
from chromalith.transfer.port import Definition

IDS = [f"r{n:02d}" for n in range(40)]
PAIRS = [
    ("directory", "chromalith"),
    ("chromalith", "directory"),
    ("server", "chromalith"),
    ("chromalith", "server"),
    ("chromalith", "chromalith"),
]


def opened(kind: str, folder: Path, server: ChromaServer) -> Side:
    import chromadb
    from chromadb.config import Settings

    if kind == "chromalith":
        return open_side(f"chromalith:{folder}")
    if kind == "server":
        return open_side(server.url, database=server.new_database())
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    return side_of_client(client, str(folder), close=True)


def embeddings() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(7).normal(size=(len(IDS), 8)).astype(np.float32)


def fill(collection: SideCollection) -> None:
    collection.write(
        "add",
        IDS,
        embeddings(),
        [f"text {n}" for n in range(len(IDS))],
        [f"uri:{n}" for n in range(len(IDS))],
        [{"n": n, "t": "x", "l": [1, 2]} for n in range(len(IDS))],
    )


class World:
    """Two sides with the same records, live, and what compares them."""

    def __init__(self, source: Side, target: Side, space: str) -> None:
        self.sides = Sides(source, target)
        definition = Definition.of_space(space)
        self.source, self.target = (side.create("words", definition) for side in (source, target))
        fill(self.source)
        fill(self.target)
        self.place = Place(MemoryStore(SYSTEM_CLOCK), "m", SYSTEM_CLOCK)
        names = [SideName(SideKind.CLIENT, place, "t", "d") for place in ("source", "target")]
        States(self.place).create(State("m", names[0], names[1], Phase.VERIFY))

    def verify(self, **options: Any) -> VerifyReport:
        return Verifier(self.place, self.sides, look_wait_s=0).run(Options(again=True, **options))


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest, tmp_path: Path, chroma_server: ChromaServer) -> Iterator[tuple[Side, Side]]:
    source, target = (opened(kind, tmp_path / f"{kind}{n}", chroma_server) for n, kind in enumerate(request.param))
    with closing(source), closing(target):
        yield source, target


def bit_flipped(row: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    changed = row.copy()
    changed[:1].view(np.uint32)[0] ^= 1
    return changed


def replaced(collection: SideCollection, record_id: str, **changes: Any) -> None:
    """A record without what an update can't take away."""
    there = collection.read([record_id])
    columns: dict[str, Any] = {"documents": there.documents, "uris": there.uris, "metadatas": there.metadatas}
    columns |= {name: [value] for name, value in changes.items()}
    collection.delete([record_id])
    collection.write("add", [record_id], there.embeddings, **columns)


def plant(target: SideCollection) -> dict[str, tuple[str, ...]]:
    """Change the target; what must be found, by id."""
    rows = dict(zip(IDS, embeddings(), strict=True))
    target.delete(["r00", "r01"])
    target.write("add", ["extra"], np.ones((1, 8), np.float32))
    target.write("update", ["r02"], bit_flipped(rows["r02"])[None])
    for record_id, value in (("r03", 3.0), ("r04", True), ("r05", "5")):  # they were integers
        target.write("update", [record_id], metadatas=[{"n": value}])
    target.write("update", ["r06"], metadatas=[{"t": "y"}])
    target.write("update", ["r07"], metadatas=[{"t": None}])
    target.write("update", ["r08"], metadatas=[{"new": 1}])
    target.write("update", ["r09"], metadatas=[{"l": [1, 3]}])
    target.write("update", ["r10"], documents=["another"])
    replaced(target, "r11", documents=None)
    target.write("update", ["r12"], uris=["uri:other"])
    replaced(target, "r13", metadatas=None)
    return {
        "r02": ("embedding",),
        "r03": ("metadata.n",),
        "r04": ("metadata.n",),
        "r05": ("metadata.n",),
        "r06": ("metadata.t",),
        "r07": ("metadata.t",),
        "r08": ("metadata.new",),
        "r09": ("metadata.l",),
        "r10": ("document",),
        "r11": ("document",),
        "r12": ("uri",),
        "r13": ("metadata.l", "metadata.n", "metadata.t"),
    }


def test_planted_differences_are_found_and_mended(pair: tuple[Side, Side]) -> None:
    """Each kind of difference, by field, with exact counts; a repair leaves none, and a second look agrees."""
    world = World(*pair, "l2")
    assert world.verify().clean
    wanted = plant(world.target)
    (found,) = world.verify().collections
    assert {each.id: each.fields for each in found.standing if each.kind == "different"} == wanted
    assert (found.count("missing"), found.count("extra"), found.count("different")) == (2, 1, len(wanted))
    assert (found.source_records, found.target_records) == (len(IDS), len(IDS) - 1)
    assert found.matching == len(IDS) - 2 - len(wanted)
    assert not States(world.place).get().verify["clean"]
    repaired = world.verify(repair=True)
    assert repaired.clean
    assert repaired.total("repaired") == 3 + len(wanted)
    assert world.verify(deep=True).clean
    assert States(world.place).get().verify["clean"]


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_the_smallest_change_of_an_embedding(space: str, tmp_path: Path, chroma_server: ChromaServer) -> None:
    """One bit is found where embeddings are kept bit by bit; in a cosine collection, what is above the stated tolerance, and only that."""
    with (
        closing(opened("directory", tmp_path / "a", chroma_server)) as source,
        closing(opened("chromalith", tmp_path / "b", chroma_server)) as target,
    ):
        world = World(source, target, space)
        assert world.verify().clean
        rows = dict(zip(IDS, embeddings(), strict=True))
        world.target.write("update", ["r05"], bit_flipped(rows["r05"])[None])
        assert world.verify().total("different") == (0 if space == "cosine" else 1)
        above = rows["r06"].copy()
        above[0] += np.float32(4 * COSINE_TOLERANCE * np.linalg.norm(above))
        world.target.write("update", ["r06"], above[None])
        (found,) = world.verify().collections
        assert ("r06", ("embedding",)) in [(each.id, each.fields) for each in found.standing]
        assert world.verify(repair=True).clean


def test_repair_goes_from_the_side_that_counts(tmp_path: Path, chroma_server: ChromaServer) -> None:
    """After the cutover the target counts: what only it has is brought to the source, and what only the source has goes."""
    with (
        closing(opened("directory", tmp_path / "a", chroma_server)) as source,
        closing(opened("chromalith", tmp_path / "b", chroma_server)) as target,
    ):
        world = World(source, target, "l2")
        wanted = plant(world.target)
        from dataclasses import replace

        States(world.place).change(lambda state: replace(state, phase=Phase.CUTOVER, epoch=state.epoch + 1))
        there = {i: world.target.read([i]) for i in wanted}
        assert world.verify(repair=True).clean
        assert world.source.present(["r00", "extra"]) == {"extra"}
        assert all(world.source.read([i]).documents == before.documents for i, before in there.items())


def test_the_order_is_compared_and_restored_on_request(pair: tuple[Side, Side]) -> None:
    """Another order of insertion is no difference, unless it is asked for; then it is restored."""
    world = World(*pair, "l2")
    there = world.target.read(["r03"])
    world.target.delete(["r03"])
    world.target.write("add", ["r03"], there.embeddings, there.documents, there.uris, there.metadatas)
    assert world.verify().clean
    (found,) = world.verify(order=True).collections
    assert (found.out_of_place, found.clean) == (1, False)
    assert world.verify(order=True, repair=True).clean
    assert world.target.ids() == world.source.ids()


def test_equal_checksums_cost_no_reads(tmp_path: Path) -> None:
    """Two compacted stores with the same records are compared by their checksums alone; with another record they are read."""
    with (
        closing(open_side(f"chromalith:{tmp_path / 'a'}")) as source,
        closing(open_side(f"chromalith:{tmp_path / 'b'}")) as target,
    ):
        world = World(source, target, "l2")
        for name in ("a", "b"):
            compact(str(tmp_path / name))
        assert all(world.sides[role].collection("words").buckets() is not None for role in Role)
        (found,) = world.verify().collections
        assert (found.unread, found.matching) == (True, len(IDS))
        world.target.write("update", ["r02"], metadatas=[{"n": 99}])
        compact(str(tmp_path / "b"))
        (found,) = world.verify().collections
        assert (found.unread, found.count("different"), found.fields) == (False, 1, {"metadata.n": 1})


def test_collections_of_one_side_only(pair: tuple[Side, Side]) -> None:
    """A collection that one side lacks is a difference, all of it; a repair makes it, or says why it does not drop records."""
    world = World(*pair, "l2")
    fill(pair[0].create("lost", Definition.of_space("ip")))
    pair[1].create("empty", Definition.of_space("l2"))
    report = world.verify()
    found = {each.name: each for each in report.collections}
    assert (found["lost"].count("missing"), found["lost"].definition) == (len(IDS), ("collection",))
    assert found["empty"].definition == ("collection",)
    assert not report.clean
    assert world.verify(repair=True).clean
    assert pair[1].collection("lost").definition.space == "ip"
    assert pair[1].names().count("empty") == 0
