r"""What a handler answers: an error that says what to do about it, and JSON that fits.

Errors are *raised*, never returned as a success: Lambda's own ``Errors`` metric, its retries and the alarms see them. The runtime sends an
exception's class name as ``errorType`` and its text as ``errorMessage``; so the error that leaves a handler has the name of one of
Chromalith's classes, and is JSON when it is printed::

    {"errorType": "NotFound", "errorMessage": "{\"kind\": \"not_found\", \"message\": \"no such collection …\", \"hint\": \"…\"}"}

Where HTTP asked (a function URL, an API gateway), the same JSON is the body, under ``error``, and the status says the kind.
"""

from __future__ import annotations

import base64
import errno
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from chromalith import errors
from chromalith.errors import ChromalithError, Invalid, Kind, Unavailable

ANSWER_BYTES_MAX = 6 * 2**20
"""What Lambda takes for the answer of one synchronous invocation (its quota "invocation payload, response"): 6 MB."""

STATUS = {
    Kind.INVALID: 400,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.LEASE_HELD: 409,
    Kind.UNAVAILABLE: 503,
    Kind.UNKNOWN: 500,
    Kind.CORRUPT: 500,
    Kind.BUG: 500,
}


class _Told(Exception):
    """An error whose text is the JSON that its reader gets."""

    def __str__(self) -> str:
        return json.dumps(described(self), ensure_ascii=False)


def _told_class(name: str) -> type[ChromalithError]:
    return type(name, (_Told, getattr(errors, name)), {"__module__": __name__})


_TOLD = {
    Kind.CONFLICT: _told_class("Conflict"),
    Kind.LEASE_HELD: _told_class("LeaseHeld"),
    Kind.UNKNOWN: _told_class("Unknown"),
    Kind.UNAVAILABLE: _told_class("Unavailable"),
    Kind.NOT_FOUND: _told_class("NotFound"),
    Kind.INVALID: _told_class("Invalid"),
    Kind.CORRUPT: _told_class("Corrupt"),
    Kind.BUG: _told_class("Bug"),
}


def told(error: BaseException) -> ChromalithError:
    """``error`` as it leaves a handler: of the class that says what to do about it, and JSON when it is printed."""
    known = as_known(error)
    return _TOLD[known.kind](known.message, hint=known.hint)


def again(error: ChromalithError, message: str) -> ChromalithError:
    """The same error with another message."""
    return _TOLD[error.kind](message, hint=error.hint)


def described(error: BaseException) -> dict[str, str | None]:
    """``kind``, ``message`` and ``hint``."""
    known = as_known(error)
    return {"kind": str(known.kind), "message": known.message, "hint": known.hint}


def as_known(error: BaseException) -> ChromalithError:
    """``error`` as one of Chromalith's own; what nobody foresaw is a ``Bug``, with its class in the message."""
    if isinstance(error, ChromalithError):
        return error
    if isinstance(error, ValidationError):  # of the settings: payloads are told by chromalith.lambdas.payloads
        wrong = error.errors()[0]
        return Invalid(
            f"a setting is wrong CHROMALITH_{str(wrong['loc'][0]).upper()}={wrong['input']}: {wrong['msg']}",
            hint="correct the function's environment variable",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Unavailable(
            f"the function's disk is full path={error.filename}",
            hint="give it more ephemeral storage, or set CHROMALITH_CACHE_BYTES_MAX lower",
        )
    if isinstance(error, MemoryError):
        return Unavailable("the function ran out of memory", hint="give it more memory, or send or ask for less at once")
    return errors.Bug(f"an unforeseen {type(error).__name__}: {error}", hint="the function's log has the traceback; please report it")


# HTTP -----------------------------------------------------------------------------------------------------------------


def is_http(event: Any) -> bool:
    """Whether a function URL or an API gateway (REST or HTTP) asks."""
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    return isinstance(context, Mapping) and ("http" in context or "httpMethod" in context)


def http_payload(event: Mapping[str, Any]) -> Any:
    """The JSON in the body of a request; ``{}`` where there is none. Raises ``Invalid``."""
    body = event.get("body") or "{}"
    try:
        return json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
    except ValueError as error:  # also of base64, and of bytes that are no text
        raise Invalid(f"the body is not JSON: {error}", hint="send the payload as JSON, as docs/lambdas.md shows it") from error


def http_answer(status: int, value: Any) -> dict[str, Any]:
    """What a function URL and both kinds of gateway take for an answer."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "isBase64Encoded": False,
        "body": json.dumps(value, ensure_ascii=False),
    }


# JSON -----------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """``value`` as JSON can have it: arrays and numbers of numpy become lists and numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def check_fits(answer: Any) -> None:
    """Raise ``Invalid`` for an answer that Lambda would refuse: it would be lost, and the caller would get no reason."""
    size = len(json.dumps(answer, ensure_ascii=False).encode())
    if size > ANSWER_BYTES_MAX:
        raise Invalid(
            f"the answer is too large for Lambda bytes={size} limit={ANSWER_BYTES_MAX}",
            hint="ask for fewer results, leave embeddings out of include, or page with limit and offset",
        )
