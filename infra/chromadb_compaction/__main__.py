"""``pulumi up`` runs this: it reads the configuration, and declares everything of one stack. What each part is: ``pipeline/``."""

from __future__ import annotations

from pipeline.config import read_settings
from pipeline.stack import declare

declare(read_settings())
