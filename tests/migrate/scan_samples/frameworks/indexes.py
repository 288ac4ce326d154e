"""LlamaIndex."""

from __future__ import annotations

import chromadb
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.vector_stores.chroma import ChromaVectorStore

from chromalith import MigratingClient

collection = chromadb.HttpClient().get_or_create_collection("x")  # expect: direct-client direct-catalog
store = ChromaVectorStore(chroma_collection=collection)  # expect: framework-store
store.add([])  # expect: framework-write
context = StorageContext.from_defaults(vector_store=store)
index = VectorStoreIndex.from_documents([], storage_context=context)  # expect: framework-write
index.insert(None)  # expect: framework-write
index.as_query_engine()  # expect: framework-read
IngestionPipeline(vector_store=store).run(documents=[])  # expect: framework-write

fine = MigratingClient("http://db:8000", "s3://bucket").get_or_create_collection("x")
safe = ChromaVectorStore(chroma_collection=fine)
safe.add([])
VectorStoreIndex.from_documents([], storage_context=StorageContext.from_defaults(vector_store=safe))
