"""Each thing that a person gets wrong, or that goes wrong, is one clear line, a hint, and the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.servers import Server
from tests.unit.cli.commands import Shell

from chromalith.cli.failures import report
from chromalith.errors import Bug, Conflict, Corrupt, Invalid, LeaseHeld, NotFound, Unavailable, Unknown

KEYS = ("--option", "access_key_id=test", "--option", "secret_access_key=testsecret")

WRONG = [
    # arguments, exit code, in the message, in the hint
    (["count", "wrods"], 1, "no such collection name='wrods'", "did you mean 'words'"),
    (["count", "entirely-different"], 1, "no such collection", "there are words"),
    (["count", "words", "--database", "other"], 1, "no such collection", "is the URL the right one"),
    (["count", "words", "--store", "s4://bucket"], 2, "scheme is not supported", "did you mean s3://bucket"),
    (["count", "words", "--store", "s3:/bucket"], 2, "lacks '//'", "did you mean s3://bucket"),
    (["count", "words", "--store", "https://bucket"], 2, "scheme is not supported", "endpoint=http"),
    (["count", "words", "--option", "region"], 2, "not a storage option", "name=value"),
    (["count", "words", "--region", "eu"], 2, "takes no storage options", None),
    (["count", "words", "--store", "s3://bucket", "--option", "colour=red", *KEYS], 2, "unknown storage options", "known are"),
    (["count"], 2, "Missing argument 'COLLECTION'", "chromalith count --help"),
    (["cuont", "words"], 2, "No such command 'cuont'", "--help"),
    (["get", "words", "--limit", "many"], 2, "--limit", "chromalith get --help"),
    (["get", "words", "--limit", "-1"], 2, "--limit", "chromalith get --help"),
    (["get", "words", "--where", "{year: 1}"], 2, "--where is not JSON", "quote it"),
    (["get", "words", "--where", '{"year": {"$foo": 1}}'], 2, "unknown operator", "$gte"),
    (["get", "words", "--where-document", '{"$like": "x"}'], 2, "operator", "$contains"),
    (["get", "words", "--include", "documents,colours"], 2, "include='colours'", "embeddings"),
    (["query", "words", "--embedding", "[1, 0]"], 2, "dimension", None),
    (["query", "words", "--embedding", "[1, 0"], 2, "--embedding is not JSON", "[0.1, 0.2, 0.3]"),
    (["query", "words", "--embedding", '["x"]'], 2, "not a vector", "[0.1, 0.2, 0.3]"),
    (["query", "words", "--embedding", "[]"], 2, "not a vector", "[0.1, 0.2, 0.3]"),
    (["query", "words"], 2, "got none", "query --help"),
    (["query", "words", "--text", "x", "--embedding", "[1, 0, 0]"], 2, "got --embedding and --text", "query --help"),
    (["query", "words", "--file", "absent.json"], 1, "no such file", "path"),
    (["query", "words", "--text", "x", "--embed", "nowhere"], 2, "not the name of a function", "module:function"),
    (["query", "words", "--text", "x", "--embed", "nowhere:embed"], 2, "not found", "PYTHONPATH"),
    (["query", "words", "--text", "x", "--embed", "builtins:len"], 2, "wrong shape", "one vector for each"),
    (["collections", "create", "words", "--space", "l1"], 2, "no such distance", "cosine"),
    (["collections", "create", "words", "--space", "ip"], 2, "another distance", "another name"),
    (["collections", "delete", "words"], 2, "needs a yes", "--yes"),
    (["collections", "show", "wrods"], 1, "no such collection", "did you mean 'words'"),
    (["compact", "wrods"], 1, "no such collection", "did you mean 'words'"),
    (["status", "wrods"], 1, "no such collection", "did you mean 'words'"),
    (["snapshot", "list", "wrods"], 1, "no such collection", "did you mean 'words'"),
    (["snapshot", "show", "words", "7"], 1, "no such version", "snapshot list"),
    (["export", "wrods", "--to", "x.parquet"], 1, "no such collection", "did you mean 'words'"),
    (["export", "words", "--to", "x.parquet", "--version", "7"], 1, "no such version", "snapshot list"),
    (["export", "words", "--to", "x.parqet"], 2, "format can't be told", "--format"),
    (["export", "words", "--to", "x", "--format", "server"], 2, "no target", "directory"),
    (["import", "absent.parquet"], 1, "no such file", "Chroma directory"),
    (["import", "words", "--format", "pickle"], 2, "--format", "import --help"),
    (["import", "x.parquet", "--column", "id"], 2, "--column needs name=value", "name=value"),
    (["demo", "--store", "s3://bucket"], 2, "no --store", "--dir"),
    (["demo", "--records", "1"], 2, "--records", "demo --help"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    WRONG,
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls(shell: Shell, words: str, arguments: list[str], code: int, message: str, hint: str | None) -> None:
    """Prints one line with the cause and one with the way out, on stderr, and nothing on stdout."""
    if arguments[:1] == ["import"] and "x.parquet" in arguments:
        Path("x.parquet").touch()
    said = shell(*arguments)
    assert said.code == code, said.err
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not lines[0].endswith(".")
    assert len(lines) <= 2
    if hint is not None:
        assert lines[1].startswith("hint: ")
        assert hint in lines[1]


def test_no_store(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a store the hint names both ways to give one."""
    monkeypatch.delenv("CHROMALITH_STORE")
    said = shell("count", "words")
    assert said.code == 2
    assert "no store was named" in said.err
    assert "--store URL" in said.err
    assert "CHROMALITH_STORE" in said.err


