"""One rank's share of a layer under tensor parallelism, as vLLM and SGLang split it.

Heads are split, and repeated when there are fewer than ranks; latents are whole on every rank; the
groups of Mamba 2 that cannot be split are repeated until every rank has one.

Source: vllm 0.33 config/model.py (get_num_kv_heads), model_executor/layers/mamba/mamba_utils.py
(extra_groups_for_head_shards); sglang 0.5.23 srt/configs/mamba_utils.py.
"""

from dataclasses import replace
from typing import assert_never

from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.units import ceil_div


def local(m: Mixer, ranks: int) -> Mixer:
    """Return the share of a mixer that one of `ranks` holds."""
    if ranks == 1:
        return m
    match m:
        case Attention() | CrossAttention():
            heads, kv_heads = ceil_div(m.heads, ranks), ceil_div(m.kv_heads, ranks)
            return replace(m, heads=heads, kv_heads=kv_heads)
        case Latent() | Compressed() | Shared():
            return m
        case _ if isinstance(m, Recurrent):
            return _recurrent(m, ranks)
        case _:
            assert_never(m)


def _recurrent(m: Recurrent, ranks: int) -> Recurrent:
    match m:
        case Mamba1():
            return replace(m, inner=ceil_div(m.inner, ranks))
        case Mamba2():
            inner, heads = ceil_div(m.inner, ranks), ceil_div(m.heads, ranks)
            return replace(m, inner=inner, heads=heads, groups=ceil_div(m.groups, ranks))
        case GatedDelta():
            keys, values = ceil_div(m.key_heads, ranks), ceil_div(m.value_heads, ranks)
            return replace(m, key_heads=keys, value_heads=values)
        case KimiDelta() | LinearAttention():
            return replace(m, heads=ceil_div(m.heads, ranks))
        case ShortConv():
            return replace(m, width=ceil_div(m.width, ranks))
        case Rwkv() | GatedRecurrence():  # neither engine has them
            return m
        case _:
            assert_never(m)
