"""Which keys a store accepts: the same in every adapter, so that what works in memory works on S3 and on a disk.

A key is segments joined by ``/``. A segment is 1 to 200 of the characters ``A–Z a–z 0–9 . _ - =`` and does not begin with
a dot. That leaves out whatever some store escapes, folds, refuses or sorts in its own way (spaces, ``%``, ``+``, non-ASCII,
empty segments, ``..``), and keeps dot names free for an adapter's own files.
"""

from __future__ import annotations

import re

from chromalith.errors import Invalid

KEY_BYTES_MAX = 900
"""Below the 1,024 bytes of S3, GCS and Azure, with room for the prefix of a store's URL."""

_SEGMENT = r"[A-Za-z0-9_=\-][A-Za-z0-9._=\-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")

_HINT = "a key is segments of A-Z a-z 0-9 . _ - = joined by '/', none empty, none beginning with a dot"


def is_key(key: str) -> bool:
    """Whether ``key`` can name an object. Listings leave out whatever else somebody put into the same place."""
    return len(key) <= KEY_BYTES_MAX and _KEY.fullmatch(key) is not None


def check_key(key: str) -> None:
    """Raise ``Invalid`` unless ``key`` can name an object."""
    if not is_key(key):
        raise Invalid(f"not a key that a store accepts key={_shown(key)}", hint=_HINT)


def check_prefix(prefix: str) -> None:
    """Raise ``Invalid`` unless ``prefix`` is empty or could be the beginning of a key."""
    if len(prefix) > KEY_BYTES_MAX or _PREFIX.fullmatch(prefix) is None:
        raise Invalid(f"not a prefix of any key prefix={_shown(prefix)}", hint=_HINT)


def check_range(start: int, stop: int, size: int, key: str) -> None:
    """Raise ``Invalid`` unless ``[start, stop)`` begins within an object of ``size`` bytes and is not empty."""
    if start < 0 or stop <= start or start >= size:
        raise Invalid(
            f"the range does not begin within the object, or is empty start={start} stop={stop} size={size} key={key}",
            hint="ask for 0 <= start < stop with start below the object's size",
        )


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}… length={len(text)}"
