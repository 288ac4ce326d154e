"""What a name may stand for, as far as a scan can tell: the values of its abstract interpretation, and which methods of them matter.

A value is a set of :class:`Thing`; the empty set is "nobody knows". Sets only grow from pass to pass, and things nest at most
``DEPTH_MAX`` deep, so that the passes end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from chromalith.migrate.scan import guesses

DEPTH_MAX = 3
THINGS_MAX = 24
"""Things that one name may stand for; more say nothing more, and a program that makes more is not better understood by them."""


class Kind(StrEnum):
    """What a thing is."""

    NAMED = "named"  # something imported from outside of the tree; ref: its dotted name
    MODULE = "module"  # of the tree; ref: its file
    FUNCTION = "function"  # of the tree; ref: its key
    METHOD = "method"  # the same, called on an object
    CLASS = "class"  # of the tree; ref: its key
    OBJECT = "object"  # an instance of such a class
    CLIENT = "client"  # of chromadb
    COLLECTION = "collection"  # of such a client
    LANGCHAIN = "langchain"  # a store on such a client, or what was built on the store
    LLAMAINDEX = "llamaindex"
    SAFE = "safe"  # made by chromalith
    OTHER = "other"  # made by something else that was imported; ref: its dotted name
    BOUND = "bound"  # a method of one of Chroma's; ref: its name
    ITEMS = "items"  # a container or an iterator
    TUPLE = "tuple"


@dataclass(frozen=True, slots=True)
class Thing:
    """One possibility.

    Attributes:
        kind: see :class:`Kind`.
        ref: what the kind says.
        origin: where the client was opened (``file:line``), or ``""``.
        sure: whether it is known, not concluded from an annotation or a name.
        of: the elements of ``ITEMS``, or the receiver of ``BOUND``.
        parts: of a ``TUPLE``, by position.
    """

    kind: Kind
    ref: str = ""
    origin: str = ""
    sure: bool = True
    of: frozenset[Thing] = frozenset()
    parts: tuple[frozenset[Thing], ...] = ()


Value = frozenset[Thing]
NOTHING: Value = frozenset()

CHROMA = frozenset({Kind.CLIENT, Kind.COLLECTION, Kind.LANGCHAIN, Kind.LLAMAINDEX})
STORES = frozenset({Kind.LANGCHAIN, Kind.LLAMAINDEX})


def join(*values: Value) -> Value:
    """Any of them."""
    kept = [value for value in values if value]
    if len(kept) <= 1:
        return kept[0] if kept else NOTHING
    found = NOTHING.union(*kept)
    return found if len(found) <= THINGS_MAX else frozenset(sorted(found, key=repr)[:THINGS_MAX])


def in_order(value: Value) -> Iterable[Thing]:
    """Its things, the same way each time."""
    return value if len(value) < 2 else sorted(value, key=repr)


def items(value: Value) -> Value:
    """A container of it."""
    kept = frozenset(each for each in value if _depth(each) < DEPTH_MAX)
    return frozenset({Thing(Kind.ITEMS, of=kept)}) if kept else NOTHING


def tuple_of(parts: Iterable[Value]) -> Value:
    """A tuple of them."""
    cut = tuple(frozenset(each for each in part if _depth(each) < DEPTH_MAX) for part in parts)
    return frozenset({Thing(Kind.TUPLE, parts=cut)}) if any(cut) else NOTHING


def elements(value: Value) -> Value:
    """What iterating over it, or a subscript of it, may give."""
    found: list[Value] = []
    for each in value:
        if each.kind is Kind.ITEMS:
            found.append(each.of)
        elif each.kind is Kind.TUPLE:
            found.extend(each.parts)
        elif each.kind in (Kind.SAFE, Kind.OTHER):
            found.append(frozenset({each}))
    return join(*found)


def _depth(thing: Thing) -> int:
    below = [_depth(each) for value in (thing.of, *thing.parts) for each in value]
    return 1 + max(below, default=0)


CLIENT_CLASSES = frozenset(
    {
        "Client",
        "PersistentClient",
        "HttpClient",
        "AsyncHttpClient",
        "CloudClient",
        "EphemeralClient",
        "AdminClient",
        "RustClient",
    }
)
CLIENT_TYPES = CLIENT_CLASSES | {
    "ClientAPI",
    "AsyncClientAPI",
    "AsyncClient",
    "ServerAPI",
    "AsyncServerAPI",
    "BaseAPI",
    "API",
    "AdminAPI",
}
COLLECTION_TYPES = frozenset({"Collection", "AsyncCollection", "CollectionCommon"})

COLLECTION_WRITES = frozenset({"add", "update", "upsert", "delete"})
COLLECTION_CATALOG = frozenset({"modify", "fork", "attach_function", "detach_function"})
COLLECTION_READS = frozenset({"get", "query", "peek", "count", "search"})
CLIENT_CATALOG = frozenset(
    {
        "create_collection",
        "get_or_create_collection",
        "delete_collection",
        "reset",
        "create_database",
        "delete_database",
        "create_tenant",
    }
)
CLIENT_READS = frozenset({"list_collections", "count_collections"})
CLIENT_TO_COLLECTION = frozenset({"create_collection", "get_or_create_collection", "get_collection"})
SERVER_WRITES = frozenset({"_add", "_update", "_upsert", "_delete", "_modify"})

LANGCHAIN_WRITES = frozenset(
    {
        "add_texts", "add_documents", "add_images", "aadd_texts", "aadd_documents", "update_document", "update_documents", "delete",
        "adelete", "delete_collection", "reset_collection", "upsert", "aupsert", "from_texts", "from_documents", "afrom_texts",
        "afrom_documents", "persist", "save_context", "asave_context",
    }
)  # fmt: skip
LANGCHAIN_MAKERS = frozenset({"from_texts", "from_documents", "afrom_texts", "afrom_documents"})
LANGCHAIN_READS = frozenset(
    {
        "get",
        "get_by_ids",
        "aget_by_ids",
        "search",
        "asearch",
        "as_retriever",
        "invoke",
        "ainvoke",
        "get_relevant_documents",
        "encode_image",
    }
)
LANGCHAIN_READ_PREFIXES = (
    "similarity_search",
    "asimilarity_search",
    "max_marginal_relevance",
    "amax_marginal_relevance",
)
LLAMAINDEX_WRITES = frozenset(
    {
        "add", "async_add", "adelete", "delete", "delete_nodes", "adelete_nodes", "clear", "aclear", "insert", "ainsert", "insert_nodes",
        "ainsert_nodes", "delete_ref_doc", "adelete_ref_doc", "update_ref_doc", "aupdate_ref_doc", "refresh_ref_docs",
        "arefresh_ref_docs", "refresh", "update", "run", "arun",
    }
)  # fmt: skip
LLAMAINDEX_READS = frozenset(
    {"query", "aquery", "get_nodes", "aget_nodes", "as_retriever", "as_query_engine", "as_chat_engine"}
)

_LANGCHAIN_CLASS = re.compile(r"(langchain|langchain_chroma|langchain_community|langchain_classic)(\.\w+)*\.Chroma")
_LLAMAINDEX_CLASS = re.compile(r"(llama_index|gpt_index)(\.\w+)*\.ChromaVectorStore")


def is_chromadb(dotted: str) -> bool:
    """Whether this is of the stock package."""
    return dotted == "chromadb" or dotted.startswith("chromadb.")


def is_safe(dotted: str) -> bool:
    """Whether this is of Chromalith: whatever it makes is known to the migration, or needs none."""
    return dotted == "chromalith" or dotted.startswith("chromalith.")


def is_foreign(thing: Thing) -> bool:
    """Whether it is of a library that is neither Chroma's, nor Chromalith's, nor one of the frameworks: nobody knows more."""
    if thing.kind is Kind.OTHER:
        return True
    known = is_chromadb(thing.ref) or is_safe(thing.ref) or of_framework(thing.ref) is not None
    return thing.kind is Kind.NAMED and not known


def is_client_class(dotted: str) -> bool:
    """Whether calling this opens a client of Chroma's."""
    return is_chromadb(dotted) and dotted.rpartition(".")[2] in CLIENT_CLASSES


