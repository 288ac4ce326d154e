"""LangChain, old and new."""

from __future__ import annotations

import chromadb
from langchain.indexes import index
from langchain.vectorstores import Chroma as Oldest
from langchain_chroma import Chroma
from langchain_community.vectorstores import Chroma as Old

import chromalith

client = chromadb.PersistentClient("x")  # expect: direct-client
store = Chroma(client=client, collection_name="a")  # expect: framework-store
store.add_texts(["a"])  # expect: framework-write
store.add_documents([])  # expect: framework-write
store.delete(ids=["a"])  # expect: framework-write
store.similarity_search("a")  # expect: framework-read
made = Old.from_documents([], None)  # expect: framework-write
made.as_retriever().invoke("a")  # expect: framework-read framework-read
Oldest.from_texts(["a"], None, persist_directory="y")  # expect: framework-write
store._collection.upsert(ids=["a"])  # expect: direct-write
index([], None, store)  # expect: framework-write


class Notes(Chroma):
    """A subclass."""

    def keep(self, texts):
        """Write."""
        self.add_texts(texts)  # expect: framework-write


safe = Chroma(client=chromalith.MigratingClient("chroma:x", "s3://bucket"), collection_name="a")
safe.add_texts(["a"])
