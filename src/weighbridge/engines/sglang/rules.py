"""Changes between releases of SGLang, as far as memory sees them.

Read in 0.4.0 to 0.4.10, 0.5.2, 0.5.3, 0.5.5 and 0.5.7 to 0.5.23: srt/server_args.py
(_handle_gpu_memory_settings, _handle_piecewise_cuda_graph), srt/arg_groups/{memory_hook,
cuda_graph_hook,model_override_base}.py, srt/model_executor/{model_runner,pool_configurator}.py,
srt/managers/scheduler.py.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.engines.engine import Version, by_release

GIB = 1024  # MiB
ANY = float("inf")
Share = Literal["by ranks", "less 13 GiB", "by card", "less a table", "less a sum"]


class Size(NamedTuple):
    """Cards of less than `below` MiB: tokens of a chunk, and the largest captured batch on fewer
    than four ranks and on more."""

    below: float
    chunk: int
    few: int
    many: int


@frozen_record
class SglangRules:
    """One release's."""

    sizes: tuple[Size, ...] = (Size(25_000, 2048, 8, 8), Size(ANY, 8192, 160, 160))
    share: Share = "by ranks"  # how mem_fraction_static comes about: see card_defaults.py
    towers: float = 0.95  # of it, for models with towers
    towers_by_size: bool = False  # towers take by their size of that; all of them need a config
    standalone: int = 2  # GiB that a draft model of its own takes of it, at least
    drafts: int = 2  # GiB of other drafts
    draft_first: bool = False  # a draft is there before the pools: counted, and not reserved
    draft_cached: bool = False  # its cache is part of the budget
    in_bytes: bool = False  # pools of windows are in bytes; before, whole cells of all layers
    hopper_fa3: bool = False  # FlashAttention 3 is the default of Hopper
    trtllm: bool = False  # TensorRT-LLM's attention is that of data-centre Blackwell
    by_tokens: bool = False  # half as many requests as tokens, at most
    prefill_graphs: bool = False  # prefill is captured by default
    piecewise: bool = True  # ... in pieces, which sparse attention has none of
    limited: bool = True  # ... not with adapters, nor with latents once it is whole
    graphs_with_drafts: bool = False
    graphs_with_towers: bool = False  # of the classes that say so
    tracked: bool = False  # states of a request are followed in two slots more
    padded: bool = False  # the slot for padding is part of the budget
    encoded: bool = False  # so is the cache of what towers made
    # Tables of pages that FlashAttention 3 keeps for captured batches, beside the first: of drafts,
    # of attention in chunks, of windows with a pool of their own
    table_of_drafts: bool = True
    table_of_chunks: bool = False
    table_of_windows: bool = False
    aiter_scaled: bool = False  # AMD's attention leaves a part of the share: see card_defaults.py
    capped: bool = False  # a limit of requests can size the sliding pool
    # Bytes of a block's scale where experts in four bits stand beside float8: float32 for each 32
    # weights, 0.625 byte a weight, then bytes, 0.53125 (create_weights of srt/layers/quantization/
    # mxfp4_marlin_moe.py and mxfp4_flashinfer_cutlass_moe.py: 0.5.12 to 0.5.15.post1, 0.5.16);
    # data-centre Blackwell's kernel still has float32 (mxfp4_flashinfer_trtllm_moe.py, to 0.5.23)
    mixed_scale: int = 4
    mixed_scale_blackwell: int = 4


def _sizes(small: Size) -> tuple[Size, ...]:
    """Chunks and batches since 0.5.3, where cards of 20 to 35 GiB are `small`."""
    return (
        Size(20 * GIB, 2048, 8, 8),
        small,
        Size(60 * GIB, 4096, 32, 160),
        Size(160 * GIB, 8192, 256, 512),
        Size(ANY, 16_384, 512, 512),
    )


SIZES_0_4_7 = (
    Size(25_000, 2048, 8, 80),
    Size(180_000, 8192, 160, 160),
    Size(ANY, 16_384, 160, 160),
)
SIZES_0_4_8 = (
    Size(35 * GIB, 2048, 8, 80),
    Size(160 * GIB, 8192, 160, 160),
    Size(ANY, 16_384, 160, 160),
)
CHANGES: Mapping[Version, Mapping[str, Any]] = {
    (0, 4, 1): {"sizes": (Size(25_000, 2048, 8, 80), Size(ANY, 8192, 160, 160))},
    (0, 4, 5): {"towers": 0.9},
    (0, 4, 6): {"share": "less 13 GiB", "hopper_fa3": True, "table_of_chunks": True},
    (0, 4, 7): {"share": "by card", "sizes": SIZES_0_4_7, "aiter_scaled": True},
    (0, 4, 8): {"share": "less a table", "sizes": SIZES_0_4_8},
    (0, 4, 10): {"towers_by_size": True},
    (0, 5, 2): {"standalone": 6},
    (0, 5, 3): {
        "share": "less a sum",
        "sizes": _sizes(Size(35 * GIB, 2048, 16, 80)),
        "table_of_drafts": False,
    },
    (0, 5, 5): {"sizes": _sizes(Size(35 * GIB, 2048, 24, 80))},
    (0, 5, 8): {"by_tokens": True, "table_of_windows": True},
    (0, 5, 9): {"trtllm": True},
    (0, 5, 10): {"prefill_graphs": True},
    (0, 5, 11): {"drafts": 4, "draft_cached": True, "in_bytes": True},
    (0, 5, 14): {"draft_first": True, "graphs_with_drafts": True, "tracked": True},
    (0, 5, 15): {"piecewise": False},
    (0, 5, 16): {"graphs_with_towers": True, "mixed_scale": 1},
    (0, 5, 17): {"padded": True},
    (0, 5, 18): {"limited": False, "encoded": True},
    (0, 5, 20): {"sizes": _sizes(Size(35 * GIB, 4096, 48, 160))},
    (0, 5, 21): {"capped": True},
}


@cache
def rules(version: Version) -> SglangRules:
    """Return the rules of the newest change that is not newer than `version`."""
    return by_release(SglangRules(), CHANGES, version)


# Source: srt/server_args.py at 0.5.19, which has old names of flags, and at 0.5.20, which has none
NEW_NAMES_ALONE = (0, 5, 20)


def takes_old_names(release: Version) -> bool:
    """Tell whether flags go by their old names, too."""
    return release < NEW_NAMES_ALONE
