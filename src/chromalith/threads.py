"""Where threads come from: whoever runs requests side by side takes a :data:`NewExecutor`, and makes no thread by itself.

In a program that is a pool of threads. A simulation gives one that runs the work in the caller's own thread, now or when the
result is asked for: so the requests of one actor come in either order, and a seed decides which.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

NewExecutor = Callable[[int, str], Executor]
"""How many threads at most, and what to call them; ``ThreadPoolExecutor`` is one."""
