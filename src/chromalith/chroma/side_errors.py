"""Chroma's errors as ours: what certainly did not happen, what may have, and what is not there.

=====================================================  ==============================  ================
what Chroma, or the way to it, raised                  a write                         a read
=====================================================  ==============================  ================
a refusal (arguments, dimension, quota)                ``Invalid``                     ``Invalid``
a refusal of rights                                    ``Denied``, an ``Invalid``      ``Denied``
the collection, database or tenant is not there        ``NotFound``                    ``NotFound``
the name is taken                                      ``Conflict``                    ``Conflict``
no connection; too many requests                       ``Unavailable``                 ``Unavailable``
a timeout or a break after sending, a server's error   ``Unknown``                     ``Unavailable``
=====================================================  ==============================  ================

A server's own error (5xx, ``InternalError``) is no refusal: Chroma notes a write in its log first, and what fails afterwards is
applied from there the next time it is asked. Nor is an error of that application, whatever class it has: 1.5.9 raises
``InvalidArgumentError`` where it can't read its own log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from chromadb.errors import (
    AuthorizationError,
    BatchSizeExceededError,
    ChromaAuthError,
    ChromaError,
    DuplicateIDError,
    IDAlreadyExistsError,
    InvalidArgumentError,
    InvalidDimensionException,
    InvalidHTTPVersion,
    InvalidUUIDError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    UniqueConstraintError,
    VersionMismatchError,
)

from chromalith.errors import ChromalithError, Conflict, Corrupt, Invalid, NotFound, Unavailable, Unknown
from chromalith.store.port import NotAllowed
from chromalith.transfer.sides import Denied

_REFUSALS = (
    InvalidArgumentError,
    InvalidDimensionException,
    IDAlreadyExistsError,
    DuplicateIDError,
    InvalidUUIDError,
    InvalidHTTPVersion,
    BatchSizeExceededError,
    QuotaError,
    VersionMismatchError,
)
_NO_RIGHTS = (ChromaAuthError, AuthorizationError)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_WRONG_URL = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)
_NOT_TAKEN = ("Failed to deserialize", "Failed to parse", "length limit exceeded")
"""How a server begins to say that it could not even read the request; it has no class for that."""
_LOGGED = ("Error in compaction", "Error executing plan: Error sending backfill request")
"""How Chroma begins to say that it failed after it had noted the write, or while it applied what it had noted."""
_RIGHTS_HINT = "check the key or token, and what it may do"
_TEXT_MAX = 300


@contextmanager
def side_errors(place: str, what: str, *, writes: bool, local: bool = False) -> Iterator[None]:
    """Raise ours for Chroma's inside the block.

    Args:
        place, what: of the side, and what is done there: for the message.
        writes: whether the call may change something.
        local: whether the engine is in this process, on a directory: then its own error at a read will not pass by waiting.
    """
    try:
        yield
    except ChromalithError:
        raise
    except Exception as error:
        ours = _ours(error, f"place={place} doing={what!r}", writes)
        if ours is None:
            raise
        if local and isinstance(ours, Unavailable) and isinstance(error, ChromaError):
            ours = Corrupt(
                f"Chroma can't read its own directory place={place} doing={what!r}",
                hint=f"it is damaged, was not copied whole, or two processes wrote it; Chroma says: {ours.hint}",
            )
        raise ours from error


def _ours(error: Exception, where: str, writes: bool) -> ChromalithError | None:
    """The error to raise instead; ``None``: this is none of Chroma's."""
    text = str(error)[:_TEXT_MAX]
    if isinstance(error, ChromaError):
        return _of_chroma(error, text, where, writes)
    if isinstance(error, _NOT_SENT):
        return Unavailable(
            f"no Chroma server answers {where}", hint=f"is it running, and is this its address; {text or 'no answer'}"
        )
    if isinstance(error, _WRONG_URL):
        return Invalid(f"not the address of a server {where}", hint=text)
    if isinstance(error, httpx.HTTPError | json.JSONDecodeError):
        return _unclear(text or type(error).__name__, where, writes)
    if isinstance(error, ValueError | TypeError | OverflowError):  # what chromadb refuses before it sends anything
        return Invalid(f"Chroma refuses it {where}", hint=text)
    # chromadb raises the bare class for an answer that is no error of Chroma's
    if type(error) is Exception or isinstance(error, OSError | RuntimeError):
        status = _status(error)
        return _of_status(status, text, where, writes) if status is not None else _unclear(text, where, writes)
    return None


def _of_chroma(error: ChromaError, text: str, where: str, writes: bool) -> ChromalithError:
    if isinstance(error, NotFoundError):
        return NotFound(f"it is not there {where}", hint=text)
    if isinstance(error, UniqueConstraintError):
        return Conflict(f"there is one already {where}", hint=text)
    if isinstance(error, _NO_RIGHTS):
        return Denied(f"Chroma denies it {where}", hint=f"{_RIGHTS_HINT}; Chroma says: {text}")
    if text.startswith(_LOGGED):
        return _unclear(text, where, writes)
    if isinstance(error.__cause__, NotAllowed):  # a Chromalith store
        return Denied(f"the store denies it {where}", hint=f"{_RIGHTS_HINT}; {text}")
    if isinstance(error, _REFUSALS):
        return Invalid(f"Chroma refuses it {where}", hint=text)
    if isinstance(error, RateLimitError):
        return Unavailable(f"too many requests {where}", hint=f"it is tried again, more slowly; Chroma says: {text}")
    if any(words in text for words in _NOT_TAKEN):
        return Invalid(f"Chroma refuses it {where}", hint=text)
    return _unclear(text, where, writes)


def _of_status(status: int, text: str, where: str, writes: bool) -> ChromalithError:
    """An answer that is no error of Chroma's: from its web server, or from a proxy before it."""
    if status in (401, 403):
        return Denied(f"Chroma denies it {where} status={status}", hint=_RIGHTS_HINT)
    if status == 429:
        return Unavailable(f"too many requests {where}", hint="it is tried again, more slowly")
    if status == 404:
        return NotFound(f"nothing is at this address {where}", hint=text or "is it a Chroma server of version 1")
    if 400 <= status < 500 and status != 408:
        return Invalid(f"the server refuses it {where} status={status}", hint=text)
    return _unclear(f"status {status}: {text}", where, writes)


def _unclear(text: str, where: str, writes: bool) -> ChromalithError:
    if writes:
        return Unknown(f"Chroma's answer does not tell whether it was written {where}", hint=text)
    return Unavailable(f"Chroma could not be read {where}", hint=text)


def _status(error: Exception) -> int | None:
    """chromadb raises a bare ``Exception`` while it handles the answer's own; that one knows the status."""
    context = error.__context__
    return context.response.status_code if isinstance(context, httpx.HTTPStatusError) else None
