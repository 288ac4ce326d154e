"""Settings from the environment, with their defaults: one table for people (``chromalith config``) and code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from chromalith.engine.index import INDEX_THRESHOLD
from chromalith.errors import Invalid
from chromalith.model.retention import JOB_GRACE_S, KEEP_AGE_S, KEEP_VERSIONS
from chromalith.store.cache import SIZE_BYTES_MAX


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chromalith"


class Settings(BaseSettings):
    """Every setting can be given as an environment variable: ``CHROMALITH_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="CHROMALITH_", extra="ignore", frozen=True)

    store: str | None = Field(default=None, description="URL of the store, where a command gets no --store")
    cache_dir: Path = Field(default_factory=_cache_dir, description="where segments are hydrated to; safe to delete")
    cache_bytes_max: int = Field(default=SIZE_BYTES_MAX, ge=0, description="size of the cache, bytes")
    index_threshold: int = Field(default=INDEX_THRESHOLD, ge=1, description="rows at which a segment gets a vector index")
    embed: str | None = Field(default=None, description="what embeds texts: module:function, list of strings to float32 (n, dim)")
    keep_versions: int = Field(default=KEEP_VERSIONS, ge=1, description="a sweep keeps at least this many of the newest versions")
    keep_age_s: float = Field(default=KEEP_AGE_S, ge=0, description="a sweep keeps every state of the last this many seconds")
    job_grace_s: float = Field(default=JOB_GRACE_S, ge=0, description="a sweep may discard a fold or merge that takes longer")
    queue_url: str | None = Field(default=None, description="SQS queue that writers tell compactors of new deltas by")
    lease_table: str | None = Field(default=None, description="DynamoDB table for leases; without it they are objects in the store")
    metrics: Literal["off", "emf", "otel"] = Field(
        default="off", description="where metrics go: emf (lines for CloudWatch, on standard error), otel (OpenTelemetry), off"
    )
    debug: bool = Field(default=False, description="print the traceback of an error too")
    stock_snapshot: bool = Field(default=False, description="publish a stock Chroma directory beside each version")

    def store_or_fail(self) -> str:
        """The store's URL. Raises ``Invalid`` if none is set."""
        if self.store is None:
            raise Invalid("no store was named", hint="give --store URL, or set CHROMALITH_STORE")
        return self.store