def framework(dotted: str) -> Kind | None:
    """Whose store this class is, if it is one on Chroma."""
    if _LANGCHAIN_CLASS.fullmatch(dotted):
        return Kind.LANGCHAIN
    return Kind.LLAMAINDEX if _LLAMAINDEX_CLASS.fullmatch(dotted) else None


def of_framework(dotted: str) -> Kind | None:
    """Whose function or class this is."""
    root = dotted.partition(".")[0]
    if root.startswith("langchain"):
        return Kind.LANGCHAIN
    return Kind.LLAMAINDEX if root.startswith(("llama_index", "gpt_index")) else None


def typed(dotted: str) -> Thing | None:
    """What an annotation with this class says; it doesn't say who made it."""
    name = dotted.rpartition(".")[2]
    if is_chromadb(dotted) and name in CLIENT_TYPES:
        return Thing(Kind.CLIENT, sure=False)
    if is_chromadb(dotted) and name in COLLECTION_TYPES:
        return Thing(Kind.COLLECTION, sure=False)
    kind = framework(dotted)
    if kind is not None:
        return Thing(kind, sure=False)
    return Thing(Kind.SAFE) if is_safe(dotted) else None


def rule_of(kind: Kind, method: str) -> str | None:
    """The rule that a use of this method of one of Chroma's things breaks."""
    if kind is Kind.COLLECTION:
        return _pick(
            method,
            {"direct-write": COLLECTION_WRITES, "direct-catalog": COLLECTION_CATALOG, "direct-read": COLLECTION_READS},
        )
    if kind is Kind.CLIENT:
        writes = {"direct-write": SERVER_WRITES, "direct-catalog": CLIENT_CATALOG}
        return _pick(method, {**writes, "direct-read": CLIENT_READS})
    if kind is Kind.LANGCHAIN:
        if method.startswith(LANGCHAIN_READ_PREFIXES):
            return "framework-read"
        found = _pick(method, {"framework-write": LANGCHAIN_WRITES, "framework-read": LANGCHAIN_READS})
        return found or ("framework-write" if guesses.writes(method) else None)
    return _pick(method, {"framework-write": LLAMAINDEX_WRITES, "framework-read": LLAMAINDEX_READS})


def _pick(method: str, rules: dict[str, frozenset[str]]) -> str | None:
    return next((rule for rule, methods in rules.items() if method in methods), None)
