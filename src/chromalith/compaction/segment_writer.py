"""Writing a segment: records, id table and, when it is large enough, the index; each reopened where a mistake would be silent.

All objects are immutable, under a name that nothing else uses: until a publish names them, they are garbage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chromalith.clock import Clock
from chromalith.engine.index import INDEX_THRESHOLD, FindsTooFew, IndexConfig, check_index
from chromalith.engine.space import Space
from chromalith.engine.usearch_index import build_index, open_index
from chromalith.model import layout
from chromalith.model.arrow import matrix
from chromalith.model.checksum import Setsum
from chromalith.model.ids import WRITE_ID_DIGITS, CollectionId, JobId
from chromalith.model.manifest import DeletesRef, FileRef, IndexRef, Segment
from chromalith.model.segment import digests, encode_deletes, encode_ids, encode_records
from chromalith.store.port import Store

EFFORTS = (1, 4)  # times the usual expansion: random Gaussian vectors of 384 dimensions need the second


@dataclass(frozen=True, slots=True)
class SegmentWriter:
    """Writes segments and deletes of one collection.

    Attributes:
        store, cid, clock: where, whose, and chance for names.
        space: ``l2``, ``cosine`` or ``ip``: what an index is built for.
        index_threshold: rows at which a segment gets an index.
        index_config: of the index's builder.
        before_index: called with the number of rows before an index is built: that may keep every other thread waiting for long.
    """

    store: Store
    cid: CollectionId
    clock: Clock
    space: Space
    index_threshold: int = INDEX_THRESHOLD
    index_config: IndexConfig = IndexConfig()
    before_index: Callable[[int], None] = lambda rows: None

    def segment(self, base: int, table: pa.Table) -> Segment:
        """Write ``table`` (the columns of a segment, ascending by ``seq``) as a segment of a job that read version ``base``."""
        job = self._job(base)
        files = {}
        for name, body in ((layout.RECORDS_FILE, encode_records(table)), (layout.IDS_FILE, encode_ids(table))):
            self.store.put(layout.segment_file_key(self.cid, job, name), body)
            files[name] = FileRef.of_parquet(body)
        bounds = pc.min_max(table.column("id")).as_py()
        return Segment(
            id=job,
            rows=table.num_rows,
            files=files,
            deletes=None,
            index=self._index(job, table) if table.num_rows >= self.index_threshold else None,
            id_min=bounds["min"],
            id_max=bounds["max"],
            content=Setsum.of(digests(table.column("content_hash"))),
            embedding=Setsum.of(digests(table.column("embedding_hash"))),
        )

    def deletes(self, base: int, segment: JobId, rows: npt.NDArray[np.uint32]) -> DeletesRef:
        """Write the dead rows of a segment (uint32, ascending, unique), all of them, as a new deletes object."""
        job = self._job(base)
        body = encode_deletes(rows)
        self.store.put(layout.deletes_key(self.cid, segment, job), body)
        return DeletesRef(job, len(rows), FileRef.of(body))

    def _job(self, base: int) -> JobId:
        return JobId(base, self.clock.random_hex(WRITE_ID_DIGITS))

    def _index(self, job: JobId, table: pa.Table) -> IndexRef | None:
        """Build, check and store the index. ``None`` if none can be built that finds its own vectors: then the segment is scanned."""
        vectors, _ = matrix(table.column("embedding"))
        self.before_index(table.num_rows)
        for effort in EFFORTS:
            wanted = self.index_config
            config = replace(
                wanted, ef_construction=effort * wanted.ef_construction, ef_search=effort * wanted.ef_search
            )
            with tempfile.TemporaryDirectory(prefix="chromalith-index-") as directory:
                path = Path(directory) / "index"
                build_index(vectors, self.space, path, config)
                # Reopened and checked before anything names it: an index that lost rows would answer, only worse.
                index = open_index(path, self.space, config)
                try:
                    check_index(index, vectors, self.space)
                except FindsTooFew:
                    continue
                body = path.read_bytes()
            self.store.put(layout.segment_file_key(self.cid, job, layout.index_file(index.kind)), body)
            return IndexRef(index.kind, f"{index.library} {index.version}", asdict(config), FileRef.of(body))
        return None
