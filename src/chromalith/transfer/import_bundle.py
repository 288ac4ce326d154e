"""Importing all collections of a bundle: the counterpart of :func:`chromalith.transfer.bundle.export_bundle`."""

from __future__ import annotations

from collections.abc import Sequence

from chromalith.session import Session
from chromalith.store.port import Store
from chromalith.transfer.bundle import Bundle, NamedProgress, unheard
from chromalith.transfer.import_ import ImportReport, import_collection
from chromalith.transfer.port import ROWS_DEFAULT


def import_bundle(
    session: Session,
    tenant: str,
    database: str,
    store: Store,
    prefix: str,
    *,
    names: Sequence[str] | None = None,
    progress: NamedProgress = unheard,
    batch: int = ROWS_DEFAULT,
) -> list[ImportReport]:
    """Import the collections of a bundle under the names that they have there; ``names`` chooses.

    Each collection's records must add up to the checksums in the manifest. Raises as
    :func:`~chromalith.transfer.import_.import_collection`, and ``NotFound`` if there is no bundle or no such collection
    in it; what was imported before stays.
    """
    bundle = Bundle(store, prefix)
    sources = [bundle.source(name) for name in (bundle.names() if names is None else names)]
    reports = []
    for source in sources:

        def told(done: int, total: int | None, name: str = source.name) -> None:
            progress(name, done, total)

        reports.append(import_collection(session, tenant, database, source.name, source, progress=told, batch=batch))
    return reports
