"""A part of the folded set: older runs, as sorted columns, in an immutable Parquet object of their own.

Columns ``writer, start, stop, state, day``, ascending by (writer, start), disjoint: 18 bytes a run on disk (16 of them are the writer,
which is chance), 31 in memory, where a lookup is a binary search.

Parts are merged as the levels of a log-structured tree are (O'Neil et al., 1996): what leaves the manifest goes into a new part
together with the trailing parts that are at most :data:`PART_FACTOR` times as large. So each part is over 4 times as large as the
next: their number is logarithmic; all together have at most 1/4 + 1/16 + … = a third more runs than the first of them, although a
writer may have runs in each; and when a run is rewritten, what it stands in has grown by at least a quarter.

Measured (``tests/scale/test_folded_set.py``): a million deltas of 100,000 writers, interleaved over 30 days: 3 parts, 2.1 MB at most, and
82 bytes written for parts for each delta.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from chromalith.errors import Corrupt, Invalid
from chromalith.model.arrow_memory import arrow_reader
from chromalith.model.folded import FoldedSet, Run, State, oldest_day
from chromalith.model.ids import DeltaId

FORMAT = 1
PART_FACTOR = 4
PART_INTERVALS_MAX = 2**20
"""18 MB as an object, 33 MB in memory. A part of this size is not merged any more: it stays until it expires."""

_FORMAT_KEY = "chromalith.folded.format"
_WRITER_BYTES = 16
_KEY_BYTES = _WRITER_BYTES + 4
_SCHEMA = pa.schema(
    [
        pa.field("writer", pa.binary(_WRITER_BYTES), nullable=False),
        pa.field("start", pa.uint32(), nullable=False),
        pa.field("stop", pa.uint64(), nullable=False),  # behind the last counter, 2**32 - 1
        pa.field("state", pa.uint8(), nullable=False),
        pa.field("day", pa.uint16(), nullable=False),
    ]
)
_STATES = np.array(sorted(ord(state) for state in State), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class FoldedPart:
    """Runs as columns, n of them.

    Attributes:
        key: S20 (n,), ascending: the writer's 16 bytes and the first counter, big-endian.
        stop: int64 (n,), behind the last counter.
        state: uint8 (n,), the letter of the state.
        day: int64 (n,), days since 1970 of the (latest) fold.
    """

    key: npt.NDArray[np.bytes_]
    stop: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint8]
    day: npt.NDArray[np.int64]

    @classmethod
    def of(cls, folded: FoldedSet) -> FoldedPart:
        """The inline runs, whose versions are forgotten."""
        ordered = [(writer, run) for writer, runs in sorted(folded.runs.items()) for run in runs]
        return cls(
            _keys([(writer, run.start) for writer, run in ordered]),
            np.array([run.stop for _, run in ordered], np.int64),
            np.array([ord(run.state) for _, run in ordered], np.uint8),
            np.array([run.day for _, run in ordered], np.int64),
        )

    def __len__(self) -> int:
        return len(self.key)

    @property
    def start(self) -> npt.NDArray[np.int64]:
        """The first counters, int64 (n,)."""
        return np.ascontiguousarray(_bytes(self.key)[:, _WRITER_BYTES:]).view(">u4")[:, 0].astype(np.int64)

    def positions(self, deltas: Sequence[DeltaId]) -> npt.NDArray[np.int64]:
        """Where each delta's run is, int64 (len(deltas),); -1: in none."""
        if not len(self) or not deltas:
            return np.full(len(deltas), -1, np.int64)
        asked = _keys([(delta.writer, delta.counter) for delta in deltas])
        at = np.searchsorted(self.key, asked, side="right").astype(np.int64) - 1
        same = (_bytes(self.key[at])[:, :_WRITER_BYTES] == _bytes(asked)[:, :_WRITER_BYTES]).all(axis=1)
        counters = np.array([delta.counter for delta in deltas], np.int64)
        # Before the first run, ``at`` is -1, and what stands there is the last run: it is refused by the first condition.
        return np.where((at >= 0) & same & (counters < self.stop[at]), at, -1)

    def run(self, position: int, version: int) -> Run:
        """The run at ``position``; ``version`` is that of the part."""
        start = int.from_bytes(_bytes(self.key[position : position + 1])[0, _WRITER_BYTES:].tobytes(), "big")
        return Run(start, int(self.stop[position]), State(chr(self.state[position])), version, int(self.day[position]))

    def items(self) -> Iterator[tuple[str, Run]]:
        """Every run with its writer, in order."""
        writers = _bytes(self.key)[:, :_WRITER_BYTES]
        for position in range(len(self)):
            yield writers[position].tobytes().hex(), self.run(position, 0)

    def expire(self, *, date_us: int, listed: Sequence[DeltaId]) -> FoldedPart:
        """Without the runs that are over 30 days old and of which ``listed`` (a LIST begun after the date) shows no object."""
        kept = self.day >= oldest_day(date_us)
        if kept.all():
            return self
        alive = self.positions(listed)
        kept[alive[alive >= 0]] = True
        return self._take(kept)

    def pieces(self) -> Iterator[FoldedPart]:
        """The runs as parts that are not larger than one may be."""
        for start in range(0, len(self), PART_INTERVALS_MAX):
            yield self._take(np.arange(start, min(start + PART_INTERVALS_MAX, len(self))))

    def _take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> FoldedPart:
        return FoldedPart(self.key[chosen], self.stop[chosen], self.state[chosen], self.day[chosen])


