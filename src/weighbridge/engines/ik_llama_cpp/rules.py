"""Changes from build to build of ik_llama.cpp. A build is the number of commits before it.

Source: its history to 8337e4cd3 (build 4840, 15 August 2026). Graphs are those of 8f7bd74af (build
3682), whose logs are in its own archive of discussions; of later builds only what is listed here.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.base.records import frozen_record, replace
from weighbridge.engines.engine import by_release
from weighbridge.engines.llama_cpp.rules import READ_EARLY, LlamaCppRules, products

NEWEST = 4840


@frozen_record
class Defaults:
    flash: str = "off"
    latent_mode: int = 0
    largest_batch: int = 0
    fused_experts: bool = False
    cache_ram: int = 0


GRAPHS: Mapping[int, Mapping[str, Any]] = {
    3590: {"unfolds_at_once": False},  # 9fe2b06f7, #260, 18 March 2025
    3683: {"fused_moves": True},  # aa8ec5dfa, #405, 12 May 2025
    3745: {"expert_share": True},  # dc663fe63, #520, 12 June 2025
    3869: {"fused_feeds": True},  # 8de297b79, #741, 31 August 2025
    3873: {"copies": 1},  # d29c21ecb, #751, 2 September 2025
    3886: {"early_weights": True},  # 4591e8382, #789, 23 September 2025
    3907: {"half_mask": True},  # 4e24d48e6, #825, 13 October 2025
    3941: {"always_pipelined": False},  # a3bd0158f, #879, 31 October 2025
    3953: {"spare_slot": False},  # 7978f0499, #901, 5 November 2025
    4012: {"splits_rows": False},  # 0f6986a33, #987, 19 November 2025
    4325: {"lends": "spread"},  # 9b7db9bc3, #1464, 19 March 2026
    # 095bd3d3b, #1510, 26 March 2026; not where the environment has GGML_CUDA_NO_PINNED, #1546
    4357: {"names_end_mmap": True},
    4797: {"lends": "last"},  # da2293ded, #2262, 7 August 2026
}
CHANGES: Mapping[int, Mapping[str, Any]] = {
    3928: {"flash": "on", "fused_experts": True},  # 41d6c42b9, #863, 25 October 2025
    3983: {"latent_mode": 3},  # ddc88bac1, #943, 12 November 2025
    3995: {"cache_ram": 8192},  # bb358223c, #954, 14 November 2025
    4832: {"largest_batch": 256},  # 37d82c231, #2312, 13 August 2026
}
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
    defaults = by_release(Defaults(), CHANGES, build)
    base = by_release(BASE, GRAPHS, build)
    packed = products(build)
    return replace(
        base, flash=defaults.flash, cache_ram=defaults.cache_ram, packed_products=packed
    ), defaults
