"""What can only be guessed: all findings are likely, none certain."""

from __future__ import annotations

import random

import chromadb
import requests
from elsewhere import chroma_client, get_collection
from elsewhere.chroma_tools import upsert_vectors
from haystack_integrations.document_stores.chroma import ChromaDocumentStore


def save(collection: chromadb.Collection, client: chromadb.ClientAPI | None = None) -> None:
    """Nobody calls it here."""
    collection.add(ids=["a"], documents=["b"])  # expect: direct-write?
    if client is not None:
        client.delete_collection("x")  # expect: direct-catalog?


def by_name(collection, thing, items) -> None:
    """No annotation: the name and the keywords."""
    collection.upsert(ids=["a"], documents=["b"])  # expect: direct-write?
    thing.add(ids=["a"], embeddings=[[1.0]], metadatas=[{}])  # expect: direct-write?
    collection.delete(where={"a": 1})  # expect: direct-write?
    thing.query(query_texts=["a"])  # expect: direct-read?
    thing.add("a")
    items.update({"ids": 1})
    thing.delete(ids=["a"])


def guide(fraction: float) -> None:
    """The dual write of the guide."""
    if random.random() < fraction:
        write_to_chromadb_delta(ids=[])
    else:
        chroma_client.upsert_vectors(ids=["a"], vectors=[[1.0]])  # expect: direct-write?
    upsert_vectors(["a"])  # expect: direct-write?
    chroma_client.create_collection("x")  # expect: direct-catalog?


def write_to_chromadb_delta(ids) -> None:
    """The new way."""


get_collection("x").upsert(ids=["a"], documents=["b"])  # expect: direct-write?
requests.post("http://db:8000/api/v2/tenants/t/databases/d/collections/1/add", json={})  # expect: http-api?
requests.get(f"http://{input()}/api/v1/collections", timeout=1)  # expect: http-api?
documents = ChromaDocumentStore(persist_path="x")  # expect: framework-store?
documents.write_documents([])  # expect: framework-write?
