"""What every handler has around it: the store, which stays open while the function is warm, and what is made anew for each invocation.

1. The first invocation opens the store that the environment names, with a cache under ``/tmp``. Later ones of the same process find it
   open: a warm query makes the requests of a query, and no others.
2. Each invocation gets an :class:`Invocation` of its own: its deadline, its id, its log. Nothing of it is kept.
3. The handler's verb answers a value or raises. The answer must fit into what Lambda takes.
4. Before the function answers, hints on their way are waited for and metrics are written: Lambda freezes a process the moment it answers.

The environment:

=============================================  =====================================================================
``CHROMADB_BUCKET``, ``DELTA_BUCKET``          a bucket, or the URL of a store; a producer looks at the second first
``CHROMALITH_STORE``                           the URL, if neither is set
``DELTA_QUEUE_URL``, ``CHROMALITH_QUEUE_URL``  where a producer's hints go
``CHROMALITH_CACHE_DIR``                       else ``/tmp/chromalith``
``CHROMALITH_CACHE_BYTES_MAX``                 else four fifths of the disk that it is on
``CHROMALITH_EMBED``                           ``module:function``, from a list of texts to float32 (n, dim)
``CHROMALITH_METRICS``                         else ``emf``
=============================================  =====================================================================

and every other setting of ``chromalith config``.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger

from chromalith.clock import SYSTEM_CLOCK, Clock
from chromalith.coord.lease import Sightings
from chromalith.errors import ChromalithError, Kind
from chromalith.guide import CHROMADB_BUCKET, DELTA_BUCKET, DELTA_QUEUE_URL, STORE, Warm, bucket_url
from chromalith.lambdas.answers import STATUS, as_known, check_fits, described, http_answer, http_payload, is_http, told
from chromalith.observe.configured import EMF, configured
from chromalith.observe.emf import EmfObserver
from chromalith.observe.hooks import Observer
from chromalith.settings import Settings
from chromalith.store.cache import SIZE_BYTES_MAX
from chromalith.wiring import open_session

CACHE_DIR = Path("/tmp/chromalith")
CACHE_SHARE = 0.8
"""Of the disk: derived files and downloads under way take a part beside what the cache counts."""
ANSWER_S = 3.0
"""Kept of the time limit for what comes after the work: releasing a lease (one request), hints (at most :data:`FLUSH_S`), metrics."""
FLUSH_S = 1.0
_VARIABLES = ("AWS_ENDPOINT", "AWS_REGION", "CHROMADB_", "CHROMALITH_", "DELTA_")


@dataclass(slots=True)
class Kept:
    """What one process keeps while it is warm.

    Attributes:
        store: the open store, and the collections that were looked up in it.
        settings: as the environment gave them.
        flush_metrics: writes what the invocation had to tell.
        sightings: what was seen of other holders of leases, in this and earlier invocations.
    """

    store: Warm
    settings: Settings
    flush_metrics: Callable[[], None]
    sightings: Sightings


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation. Made anew each time: a deadline that outlived its invocation would end a later one at once.

    Attributes:
        kept: what stays while the process is warm.
        time_left: seconds until the work must have ended; infinite where nobody set a limit.
        request_id: Lambda's id, the same when it repeats an asynchronous invocation; ``None`` outside Lambda.
        log: for this handler.
        clock: time.
    """

    kept: Kept
    time_left: Callable[[], float]
    request_id: str | None
    log: Logger
    clock: Clock = field(default=SYSTEM_CLOCK)


Act = Callable[[Invocation, Any], Any]
Handler = Callable[[Any, Any], Any]

_lock = threading.Lock()
_kept: dict[tuple[object, ...], Kept] = {}
_logger = Logger(service=os.environ.get("POWERTOOLS_SERVICE_NAME", "chromalith"))


def entry(
    role: str, act: Act, *, variables: tuple[str, ...] = (CHROMADB_BUCKET, DELTA_BUCKET, STORE), tells_queue: bool = False
) -> Handler:
    """The function that Lambda calls: ``act`` with everything around it.

    Args:
        role: what it is called in the log.
        act: from an invocation and the payload to the answer, a JSON value.
        variables: where the store is looked for, in this order.
        tells_queue: whether its writes are told to the queue of the environment.
    """

    def handle(event: Any, context: Any) -> Any:
        _logger.append_keys(role=role, request_id=getattr(context, "aws_request_id", None))
        http = is_http(event)
        try:
            answer = _run(act, opened(variables, tells_queue=tells_queue), event, context, http=http)
            answer = http_answer(200, answer) if http else answer
            check_fits(answer)
            return answer
        except Exception as error:
            known = as_known(error)
            _log_error(known, error)
            if http:
                return http_answer(STATUS[known.kind], {"error": described(known)})
            raise told(known) from error
        finally:
            _logger.clear_state()

    return handle


def _run(act: Act, kept: Kept, event: Any, context: Any, *, http: bool) -> Any:
    payload = http_payload(event) if http else event
    try:
        return act(Invocation(kept, _time_left(context), getattr(context, "aws_request_id", None), _logger), payload)
    finally:
        if kept.store.session.notifier is not None:
            kept.store.session.notifier.flush(FLUSH_S)
        kept.flush_metrics()


def _log_error(known: ChromalithError, error: Exception) -> None:
    """What the caller did wrong is a line; what is wrong here has its traceback."""
    expected = known.kind not in (Kind.BUG, Kind.CORRUPT, Kind.UNKNOWN)
    tell = _logger.warning if expected else _logger.error
    tell(known.message, extra={"error": described(known)}, exc_info=None if expected else error)


def _time_left(context: Any) -> Callable[[], float]:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return lambda: float("inf")
    return lambda: float(remaining()) / 1000 - ANSWER_S


def opened(variables: tuple[str, ...], *, tells_queue: bool = False) -> Kept:
    """What this process keeps for this environment; opened by the first call. Makes no request. Raises ``Invalid``."""
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES)))
    key = (variables, tells_queue, environment)
    with _lock:
        if key not in _kept:
            _kept[key] = _open(variables, tells_queue)
        return _kept[key]


def _open(variables: tuple[str, ...], tells_queue: bool) -> Kept:
    given = os.environ
    settings = Settings()
    directory = settings.cache_dir if given.get("CHROMALITH_CACHE_DIR") else CACHE_DIR
    observe, flush_metrics = _metrics(settings)
    session = open_session(
        bucket_url(None, variables),
        cache_dir=directory,
        cache_bytes_max=_cache_bytes(settings, directory),
        observe=observe,
        queue_url=given.get(DELTA_QUEUE_URL) if tells_queue else "",
    )
    return Kept(Warm(session), settings, flush_metrics, Sightings(SYSTEM_CLOCK))


def _metrics(settings: Settings) -> tuple[Observer, Callable[[], None]]:
    """The observer, and what ends an invocation's metrics. CloudWatch's lines are written once an invocation, and unless said otherwise."""
    if os.environ.get("CHROMALITH_METRICS", EMF) != EMF:
        return configured(settings.metrics), lambda: None
    observer = EmfObserver(hold=True)
    return observer, observer.flush


def _cache_bytes(settings: Settings, directory: Path) -> int:
    if os.environ.get("CHROMALITH_CACHE_BYTES_MAX"):
        return settings.cache_bytes_max
    directory.mkdir(parents=True, exist_ok=True)
    return min(SIZE_BYTES_MAX, int(CACHE_SHARE * shutil.disk_usage(directory).total))
