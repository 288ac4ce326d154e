"""LlamaIndex's own Chroma vector store, on object storage: only the line that opens the client is different.

    pip install chromalith[chroma] llama-index-vector-stores-chroma
    python llamaindex_quickstart.py                    # a directory
    python llamaindex_quickstart.py s3://bucket/prefix

The embedding is a toy that needs no model and no network: it counts words by their hash, so texts that share words are near.
"""

from __future__ import annotations

import sys
import tempfile
import zlib

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.chroma import ChromaVectorStore

from chromalith import Client

DIMENSION = 256


def embed(text: str) -> list[float]:
    """A deterministic bag of words, normalised to length 1."""
    vector = [0.0] * DIMENSION
    for word in text.lower().split():
        vector[zlib.crc32(word.strip(".,:;!?").encode()) % DIMENSION] += 1.0
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / length for value in vector]


def node(name: str, text: str, topic: str) -> TextNode:
    """A text with its embedding."""
    return TextNode(id_=name, text=text, metadata={"topic": topic}, embedding=embed(text))


def main(url: str) -> None:
    """Store four sentences, and ask two questions."""
    with Client(url) as client:
        collection = client.get_or_create_collection("llamaindex_quickstart", embedding_function=None)
        store = ChromaVectorStore(chroma_collection=collection)
        store.add(
            [
                node("delta", "A delta is one immutable object: the operations of one call.", "write"),
                node("compactor", "The compactor folds deltas into immutable segments.", "fold"),
                node("reader", "Readers overlay the deltas that are not folded yet.", "read"),
                node("pointer", "The pointer names the current manifest.", "publish"),
            ]
        )
        only_reading = MetadataFilters(filters=[MetadataFilter(key="topic", value="read")])
        for question, filters in (("what does the compactor do with deltas", None), ("deltas", only_reading)):
            query = VectorStoreQuery(query_embedding=embed(question), similarity_top_k=1, filters=filters)
            found = store.query(query)
            text = found.nodes[0].get_content() if found.nodes else "nothing"
            print(f"{question!r} -> {text!r}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(directory)
