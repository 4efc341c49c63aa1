"""Changes from build to build of ik_llama.cpp. A build is the number of commits before it.

Source: its history to 8337e4cd3 (build 4840, 15 August 2026). Graphs are those of 8f7bd74af (build
3682), whose logs are in its own archive of discussions; of later builds only what is listed here.
"""

from functools import cache

from weighbridge.base.records import frozen_record, replace
from weighbridge.engines.engine import by_release, changes
from weighbridge.engines.llama_cpp.rules import READ_EARLY, LlamaCppRules, products

NEWEST = 4840


@frozen_record
class Defaults:
    flash: str = "off"
    latent_mode: int = 0
    largest_batch: int = 0
    fused_experts: bool = False
    cache_ram: int = 0


DEFAULTS, GRAPHS = changes(__file__, "defaults"), changes(__file__, "graphs")
BASE = LlamaCppRules(
    mask_pad=32,
    glu=True,
    fused=True,
    early_weights=False,
    latent_values=False,
    spare_slot=True,
    always_pipelined=True,
    rotary_first=False,
    unfolds_at_once=True,
    read_rows=frozenset(READ_EARLY),  # 8337e4cd3 ggml/src/ggml-cuda.cu (supports_op)
)


@cache
def ik_rules(build: int) -> tuple[LlamaCppRules, Defaults]:
    """Return (llama.cpp's rules as of an ik_llama.cpp build, defaults of its own settings)."""
    defaults = by_release(Defaults(), DEFAULTS, (build,))
    base = by_release(BASE, GRAPHS, (build,))
    packed = products(build)
    return replace(
        base, flash=defaults.flash, cache_ram=defaults.cache_ram, packed_products=packed
    ), defaults