def together(parts: Sequence[FoldedPart]) -> FoldedPart:
    """All runs as they are, in order. Raises ``Corrupt`` if two overlap: a delta was folded twice."""
    both = FoldedPart(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.stop for part in parts]),
        np.concatenate([part.state for part in parts]),
        np.concatenate([part.day for part in parts]),
    )
    both = both._take(np.argsort(both.key, kind="stable"))
    if (_same_writer(both.key) & (both.start[1:] < both.stop[:-1])).any():
        raise Corrupt("I3 broken: the parts of a folded set overlap", hint="see `chromalith verify`")
    return both


def united(parts: Sequence[FoldedPart]) -> FoldedPart:
    """All runs, those that touch and are alike joined; of their days the latest stays. Raises as :func:`together`."""
    both = together(parts)
    if not len(both):
        return both
    touch = _same_writer(both.key) & (both.start[1:] == both.stop[:-1])
    joins = touch & (both.state[1:] == both.state[:-1])
    first = np.flatnonzero(np.concatenate(([True], ~joins)))
    last = np.append(first[1:], len(both)) - 1
    return FoldedPart(both.key[first], both.stop[last], both.state[first], np.maximum.reduceat(both.day, first))


def parts_kept(intervals: Sequence[int], added: int) -> int:
    """How many parts (of so many ``intervals`` each, the oldest first) stay as they are when ``added`` runs leave the manifest.

    The others are merged with them into one new part.
    """
    kept = len(intervals)
    while kept and intervals[kept - 1] <= PART_FACTOR * added and intervals[kept - 1] + added <= PART_INTERVALS_MAX:
        kept -= 1
        added += intervals[kept]
    return kept


def forgotten(parent: FoldedPart, child: FoldedPart, *, date_us: int) -> tuple[str, Run] | None:
    """The first run of ``parent`` that ``child``, published at ``date_us``, must remember and does not: I3.

    What is not over 30 days old must be in one run of the child, in the same state and not dated back: a version only joins runs. Neither
    side may be :func:`united` for this: an old run that touches a young one in another part expires all the same.
    """
    must = parent._take(parent.day >= oldest_day(date_us))
    if not len(must):
        return None
    if not len(child):
        return next(must.items())
    at = np.searchsorted(child.key, must.key, side="right").astype(np.int64) - 1
    same = (_bytes(child.key[at])[:, :_WRITER_BYTES] == _bytes(must.key)[:, :_WRITER_BYTES]).all(axis=1)
    held = (at >= 0) & same & (must.stop <= child.stop[at]) & (must.state == child.state[at]) & (must.day <= child.day[at])
    return None if held.all() else next(must._take(~held).items())


