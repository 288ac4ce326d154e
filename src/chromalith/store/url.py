"""From the URL of a store to the store, and from the ways to write a URL to the one canonical way.

=============================  ===============================================================================
``s3://bucket/prefix``         Amazon S3, or whatever speaks its protocol (``?endpoint=http://…&region=…``)
``gs://bucket/prefix``         Google Cloud Storage
``az://container/prefix``      Azure Blob Storage (``?account=…``)
``file:///path``, ``./path``   a directory of a POSIX file system, not NFS
``memory://name``              this process's memory
=============================  ===============================================================================

The canonical URL identifies the place: caches, locks and registers are keyed by it. So it names the endpoint or the account
when there is one (from the URL, the options, or the environment), and the real path of a directory.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.errors import Invalid
from chromalith.store.keys import check_key
from chromalith.store.port import Store
from chromalith.store.retry import DEFAULT_POLICY, RetryingStore, RetryPolicy
from chromalith.store.wrappers import PrefixStore, ProcessBoundStore

SCHEMES = ("s3", "gs", "az", "file", "memory")
_WITHOUT_OPTIONS = ("file", "memory")
_SUPPORTED = "supported are s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///path or a plain path, memory://name"
_OTHER_NAMES = {
    "s3a": "s3", "s3n": "s3", "gcs": "gs", "google": "gs", "azure": "az", "abfs": "az", "abfss": "az", "wasb": "az",
    "wasbs": "az", "adl": "az", "mem": "memory", "ram": "memory", "dir": "file", "local": "file",
}  # fmt: skip

IDENTIFYING = {"s3": "endpoint", "az": "account"}
"""Per scheme the option that, with the bucket, says which place is meant."""

_IN_URL = {"s3": {"endpoint", "region"}, "az": {"account"}}
_ENVIRONMENT = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "account": ("AZURE_STORAGE_ACCOUNT_NAME",),
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,253}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(/{0,2})(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A parsed URL: ``bucket`` is the bucket, container, directory or memory store's name; ``prefix`` has no slash around it.

    ``options`` are the storage options, with those of the URL and the identifying one of the environment added."""

    scheme: str
    bucket: str
    prefix: str = ""
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The canonical URL."""
        if self.scheme == "file":
            return f"file://{quote(self.bucket)}"
        path = f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")
        name = IDENTIFYING.get(self.scheme)
        if name is None or not self.options.get(name):
            return path
        return f"{path}?{urlencode({name: str(self.options[name])}, safe=':/')}"


def canonical_url(url: str, *, storage_options: Mapping[str, object] | None = None) -> str:
    """The one way to write the place that ``url`` means. Opens nothing.

    Raises:
        Invalid: the URL means no place; the message says which forms are supported.
    """
    return parse_url(url, storage_options).url


def open_store(
    url: str,
    *,
    storage_options: Mapping[str, object] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Store:
    """Open the store at ``url``, with retries, for use in this process only. Makes no request and creates nothing.

    Args:
        url: see the table at the head of this module.
        storage_options: credentials and the like of a remote store: the names in ``chromalith.store.remote.OPTIONS``.
        clock: gives memory and directory stores their timestamps, and retries their waits.
        policy: how often and how patiently failed requests are repeated.

    Raises:
        Invalid: the URL means no place, an option is unknown, or a directory cannot be there.
    """
    place = parse_url(url, storage_options)
    adapter = _adapter(place, clock)
    if place.prefix:
        adapter = PrefixStore(adapter, place.prefix)
    return ProcessBoundStore(RetryingStore(adapter, clock, policy))


def parse_url(url: str, storage_options: Mapping[str, object] | None = None) -> Place:
    """Take a URL apart. Raises ``Invalid`` when it means no place."""
    options = dict(storage_options or {})
    if not url or "\0" in url:
        raise Invalid(f"this URL means no store url={url!r}", hint=_SUPPORTED)
    matched = _SCHEME.fullmatch(url)
    if matched is None or (not matched[2] and matched[1].lower() not in (*SCHEMES, *_OTHER_NAMES)):
        return Place("file", os.path.realpath(Path(url).expanduser()), options=options)
    scheme, slashes, rest = matched[1].lower(), matched[2], matched[3]
    if scheme not in SCHEMES:
        raise Invalid(f"the scheme is not supported url={url}", hint=_unsupported(scheme, rest))
    if scheme == "file":
        return _directory_place(url, slashes + rest, options)
    if slashes != "//":
        raise Invalid(
            f"the URL lacks '//' after its scheme url={url}", hint=f"did you mean {scheme}://{rest}; {_SUPPORTED}"
        )
    return _bucket_place(url, scheme, rest, options)


def options_taken(url: str, options: Mapping[str, object] | None) -> dict[str, object]:
    """``options``, or none for a store that takes none: for whoever opens several with the same ones. Raises as :func:`parse_url`."""
    return {} if parse_url(url).scheme in _WITHOUT_OPTIONS else dict(options or {})


def _directory_place(url: str, rest: str, options: dict[str, object]) -> Place:
    # file:///path and file:/path are the standard's forms; file://localhost/path too. In file://path, path is a host.
    path = rest.removeprefix("//localhost") if rest.startswith("//localhost/") else rest
    path = path.removeprefix("//")
    if not path.startswith("/"):
        raise Invalid(
            f"a file URL needs an absolute path url={url}",
            hint=f"did you mean file:///{path.lstrip('/')}, or the plain path ./{path.lstrip('/')}",
        )
    return Place("file", os.path.realpath(unquote(path)), options=options)


def _bucket_place(url: str, scheme: str, rest: str, options: dict[str, object]) -> Place:
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.rstrip("/")
    if _BUCKET.fullmatch(bucket) is None:
        what = "name" if scheme == "memory" else "container" if scheme == "az" else "bucket"
        raise Invalid(f"the URL names no valid {what} url={url}", hint=f"write {scheme}://{what}/prefix; {_SUPPORTED}")
    if prefix:
        check_key(prefix)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _IN_URL.get(scheme, set()):
            raise Invalid(
                f"the URL has an unknown parameter name={name} url={url}",
                hint=f"known for {scheme}: {', '.join(sorted(_IN_URL.get(scheme, set()))) or 'none'}",
            )
        options.setdefault(name, value)
    identifying = IDENTIFYING.get(scheme, "")
    if identifying and not options.get(identifying):
        found = next((os.environ[name] for name in _ENVIRONMENT[identifying] if os.environ.get(name)), None)
        if found is not None:
            options[identifying] = found
    if scheme == "s3" and options.get("endpoint"):
        options["endpoint"] = str(options["endpoint"]).rstrip("/")
    return Place(scheme, bucket, prefix, options)


def _adapter(place: Place, clock: Clock) -> Store:
    # Imported on use: a directory store must open where the network client is not installed, and the reverse.
    if place.scheme in _WITHOUT_OPTIONS and place.options:
        raise Invalid(f"this store takes no storage options url={place.url} options={sorted(place.options)}")
    if place.scheme == "file":
        from chromalith.store.directory import DirectoryStore

        return DirectoryStore(place.bucket, clock)
    if place.scheme == "memory":
        from chromalith.store.memory import named_memory_store

        return named_memory_store(place.bucket, clock)
    from chromalith.store.remote_open import open_remote

    bucket = Place(place.scheme, place.bucket, "", place.options)
    return open_remote(place.scheme, place.bucket, place.options, bucket.url, clock)


def _unsupported(scheme: str, rest: str) -> str:
    if scheme in ("http", "https"):
        return "for a server that speaks S3 write s3://bucket/prefix?endpoint=http://host:port; " + _SUPPORTED
    near = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.4)
    meant = _OTHER_NAMES.get(scheme, near[0] if near else "")
    return (f"did you mean {meant}://{rest}; " if meant else "") + _SUPPORTED
