"""Differences between SGLang releases that affect memory.

Read in 0.4.0 to 0.4.10, 0.5.2, 0.5.3, 0.5.5 and 0.5.7 to 0.5.23: srt/server_args.py
(_handle_gpu_memory_settings, _handle_piecewise_cuda_graph), srt/arg_groups/{memory_hook,
cuda_graph_hook,model_override_base}.py, srt/model_executor/{model_runner,pool_configurator}.py,
srt/managers/scheduler.py.
"""

from functools import cache
from typing import Literal

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.engines.engine import Version, by_release, changes

GIB = 1024  # MiB
ANY = float("inf")
Share = Literal["by ranks", "less 13 GiB", "by card", "less a table", "less a sum"]


class Size(NamedTuple):
    """Defaults for cards below `below` MiB: tokens per chunk, and the largest captured batch on
    fewer than four ranks and on more."""

    below: float
    chunk: int
    few: int
    many: int


@frozen_record
class SglangRules:
    """The behaviour of one release."""

    sizes: tuple[Size, ...] = (Size(25_000, 2048, 8, 8), Size(ANY, 8192, 160, 160))
    share: Share = "by ranks"  # rule for mem_fraction_static: see card_defaults.py
    towers: float = 0.95  # factor of it for models with encoders
    towers_by_size: bool = False  # the factor depends on the encoder's config
    standalone: int = 2  # GiB reserved for a separate draft model, at least
    drafts: int = 2  # GiB reserved for other drafts
    draft_first: bool = False  # drafts are loaded before the pools: counted, not reserved
    draft_cached: bool = False  # its KV cache is part of the budget
    in_bytes: bool = False  # sliding pools are sized in bytes; before, in cells of all layers
    hopper_fa3: bool = False  # FlashAttention 3 is Hopper's default
    trtllm: bool = False  # TensorRT-LLM's attention is the default on data-center Blackwell
    by_tokens: bool = False  # requests are at most half the tokens
    prefill_graphs: bool = False  # prefill is captured by default
    piecewise: bool = True  # ... piecewise, which sparse attention does not support
    limited: bool = True  # ... not with LoRA, nor with MLA once it is not piecewise
    graphs_with_drafts: bool = False
    graphs_with_towers: bool = False  # for classes that declare it
    tracked: bool = False  # a request's states are tracked in two more slots
    padded: bool = False  # the padding slot is part of the budget
    encoded: bool = False  # so is the cache of encoded images
    # Page tables that FlashAttention 3 keeps for captured batches, besides the first: for drafts,
    # for chunked attention, for windows with a separate pool
    table_of_drafts: bool = True
    table_of_chunks: bool = False
    table_of_windows: bool = False
    aiter_scaled: bool = False  # AMD's attention leaves a part of the share: see card_defaults.py
    capped: bool = False  # a limit of requests can size the sliding pool
    # Bytes of a block's scale if 4-bit experts are mixed with float8: float32 for each 32 weights,
    # 0.625 byte per weight, then bytes, 0.53125 (create_weights of srt/layers/quantization/
    # mxfp4_marlin_moe.py and mxfp4_flashinfer_cutlass_moe.py: 0.5.12 to 0.5.15.post1, 0.5.16);
    # data-center Blackwell's kernel still has float32 (mxfp4_flashinfer_trtllm_moe.py, to 0.5.23)
    mixed_scale: int = 4
    mixed_scale_blackwell: int = 4


CHANGES = changes(__file__, sizes=lambda rows: tuple(Size(*row) for row in rows))


@cache
def rules(version: Version) -> SglangRules:
    """Return the behaviour of the release `version`."""
    return by_release(SglangRules(), CHANGES, version)


# Source: srt/server_args.py at 0.5.19, which has old names of flags, and at 0.5.20, which has none
NEW_NAMES_ALONE = (0, 5, 20)


def takes_old_names(release: Version) -> bool:
    """Return whether the release accepts the old names of flags."""
    return release < NEW_NAMES_ALONE
