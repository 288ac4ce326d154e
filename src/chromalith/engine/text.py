"""Which texts contain a text: substring search over all documents of a part at once.

Arrow holds the texts one after the other in one buffer, so the search is over that buffer, not over the texts: compare all
bytes with the two bytes of the pattern that are rarest in a sample, and look at the few places where both are met. That is
four to eight times as fast as Arrow's kernel, which starts anew for each text (60,000 short documents: 1–2 ms, 9 ms).
UTF-8 is self-synchronising: bytes that are equal are characters that are equal.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chromalith.engine.columns import Mask, arrow_mask

SHORT_BYTES: Final = 2
"""Patterns up to this long are met so often that the places to look at outnumber the texts: Arrow's kernel is faster."""

BLOCK_BYTES: Final = 256 * 1024
"""Bytes compared in one go: what is compared, and the answer, stay in a core's own cache."""

SAMPLE_BYTES: Final = 64 * 1024


def contains(texts: pa.Array, text: str) -> Mask:
    """Bool ``(rows,)``: which of ``texts`` (string or large_string, nullable) contain ``text``; null contains nothing."""
    needle = np.frombuffer(text.encode(), dtype=np.uint8)
    if len(needle) <= SHORT_BYTES or len(texts) == 0:
        return arrow_mask(pc.match_substring(texts, text))
    validity, offset_buffer, data_buffer = texts.buffers()
    wide = pa.types.is_large_string(texts.type)
    all_offsets: npt.NDArray[Any] = np.frombuffer(offset_buffer, dtype=np.int64 if wide else np.int32)
    offsets = all_offsets[texts.offset : texts.offset + len(texts) + 1]
    found = np.zeros(len(texts), dtype=np.bool_)
    if data_buffer is None:
        return found
    places = _places(np.frombuffer(data_buffer, dtype=np.uint8), int(offsets[0]), int(offsets[-1]), needle)
    rows = np.searchsorted(offsets, places, side="right") - 1
    # A place that reaches into the next text is none.
    found[rows[places + len(needle) <= offsets[rows + 1]]] = True
    if validity is not None and texts.null_count:
        found &= arrow_mask(texts.is_valid())
    return found


def _places(data: npt.NDArray[np.uint8], start: int, stop: int, needle: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Where in ``data[start:stop]`` the needle begins: int64, ascending."""
    frequency = np.bincount(data[start : min(stop, start + SAMPLE_BYTES)], minlength=256)
    rarest_first = np.argsort(frequency[needle], kind="stable").tolist()
    first, second = rarest_first[:2]
    places = [np.empty(0, dtype=np.int64)]
    last = stop - len(needle) + 1
    for low in range(start, last, BLOCK_BYTES):
        high = min(low + BLOCK_BYTES, last)
        met = data[low + first : high + first] == needle[first]
        met &= data[low + second : high + second] == needle[second]
        at = np.flatnonzero(met) + low
        for i in rarest_first[2:]:
            if len(at) == 0:
                break
            at = at[data[at + i] == needle[i]]
        places.append(at)
    return np.concatenate(places)
