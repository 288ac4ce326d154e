"""From text to vectors, where a command takes ``--text``: a function of yours, or wordllama if it is installed.

``--embed module:function`` names a function that takes a list of texts and returns one vector for each.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chromalith.errors import Invalid

Matrix = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Matrix]

WORDLLAMA_DIMENSION = 256


def wordllama() -> Embed:
    """The small model that comes inside the wordllama package: 256 dimensions, no download. Raises ``Invalid`` if it is not installed."""
    if importlib.util.find_spec("wordllama") is None:
        raise Invalid("wordllama is not installed", hint="pip install 'chromalith[demo]'")
    # Its tokenizer would be looked for on the network if it were not found beside the weights.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    package = importlib.import_module("wordllama")
    folder = Path(str(package.__file__)).parent
    # Released as 0.4.0, it looks for its own tokenizer in a folder of another name; told that its package is the cache, it finds it.
    model: Any = package.WordLlama.load(dim=WORDLLAMA_DIMENSION, cache_dir=folder, disable_download=True)

    def embed(texts: Sequence[str]) -> Matrix:
        return np.asarray(model.embed(list(texts), norm=True), np.float32)

    return embed


def named(path: str) -> Embed:
    """The function that ``module:function`` names. Raises ``Invalid``."""
    module_name, colon, function_name = path.partition(":")
    if not colon or not module_name or not function_name:
        raise Invalid(f"not the name of a function embed={path!r}", hint="write module:function, as in my_models:embed")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m does: a module of the current folder counts
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise Invalid(f"the embedding function was not found embed={path!r}: {error}", hint="check module, name and PYTHONPATH") from error

    def embed(texts: Sequence[str]) -> Matrix:
        matrix = np.asarray(function(list(texts)), np.float32)
        if matrix.ndim != 2 or len(matrix) != len(texts):
            raise Invalid(
                f"the embedding function returned the wrong shape embed={path!r} shape={matrix.shape} texts={len(texts)}",
                hint="it must return one vector for each text of the list",
            )
        return matrix

    return embed
