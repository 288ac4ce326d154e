"""What a function's answer to an invocation stands for, when it is an error."""

from __future__ import annotations

import json

import pytest

from chromalith import errors
from chromalith.aws.functions import raised_by
from chromalith.errors import ChromalithError, Kind, Unknown

NAME = "chromadb-query-dev"


@pytest.mark.parametrize("kind", list(Kind))
def test_an_error_of_ours_arrives_as_it_left(kind: Kind) -> None:
    """Of its class, with its message and hint, and with the function's name."""
    text = json.dumps({"kind": kind, "message": "no such collection name='words'", "hint": "create it"})
    found = raised_by(NAME, {"errorType": "Whatever", "errorMessage": text})
    assert found.kind is kind
    assert type(found) in vars(errors).values()
    assert found.message == f"no such collection name='words' function={NAME}"
    assert found.hint == "create it"


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"errorType": "Runtime.ImportModuleError", "errorMessage": "No module named 'chromalith'"}, Kind.INVALID),
        ({"errorType": "Runtime.HandlerNotFound", "errorMessage": "handler"}, Kind.INVALID),
        ({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 3.00 seconds"}, Kind.UNKNOWN),
        ({"errorMessage": "2026-01-31T12:00:00Z 0f3a Task timed out after 3.00 seconds"}, Kind.UNKNOWN),
        ({"errorType": "Runtime.ExitError", "errorMessage": "RequestId: 0f3a Error: exit status 137"}, Kind.UNKNOWN),
        ({"errorType": "ValueError", "errorMessage": "nobody foresaw this"}, Kind.UNKNOWN),
        ({"errorType": "ValueError", "errorMessage": '{"kind": "another", "message": "m"}'}, Kind.UNKNOWN),
        ({"errorType": "ValueError", "errorMessage": "[1]"}, Kind.UNKNOWN),
        ("a text", Kind.UNKNOWN),
        (None, Kind.UNKNOWN),
    ],
)
def test_what_is_not_ours_is_never_taken_for_a_result(told: object, kind: Kind) -> None:
    """A package that can't work is the deployer's; whatever else ended a function may have happened or not."""
    found: ChromalithError = raised_by(NAME, told)
    assert found.kind is kind
    assert NAME in found.message
    assert f"/aws/lambda/{NAME}" in (found.hint or "")
    assert kind is Kind.INVALID or isinstance(found, Unknown)
