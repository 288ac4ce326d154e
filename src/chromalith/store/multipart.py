"""Multipart uploads that nobody finished. S3 keeps and bills them until somebody aborts them, and no listing of objects shows them.

Chromalith writes each object in one request, so these come from what copied a store with other tools. They are found with boto3, which is
optional; without it, or on another kind of store, there is nothing to find. An upload is aborted only if its key is below one of
Chromalith's own roots in the store's prefix.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chromalith.errors import Invalid, Unavailable
from chromalith.store.port import Entry
from chromalith.store.remote_open import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S
from chromalith.store.url import parse_url


class UnfinishedUploads:
    """The unfinished multipart uploads of one store.

    Args:
        client: boto3's S3 client.
        bucket, prefix: the store's; the prefix is empty or ends in a slash.
        roots: beginnings of keys in the store.
    """

    kind = "unfinished_upload"

    def __init__(self, client: Any, bucket: str, prefix: str, roots: Collection[str]) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._roots = tuple(f"{prefix}{root}" for root in roots)

    def find(self) -> Sequence[Entry]:
        """One request for each 1,000 uploads. The sizes are not told: 0."""
        found: list[Entry] = []
        try:
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix):
                found += [self._entry(upload) for upload in page.get("Uploads", ()) if upload["Key"].startswith(self._roots)]
        except Exception as error:  # boto3 has no common class for the service's errors and the network's
            raise self._failed("listed", error) from error
        return found

    def remove(self, entry: Entry) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._prefix + entry.key, UploadId=entry.etag)
        except Exception as error:
            if getattr(error, "response", {}).get("Error", {}).get("Code") == "NoSuchUpload":
                return  # finished or aborted meanwhile
            raise self._failed("aborted", error) from error

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _entry(self, upload: Mapping[str, Any]) -> Entry:
        begun_us = round(upload["Initiated"].timestamp() * 1_000_000)
        return Entry(upload["Key"][len(self._prefix) :], 0, upload["UploadId"], begun_us)

    def _failed(self, what: str, error: Exception) -> Unavailable:
        reason = str(error).partition("\n")[0]
        return Unavailable(
            f"multipart uploads could not be {what} bucket={self._bucket} reason={reason}",
            hint="allow s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, or let a lifecycle rule abort them",
        )


def unfinished_uploads(
    url: str, storage_options: Mapping[str, object] | None, roots: Collection[str]
) -> UnfinishedUploads | None:
    """Those of the store at ``url``; ``None`` if it is not on S3, or boto3 is not installed. Makes no request.

    Raises ``Invalid`` if boto3 refuses the options.
    """
    place = parse_url(url, storage_options)
    if place.scheme != "s3" or place.options.get("anonymous") or importlib.util.find_spec("boto3") is None:
        return None
    import boto3
    from botocore.config import Config

    options = {name: str(value) for name, value in place.options.items() if value is not None}
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        session = boto3.Session(profile_name=options.get("profile"))
        client = session.client(
            "s3",
            endpoint_url=options.get("endpoint"),
            region_name=region or session.region_name or "us-east-1",
            aws_access_key_id=options.get("access_key_id"),
            aws_secret_access_key=options.get("secret_access_key"),
            aws_session_token=options.get("session_token"),
            config=Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=REQUEST_TIMEOUT_S, retries={"total_max_attempts": 4}),
        )
    except Exception as error:
        raise Invalid(f"boto3 cannot open the store store={place.url} reason={error}", hint="check storage_options") from error
    return UnfinishedUploads(client, place.bucket, f"{place.prefix}/" if place.prefix else "", roots)
