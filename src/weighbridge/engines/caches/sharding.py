"""One rank's share of a layer under tensor parallelism, as vLLM and SGLang split it.

Heads are split, and repeated when there are fewer than ranks; latents are whole on every rank; the
groups of Mamba 2 that cannot be split are repeated until every rank has one.

Source: vllm 0.33 config/model.py (get_num_kv_heads), model_executor/layers/mamba/mamba_utils.py
(extra_groups_for_head_shards); sglang 0.5.23 srt/configs/mamba_utils.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.arch.mixers import (
    Attention,
    CrossAttention,
    GatedDelta,
    KimiDelta,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ShortConv,
)
from weighbridge.units import ceil_div


def local(m: Mixer, ranks: int) -> Mixer:
    """What one of `ranks` holds."""
    if ranks == 1 or type(m) not in SHARE:
        return m
    shared: Mixer = SHARE[type(m)](m, ranks)
    return shared


def _heads(m: Any, ranks: int) -> Any:
    return replace(m, heads=ceil_div(m.heads, ranks), kv_heads=ceil_div(m.kv_heads, ranks))


def _mamba2(m: Mamba2, ranks: int) -> Mamba2:
    inner, heads = ceil_div(m.inner, ranks), ceil_div(m.heads, ranks)
    return replace(m, inner=inner, heads=heads, groups=ceil_div(m.groups, ranks))


def _delta(m: GatedDelta, ranks: int) -> GatedDelta:
    keys, values = ceil_div(m.key_heads, ranks), ceil_div(m.value_heads, ranks)
    return replace(m, key_heads=keys, value_heads=values)


SHARE: Mapping[type, Callable[[Any, int], Any]] = {
    Attention: _heads,
    CrossAttention: _heads,
    Mamba1: lambda m, n: replace(m, inner=ceil_div(m.inner, n)),
    Mamba2: _mamba2,
    GatedDelta: _delta,
    KimiDelta: lambda m, n: replace(m, heads=ceil_div(m.heads, n)),
    LinearAttention: lambda m, n: replace(m, heads=ceil_div(m.heads, n)),
    ShortConv: lambda m, n: replace(m, width=ceil_div(m.width, n)),
}
