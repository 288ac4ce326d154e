"""Singletons and decorators."""

from __future__ import annotations

import functools

import chromadb

_client = None


def client():
    """Opened when it is first needed."""
    global _client
    if _client is None:
        _client = chromadb.HttpClient("db")  # expect: direct-client
    return _client


class Database:
    """There is one."""

    _instance = None

    def __new__(cls):
        """The one."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
            cls._instance.words = client().get_collection("words")
        return cls._instance

    def save(self):
        """Write."""
        self.words.add(ids=["a"])  # expect: direct-write


def with_words(function):
    """Hands in a collection."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(client().get_collection("words"), *args)

    return wrapper


@with_words
def drop(words, ids):
    """Gets it from the decorator."""
    words.delete(ids=ids)  # expect: direct-write


Database().save()
drop(["a"])
