"""What a side of a migration is and takes at once: words of :mod:`chromalith.chroma.side` and :mod:`chromalith.migrate.port`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from chromalith.errors import Invalid


class Denied(Invalid):
    """A side refuses the caller, not what the call says: a key or token is wrong, has ended, or allows too little."""


WriteOp = Literal["add", "update", "upsert"]


class SideKind(StrEnum):
    """What a side is."""

    DIRECTORY = "chroma-directory"
    SERVER = "chroma-server"
    CLOUD = "chroma-cloud"
    CHROMALITH = "chromalith"
    CLIENT = "client"  # a chromadb client that the caller opened; it can't be opened again from its name


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a side takes at once.

    Attributes:
        records_per_write, records_per_read: of one request.
        writes_at_once: concurrent requests worth making; 1 for a Chroma directory, which has one writer.
        metadata_key_bytes, document_bytes: ``None``: no limit.
        bytes_per_write, bytes_per_read: of one request, about: embeddings as float32, texts, and a guess for the rest. A single record
            may be larger.
    """

    records_per_write: int
    records_per_read: int
    writes_at_once: int = 1
    metadata_key_bytes: int | None = None
    document_bytes: int | None = None
    bytes_per_write: int = 16 * 2**20
    bytes_per_read: int = 16 * 2**20
