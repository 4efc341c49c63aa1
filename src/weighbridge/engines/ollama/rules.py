"""Ollama's own decisions: the build of llama.cpp that each release runs, and its defaults.

Since 0.30 llama.cpp's own llama-server runs every GGUF model, with flags that Ollama chooses.
Before, Ollama had runners and estimates of its own, described below: layer_formula.py.

    context   4,096 tokens; 32,768 if cards have 23 GiB together, 262,144 if they have 47
    batch     512 tokens; 1,024 beyond 4,096 tokens of context and 2,048 beyond 32,768, if room
              is left; without flash attention on CUDA 512, or 256 on cards of at most 8 GiB
    one card  holds all if weights and cache are within 80 % of its free memory

Source: github.com/ollama/ollama at fb30760 (0.33, August 2026) and its tags since 0.30:
LLAMA_CPP_VERSION, server/routes.go (Serve), server/sched.go (automaticGenerationBatch,
selectLlamaServerPlacement, load), llm/llama_server.go (startLlamaServer, PredictServerVRAM),
llm/server.go (NewLlamaServer), envconfig/config.go, api/types.go (DefaultOptions).

Ollama's releases before 0.30: which of its two runners, of which llama.cpp, with which defaults.

    llama runner    llama.cpp through its C interface, with that interface's defaults: windows are
                    kept whole, and slots share one cache in builds with that default
    own runner      Ollama's own graphs for the architectures in OWN; weights and caches are as
                    llama.cpp's (windows slide), the graph's buffer is not replayed

Source: github.com/ollama/ollama, tags v0.6.0 to v0.24.0: envconfig/config.go, server/routes.go
(Serve), server/sched.go (defaultParallel), llm/server.go (NewLlamaServer), llama/llama.go
(NewContextParams), llama/build-info.cpp, fs/ggml/ggml.go (OllamaEngineRequired, FlashAttention,
SupportsFlashAttention), ml/device.go.
"""

from collections.abc import Mapping
from functools import cache

from weighbridge.base.parsed import sections_beside
from weighbridge.base.records import frozen_record
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.engine import Version, by_release, changes, release_of


def _table(title: str) -> dict[Version, list[str]]:
    """Return a section of releases.txt: first release -> its values."""
    rows = (line.partition("  #")[0].split() for line in RELEASES[title])
    return {release_of(since): words for since, *words in rows}


RELEASES = sections_beside(__file__, "releases.txt")
BUILDS: Mapping[Version, int] = {since: int(n) for since, (n,) in _table("builds").items()}
BUILDS_BEFORE: Mapping[Version, int] = {
    since: int(n) for since, (n,) in _table("builds before").items()
}
OWN: Mapping[Version, list[str]] = _table("own runner")
FLASHING: Mapping[Version, list[str]] = _table("flash attention")

TIERS = ((47 * GIB, 262_144), (23 * GIB, 32_768), (0, 4096))  # memory of all cards -> context
LEAST, LEAST_SEEING = 4, 2048  # least tokens of context; for multimodal models
BATCH, OF_VECTORS, WITHOUT_FLASH = 512, 2048, 256
SMALL, LONG = 8 * GIB, 4096  # a card, and a context, that get WITHOUT_FLASH
# (tokens of context beyond which, batch, percent of free memory that weights and cache may take at
# most, bytes that it costs)
BATCHES = ((32_768, 2048, 60, 2 * GIB), (4096, 1024, 75, 768 * MIB))
FILLED = 80  # percent of free memory
HEADROOM = GIB  # for an encoder's buffers, besides its weights
# Architectures that serve one request at a time
_ALONE = """
mllama qwen3vl qwen3vlmoe qwen35 qwen35moe qwen3next lfm2 lfm2moe nemotron_h nemotron_h_moe
nemotron_h_omni
"""
ALONE = frozenset(_ALONE.split())
FLASH_SINCE = (6, 0)  # ml/device.go (cudaFlashAttentionSupported)
NO_FLASH = (7, 2)  # the same: Xavier, newer but without it
BATCH_BEFORE = 512  # api/types.go (DefaultOptions, NumBatch)
# Recurrent states that its own runner keeps to roll back to, per request, besides the running one
# (reserve_checkpoints): model/models/qwen3next/cache.go, kvcache/recurrent.go since 0.18
CHECKPOINTS: Mapping[Version, int] = {(0, 15, 5): 32, (0, 18): 24}
NEVER_FLASHING = frozenset(("gemma2",))


def build(version: Version) -> int:
    """Return the build of llama.cpp in that release."""
    if not ollama_rules(version).own_server:
        return build_before(version)
    return max(number for since, number in BUILDS.items() if since <= version)


def usual_context(memory: int, version: Version) -> int:
    """Return the default context in tokens, by the bytes of all cards."""
    fixed = ollama_rules(version).context
    if fixed is not None:
        return fixed
    return next(tokens for least, tokens in TIERS if memory >= least)


# Before 0.30


@frozen_record
class OllamaRules:
    """The behaviour of one release."""

    own_server: bool = False  # llama.cpp's llama-server runs every model
    context: int | None = 2048  # tokens; None: by the memory of all cards
    tries: tuple[int, ...] = (4, 1)  # concurrent requests: the first number that fits the cards
    flash: str = "off"  # default of the llama runner
    formula: bool = True  # layers are placed by an estimate; else by real buffers
    own_formula: bool = True  # also those of its own runner
    # What the formula (layer_formula.py) includes
    gemma3_windows: bool = False  # in the caches of Gemma 3
    gpt_oss_share: int = 4  # in cache / 6, for the graph with all layers
    gpt_oss_doubled: bool = True  # twice that for the graph with some
    gpt_oss_flash: bool = False  # its graph depends on the context, with flash attention


CHANGES = changes(__file__)


@cache
def ollama_rules(release: Version) -> OllamaRules:
    """Return the behaviour of that release."""
    return by_release(OllamaRules(), CHANGES, release)


def of_release(table: Mapping[Version, list[str]], release: Version) -> frozenset[str]:
    """Return all architectures in the table at that release."""
    return frozenset().union(*(names for since, names in table.items() if since <= release))


def build_before(release: Version) -> int:
    """Return the build of llama.cpp in that release, or one with the same rules."""
    return max(number for since, number in BUILDS_BEFORE.items() if since <= release)


def own_runner(arch: str, release: Version) -> bool:
    """Return whether Ollama's own runner computes an architecture."""
    return not ollama_rules(release).own_server and arch in of_release(OWN, release)


def checkpoints(release: Version) -> int:
    """Return the states kept per request, for a recurrent model on its own runner."""
    return [0, *(count for since, count in CHECKPOINTS.items() if since <= release)][-1]


def flash_attention_before(arch: str, release: Version, asked: str | None) -> str:
    """Return the flash attention setting, on cards that support it: the user's, and on for some
    architectures; later if llama.cpp has a kernel."""
    if arch in NEVER_FLASHING:
        return "off"
    if asked is not None:
        return asked
    if arch in of_release(FLASHING, release):
        return "on"
    return "off" if own_runner(arch, release) else ollama_rules(release).flash
