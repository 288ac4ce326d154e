"""Every kind of client, and every verb."""

from __future__ import annotations

import chromadb

client = chromadb.PersistentClient(path="./chroma")  # expect: direct-client
server = chromadb.HttpClient(host="db", port=8000)  # expect: direct-client
cloud = chromadb.CloudClient(tenant="t", database="d")  # expect: direct-client
scratch = chromadb.EphemeralClient()  # expect: direct-client
plain = chromadb.Client()  # expect: direct-client

words = client.get_or_create_collection("words")  # expect: direct-catalog
words.add(ids=["a"], documents=["apple"])  # expect: direct-write
words.update(ids=["a"], documents=["pear"])  # expect: direct-write
words.upsert(ids=["a"], documents=["plum"])  # expect: direct-write
words.delete(ids=["a"])  # expect: direct-write
words.modify(name="other")  # expect: direct-catalog
print(words.count(), words.peek())  # expect: direct-read direct-read
print(words.get(ids=["a"]), words.query(query_texts=["a"]))  # expect: direct-read direct-read

server.create_collection("lines")  # expect: direct-catalog
server.delete_collection("lines")  # expect: direct-catalog
scratch.reset()  # expect: direct-catalog
for each in cloud.list_collections():  # expect: direct-read
    each.delete(where={"old": True})  # expect: direct-write
plain.get_collection("x").add(ids=["a"], embeddings=[[1.0]])  # expect: direct-write
plain.heartbeat()
names: set[str] = set()
names.add("a")
settings: dict[str, int] = {}
settings.update({"a": 1})
