"""Operations: what one call by one writer asks for, as columns.

One row is one operation on one id. Rows are applied in order, each exactly as Chroma would:

===========  =============================  ==========================================
operation    the id exists                  the id does not exist
===========  =============================  ==========================================
``add``      nothing happens                inserted
``update``   given fields change            nothing happens
``upsert``   given fields change            inserted
``delete``   removed                        nothing happens
===========  =============================  ==========================================

A field that is not given is kept. Metadata is a patch (:mod:`chromalith.model.metadata`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]


class Op(IntEnum):
    """What an operation does. The names, in lowercase, stand in the ``op`` column of a delta."""

    ADD = 0
    UPDATE = 1
    UPSERT = 2
    DELETE = 3

    @property
    def label(self) -> str:
        return self.name.lower()


OP_BY_LABEL = {op.label: op for op in Op}


@dataclass(frozen=True, slots=True)
class Operations:
    """``n`` operations as columns.

    Attributes:
        ops: what each does.
        ids: the id that each is about.
        embeddings: float32, (n, dim), or ``None`` if no row has one; a row that has none is zeros.
        has_embedding: bool, (n,): which rows of ``embeddings`` count.
        documents, uris: text or ``None`` (not given).
        metadata: canonical JSON patches or ``None`` (not given).
    """

    ops: Sequence[Op]
    ids: Sequence[str]
    embeddings: Embeddings | None
    has_embedding: npt.NDArray[np.bool_]
    documents: Sequence[str | None]
    uris: Sequence[str | None]
    metadata: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int | None:
        """The width of the embeddings, or ``None`` where there are none."""
        return None if self.embeddings is None else int(self.embeddings.shape[1])
