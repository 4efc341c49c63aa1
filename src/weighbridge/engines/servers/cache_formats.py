"""Formats of KV caches by their names in engines: bytes per token of a key and value.

    per token and head    data, and a float32 scale for the key and one for the value
    nvfp4, fp4_e2m1       half a byte per element, and a byte of scale for every 16
    fp8_ds_mla            latent in fp8 with a float32 scale for every 128, rotary part in bfloat16
    nvfp4_ds_mla          latent in nvfp4, rotary part in fp8

Source: vllm 0.33 v1/attention/backends/triton_attn.py (customize_spec), utils/torch_utils.py
(nvfp4_kv_cache_full_dim), model_executor/layers/attention/mla_attention.py (656 and 352 bytes per
token of DeepSeek-V3.2), models/deepseek_v4/attention.py (584); sglang 0.5.23
srt/mem_cache/kv_cache_dtype.py, srt/mem_cache/memory_pool.py (MHATokenToKVPoolFP4).

One rank's share of a layer under tensor parallelism, as vLLM and SGLang split it.

Heads are split, and repeated when there are fewer than ranks; MLA's latents are replicated on every
rank; groups of Mamba 2 that cannot be split are repeated until every rank has one.

Source: vllm 0.33 config/model.py (get_num_kv_heads), model_executor/layers/mamba/mamba_utils.py
(extra_groups_for_head_shards); sglang 0.5.23 srt/configs/mamba_utils.py.
"""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import assert_never, get_args

from weighbridge.base.dtypes import TORCH, DType
from weighbridge.base.errors import NotServedError, UsageError
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up, ceil_div
from weighbridge.memory.components.kv_cache import Format
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    Indexer,
    KimiDelta,
    Latent,
    Layer,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)

FIELD: Mapping[type[Mixer], str] = {
    Attention: "attention",
    Latent: "latent attention",
    Compressed: "compressed attention",
    CrossAttention: "attention to an encoder's output",
    Shared: "attention to another layer's keys",
    Mamba1: "Mamba",
    Mamba2: "Mamba 2",
    GatedDelta: "gated delta nets",
    KimiDelta: "Kimi's delta attention",
    LinearAttention: "lightning attention",
    ShortConv: "short convolutions",
    Rwkv: "RWKV's time mixing",
    GatedRecurrence: "gated linear recurrences",
}
FLOAT4 = TORCH["float4_e2m1fn"]
Stateful = Mamba1 | Mamba2 | GatedDelta | KimiDelta | LinearAttention | ShortConv
SCALED = 128  # elements of an indexer's key per float32 scale
SPARSE = ("fp8", "fp8_e4m3", "fp8_ds_mla")  # sparse kernels store these as fp8_ds_mla


@frozen_record
class FormatNames:
    """The names of an engine's KV cache formats: `plain` dtypes, `fours` of 4 bits with a byte of
    scale for every 16, `per_head` with a scale per head, and `latents` only for MLA."""

    name: str
    plain: Mapping[str, str]
    fours: tuple[str, ...]
    per_head: Mapping[str, DType] = field(default_factory=dict)
    latents: tuple[str, ...] = ()

    def head(self, kind: str, model_dtype: DType, key: int, value: int) -> int:
        """Return the bytes of one head's key and value, per token."""
        if kind in self.fours:
            return _four(key) + _four(value)
        f = self.format(kind, model_dtype)
        return f.size(key) + f.size(value)

    def format(self, kind: str, model_dtype: DType) -> Format:
        if kind == "auto":
            return Format(dtype=model_dtype)
        if kind in self.per_head:
            return Format(dtype=self.per_head[kind], beside=4)
        if kind in self.plain:
            return Format(dtype=TORCH[self.plain[kind]])
        known = ", ".join(("auto", *self.plain, *self.per_head, *self.fours, *self.latents))
        raise UsageError(sentence("cache_dtype", kind=kind, engine=self.name, known=known))

    def latent(self, kind: str, model_dtype: DType, rank: int, rotary: int, *, sparse: bool) -> int:
        """Return the bytes per token of a latent and its rotary part."""
        if kind in self.latents:
            return _four(rank) + rotary
        if kind == "fp8_ds_mla" or (sparse and kind in SPARSE):
            return rank + ceil_div(rank, 128) * 4 + 2 * rotary
        if kind in self.fours:
            return _four(rank + rotary)
        return self.format(kind, model_dtype).size(rank + rotary)

    def packed_row(self, dim: int, rotary: int) -> int:
        """Return DeepSeek-V4's bytes per token: fp8, a scale byte per 64; rotary in bfloat16."""
        plain = dim - rotary
        return plain + 2 * rotary + align_up(ceil_div(plain, 64), 8)


def index_key(index: Indexer | None) -> int:
    """Return the bytes of an indexer's key per token: one per element, and its scales."""
    return 0 if index is None else index.dim + index.dim // SCALED * 4


def field_name(mixer: Mixer) -> str:
    """Return the name that papers use for a kind of mixer: "latent attention"."""
    return FIELD[type(mixer)]


def refuse(reference: str, engine: str, layers: Iterable[Layer], lacked: UnionType) -> None:
    """Raise NotServedError if a layer has a mixer for which the engine has no cache: one of the
    union `lacked`."""
    kinds = get_args(lacked)
    names = {field_name(m) for layer in layers for m in layer.mixers if type(m) in kinds}
    if names:
        raise NotServedError(
            sentence("no_cache_of", engine=engine, names=" and ".join(sorted(names))),
            sentence("nearest", engine="transformers"),
            where=reference,
        )


def _four(elements: int) -> int:
    return FLOAT4.size(elements) + elements // 16


# One rank's share of a layer


def local(mixer: Mixer, ranks: int) -> Mixer:
    """Return the share of a mixer that one of `ranks` tensor-parallel ranks holds."""
    if ranks == 1:
        return mixer
    match mixer:
        case Attention() | CrossAttention():
            heads, kv_heads = ceil_div(mixer.heads, ranks), ceil_div(mixer.kv_heads, ranks)
            return replace(mixer, heads=heads, kv_heads=kv_heads)
        case Latent() | Compressed() | Shared():
            return mixer
        case _ if isinstance(mixer, Recurrent):
            return _recurrent(mixer, ranks)
        case _:
            assert_never(mixer)


def _recurrent(recurrent: Recurrent, ranks: int) -> Recurrent:
    match recurrent:
        case Mamba1():
            return replace(recurrent, inner=ceil_div(recurrent.inner, ranks))
        case Mamba2():
            inner, heads = ceil_div(recurrent.inner, ranks), ceil_div(recurrent.heads, ranks)
            return replace(
                recurrent, inner=inner, heads=heads, groups=ceil_div(recurrent.groups, ranks)
            )
        case GatedDelta():
            keys, values = (
                ceil_div(recurrent.key_heads, ranks),
                ceil_div(recurrent.value_heads, ranks),
            )
            return replace(recurrent, key_heads=keys, value_heads=values)
        case KimiDelta() | LinearAttention():
            return replace(recurrent, heads=ceil_div(recurrent.heads, ranks))
        case ShortConv():
            return replace(recurrent, width=ceil_div(recurrent.width, ranks))
        case Rwkv() | GatedRecurrence():  # neither engine has them
            return recurrent
        case _:
            assert_never(recurrent)
