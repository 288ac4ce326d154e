"""boto3 clients of one AWS account: queue, lock table, functions, alarms. Objects go through :mod:`chromalith.store` instead.

Where to find the account is said by the same options as for an ``s3://`` store (``region``, ``profile``, ``access_key_id``,
``secret_access_key``, ``session_token``), else by boto3's own environment and files; and the region by ``AWS_REGION`` before these, as the
store's is, because boto3 alone looks only at ``AWS_DEFAULT_REGION``. An endpoint that was named for the store is the
store's alone: an emulator that is to stand for other services is named by ``AWS_ENDPOINT_URL`` or ``AWS_ENDPOINT_URL_SQS``, as boto3 does.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from chromalith.aws.errors import translated
from chromalith.errors import Invalid

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 25
"""Longer than a long poll of a queue (20 s)."""
ATTEMPTS_MAX = 3


def client(
    service: str,
    options: Mapping[str, object] | None = None,
    *,
    attempts: int = ATTEMPTS_MAX,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> Any:
    """A boto3 client. Makes no request. Raises ``Invalid``: boto3 is missing, or no region is known.

    Args:
        service: its name for boto3, such as ``sqs``.
        options: storage options of an S3 store; those of other stores are ignored.
        attempts: how often a request is sent at most; 1 where a repeat could hide one's own success.
        read_timeout_s: how long an answer is waited for.
    """
    if importlib.util.find_spec("boto3") is None:
        raise Invalid(f"{service} needs boto3", hint="pip install 'chromalith[aws]'")
    import boto3
    from botocore.config import Config

    given = options or {}
    text = {name: str(given[name]) for name in _SESSION if given.get(name)}
    if "region" not in text and os.environ.get("AWS_REGION"):
        text["region"] = os.environ["AWS_REGION"]
    configuration = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    with translated(service):
        session = boto3.Session(**{_SESSION[name]: value for name, value in text.items()})
        return session.client(service, config=configuration)


_SESSION = {
    "region": "region_name",
    "profile": "profile_name",
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
