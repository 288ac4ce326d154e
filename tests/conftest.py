"""Fixtures that any test may use. They live in modules of their own; this file only makes them known."""

from __future__ import annotations

from tests.servers import any_store, moto, moto_store, seaweed, seaweed_store

__all__ = ["any_store", "moto", "moto_store", "seaweed", "seaweed_store"]
