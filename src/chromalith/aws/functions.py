"""Lambda functions of one account: which version of one answers, and invoking it, with what it raised as one of Chromalith's errors.

A function of Chromalith's raises its errors as ``errorType`` (the class) and ``errorMessage`` (JSON with ``kind``, ``message`` and
``hint``); so they arrive here as they left. What Lambda itself says of a function that could not answer is told apart by its ``errorType``:

=======================================  ==================================================
``Sandbox.Timedout``                     ``Unknown``: the time-out ended it, wherever it was
``Runtime.ExitError``, out of memory     ``Unknown``: the process ended, wherever it was
``Runtime.ImportModuleError`` and such   ``Invalid``: the deployed package is wrong
anything else                            ``Unknown``, with its text
=======================================  ==================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chromalith import errors
from chromalith.aws.clients import client
from chromalith.aws.errors import translated
from chromalith.errors import ChromalithError, Invalid, Kind, Unknown

ANSWER_S_MAX = 910
"""Longer than any function may run (900 s): who gives up earlier can't tell what became of it."""

_CLASSES: dict[str, type[ChromalithError]] = {
    Kind.CONFLICT: errors.Conflict,
    Kind.LEASE_HELD: errors.LeaseHeld,
    Kind.UNKNOWN: errors.Unknown,
    Kind.UNAVAILABLE: errors.Unavailable,
    Kind.NOT_FOUND: errors.NotFound,
    Kind.INVALID: errors.Invalid,
    Kind.CORRUPT: errors.Corrupt,
    Kind.BUG: errors.Bug,
}
_WRONG_PACKAGE = ("ImportModuleError", "HandlerNotFound", "UserCodeSyntaxError", "MalformedHandlerName", "InvalidEntrypoint")
_ENDED = ("Timedout", "ExitError", "OutOfMemory", "Timeout")


@dataclass(frozen=True, slots=True)
class Deployed:
    """What answers under a function's name, or its alias.

    Attributes:
        name: the function's.
        alias: which was asked for; ``None``: the newest code (``$LATEST``).
        version: the published version; ``$LATEST`` where none was published.
        state: ``Active``, or why it can't answer yet: ``Pending``, ``Inactive``, ``Failed``.
        environment: its environment variables; empty if the caller may not see them.
        modified: when it was changed, as Lambda writes it.
    """

    name: str
    alias: str | None
    version: str
    state: str
    environment: Mapping[str, str]
    modified: str


class Functions:
    """The functions of one account and region. Makes no request before a method is called.

    Args:
        options: where the account is (:mod:`chromalith.aws.clients`).
    """

    def __init__(self, options: Mapping[str, object] | None = None) -> None:
        # Once: an invocation that was repeated unasked would do its work twice.
        self._client = client("lambda", options, attempts=1, read_timeout_s=ANSWER_S_MAX)

    def look(self, name: str, alias: str | None = None) -> Deployed:
        """Which version answers. Raises ``NotFound`` (no such function or alias), ``Invalid``, ``Unavailable``."""
        qualifier = {} if alias is None else {"Qualifier": alias}
        with _permitted("lambda:GetFunctionConfiguration"), translated(_what(name, alias)):
            found = self._client.get_function_configuration(FunctionName=name, **qualifier)
        environment = found.get("Environment", {}).get("Variables", {})
        return Deployed(name, alias, found["Version"], found.get("State", "Active"), environment, found.get("LastModified", ""))

    def invoke(self, name: str, payload: Mapping[str, Any], alias: str | None = None) -> Any:
        """What the function answers to ``payload``, waited for.

        Raises what the function raised; ``Unknown`` if it ended without an answer, ``NotFound`` (no such function), ``Invalid`` (not
        allowed, or its package is wrong), ``Unavailable``.
        """
        qualifier = {} if alias is None else {"Qualifier": alias}
        with _permitted("lambda:InvokeFunction"), translated(_what(name, alias), changes=True):
            answer = self._client.invoke(FunctionName=name, Payload=json.dumps(payload).encode(), **qualifier)
            body = answer["Payload"].read()
        value = _decoded(name, body)
        if answer.get("FunctionError"):
            raise raised_by(name, value)
        return value


@contextmanager
def _permitted(action: str) -> Iterator[None]:
    """Name the permission where it is missing: for an invocation IAM has another word than the API."""
    try:
        yield
    except Invalid as error:
        if "code=AccessDenied" not in error.message:
            raise
        raise Invalid(error.message, hint=f"this identity needs the permission {action}") from error


def raised_by(name: str, value: Any) -> ChromalithError:
    """The error that a function's answer stands for; ``value`` is the answer, decoded."""
    told = value if isinstance(value, Mapping) else {}
    kind, text = str(told.get("errorType", "")), str(told.get("errorMessage", value))
    own = _own(text)
    if own is not None:
        message, hint = str(own["message"]), own.get("hint")
        return _CLASSES[own["kind"]](f"{message} function={name}", hint=None if hint is None else str(hint))
    log = f"its log says more: `aws logs tail /aws/lambda/{name}`"
    if any(each in kind for each in _WRONG_PACKAGE):
        return Invalid(f"the deployed package does not work function={name} error={kind}: {text}", hint=f"deploy it again; {log}")
    if any(each in kind for each in _ENDED) or "timed out" in text:
        return Unknown(f"the function was ended before it answered function={name} error={kind}: {text}", hint=log)
    return Unknown(f"the function failed function={name} error={kind}: {text}", hint=log)


def _own(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.get("kind") in _CLASSES and "message" in value else None


def _decoded(name: str, body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError as error:
        message = f"the function's answer is not JSON function={name} answer={body[:80]!r}"
        raise Unknown(message, hint="is it one of chromalith's") from error


def _what(name: str, alias: str | None) -> str:
    return f"function={name}" if alias is None else f"function={name} alias={alias}"