def test_wrong_setting(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of the wrong type is named with its variable and its value."""
    monkeypatch.setenv("CHROMALITH_CACHE_BYTES_MAX", "much")
    said = shell("config")
    assert said.code == 2
    assert "CHROMALITH_CACHE_BYTES_MAX=much" in said.err


def test_errors_as_json(shell: Shell, words: str) -> None:
    """With --json the error is an object with kind, message and hint, wherever --json stands."""
    for arguments in (["--json", "count", "wrods"], ["count", "wrods", "--json"]):
        said = shell(*arguments)
        assert said.code == 1
        assert said.out == ""
        assert said.error["kind"] == "not_found"
        assert "wrods" in said.error["message"]
        assert said.error["hint"] == "did you mean 'words'"


def test_usage_errors_as_json(shell: Shell) -> None:
    """A wrong command line is told as JSON, too."""
    said = shell("count", "--json")
    assert said.code == 2
    assert said.error["kind"] == "invalid"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), 1), (Unknown("x"), 1), (Bug("x"), 1), (Invalid("x"), 2), (Conflict("x"), 3), (LeaseHeld("x"), 3),
        (Unavailable("x"), 3), (Corrupt("x"), 5), (RuntimeError("x"), 1),
        (PermissionError(13, "x", "y"), 2), (OSError(28, "no space", "y"), 1),
    ],
)  # fmt: skip
def test_exit_codes(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of error has the exit code that says what to do about it, and its kind in JSON."""
    assert report(error, as_json=True) == code
    said = json.loads(capsys.readouterr().err)["error"]
    assert set(said) == {"kind", "message", "hint"}
    if hasattr(error, "kind"):
        assert said["kind"] == str(error.kind)


def test_traceback_only_on_demand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect shows its traceback with CHROMALITH_DEBUG=1, and otherwise says how to get it."""
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError as error:
        report(error, as_json=False)
        assert "Traceback" not in (quiet := capsys.readouterr().err)
        assert "CHROMALITH_DEBUG=1" in quiet
        monkeypatch.setenv("CHROMALITH_DEBUG", "1")
        report(error, as_json=False)
        assert "Traceback" in capsys.readouterr().err


def test_corrupt_is_5(shell: Shell, words: str, store: str) -> None:
    """A damaged pointer ends with exit code 5, and is never taken for an empty collection."""
    (pointer,) = Path(store).glob("snapshot/*/latest/pointer.txt")
    pointer.write_text("nonsense\n")
    said = shell("count", words)
    assert said.code == 5
    assert "error: " in said.err


@pytest.mark.server
def test_missing_bucket(shell: Shell, moto: Server) -> None:
    """A bucket that does not exist is named."""
    said = shell(
        "count",
        "words",
        "--store",
        "s3://absent-bucket/x",
        "--endpoint-url",
        moto.endpoint,
        "--region",
        "us-east-1",
        *KEYS,
    )
    assert said.code == 2
    assert "bucket" in said.err.splitlines()[0]
    assert "absent-bucket" in said.err


@pytest.mark.server
def test_the_whole_way_on_s3(shell: Shell, moto: Server) -> None:
    """Endpoint, region and keys given as options reach the store, before and after the command's name."""
    place = ["--store", f"s3://{moto.new_bucket()}/x", "--endpoint-url", moto.endpoint, "--region", "us-east-1", *KEYS]
    assert shell(*place, "collections", "create", "words").code == 0
    assert shell("count", "words", *place).out == "0\n"


def test_missing_credentials(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the hint says where they are looked for."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "absent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "absent")
    said = shell("count", "words", "--store", "s3://bucket/x", "--endpoint-url", "http://127.0.0.1:1")
    assert said.code == 2
    assert "no credentials" in said.err
    assert "AWS_ACCESS_KEY_ID" in said.err
