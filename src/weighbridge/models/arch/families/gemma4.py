"""Gemma 4 (text), dense and mixture of experts: heads that differ by kind of layer.

    sliding layers   head_dim, num_key_value_heads
    full layers      global_head_dim (512), num_global_key_value_heads; with attention_k_eq_v no v
    shared layers    the last num_kv_shared_layers hold no k, v; their MLP may be double wide
    experts          beside the dense MLP of every layer: E of them, stacked

Source: transformers 5.23 models/gemma4/{configuration,modeling}_gemma4.py (Gemma4Text*).
"""

from collections.abc import Iterator, Mapping

from weighbridge.base.records import NamedTuple, replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.gemma import (
    AROUND,
    per_layer_embedding,
    per_layer_input,
    scale,
)
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import frequencies, head_dim, layer_types
from weighbridge.models.arch.sparse import fed, routed, router, stacked_pair

GLOBAL_HEAD = 512  # Gemma4TextConfig.__post_init__, where the config does not say
FULL = "full_attention"


class Gemma4Layer(NamedTuple):
    """Sizes of one layer's attention and MLP."""

    size: int  # of a head
    kv_heads: int
    values: bool  # has a v_proj
    shared: bool  # has neither k_proj nor v_proj
    inner: int


def kinds(c: Config) -> list[str]:
    """Return the kind of each layer: the config's, else every sixth full. The last layer is always
    full."""
    return [*layer_types(c, period=6)[:-1], FULL]


def heads_by_kind(c: Config, kind: str) -> tuple[int, int]:
    """Return (head size, KV heads) of layers of `kind`, from the keys of the published configs."""
    size, few = head_dim(c), c.num("num_key_value_heads")
    if kind != FULL:
        return size, few
    same = c.flag("attention_k_eq_v")
    wide = c.num("num_global_key_value_heads", default=few) if same else few
    return c.num("global_head_dim", default=GLOBAL_HEAD), wide


def heads_by_layer(c: Config) -> Mapping[int, tuple[int, int]]:
    """Return (head size, KV heads) by layer number, from `per_layer_config`, which transformers 5
    saves with keys such as "5" or "05"."""
    by_kind = {}
    for key, raw in c.sub("per_layer_config").raw.items():
        if not str(key).isdecimal() or not isinstance(raw, Mapping):
            raise c.error(f"per_layer_config.{key}", "must.per_layer")
        one = Config(raw, where=f"{c.where}: per_layer_config.{key}")
        few = one.num("num_key_value_heads", default=c.num("num_key_value_heads"))
        by_kind[int(key)] = (one.num("head_dim", default=head_dim(c)), few)
    return by_kind


def plan(c: Config) -> Iterator[Gemma4Layer]:
    count = c.layers("num_hidden_layers")
    first_shared = count - c.num("num_kv_shared_layers", default=0)
    saved = heads_by_layer(c) if c.has("per_layer_config") else None
    usual = (head_dim(c), c.num("num_key_value_heads"))
    for i, kind in enumerate(kinds(c)):
        shared = i >= first_shared
        size, kv_heads = heads_by_kind(c, kind) if saved is None else saved.get(i, usual)
        double = shared and c.flag("use_double_wide_mlp")
        yield Gemma4Layer(
            size=size,
            kv_heads=kv_heads,
            values=not (kind == FULL and c.flag("attention_k_eq_v")),
            shared=shared,
            inner=c.num("intermediate_size") * (2 if double else 1),
        )


def attention(c: Config, one: Gemma4Layer) -> Submodule:
    """Return a layer's attention. Keys and values have different norms, so the cache stores both
    even if one projection makes them."""
    width, bias, path = c.num("hidden_size"), c.flag("attention_bias"), "self_attn."
    a = Attention(
        heads=c.num("num_attention_heads"),
        kv_heads=one.kv_heads,
        key_dim=one.size,
        value_dim=one.size,
    )
    queries, keys = a.heads * one.size, one.kv_heads * one.size
    projections = (
        *norm(f"{path}k_norm", one.size),
        *linear(f"{path}k_proj", keys, width, bias=bias),
        *(linear(f"{path}v_proj", keys, width, bias=bias) if one.values else ()),
    )
    return submodule(
        linear(f"{path}q_proj", queries, width, bias=bias),
        norm(f"{path}q_norm", one.size),
        () if one.shared else projections,
        linear(f"{path}o_proj", width, queries, bias=bias),
        mixer=a,
    )


def mixture(c: Config) -> Submodules:
    """Return the MoE part of a layer: router, stacked experts, and the norms that separate it from
    the dense MLP."""
    width, names = c.num("hidden_size"), ("num_experts", "moe_intermediate_size", "top_k_experts")
    e = routed(c, *names)
    extra = ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2")
    return (
        submodule(
            router("router.proj", e.count, width),
            [Param("router.scale", (width,), "other")],
            [Param("router.per_expert_scale", (e.count,), "other")],
            stacked_pair("experts", width, e),
            feed=fed(e),
        ),
        normed(width, *extra, "pre_feedforward_layernorm_2"),
    )


def layer(c: Config, one: Gemma4Layer) -> Submodules:
    width = c.num("hidden_size")
    slices = c.num("hidden_size_per_layer_input", default=0)
    return (
        attention(c, one),
        gated("mlp", width, one.inner),
        normed(width, *AROUND),
        submodule(per_layer_input(c, "") if slices else ()),
        *(mixture(c) if c.flag("enable_moe_block") else ()),
    )


def gemma4(c: Config) -> Decoder:
    layers = by_kind(list(plan(c)), lambda one: layer(c, one))
    decoder = tree(c, layers, kinds=kinds)
    if c.num("hidden_size_per_layer_input", default=0):
        decoder = decoder._replace(last=(*decoder.last, *per_layer_embedding(c, "")))
    return decoder._replace(sharing=c.num("num_kv_shared_layers", default=0))


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield scale(f"{prefix}embed_tokens")
    if c.num("hidden_size_per_layer_input", default=0):
        yield scale(f"{prefix}embed_tokens_per_layer")
    for i in range(c.layers("num_hidden_layers")):
        yield Buffer(f"{prefix}layers.{i}.layer_scalar", (1,), "", persistent=True)
    sizes = {kind: one.size for kind, one in zip(kinds(c), plan(c), strict=True)}
    for kind, size in sorted(sizes.items()):
        yield from frequencies(f"{prefix}rotary_emb.{kind}_", size)


GEMMA4 = DecoderFamily(tree=gemma4, cls="Gemma4ForCausalLM", buffers=buffers)
GEMMA4_UNIFIED = replace(GEMMA4, cls="Gemma4UnifiedForCausalLM")  # without experts

TYPES = {
    "gemma4_text": ModelType(
        GEMMA4,
        windows=windows.last_full(windows.period(6)),
        computes=("keys_as_values",),
        gguf="gemma4",
    ),
    "gemma4_unified_text": ModelType(
        GEMMA4_UNIFIED,
        windows=windows.last_full(windows.period(6)),
        computes=("keys_as_values",),
        gguf="gemma4",
    ),
}
