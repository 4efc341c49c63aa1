"""What Ollama decides itself: the build of llama.cpp that each release runs, and its defaults.

Since 0.30 every GGUF model is run by llama.cpp's own llama-server, with flags of Ollama's choosing.
Before, Ollama had runners and estimates of its own: before.py, estimate.py.

    context   4,096 tokens; 32,768 where cards have 23 GiB together, 262,144 where they have 47
    batch     512 tokens; 1,024 beyond 4,096 tokens of context and 2,048 beyond 32,768, where room
              is left; without flash attention on CUDA 512, or 256 on cards of at most 8 GiB
    one card  holds all where weights and cache are within 80 % of what it has free

Source: github.com/ollama/ollama at fb30760 (0.33, August 2026) and its tags since 0.30:
LLAMA_CPP_VERSION, server/routes.go (Serve), server/sched.go (automaticGenerationBatch,
selectLlamaServerPlacement, load), llm/llama_server.go (startLlamaServer, PredictServerVRAM),
llm/server.go (NewLlamaServer), envconfig/config.go, api/types.go (DefaultOptions).
"""

from collections.abc import Mapping

from weighbridge.engines.engine import Version
from weighbridge.engines.ollama import before
from weighbridge.units import GIB, MIB

BUILDS: Mapping[Version, int] = {  # LLAMA_CPP_VERSION, from which release on
    (0, 30): 9452,
    (0, 30, 1): 9479,
    (0, 30, 4): 9493,
    (0, 30, 5): 9509,
    (0, 30, 9): 9626,
    (0, 30, 10): 9672,
    (0, 30, 11): 9781,
    (0, 31): 9840,
    (0, 31, 2): 9888,
    (0, 32, 2): 10069,
    (0, 32, 3): 10091,
    (0, 32, 6): 10242,
    (0, 32, 8): 10353,
    (0, 32, 10): 10380,
    (0, 32, 14): 10434,
    (0, 32, 15): 10488,
}
TIERS = ((47 * GIB, 262_144), (23 * GIB, 32_768), (0, 4096))  # memory of all cards -> context
LEAST, LEAST_SEEING = 4, 2048  # tokens of context; of models that see
BATCH, OF_VECTORS, WITHOUT_FLASH = 512, 2048, 256
SMALL, LONG = 8 * GIB, 4096  # a card, and a context, that get WITHOUT_FLASH
# Beyond so many tokens of context: the batch, the most of free memory that weights and cache may
# take in percent, and what it costs
BATCHES = ((32_768, 2048, 60, 2 * GIB), (4096, 1024, 75, 768 * MIB))
FILLED = 80  # percent of free memory
ALONE = frozenset(  # architectures that answer one request at a time
    (
        *("mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2"),
        *("lfm2moe", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni"),
    )
)
FLASH_SINCE = (6, 0)  # ml/device.go (cudaFlashAttentionSupported)
NO_FLASH = (7, 2)  # the same: Xavier, which is newer and has none


def build(version: Version) -> int:
    """The build of llama.cpp in that release."""
    if not before.ollama_rules(version).own_server:
        return before.build(version)
    return max(number for since, number in BUILDS.items() if since <= version)


def usual_context(memory: int, version: Version) -> int:
    """Tokens of a request where nobody says, by the bytes of all cards."""
    fixed = before.ollama_rules(version).context
    if fixed is not None:
        return fixed
    return next(tokens for least, tokens in TIERS if memory >= least)
