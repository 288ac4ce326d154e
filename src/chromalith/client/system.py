"""The Chroma ``System`` that carries a store to our ServerAPI, and the store that a plain Chroma ``System`` means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chromadb.api import ServerAPI
from chromadb.config import Settings as ChromaSettings
from chromadb.config import System
from overrides import override

from chromalith.client.opened_store import OpenedStore
from chromalith.clock import SYSTEM_CLOCK
from chromalith.observe.configured import configured
from chromalith.session import Session
from chromalith.settings import Settings
from chromalith.store.memory import MemoryStore
from chromalith.store.port import Store
from chromalith.store.url import open_store

Opener = Callable[[], OpenedStore]


class OpeningSystem(System):
    """A Chroma ``System`` whose ServerAPI is ``api``, over the store that ``opener`` opens.

    The settings keep the name of an implementation that Chroma knows, because it accepts no other.
    """

    def __init__(self, settings: ChromaSettings, api: type[ServerAPI], opener: Opener) -> None:
        super().__init__(settings)
        self.opener = opener
        self._api = api

    @override(check_signature=False)
    def instance(self, type: Any) -> Any:
        return super().instance(self._api if type is ServerAPI else type)


def opener_of(system: System) -> Opener:
    """Ours knows what to open. For a plain Chroma system, persistent settings mean a directory store there, others memory."""
    if isinstance(system, OpeningSystem):
        return system.opener
    settings = system.settings

    def open_it() -> OpenedStore:
        store: Store
        if settings.is_persistent:
            cache_dir, store = Settings().cache_dir, open_store(settings.persist_directory)
        else:
            cache_dir, store = None, MemoryStore(SYSTEM_CLOCK)
        observe = configured(Settings().metrics)
        return OpenedStore(lambda: Session(store, cache_dir=cache_dir, observe=observe))

    return open_it
