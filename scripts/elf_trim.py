"""Cut the symbols for debuggers out of a shared library: what ``strip`` does, for any machine's libraries on any machine.

A loader maps what the *segments* of a library (its program headers) name, and nothing else: everything in them refers to addresses
in memory. Symbols for debuggers stand in *sections* that no segment covers; linkers and debuggers read those. So:

1. Copy the segments that are loaded, in the order of the file, one closely behind the other. Each keeps its offset modulo its
   alignment, as the loader demands. (The sections are not simply a tail to cut off: wheels are repaired by a tool that appends
   segments behind them.)
2. Point the program headers to the new places. Those that are no loads of their own lie within one that is, and move with it.
3. Say in the file's header that there are no sections.

binutils' ``strip`` gives almost the same size; but it is not on every machine, knows the libraries of its own kind of processor only,
and its releases differ in what they write, while the zip should come out the same wherever it is built. A backtrace of a crash in such
a library shows addresses and no names; nothing else is lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_MAGIC_64_LITTLE = b"\x7fELF\x02\x01"
_LOAD = 1


class NotALibrary(ValueError):
    """The bytes are no 64-bit little-endian ELF file that this understands."""


@dataclass(frozen=True)
class Move:
    """Where the bytes ``start <= offset < stop`` of the old file stand in the new one."""

    start: int
    stop: int
    target: int


def trimmed(library: bytes) -> bytes:
    """The library without its sections; unchanged if that would not make it smaller. Raises ``NotALibrary``."""
    if len(library) < _HEADER.size or library[:6] != _MAGIC_64_LITTLE:
        raise NotALibrary("not a 64-bit little-endian elf file")
    header = list(_HEADER.unpack_from(library))
    table_at, segment_size, count = header[5], header[9], header[10]
    if count == 0 or segment_size != _SEGMENT.size or table_at + count * segment_size > len(library):
        raise NotALibrary(f"no table of segments count={count} size={segment_size}")
    segments = [list(_SEGMENT.unpack_from(library, table_at + number * segment_size)) for number in range(count)]
    moves = _closer([each for each in segments if each[0] == _LOAD], len(library))

    result = bytearray(max(move.target + move.stop - move.start for move in moves))
    for move in moves:
        result[move.target : move.target + move.stop - move.start] = library[move.start : move.stop]
    for segment in segments:
        offset, size = segment[2], segment[5]
        if size:  # what has no bytes in the file has no place in it either
            segment[2] = _moved(offset, size, moves)
    new_table_at = _moved(table_at, count * segment_size, moves)
    for number, segment in enumerate(segments):
        _SEGMENT.pack_into(result, new_table_at + number * segment_size, *segment)
    # Where the table of segments starts; where that of sections starts, how many there are, and which one has their names.
    header[5], header[6], header[12], header[13] = new_table_at, 0, 0, 0
    _HEADER.pack_into(result, 0, *header)
    return bytes(result) if len(result) < len(library) else library


def _closer(loads: list[list[int]], size: int) -> list[Move]:
    moves: list[Move] = []
    end = 0
    for _, _, offset, _, _, length, _, alignment in sorted(loads, key=lambda each: each[2]):
        if not length:
            continue
        if offset + length > size or (moves and offset < moves[-1].stop) or (not moves and offset != 0):
            raise NotALibrary(f"segments overlap, leave the file, or do not have its header offset={offset} length={length}")
        target = end + (offset - end) % max(alignment, 1)
        moves.append(Move(offset, offset + length, target))
        end = target + length
    if not moves:
        raise NotALibrary("nothing is loaded from it")
    return moves


def _moved(offset: int, size: int, moves: list[Move]) -> int:
    for move in moves:
        if move.start <= offset and offset + size <= move.stop:
            return move.target + offset - move.start
    raise NotALibrary(f"bytes that are used are not in a segment that is loaded offset={offset} size={size}")
