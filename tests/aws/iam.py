"""Who may do what, decided from policy documents as AWS decides it: a small evaluator, for what our documents contain and nothing else.

A denial in any document wins; else an identity's policy must allow. Whatever this does not know (``NotAction``, an operator, a key of a
condition that no request here has) is an error and not a guess: a document that grows beyond it must not pass its tests unread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]

CONDITION_KEYS = {
    "aws:SecureTransport", "aws:SourceAccount", "aws:SourceArn", "s3:TlsVersion", "s3:if-match", "s3:if-none-match", "s3:prefix",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request, as a policy sees it. The context has the keys that the service fills in; a key that is absent is absent."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def allowed(request: Request, identity: Sequence[Document], resource: Sequence[Document] = ()) -> bool:
    """Whether an identity with these policies may make a request to something with those, in one account."""
    statements = [statement for document in identity for statement in document["Statement"]]
    if any(_applies(each, request) for each in statements if each["Effect"] == "Deny"):
        return False
    for document in resource:
        for each in document["Statement"]:
            if each["Effect"] != "Deny" or each.get("Principal") != "*":
                raise AssertionError(f"not a denial to everybody: {each}")
            if _applies(each, request):
                return False
    return any(_applies(each, request) for each in statements if each["Effect"] == "Allow")


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    unknown = statement.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert not unknown, f"this evaluator does not know {unknown}"
    return (
        any(_like(request.action, each, ignore_case=True) for each in _listed(statement["Action"]))
        and any(_like(request.resource, each) for each in _listed(statement["Resource"]))
        and _holds(statement.get("Condition", {}), request.context)
    )


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    """All operators, and all keys of each, must hold; of several values of one key any."""
    for operator, keys in condition.items():
        for key, values in keys.items():
            assert key in CONDITION_KEYS, f"no request of these tests has {key}"
            if operator == "Null":
                if (key not in context) != (values == "true"):
                    return False
            elif key not in context or not any(_OPERATORS[operator](context[key], value) for value in _listed(values)):
                return False
    return True


def _like(text: str, pattern: str, *, ignore_case: bool = False) -> bool:
    """``*`` is any text, slashes too, and ``?`` one character."""
    found = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(found, text, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringLike": _like,
    "ArnLike": _like,
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
    "NumericLessThan": lambda actual, wanted: float(actual) < float(wanted),
}
