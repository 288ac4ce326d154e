"""Classes of Chroma's that somebody else calls: factories, thread pools, containers of dependencies, fields of models."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from unittest.mock import MagicMock, patch

import chromadb
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide
from langchain.retrievers import MultiVectorRetriever
from langchain_chroma import Chroma
from langchain_core.example_selectors import SemanticSimilarityExampleSelector
from llama_index.core import VectorStoreIndex
from llama_index.vector_stores.chroma import ChromaVectorStore
from pydantic import BaseModel, Field

import chromalith

connect = functools.partial(chromadb.HttpClient, host="db")  # expect: direct-client?
connect().get_collection("a").add(ids=["a"])  # expect: direct-write?
pooled = ThreadPoolExecutor().submit(chromadb.PersistentClient, "x").result()  # expect: direct-client?
pooled.get_collection("a").upsert(ids=["a"])  # expect: direct-write?


async def in_a_thread() -> None:
    """The blocking constructor is called elsewhere."""
    client = await asyncio.to_thread(chromadb.PersistentClient, path="x")  # expect: direct-client?
    client.get_collection("a").update(ids=["a"])  # expect: direct-write?


class Container(containers.DeclarativeContainer):
    """Dependencies by name."""

    client = providers.Singleton(chromadb.PersistentClient, path="x")  # expect: direct-client?
    migrating = providers.Singleton(chromalith.MigratingClient, "x", "s3://bucket")


Container().client().get_collection("a").delete(ids=["a"])  # expect: direct-write?
Container().migrating().get_collection("a").delete(ids=["a"])


def injected(client=Provide[Container.client]) -> None:
    """Wired by the container."""
    client.delete_collection("a")  # expect: direct-catalog?


class Settings(BaseModel):
    """A field that makes its own."""

    client: object = Field(default_factory=chromadb.EphemeralClient)  # expect: direct-client?

    def clear(self) -> None:
        """Empty it."""
        self.client.reset()  # expect: direct-catalog?


SemanticSimilarityExampleSelector.from_examples([], None, Chroma, k=2)  # expect: framework-store?
several = MultiVectorRetriever(vectorstore=Chroma("a"))  # expect: framework-store
several.vectorstore.add_documents([])  # expect: framework-write
index = VectorStoreIndex.from_vector_store(ChromaVectorStore.from_params("a"))  # expect: framework-store?
index.vector_store.add([])  # expect: framework-write?

if isinstance(pooled, chromadb.PersistentClient) and cast(chromadb.Client, pooled):
    fake = MagicMock(spec=chromadb.PersistentClient)
    patch.object(chromadb.HttpClient, "heartbeat", fake)

BASE = "http://db:8000/api/v2/tenants/default_tenant/databases/default_database"  # expect: http-api?
