"""What can go wrong, by what the person or the code that meets it should do next.

One class for each reaction, not for each cause (the idea is icechunk's and slatedb's RFC 0007). Messages are
lowercase, without a full stop, values last as ``key=value``; ``hint`` says what to do.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Stable, append-only names of the classes below; they appear in JSON output and in metrics."""

    CONFLICT = "conflict"
    LEASE_HELD = "lease_held"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    CORRUPT = "corrupt"
    BUG = "bug"


class ChromalithError(Exception):
    """The root of every error that Chromalith raises on purpose.

    Args:
        message: what happened, lowercase, values last as ``key=value``.
        hint: what to do about it, a whole sentence's worth without the full stop, or ``None``.
    """

    kind: Kind = Kind.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} (hint: {self.hint})"


class Conflict(ChromalithError):
    """Someone wrote first: refresh and decide again."""

    kind = Kind.CONFLICT


class LeaseHeld(ChromalithError):
    """Someone else is working on it: come back later."""

    kind = Kind.LEASE_HELD


class Unknown(ChromalithError):
    """It may or may not have happened: look before acting."""

    kind = Kind.UNKNOWN


class Unavailable(ChromalithError):
    """Storage or network failed, and nothing was changed: try again with backoff."""

    kind = Kind.UNAVAILABLE


class NotFound(ChromalithError, KeyError):
    """Absent, or swept under a reader: refresh, or fix the name."""

    kind = Kind.NOT_FOUND


class Invalid(ChromalithError, ValueError):
    """The call is wrong: fix the call. Nothing was written."""

    kind = Kind.INVALID


class Corrupt(ChromalithError):
    """Bytes break their checksum or their format: stop, a person must look.

    Args:
        message, hint: as of every error.
        key: the damaged or missing object, where it is one that a manifest names: then it can be said which version is whole without it.
    """

    kind = Kind.CORRUPT

    def __init__(self, message: str, *, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class Bug(ChromalithError, AssertionError):
    """An invariant of Chromalith itself does not hold: report it."""

    kind = Kind.BUG
