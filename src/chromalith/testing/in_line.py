"""An executor without threads: the work runs in the caller's own thread, at once or when its result is asked for.

Which of the two is a matter of chance, so what a program does side by side comes in either order; and as no thread is made, the same
chance gives the same order again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class InLineExecutor(Executor):
    """Runs each submitted call once, in the caller's thread.

    Args:
        now: asked for each call: run it at once (``True``), or when its result is asked for. What nobody asks for runs at ``shutdown``.
    """

    def __init__(self, now: Callable[[], bool] = lambda: True) -> None:
        self._now = now
        self._waiting: list[_Deferred] = []

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future = _Deferred(lambda: fn(*args, **kwargs))
        if self._now():
            future.run()
        else:
            self._waiting.append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if wait and not cancel_futures:
                future.run()


class _Deferred(Future[Any]):
    """A future that runs its own call when somebody wants to know how it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call: Callable[[], Any] | None = call

    def run(self) -> None:
        call, self._call = self._call, None
        if call is None or not self.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except Exception as error:  # the death of a simulated process is no Exception: it goes straight through
            self.set_exception(error)
        else:
            self.set_result(result)

    def result(self, timeout: float | None = None) -> Any:
        self.run()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.run()
        return super().exception(timeout)
