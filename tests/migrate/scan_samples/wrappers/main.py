"""Uses them."""

from __future__ import annotations

import threading

import store
from store.repository import Job, Repository, save_all

store.get_words().add(ids=["a"])  # expect: direct-write
Repository().save(["a"])
Repository().collection.delete(ids=["a"])  # expect: direct-write
Job(store.get_words()).run()
save_all(store.get_words(), ["a"])


def work(collection):
    """Runs in a thread."""
    collection.upsert(ids=["a"])  # expect: direct-write


threading.Thread(target=work, args=(store.get_words("lines"),)).start()
apply = lambda collection: collection.delete(ids=["a"])  # expect: direct-write  # noqa: E731
apply(store.get_words())
