"""Names that are not meant well: of collections, tenants, databases, ids and metadata keys. They are data, never parts of a path or a key.

Where stock Chroma refuses a name, our client does, alike; ``Writer`` and ``Reader`` take what Chroma's tenants and databases take.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import pytest
from chromadb.config import Settings as ChromaSettings
from tests.servers import Server

import chromalith
from chromalith import Reader, Writer
from chromalith.cli.app import run
from chromalith.clock import SYSTEM_CLOCK
from chromalith.store.keys import is_key
from chromalith.store.url import open_store
from chromalith.transfer.bundle import Bundle, export_bundle
from chromalith.transfer.jsonl import JsonlSource

NFC, NFD = unicodedata.normalize("NFC", "Ångström"), unicodedata.normalize("NFD", "Ångström")
NAMES = [
    "a/b/c", "/", "//", "../../../etc/passwd", "..", ".", "...", "a\\b", "C:\\x", "%2e%2e%2f", "%", "%00", "100%", "a b", " lead",
    "trail ", "tab\t", "line\nend",
    "\x1b[2J", "\x7f", NFC, NFD, "שלום", "\u202egnp.exe", "👩‍👩‍👧", "\U0001f600", "𝔘𝔫𝔦", "ﬀ", "İ", "ı",
    "ß", "x" * 512, "é" * 512, "/" * 512, "🙂" * 512,
    "CON", "nul", "aux.txt", "~", "$HOME", "`id`", "'; DROP TABLE x; --", "<b>", "{}", "[]", "null", "latest",
    "pointer.txt", "tenant.json", ".chromalith",
    "chroma:document", "#document", "-rf", "--json", "0", "a\u0000b", "\ufeffbom", "zero\u200bwidth",
]  # fmt: skip
"""Tabs, line ends and NUL too: in JSON and Parquet they are characters like any other."""

CHROMA_NAMES = [
    "a/b", "../x", "..", "a..b", "a b", "%41bc", NFC, "👩‍👩‍👧", "x" * 512, "x" * 513, "ab", "", "-ab", "ab-", "a.b-c_d", "A" * 63,
    "192.168.1.1",
]  # fmt: skip


def shown(name: str) -> str:
    return ascii(name)[:40]


@pytest.fixture(params=["memory", "directory", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """An empty store of each kind, as arguments of whatever opens one."""
    if request.param == "seaweed":
        server: Server = request.getfixturevalue("seaweed")
        return {"url": f"s3://{server.new_bucket()}/some/prefix", "storage_options": server.storage_options}
    if request.param == "memory":
        return {"url": f"memory://names-{SYSTEM_CLOCK.random_hex(12)}"}
    return {"url": str(tmp_path / "store")}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))


def all_keys(place: dict[str, Any]) -> list[str]:
    store = open_store(place["url"], storage_options=place.get("storage_options"))
    return [entry.key for page in store.list("") for entry in page]


@pytest.mark.server
def test_collections_tenants_and_databases(place: dict[str, Any]) -> None:
    """Each name stands for one collection of its own, which answers with its own record; all keys are plain."""
    names = NAMES if not place["url"].startswith("s3") else NAMES[::4]
    with Writer(**place) as writer:
        for number, name in enumerate(names):
            writer.create(name)
            metadata = {name.replace("chroma:", "c"): name}
            writer.upsert(name, ids=[name], embeddings=[[float(number), 1.0]], documents=[name], metadatas=[metadata])
    chromalith.compact(**place)
    with Reader(**place) as reader:
        for name in names:
            found = reader.get(name, include=["documents", "metadatas"])
            assert (found.ids, found.documents) == ([name], [name])
            assert found.metadatas == [{name.replace("chroma:", "c"): name}]
    assert all(is_key(key) for key in all_keys(place))
    assert len([key for key in all_keys(place) if key.startswith("collection/")]) == len(names)


@pytest.mark.server
def test_tenants_and_databases(place: dict[str, Any]) -> None:
    """Chroma's client makes tenants and databases of any name, and each is one of its own."""
    names = NAMES if not place["url"].startswith("s3") else NAMES[::6]
    session = chromalith.Client(**place)
    admin = session._admin_client
    long_enough = [name for name in names if len(name) >= 3]
    for name in long_enough:
        admin.create_tenant(name)
        admin.create_database(name, name)
    for number, name in enumerate(long_enough):
        client = chromalith.Client(**place, tenant=name, database=name)
        client.create_collection("words").add(ids=[f"{number}"], embeddings=[[1.0, 2.0]])
    for number, name in enumerate(long_enough):
        client = chromalith.Client(**place, tenant=name, database=name)
        assert client.get_collection("words").get()["ids"] == [f"{number}"]
        assert [each.name for each in client.list_collections()] == ["words"]
    assert all(is_key(key) for key in all_keys(place))


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Any]:
    client = chromadb.PersistentClient(str(tmp_path / "stock"), settings=ChromaSettings(anonymized_telemetry=False))
    yield client
    client.clear_system_cache()


