"""What a call whose receiver nobody knows probably is, by its names and keywords alone: a finding that is likely, never certain.

Chroma's signatures are unusual: plural ``ids`` beside ``embeddings``, ``documents`` or ``metadatas``. A name alone is not enough for
``add`` or ``delete``, which half of all classes have.
"""

from __future__ import annotations

import re

_COLUMNS = frozenset({"embeddings", "documents", "metadatas", "uris", "images"})
_QUERIES = frozenset({"query_embeddings", "query_texts", "query_images", "query_uris"})
_COLLECTION_NAME = re.compile(r"collection|chroma|vector_?(store|db)|(^|_)(col|coll)s?$", re.IGNORECASE)
_CHROMA_NAME = re.compile(r"chroma", re.IGNORECASE)
_WRAPPER = re.compile(
    r"_?(a|async_|batch_|bulk_)?(add|upsert|update|delete|insert|write|save|store|remove|index|ingest|put)_"
    r"(\w*_)?(vector|embedding|document|doc|record|text|item|chunk|point|batch|collection|to_chroma\w*|chroma\w*)(s|es|_batch)?"
)
_CATALOG = frozenset({"create_collection", "get_or_create_collection", "delete_collection"})
_OTHER_DATABASES = frozenset(
    {
        "pymongo", "motor", "mongoengine", "qdrant_client", "pymilvus", "milvus", "weaviate", "pinecone", "redis", "elasticsearch",
        "opensearchpy", "google", "firebase_admin", "sqlalchemy", "django", "lancedb", "faiss", "boto3", "arango", "couchbase",
    }
)  # fmt: skip


_STORE = re.compile(
    r"\w*Chroma(DB|Db|Client|VectorStore|VectorDB|VectorDb|DocumentStore|MemoryStore|Store|Index|Memory|Retriever)?"
)


def store(dotted: str) -> bool:
    """Whether a class of another library is, by its name, a store on Chroma: Haystack's ``ChromaDocumentStore``, say."""
    return _STORE.fullmatch(dotted.rpartition(".")[2]) is not None


def writes(name: str) -> bool:
    """Whether a method is, by its name, a wrapper that writes."""
    return _WRAPPER.fullmatch(name) is not None and "delta" not in name


def other_database(dotted: str) -> bool:
    """Whether it comes from a database that has collections, and is not Chroma."""
    return dotted.partition(".")[0] in _OTHER_DATABASES


def method(receiver: str, name: str, keywords: frozenset[str]) -> str | None:
    """The rule that ``receiver.name(keywords=...)`` probably breaks."""
    columns = len(keywords & _COLUMNS)
    if name in ("add", "update", "upsert"):
        if "ids" in keywords and (columns >= 2 or (columns and _COLLECTION_NAME.search(receiver))):
            return "direct-write"
    elif name == "delete":
        if keywords & {"ids", "where", "where_document"} and _COLLECTION_NAME.search(receiver):
            return "direct-write"
    elif name == "query":
        if keywords & _QUERIES:
            return "direct-read"
    elif (
        name == "get" and keywords & {"ids", "where", "where_document", "include"} and _COLLECTION_NAME.search(receiver)
    ):
        return "direct-read"
    if not _CHROMA_NAME.search(receiver):
        return None
    if name in _CATALOG:
        return "direct-catalog"
    if name in ("add", "update", "upsert", "delete") and keywords & ({"ids"} | _COLUMNS):
        return "direct-write"
    return "direct-write" if _WRAPPER.fullmatch(name) and "delta" not in name else None


def function(dotted: str) -> str | None:
    """The rule that calling something imported from outside of the tree probably breaks: a wrapper that is named for it."""
    path, _, name = dotted.rpartition(".")
    if "delta" in name or "chromalith" in dotted or not _CHROMA_NAME.search(dotted):
        return None
    words = name if _CHROMA_NAME.search(path) else name.lower()
    return "direct-write" if _WRAPPER.fullmatch(words) else None
