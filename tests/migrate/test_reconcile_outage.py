"""The second side is a stock Chroma server that dies, while the application goes on with everything a client can do; then it comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.servers import ChromaServer

import chromalith
from chromalith.migrate.journal import Journal
from chromalith.migrate.opening import open_side
from chromalith.migrate.phases import Phase
from chromalith.migrate.places import Place
from chromalith.migrate.port import Role, Sides
from chromalith.migrate.reconcile import Reconciler
from chromalith.migrate.records import differences
from chromalith.migrate.state import SideName, State, Timing
from chromalith.migrate.states import States
from chromalith.store.url import open_store

TIMING = Timing(state_age_max_s=5.0, abandoned_s=4.0, second_write_s=3.0)


def writes(client: Any) -> None:
    """What an application does, of each kind."""
    words = client.get_collection("words", embedding_function=None)
    words.add(ids=["new"], embeddings=[[1, 1]], documents=["added"])
    words.update(ids=["a"], embeddings=[[7, 7]], documents=["updated"], metadatas=[{"k": None, "n": 2}])
    words.upsert(ids=["b"], embeddings=[[5, 5]], metadatas=[{"list": ["x"]}])
    words.delete(ids=["c"])
    words.delete(where={"kind": "doomed"})
    client.create_collection("made", metadata={"why": "because"}, embedding_function=None).add(
        ids=["m"], embeddings=[[2, 2]]
    )
    client.delete_collection("doomed")
    client.get_collection("described", embedding_function=None).modify(metadata={"now": "so"})
    client.delete_collection("again")
    client.create_collection("again", embedding_function=None).add(ids=["fresh"], embeddings=[[3, 3]])


@pytest.mark.parametrize(("second", "phase"), [(Role.TARGET, Phase.DUAL), (Role.SOURCE, Phase.CUTOVER)])
def test_an_outage_of_the_second_is_made_up_for(
    own_chroma_server: ChromaServer, tmp_path: Path, second: Role, phase: Phase
) -> None:
    """No caller sees the outage; after it a few passes make both sides equal: records, collections, and their metadata."""
    place = Place(open_store(str(tmp_path / "state")))
    urls = {second.other: f"chromalith:{tmp_path}/authority", second: own_chroma_server.url}
    sides = Sides(open_side(urls[Role.SOURCE]), open_side(urls[Role.TARGET]))
    names = [SideName(sides[role].kind, urls[role], "default_tenant", "default_database") for role in Role]
    States(place).create(State("default", names[0], names[1], phase, timing=TIMING))
    client = chromalith.MigratingClient(urls[Role.SOURCE], urls[Role.TARGET], state=str(tmp_path / "state"))
    for name in ("words", "doomed", "described", "again"):
        made = client.create_collection(name, embedding_function=None)
        metadatas: list[Any] = [{"k": 1}, {"k": 2}, {"k": 3}, {"kind": "doomed"}]
        made.add(ids=list("abcd"), embeddings=[[n, 1] for n in range(4)], metadatas=metadatas)
    journal = Journal(place, timing=TIMING)
    reconciler = Reconciler(journal, States(place), sides)
    assert reconciler.drain(counted(100)).empty
    own_chroma_server.kill()
    writes(client)
    outcome = reconciler.pass_once()
    assert outcome.left > 0
    assert outcome.reasons or outcome.open
    own_chroma_server.start()
    outcome = reconciler.drain(counted(100))
    assert outcome.empty, outcome.reasons
    held = {role: set(sides[role].names()) for role in Role}
    assert held[Role.SOURCE] == held[Role.TARGET] == {"words", "made", "described", "again"}
    for name in held[Role.SOURCE]:
        source, target = sides.source.collection(name), sides.target.collection(name)
        assert differences(source.read(source.ids()), target.read(target.ids()), "l2") == [], name
        assert (source.definition.metadata or {}) == (target.definition.metadata or {}), name
    assert sides.target.collection("again").ids() == ["fresh"]
    assert set(sides.target.collection("words").ids()) == {"a", "b", "new"}
    client.close()
    journal.stop()
    sides.source.close()
    sides.target.close()


def counted(times: int) -> Any:
    """``True`` from the ``times``-th call on."""
    calls = iter(range(times))
    return lambda: next(calls, None) is None
