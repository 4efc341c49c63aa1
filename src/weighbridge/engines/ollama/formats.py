"""Formats of weights that Ollama reads: those of the llama.cpp that its release runs.

Source: github.com/ollama/ollama, LLAMA_CPP_VERSION of each tag (rules.py, BUILDS).
"""

from weighbridge.engines.ollama.rules import BUILDS
from weighbridge.engines.table import ENGINES
from weighbridge.engines.weight_formats import Reads
from weighbridge.models.quantization.ggml import by_ollama

NEVER = (1 << 16,)  # a release that is beyond all


def _released(row: Reads) -> Reads:
    """The row by releases of Ollama, in the place of builds."""
    if row.since <= (min(BUILDS.values()),):
        return row._replace(since=())
    later = (release for release, build in BUILDS.items() if (build,) >= row.since)
    return row._replace(since=min(later, default=NEVER))


QUANTIZER = by_ollama
READS: tuple[Reads, ...] = tuple(map(_released, ENGINES["llama.cpp"].reading))
