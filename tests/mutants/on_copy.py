"""A pytest plug-in: refuse to run if the product is not the copy that was meant, or every mutant would seem to live."""

from __future__ import annotations

import os
from pathlib import Path

import chromalith

assert Path(chromalith.__file__).is_relative_to(os.environ["CHROMALITH_COPY"]), chromalith.__file__