def encode_part(part: FoldedPart) -> bytes:
    """The body of a part."""
    writers = np.ascontiguousarray(_bytes(part.key)[:, :_WRITER_BYTES])
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(_WRITER_BYTES), len(part), [None, pa.py_buffer(writers.tobytes())]),
        pa.array(part.start.astype(np.uint32)),
        pa.array(part.stop.astype(np.uint64)),
        pa.array(part.state),
        pa.array(part.day.astype(np.uint16)),
    ]
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="zstd",
        use_dictionary=["start", "stop", "state", "day"],
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(pa.table(columns, schema=_SCHEMA))
        writer.add_key_value_metadata({_FORMAT_KEY: str(FORMAT)})
    return sink.getvalue()


def decode_part(body: bytes, key: str) -> FoldedPart:
    """The runs in ``body``. Raises ``Corrupt`` for anything that is not a part, ``Invalid`` for one of a newer format."""
    try:
        return _decoded(body, key)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        if isinstance(error, Invalid):  # which is a ValueError
            raise
        hint = "`chromalith snapshot list` shows the versions that are whole"
        raise Corrupt(f"not a part of a folded set key={key}", hint=hint) from error


def _decoded(body: bytes, key: str) -> FoldedPart:
    file = pq.ParquetFile(arrow_reader(body))
    stated = (file.metadata.metadata or {}).get(_FORMAT_KEY.encode(), b"")
    if not stated.isdigit():
        raise ValueError("it names no format")
    if int(stated) > FORMAT:
        raise Invalid(f"a part of a folded set has a newer format key={key} format={int(stated)} known={FORMAT}", hint="upgrade chromalith")
    # Looked at before anything is read: a few bytes can promise any number of rows.
    if file.metadata.num_rows > PART_INTERVALS_MAX or [(f.name, f.type) for f in file.schema_arrow] != [(f.name, f.type) for f in _SCHEMA]:
        raise ValueError("its columns are not those of the format")
    table = file.read(use_threads=False).combine_chunks()
    if table.num_rows != file.metadata.num_rows or any(column.null_count for column in table.columns):
        raise ValueError("values are missing")
    rows = table.num_rows
    writers = np.empty((rows, _KEY_BYTES), np.uint8)
    column = table.column("writer").combine_chunks()
    if rows:
        writers[:, :_WRITER_BYTES] = np.frombuffer(column.buffers()[1], np.uint8)[
            column.offset * _WRITER_BYTES : (column.offset + rows) * _WRITER_BYTES
        ].reshape(rows, _WRITER_BYTES)
        writers[:, _WRITER_BYTES:] = table.column("start").to_numpy().astype(">u4").view(np.uint8).reshape(rows, 4)
    stop = table.column("stop").to_numpy()
    if (stop > 2**32).any():
        raise ValueError("a counter is out of range")
    part = FoldedPart(
        writers.reshape(-1).view(f"S{_KEY_BYTES}"),
        stop.astype(np.int64),
        table.column("state").to_numpy().astype(np.uint8),
        table.column("day").to_numpy().astype(np.int64),
    )
    _check(part)
    return part


def _check(part: FoldedPart) -> None:
    """Raise ``ValueError`` unless the runs are ascending, disjoint, not empty, and in known states."""
    start = part.start
    overlaps = _same_writer(part.key) & (start[1:] < part.stop[:-1])
    if (part.key[1:] <= part.key[:-1]).any() or overlaps.any() or (part.stop <= start).any() or not np.isin(part.state, _STATES).all():
        raise ValueError("its runs are not in order")


def _keys(calls: Sequence[tuple[str, int]]) -> npt.NDArray[np.bytes_]:
    joined = b"".join(bytes.fromhex(writer) + counter.to_bytes(4, "big") for writer, counter in calls)
    return np.frombuffer(joined, f"S{_KEY_BYTES}")


def _bytes(key: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint8]:
    """Keys as uint8 (n, 20): what numpy makes of one alone has lost its trailing zeros."""
    return np.ascontiguousarray(key).view(np.uint8).reshape(len(key), _KEY_BYTES)


def _same_writer(key: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    """Whether each key but the first has the writer of the one before it, bool (n - 1,)."""
    writers = _bytes(key)[:, :_WRITER_BYTES]
    same: npt.NDArray[np.bool_] = (writers[1:] == writers[:-1]).all(axis=1)
    return same
