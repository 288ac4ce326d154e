"""Functions that give a collection."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache

import chromadb


@lru_cache
def client():
    """The one client."""
    return chromadb.HttpClient("db")  # expect: direct-client


def open_collection(name="words"):
    """A collection of it."""
    return client().get_or_create_collection(name)  # expect: direct-catalog


@contextmanager
def borrowed():
    """A collection for a block."""
    yield open_collection()


def pair():
    """Both."""
    return client(), open_collection()
