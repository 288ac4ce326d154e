"""docs/lambdas.md: its tables are the payloads' fields; its examples are sent to the handlers, which answer in the shapes that it shows."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import ROOT
from tests.docs.shapes import same, shape

from chromalith.errors import Kind
from chromalith.lambdas import compactor, health, payloads, producer, query, runtime, sweep
from chromalith.lambdas.answers import STATUS

DOCUMENT = (ROOT / "docs" / "lambdas.md").read_text(encoding="utf-8")
_FIELDS = re.compile(r"<!-- fields: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
_SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```json (payload|answer)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HANDLERS = {
    "Producer": producer.handler, "Compactor": compactor.handler, "Query": query.handler, "Sweep": sweep.handler, "Health": health.handler,
}  # fmt: skip
EVERYWHERE = ("tenant", "database")
MODELS = {name: model for name, model in vars(payloads).items() if isinstance(model, type) and issubclass(model, payloads.Payload)}


def table(name: str) -> str:
    """The table of one payload's fields, as the document must have it."""
    fields = dict(MODELS[name].model_fields)
    ordered = [each for each in fields if each not in EVERYWHERE] + list(EVERYWHERE)
    rows = ["| field | default | what it is |", "|---|---|---|"]
    for field in ordered:
        info = fields[field]
        default = "required" if info.is_required() else "–" if info.default is None else f"`{json.dumps(info.default)}`"
        rows.append(f"| `{info.alias or field}` | {default} | {info.description} |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"Payload"}))
def test_every_field_of_every_payload_is_documented(name: str) -> None:
    """The table is the one that the code gives; on a failure, it is what the assertion shows."""
    assert dict(_FIELDS.findall(DOCUMENT))[name] == table(name)


def test_every_kind_of_error_has_its_status() -> None:
    """The table of errors has each kind, with the class's name and the status over HTTP."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    assert {kind: int(status) for _, kind, status in rows} == {str(kind): STATUS[kind] for kind in Kind}
    assert [name.lower() for name, _, _ in rows] == [kind.replace("_", "") for _, kind, _ in rows]


def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each payload, sent in order to one store, is answered; where an answer is shown, in its shape."""
    for name in list(os.environ):
        if name.startswith(("CHROMALITH_", "AWS_", "DELTA_", "CHROMADB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHROMADB_BUCKET", str(tmp_path / "store"))
    monkeypatch.setenv("CHROMALITH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "_kept", {})
    shown = sent = 0
    for section, text in _SECTION.findall(DOCUMENT):
        answer: Any = None
        for kind, body in _BLOCK.findall(text):
            if kind == "payload":
                answer = HANDLERS[section](json.loads(body), None)
                sent += 1
            else:
                assert same(shape(json.loads(body)), shape(answer)), (section, answer)
                shown += 1
    assert (sent, shown) == (9, 7)
    for kept in runtime._kept.values():
        kept.store.session.close()
