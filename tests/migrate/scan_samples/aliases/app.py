"""Names that hide what they are."""

from __future__ import annotations

import asyncio
import functools
import importlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import chromadb as c
from chromadb import HttpClient as Server
from chromadb.api.client import Client as Inner

try:
    from chromadb import PersistentClient
except ImportError:
    PersistentClient = None

one = c.PersistentClient("x")  # expect: direct-client
two = Server()  # expect: direct-client
three = Inner()  # expect: direct-client
Maker = c.EphemeralClient
four = Maker()  # expect: direct-client
module = importlib.import_module("chromadb")
five = module.Client()  # expect: direct-client

alias = again = one.get_collection("x")
again.upsert(ids=["a"], documents=["b"])  # expect: direct-write
if (found := two.get_collection("x")) is not None:
    found.add(ids=["a"], documents=["b"])  # expect: direct-write
write = alias.upsert  # expect: direct-write
write(ids=["a"], documents=["b"])
getattr(alias, "delete")(ids=["a"])  # expect: direct-write  # noqa: B009
getattr(alias, input())(ids=["a"])  # expect: direct-write?
with ThreadPoolExecutor() as pool:
    pool.submit(alias.add, ids=["a"], documents=["b"])  # expect: direct-write
later = functools.partial(alias.update, ids=["a"])  # expect: direct-write
(three if input() else four).delete_collection("x")  # expect: direct-catalog
pair = (one.get_collection("p"), "text")
pair[0].add(ids=["a"])  # expect: direct-write
target, _ = pair
target.delete(ids=["a"])  # expect: direct-write
by_name = {"a": one.get_collection("a")}
by_name["a"].add(ids=["a"])  # expect: direct-write
for name, each in by_name.items():
    each.upsert(ids=[name])  # expect: direct-write
kept = []
kept.append(two.get_collection("k"))
[each.add(ids=["a"]) for each in kept]  # expect: direct-write
with closing(PersistentClient("y")) as opened:  # expect: direct-client
    opened.reset()  # expect: direct-catalog
with c.PersistentClient("z") as opened_too:  # expect: direct-client
    opened_too.delete_collection("a")  # expect: direct-catalog


async def main() -> None:
    """The asynchronous client."""
    client = await c.AsyncHttpClient()  # expect: direct-client
    collection = await client.get_or_create_collection("x")  # expect: direct-catalog
    await collection.add(ids=["a"], documents=["b"])  # expect: direct-write
    await asyncio.to_thread(alias.upsert, ids=["a"])  # expect: direct-write


asyncio.run(main())
