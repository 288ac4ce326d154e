"""All through the migration, or nothing to do with Chroma: no finding."""

from __future__ import annotations

import chromadb
import pymongo
import qdrant_client

import chromalith
from chromalith import Client, MigratingClient


def opened():
    """The source, handed over."""
    return chromadb.HttpClient(host="db")


migrating = MigratingClient(opened(), "s3://bucket")
other = MigratingClient(source=chromadb.PersistentClient("x"), target="s3://bucket")
words = migrating.get_or_create_collection("words")
words.add(ids=["a"], documents=["apple"])
other.get_collection("words").delete(where={})
Client("s3://bucket").create_collection("x").upsert(ids=["a"], documents=["b"], embeddings=[[1.0]])
with chromalith.Writer("s3://bucket") as writer:
    writer.create("x")


def save(collection: chromadb.Collection, ids: list[str]) -> None:
    """Every caller hands in one of the migration's."""
    collection.add(ids=ids, documents=ids)


save(words, ["a"])
people = pymongo.MongoClient()["db"]["people"]
people.update(ids=["a"], documents=["b"], metadatas=[{}])
collection = qdrant_client.QdrantClient()
collection.delete(ids=["a"])
collection.create_collection("x")
seen = set()
seen.add("a")


class Chroma:
    """A colour, not the database."""

    def add(self, ids, documents):
        """Mix."""


Chroma().add(ids=["red"], documents=["blue"])
URL = "https://docs.trychroma.com/reference"
