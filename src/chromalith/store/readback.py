"""Did my write happen? The answer when a conditional put's reply is lost, or lies.

The problem. A client sends ``put(key, body, condition)`` and the connection breaks. Three worlds look the same: the request
never arrived; it was applied and the reply was lost; it is still on its way and will be applied later. Sending it again
looks safe, because the condition guards it. But in the second world the condition now meets the client's own object, and
the store says "precondition failed": the client would report a lost race for a write that in truth won. A proxy or a load
balancer that repeats requests by itself makes the same world even when no reply was lost. So a failed precondition is no
more believed than a lost reply: both are looked up.

What makes looking possible: the body names its writer. A delta or manifest is immutable under a name that only its writer
uses; a pointer, lease or catalog holds a write id drawn for this one attempt. Equal bytes under the key therefore mean: mine.

``put_resolved`` with :class:`~chromalith.store.port.Absent`:

1. Put. A tag comes back: done.
2. ``Unknown`` or ``PreconditionFailed``: read the key. Same bytes: mine, done. Other bytes: :class:`Overtaken`.
3. Nothing there: put the same bytes again. Whichever of the attempts arrives first wins, the others then fail: one object.

With :class:`~chromalith.store.port.Matches`:

1. Put. A tag comes back: done.
2. ``Unknown`` or ``PreconditionFailed`` (whether the store said 412, or 404): read the key. Same bytes: mine, done.
3. The tag is still the expected one: no attempt was applied *yet*. Put again; a straggler and the new attempt exclude each
   other, because the first of them changes the tag.
4. Another object, or none: :class:`Overtaken`, with the object seen. It does *not* prove that no attempt was applied: it
   may have been, and then been overwritten. ``ambiguous`` says whether that is possible; then the caller must follow the
   history that the object names (a pointer: its manifest's parents) before it calls the write lost.

Attempts run out, or reading fails for good: ``Unknown``. It is never rounded to yes or no.

Invariants:

- A tag is returned only if ``body`` was, at some moment during the call, the object under ``key``.
- ``Overtaken`` with ``ambiguous`` false is raised only if no reply was lost and the store refused each attempt: if it keeps
  its word, none was applied and none will be.
- ``Unavailable`` and ``Invalid`` are raised only if each attempt was certainly not applied.

The idea is Icechunk's and SlateDB's, who mark each write in the object's metadata instead of its body; a read-back that
fails is ``Unknown`` here as in Icechunk, never a conflict.
"""

from __future__ import annotations

from chromalith.clock import Clock
from chromalith.errors import Invalid, NotFound, Unavailable, Unknown
from chromalith.store.port import Absent, ETag, Matches, Object, PreconditionFailed, Store
from chromalith.store.retry import RetryPolicy

READBACK_POLICY = RetryPolicy(attempts=6, base_s=0.05, cap_s=2.0)
"""Of the loop around put and read; the store's own retries run inside each of its steps."""


class Overtaken(PreconditionFailed):
    """Another object is under the key, or none where one was expected.

    Attributes:
        current: the object seen there by the last read, or ``None``.
        ambiguous: an attempt of this call may have been applied, and then overwritten or deleted."""

    def __init__(self, message: str, *, current: Object | None, ambiguous: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.current = current
        self.ambiguous = ambiguous


def put_resolved(
    store: Store,
    key: str,
    body: bytes,
    condition: Absent | Matches,
    clock: Clock,
    *,
    policy: RetryPolicy = READBACK_POLICY,
) -> ETag:
    """Put under a condition, and find out what happened when the store does not say.

    Args:
        store: with or without retries of its own.
        key: where to.
        body: must identify this write (content-addressed or immutable for ``Absent``, with a fresh write id for ``Matches``):
            no other writer, and no earlier call, may ever put equal bytes under this key and mean another write.
        condition: ``Absent`` or ``Matches``; a put without condition has nothing to resolve.
        clock: waits between attempts.
        policy: how many times to put, and how long to wait between.

    Returns:
        The entity tag of the object that holds ``body``.

    Raises:
        Overtaken: the condition does not hold; see there what that proves. It is a ``PreconditionFailed``.
        Unknown: it may have been applied, or may be applied later.
        Unavailable, Invalid: it was certainly not applied.
    """
    if condition is None:
        raise Invalid(f"a put without condition cannot be resolved by reading back key={key}")
    maybe_applied = False
    failure: PreconditionFailed | Unknown | None = None
    for attempt in range(1, policy.attempts + 1):
        try:
            return store.put(key, body, condition)
        except PreconditionFailed as error:
            failure = error
        except Unknown as error:
            maybe_applied = True
            failure = error
        except (Unavailable, Invalid) as error:  # each of them says that nothing was written
            if maybe_applied:
                raise Unknown(f"the write was lost from sight key={key}: {error.message}", hint=_LOOK) from error
            raise
        current = _read_back(store, key, failure, maybe_applied)
        if current is not None and current.body == body:
            return current.etag
        if not _still_possible(condition, current):
            raise _overtaken(key, condition, current, maybe_applied) from failure
        if attempt < policy.attempts:
            clock.sleep(policy.wait_s(attempt, clock))
    if maybe_applied:
        raise Unknown(
            f"the write may still be on its way key={key} attempts={policy.attempts}", hint=_LOOK
        ) from failure
    raise Unavailable(
        f"the store refuses the condition although it holds key={key} attempts={policy.attempts}",
        hint="the key is written by many at once, or the store's conditional writes are broken: run chromalith doctor",
    ) from failure


_LOOK = "read the object before you decide anything; repeating the call with the same bytes is safe"


def _still_possible(condition: Absent | Matches, current: Object | None) -> bool:
    """Whether an attempt could still be applied to what is there: then none has been, and another may be made."""
    if isinstance(condition, Absent):
        return current is None
    return current is not None and current.etag == condition.etag


def _read_back(store: Store, key: str, failure: PreconditionFailed | Unknown, maybe_applied: bool) -> Object | None:
    try:
        return store.get(key)
    except NotFound:
        return None
    except (Unavailable, Invalid) as error:  # Invalid: credentials that ended meanwhile, or may not read
        # Also after a failed precondition: that answer may be the echo of this client's own success.
        raise Unknown(
            f"the write could not be looked up key={key} after={failure.kind} maybe_applied={maybe_applied}: {error.message}", hint=_LOOK
        ) from error


def _overtaken(key: str, condition: Absent | Matches, current: Object | None, maybe_applied: bool) -> Overtaken:
    found = "nothing" if current is None else f"etag={current.etag}"
    expected = "nothing" if isinstance(condition, Absent) else condition.etag
    return Overtaken(
        f"another write came first key={key} expected={expected} found={found}",
        current=current,
        ambiguous=maybe_applied,
        hint="read the new state and decide again",
    )
