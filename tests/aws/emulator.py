"""The emulator's own start, with what AWS does and it does not: each correction is one function here, and listed in README.md.

Run as a process: ``python -m tests.aws.emulator PLAIN_PORT``. Everything else is the emulator's own settings (environment). TLS is served
on ``GATEWAY_PORT``; ``PLAIN_PORT`` serves the same without, so that a policy which demands TLS can be seen to refuse.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import unquote

from hypercorn.config import Config
from ministack import app
from ministack.core import iam_actions
from ministack.services import s3

_BATCHES = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
_KEYED = ("Key", "Item")


def batches_are_their_single_action() -> None:
    """SQS: a batch call needs the permission of the single call; no action of the batch's name exists in IAM."""
    theirs = iam_actions.extract_iam_action

    def extract_iam_action(*arguments: Any, **named: Any) -> str | None:
        action = theirs(*arguments, **named)
        return _BATCHES.get(action or "", action)

    iam_actions.extract_iam_action = extract_iam_action


def conditional_puts_have_condition_keys() -> None:
    """S3: ``s3:if-match`` and ``s3:if-none-match`` are the headers of a put, absent where the header is."""
    theirs = iam_actions.s3_service_context

    def s3_service_context(
        iam_action: str, query: dict[str, Any] | None, path: str = "", headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        context: dict[str, Any] = theirs(iam_action, query, path, headers)
        if iam_action == "s3:PutObject":
            for name in ("if-match", "if-none-match"):
                if value := (headers or {}).get(name):
                    context[f"s3:{name}"] = value
        return context

    iam_actions.s3_service_context = s3_service_context


class _AbsentKey(str):
    """A bucket's ARN, asked about because of one key in it that there is not."""

    key: str


def absence_is_told_to_those_who_may_list() -> None:
    """S3: a read of an object that is absent is answered by 404 only to whoever may list it; to others by 403.

    The key counts as the ``s3:prefix`` of that listing (Ceph's gateway found out, and does the same: pull request 68577)."""
    theirs, resources = iam_actions.s3_additional_checks, iam_actions.s3_access_point_resources

    def s3_additional_checks(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> list[tuple[str, str]]:
        checks: list[tuple[str, str]] = theirs(method, path, headers, body, query)
        name, _, key = unquote(path).lstrip("/").partition("/")
        bucket = s3._buckets.get(name)
        if method in ("GET", "HEAD") and key and not query and bucket is not None and key not in bucket["objects"]:
            arn = _AbsentKey(f"arn:aws:s3:::{name}")
            arn.key = key
            checks.append(("s3:ListBucket", arn))
        return checks

    def s3_access_point_resources(arn: str) -> list[tuple[str, dict[str, str]]]:
        if isinstance(arn, _AbsentKey):
            return [(str(arn), {"s3:prefix": arn.key})]
        return list(resources(arn))

    iam_actions.s3_additional_checks = s3_additional_checks
    iam_actions.s3_access_point_resources = s3_access_point_resources


def items_have_leading_keys() -> None:
    """DynamoDB: ``dynamodb:LeadingKeys`` is the hash key of the item that a request names (of tables whose hash key is ``lease_key``)."""
    theirs = iam_actions.dynamodb_service_context

    def dynamodb_service_context(body: bytes) -> dict[str, Any]:
        context: dict[str, Any] = theirs(body)
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return context
        keys = [request[part]["lease_key"]["S"] for part in _KEYED if "lease_key" in (request.get(part) or {})]
        if keys:
            context["dynamodb:LeadingKeys"] = keys
        return context

    iam_actions.dynamodb_service_context = dynamodb_service_context


def serve_plain_too(port: str) -> None:
    """Serve the same on a second port without TLS, and never on port 443."""
    app._port_is_bindable = lambda *where: False

    Config._insecure_bind = [f"127.0.0.1:{port}"]


def main() -> None:
    """Correct it, and serve."""
    plain = sys.argv.pop()
    batches_are_their_single_action()
    conditional_puts_have_condition_keys()
    absence_is_told_to_those_who_may_list()
    items_have_leading_keys()
    serve_plain_too(plain)
    app.main()


if __name__ == "__main__":
    main()
