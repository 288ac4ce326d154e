"""Fixtures that any test may use. They live in modules of their own; this file only makes them known."""

from __future__ import annotations

from tests.servers import any_store, chroma_server, moto, moto_store, own_chroma_server, seaweed, seaweed_store

__all__ = ["any_store", "chroma_server", "moto", "moto_store", "own_chroma_server", "seaweed", "seaweed_store"]
