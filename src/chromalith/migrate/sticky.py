"""Which reads belong together: while only a part of the reads goes to the target, a user should not see one side, then the other.

Reads with the same key go to the same side, in every process; a larger percentage moves a key once, and never back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_key: ContextVar[str | None] = ContextVar("chromalith_sticky", default=None)


@contextmanager
def sticky(key: str) -> Iterator[None]:
    """All reads inside the block that a :class:`MigratingClient` makes go to one side, which ``key`` decides.

    Args:
        key: of a user, a session, a tenant: whatever should see one side. The innermost block counts; a thread or task that
            is started inside follows its own context.
    """
    token = _key.set(str(key))
    try:
        yield
    finally:
        _key.reset(token)


def sticky_key() -> str | None:
    """The key of the innermost block, if there is one."""
    return _key.get()
