"""How a remote store's client is configured: options, credentials, time-outs, and no retries.

Credentials of S3: keys from ``storage_options`` or the environment are used as they are. Otherwise, where boto3 is installed
(``chromalith[aws]``), boto3 finds them, so that profiles, SSO and assumed roles work as they do for the AWS CLI; where it is
not, the client itself looks at the container's and the instance's role. Nothing is looked up before the first request.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from obstore.store import AzureStore, GCSStore, S3Store

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.store.port import Store
from chromalith.store.remote import RemoteStore

CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 120
"""Enough for the largest delta (64 MiB) at 5 Mbit/s; what takes longer is answered by ``Unknown`` and looked up."""

CREDENTIALS_TTL = timedelta(minutes=5)
"""How long the client keeps what boto3 gave; boto3 itself renews in time, so asking it is cheap."""

OPTIONS: dict[str, dict[str, str]] = {
    "s3": {
        "endpoint": "endpoint", "region": "region", "profile": "", "access_key_id": "access_key_id",
        "secret_access_key": "secret_access_key", "session_token": "session_token", "anonymous": "skip_signature",
        "virtual_hosted": "virtual_hosted_style_request",
    },
    "gs": {"service_account": "service_account", "service_account_key": "service_account_key",
           "application_credentials": "application_credentials", "anonymous": "skip_signature", "endpoint": "base_url"},
    "az": {"account": "account_name", "account_key": "account_key", "sas_token": "sas_key", "client_id": "client_id",
           "client_secret": "client_secret", "tenant_id": "tenant_id", "use_azure_cli": "use_azure_cli",
           "anonymous": "skip_signature", "endpoint": "endpoint"},
}  # fmt: skip
"""Per scheme: the names in ``storage_options``, and the client's names for them. Each also takes ``timeout_s``."""


def open_remote(
    scheme: str, bucket: str, options: Mapping[str, object], url: str, clock: Clock = SYSTEM_CLOCK
) -> Store:
    """A store over ``bucket``. Makes no request.

    Raises:
        Invalid: an option is unknown or malformed.
    """
    known = {*OPTIONS[scheme], "timeout_s"}
    if unknown := sorted(set(options) - known):
        raise Invalid(
            f"unknown storage options options={unknown} store={url}", hint=f"known are {', '.join(sorted(known))}"
        )
    config: dict[str, Any] = {
        OPTIONS[scheme][name]: value
        for name, value in options.items()
        if OPTIONS[scheme].get(name) and value is not None
    }
    config["client_options"] = {
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=_seconds(options.get("timeout_s", REQUEST_TIMEOUT_S))),
        "allow_http": str(options.get("endpoint", "")).startswith("http://"),
    }
    config["retry_config"] = {"max_retries": 0, "retry_timeout": timedelta(seconds=REQUEST_TIMEOUT_S)}
    try:
        return RemoteStore(_client(scheme, bucket, config, options, clock), scheme, url)
    except Invalid:
        raise
    except Exception as error:  # the client has no common class for what it refuses here
        reason = str(error).partition("\n")[0]
        message = f"the store cannot be opened store={url} reason={reason}"
        raise Invalid(message, hint="check the URL and storage_options") from error


def _client(scheme: str, bucket: str, config: dict[str, Any], options: Mapping[str, object], clock: Clock) -> Any:
    if scheme == "gs":
        return GCSStore(bucket, **config)
    if scheme == "az":
        return AzureStore(bucket, **config)
    # One object, one DELETE: the port's verb is one key, and bulk deletion needs another permission on some services.
    config["disable_bulk_delete"] = True
    if "endpoint" in config:
        # The client prefers the environment's AWS_ENDPOINT_URL_S3 over `endpoint`; what the URL says must win.
        config["aws_endpoint_url_s3"] = config["endpoint"]
    _find_credentials(config, options, clock)
    config.setdefault("region", os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1")
    return S3Store(bucket, **config)


def _find_credentials(config: dict[str, Any], options: Mapping[str, object], clock: Clock) -> None:
    profile = options.get("profile") or os.environ.get("AWS_PROFILE")
    has_keys = "access_key_id" in config or (os.environ.get("AWS_ACCESS_KEY_ID") and not profile)
    if has_keys or config.get("skip_signature"):
        return
    if importlib.util.find_spec("boto3") is None:
        if profile:
            raise Invalid(f"reading AWS profiles needs boto3 profile={profile}", hint="pip install 'chromalith[aws]'")
        return
    import boto3

    try:
        session = boto3.Session(profile_name=str(profile) if profile else None)
    except Exception as error:
        raise Invalid(f"the AWS profile cannot be used profile={profile}", hint=str(error)) from error
    if session.region_name and not os.environ.get("AWS_REGION"):  # which boto3 does not read, and which goes before a profile's
        config.setdefault("region", session.region_name)
    config["credential_provider"] = _provider(session, clock)


def _provider(session: Any, clock: Clock) -> Callable[[], dict[str, Any]]:
    # Not obstore's own provider for boto3: that one looks the credentials up when it is made, which may ask the network.
    def credentials() -> dict[str, Any]:
        found = session.get_credentials()
        if found is None:
            raise LookupError("No credentials found")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.fromtimestamp(clock.now_us() / 1e6, UTC) + CREDENTIALS_TTL,
        }

    return credentials


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise Invalid(f"timeout_s must be a number of seconds above zero timeout_s={value}")
    return seconds
