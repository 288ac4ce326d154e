"""Reading a version's objects whole, each checked against what the manifest says of it: for jobs, which have no cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chromalith.errors import Corrupt, NotFound
from chromalith.model import layout
from chromalith.model.ids import CollectionId
from chromalith.model.manifest import FileRef, Segment
from chromalith.model.segment import decode_deletes
from chromalith.store.cache import Swept
from chromalith.store.port import Store

NO_ROWS: npt.NDArray[np.uint32] = np.empty(0, np.uint32)


OLDER_HINT = "older versions may still be whole: see `chromalith snapshot list`"


def checked_body(store: Store, key: str, ref: FileRef, *, hint: str = OLDER_HINT) -> bytes:
    """The object at ``key``. Raises ``Swept`` if it is gone, ``Corrupt`` (with ``hint``) if it is not what ``ref`` promises."""
    try:
        body = store.get(key).body
    except NotFound as error:
        raise Swept(f"an object was swept while a job needed it key={key}", key=key) from error
    if not ref.holds(body):
        raise Corrupt(
            f"a stored object is not what its manifest says key={key} size={len(body)} expected={ref.size}",
            hint=hint,
            key=key,
        )
    return body


def read_deletes(store: Store, cid: CollectionId, segment: Segment) -> npt.NDArray[np.uint32]:
    """The dead rows of a segment, uint32 ascending. Raises as :func:`checked_body`."""
    if segment.deletes is None:
        return NO_ROWS
    key = layout.deletes_key(cid, segment.id, segment.deletes.id)
    return decode_deletes(checked_body(store, key, segment.deletes.file), key)
