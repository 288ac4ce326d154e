"""Re-exports."""

from store.connection import open_collection as get_words

__all__ = ["get_words"]
