"""The identifiers of the protocol: fixed-width ASCII, so that text order is number order and any of them is a safe key.

A delta id is ``<hlc 16>-<writer 32>-<counter 8>-<digest 16>`` in hexadecimal: when (a hybrid logical clock), who and which
call of theirs (together the delta's identity: a delta is folded once for each writer and counter), and the first 64 bits of
SHA-256 of the body, so that a reader checks the bytes before it parses one of them.

The clock is hybrid logical (Kulkarni et al., 2014): 52 bits of microseconds, 12 bits of ties. It only breaks ties between
deltas that one store stamped with the same time; see :mod:`chromalith.model.order`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from chromalith.errors import Invalid

CollectionId = NewType("CollectionId", str)
Version = NewType("Version", int)

VERSION_DIGITS = 16
WRITER_DIGITS = 32
WRITE_ID_DIGITS = 32
COUNTER_MAX = 16**8 - 1
HLC_LOGICAL_BITS = 12

_DELTA = re.compile(r"([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{8})-([0-9a-f]{16})")
_COLLECTION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_JOB = re.compile(r"([0-9]{16})-([0-9a-f]{32})")


def hlc_tick(last: int, now_us: int) -> int:
    """The next reading of a hybrid logical clock: later than ``last``, and not behind the wall clock ``now_us``."""
    return max(last + 1, now_us << HLC_LOGICAL_BITS)


def body_digest(body: bytes) -> str:
    """The 16 hexadecimal digits that a delta id carries of its body."""
    return hashlib.sha256(body).hexdigest()[:16]


def call_writer(call_id: str) -> str:
    """The writer of the deltas of a named call: 32 hexadecimal digits that every process derives alike. Their counter is 0."""
    return body_digest(call_id.encode()) + body_digest(b"call " + call_id.encode())


def collection_id(text: str) -> CollectionId:
    """``text`` if it is a collection's UUID in its canonical form, else ``Invalid``."""
    if not _COLLECTION.fullmatch(text):
        raise Invalid(f"not a collection id id={text!r}", hint="a collection id is a lowercase UUID with dashes")
    return CollectionId(text)


@dataclass(frozen=True, slots=True, order=True)
class DeltaId:
    """The name of one delta; ordered as its text is."""

    hlc: int
    writer: str
    counter: int
    digest: str

    def __str__(self) -> str:
        return f"{self.hlc:016x}-{self.writer}-{self.counter:08x}-{self.digest}"

    @classmethod
    def parse(cls, text: str) -> DeltaId:
        """The id that prints as ``text``, else ``Invalid``."""
        match = _DELTA.fullmatch(text)
        if match is None:
            raise Invalid(f"not a delta id id={text!r}", hint="a delta id is <hlc>-<writer>-<counter>-<digest> in hexadecimal")
        return cls(int(match[1], 16), match[2], int(match[3], 16), match[4])


@dataclass(frozen=True, slots=True, order=True)
class JobId:
    """The name of an object that a job adds (segment, deletes, folded part): the version that the job read, and a nonce.

    The version is in the name so that an orphan carries it too: sweep deletes nothing that a job based on a version at or
    above the boundary may still publish.
    """

    base: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.base:0{VERSION_DIGITS}d}-{self.nonce}"

    @classmethod
    def parse(cls, text: str) -> JobId:
        """The id that prints as ``text``, else ``Invalid``."""
        match = _JOB.fullmatch(text)
        if match is None:
            raise Invalid(f"not the id of a job's object id={text!r}")
        return cls(int(match[1]), match[2])
