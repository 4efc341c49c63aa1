"""Weight formats that Ollama reads: those of the llama.cpp that its release runs.

Source: github.com/ollama/ollama, LLAMA_CPP_VERSION of each tag (rules.py, BUILDS).
"""

from weighbridge.engines.ollama.rules import BUILDS
from weighbridge.engines.table import ENGINES
from weighbridge.engines.weight_formats import Reads
from weighbridge.models.quantization.ggml import by_ollama

NEVER = (1 << 16,)  # later than any release


def _released(row: Reads) -> Reads:
    """Return the row with releases of Ollama instead of builds of llama.cpp."""
    if row.since <= (min(BUILDS.values()),):
        return row._replace(since=())
    later = (release for release, build in BUILDS.items() if (build,) >= row.since)
    return row._replace(since=min(later, default=NEVER))


QUANTIZER = by_ollama
READS: tuple[Reads, ...] = tuple(map(_released, ENGINES["llama.cpp"].reading))
