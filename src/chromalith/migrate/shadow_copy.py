"""A copy of what a caller has in hand, made while the caller waits: so it must cost microseconds, and take a known
amount of memory.

Containers are copied and texts and numbers are shared, which nobody can change: the caller may then do with its answer
what it likes, and the copy keeps neither its containers nor its arrays alive. Size is counted in *cells*, about what a
number or eight characters take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

CELL_CHARS = 8
DEPTH_MAX = 32


class TooLarge(Exception):
    """The copy would take more cells than there are."""


class Copier:
    """Copies values, and counts.

    Args:
        cells_max: more than this raises :class:`TooLarge`.
    """

    def __init__(self, cells_max: int) -> None:
        self._cells_max = cells_max
        self.cells = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """The copy. Tuples become lists; what is no container, text or array is shared. Raises ``TooLarge``."""
        if value is None or isinstance(value, int | float):
            self.cells += 1
            return value
        if isinstance(value, str):
            self._take(1 + len(value) // CELL_CHARS)
            return value
        if isinstance(value, np.ndarray):
            self._take(1 + value.size)
            return value.copy()
        if depth >= DEPTH_MAX:
            raise TooLarge
        if isinstance(value, list | tuple):
            self._take(1 + len(value))
            if value and type(value[0]) in (float, int):  # an embedding: hundreds of numbers, copied at once
                return list(value)
            return [self.copy(each, depth + 1) for each in value]
        if isinstance(value, Mapping):
            self._take(1 + len(value))
            return {key: self.copy(each, depth + 1) for key, each in value.items()}
        self.cells += 1
        return value

    def _take(self, cells: int) -> None:
        self.cells += cells
        if self.cells > self._cells_max:
            raise TooLarge