@pytest.mark.parametrize("name", CHROMA_NAMES, ids=shown)
def test_chroma_refuses_and_we_refuse(name: str, stock: Any, tmp_path: Path) -> None:
    """The name of a collection, through Chroma's own client on a stock store and on ours: the same answer, and the same class of error."""
    ours = chromalith.Client(f"memory://names-{SYSTEM_CLOCK.random_hex(12)}")
    answers = []
    for client in (stock, ours):
        try:
            answers.append(client.create_collection(name).name)
        except Exception as error:
            answers.append(type(error).__name__)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", ["tenant", "database"])
@pytest.mark.parametrize("name", ["", "a", "ab", "abc", "a/b", "x" * 513, "..", "\u202e..", "👩‍👩‍👧", "a b", "a\x00b"], ids=shown)
def test_tenants_that_chroma_refuses(kind: str, name: str, stock: Any) -> None:
    """The same for tenants and databases."""
    ours = chromalith.Client(f"memory://names-{SYSTEM_CLOCK.random_hex(12)}")
    answers = []
    for client in (stock, ours):
        admin = client._admin_client
        try:
            if kind == "tenant":
                admin.create_tenant(name)
                answers.append(admin.get_tenant(name)["name"])
            else:
                admin.create_database(name)
                answers.append(admin.get_database(name)["name"])
        except Exception as error:
            answers.append(type(error).__name__)
    assert answers[0] == answers[1]


def test_names_that_look_alike_are_apart(tmp_path: Path) -> None:
    """Two forms of one letter are two names: nothing is normalised, neither as a name nor as an id nor as a key."""
    with Writer(str(tmp_path / "store")) as writer, Reader(str(tmp_path / "store")) as reader:
        for name in (NFC, NFD, "X", "x"):
            writer.create(name)
            writer.upsert(name, ids=[NFC, NFD], embeddings=[[1.0], [2.0]], metadatas=[{NFC: 1, NFD: 2}, {NFD: 3}])
        for name in (NFC, NFD, "X", "x"):
            found = reader.get(name, include=["metadatas"])
            assert found.ids == [NFC, NFD]
            assert found.metadatas == [{NFC: 1, NFD: 2}, {NFD: 3}]
            assert reader.get(name, where={NFD: 3}).ids == [NFD]


@pytest.mark.parametrize("half", ["\ud800", "a\udfff"], ids=ascii)
def test_half_a_surrogate_pair_is_invalid(half: str, tmp_path: Path) -> None:
    """What has no UTF-8 is refused everywhere, with Invalid, before anything is written."""
    with Writer(str(tmp_path / "store")) as writer:
        writer.create("words")
        before = all_keys({"url": str(tmp_path / "store")})
        for change in (
            lambda: writer.create(half),
            lambda: writer.upsert(half, ids=["a"], embeddings=[[1.0]]),
            lambda: writer.upsert("words", ids=[half], embeddings=[[1.0]]),
            lambda: writer.upsert("words", ids=["a"], embeddings=[[1.0]], documents=[half]),
            lambda: writer.upsert("words", ids=["a"], embeddings=[[1.0]], metadatas=[{half: 1}]),
            lambda: writer.upsert("words", ids=["a"], embeddings=[[1.0]], metadatas=[{"a": half}]),
        ):
            with pytest.raises((chromalith.Invalid, chromalith.NotFound)):
                change()
        assert all_keys({"url": str(tmp_path / "store")}) == before


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands work with such names, in files and in keys, and never print what moves a cursor."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMALITH_STORE", "./store")
    for name in ("../../up", "a/b", "line\nend\x1b[2J", "🙂" * 300, "%2e", NFD):
        with Writer() as writer:
            writer.create(name)
            writer.upsert(name, ids=[name], embeddings=[[1.0, 2.0]])
        capsys.readouterr()
        for command in (["count", name], ["get", name], ["compact", name], ["status", name], ["snapshot", "list", name], ["doctor", name]):
            assert run(command) == 0, (command, capsys.readouterr().err)
            told = capsys.readouterr()
            assert "\x1b" not in told.out + told.err
        assert run(["export", name, "--to", "out.parquet"]) == 0
        (tmp_path / "out.parquet").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "store"]


def test_a_bundle(tmp_path: Path) -> None:
    """An export below a prefix takes collections of any name, and gives them back."""

    class Named(JsonlSource):
        def __init__(self, name: str) -> None:
            (tmp_path / "one.jsonl").write_text('{"id": "a", "embedding": [1, 2]}\n')
            super().__init__(tmp_path / "one.jsonl")
            self._name = name

        @property
        def name(self) -> str:
            return self._name

    store = open_store(str(tmp_path / "store"))
    export_bundle([Named(name) for name in NAMES], store, "exported")
    assert all(is_key(entry.key) for page in store.list("") for entry in page)
    bundle = Bundle(store, "exported")
    assert bundle.names() == NAMES
    for name in NAMES:
        assert [batch.ids for batch in bundle.source(name).batches(10)] == [["a"]]
