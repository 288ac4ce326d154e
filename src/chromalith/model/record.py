"""A record: what a collection holds of one id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Record:
    """One id's embedding and content.

    Attributes:
        id: the caller's id.
        seq: the insertion sequence number: ``get`` answers in this order; an update keeps it, a delete and re-add does not.
        embedding: float32, (dim,).
        document, uri: text, or ``None``.
        metadata: canonical JSON, or ``None``.
    """

    id: str
    seq: int
    embedding: npt.NDArray[np.float32]
    document: str | None
    uri: str | None
    metadata: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an id lives, and what it hashes to: all that an operation needs to supersede or delete it.

    Attributes:
        segment: the position of its segment in the manifest.
        row: its row there.
        seq: its insertion sequence number.
        content_hash, embedding_hash: 32 bytes each (:mod:`chromalith.model.checksum`).
    """

    segment: int
    row: int
    seq: int
    content_hash: bytes
    embedding_hash: bytes
