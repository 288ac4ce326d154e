"""LangChain's own Chroma vector store, on object storage: only the line that opens the client is different.

    pip install chromalith[chroma] langchain-chroma
    python langchain_quickstart.py                     # a directory
    python langchain_quickstart.py s3://bucket/prefix

The embedding is a toy that needs no model and no network: it counts words by their hash, so texts that share words are near.
"""

from __future__ import annotations

import sys
import tempfile
import zlib

from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from chromalith import Client

DIMENSION = 256


class WordCounts(Embeddings):
    """A deterministic bag of words, normalised to length 1."""

    def embed_query(self, text: str) -> list[float]:
        """The embedding of one text."""
        vector = [0.0] * DIMENSION
        for word in text.lower().split():
            vector[zlib.crc32(word.strip(".,:;!?").encode()) % DIMENSION] += 1.0
        length = sum(value * value for value in vector) ** 0.5 or 1.0
        return [value / length for value in vector]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of several texts."""
        return [self.embed_query(text) for text in texts]


def main(url: str) -> None:
    """Store four sentences, and ask two questions."""
    with Client(url) as client:
        store = Chroma(client=client, collection_name="langchain_quickstart", embedding_function=WordCounts())
        store.add_documents(
            [
                Document("A delta is one immutable object: the operations of one call.", metadata={"topic": "write"}),
                Document("The compactor folds deltas into immutable segments.", metadata={"topic": "fold"}),
                Document("Readers overlay the deltas that are not folded yet.", metadata={"topic": "read"}),
                Document("The pointer names the current manifest.", metadata={"topic": "publish"}),
            ],
            ids=["delta", "compactor", "reader", "pointer"],
        )
        for question, condition in (("what does the compactor do with deltas", None), ("deltas", {"topic": "read"})):
            [(document, distance)] = store.similarity_search_with_score(question, k=1, filter=condition)
            print(f"{question!r} -> {document.page_content!r} ({distance:.2f})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(directory)
