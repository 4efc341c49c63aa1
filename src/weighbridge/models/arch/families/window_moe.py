"""Mixtures of experts whose attention differs from layer to layer, full or over a sliding window:
MiMo-V2-Flash, Laguna, Step 3.7.

    MiMo: twice the key-value heads, and a sink a head, in sliding layers; values of their own size
    Laguna and Step: a number of query heads for each layer, and a gate on attention's output

Source: transformers 5.23 models/{mimo_v2_flash,laguna,step3p7}/modeling_*.py,
conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Family, Param, gated_mlp, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    gqa,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import grouped
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import frequencies, head_dim, rope_settings
from weighbridge.models.arch.sparse import (
    RoutedExperts,
    by_kinds,
    correction,
    each,
    fed,
    moe,
    routed,
    router,
    stacked,
)
from weighbridge.models.arch.windows import layer_kinds

SLIDING = "sliding_attention"


def rotary_by_kind(
    c: Config, prefix: str, kinds: Sequence[str], usual: Mapping[str, float]
) -> Iterator[Buffer]:
    """Yield the rotary frequencies of each kind of attention. `usual`: rotated fractions if the
    config gives none."""
    settings = rope_settings(c)
    for kind in sorted(set(kinds)):
        of_kind = settings.get(kind)
        part = (
            of_kind.get("partial_rotary_factor", 1.0) if isinstance(of_kind, dict) else usual[kind]
        )
        yield from frequencies(f"{prefix}rotary_emb.{kind}_", int(head_dim(c) * part))


# MiMo-V2-Flash


# Of the sliding layers; the class derives them from those of the full ones.
REPEATED = ("head_dim", "v_head_dim", "num_attention_heads", "num_key_value_heads")


def mimo_kinds(c: Config) -> list[str]:
    return kinds(
        c, "layer_types", lambda i: "full_attention" if not i or (i + 1) % 6 == 0 else SLIDING
    )


def mimo_moe(c: Config) -> Submodule:
    return moe("mlp.", c.num("hidden_size"), routed(c, "n_routed_experts", "moe_intermediate_size"))


def mimo_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, 1)


def mimo_attention(c: Config, kind: str) -> Submodule:
    """Return MiMo's attention: twice the KV heads in sliding layers; values of another size than
    keys."""
    near = kind == SLIDING
    a = replace(grouped(c), value_dim=c.num("v_head_dim"))
    a = replace(a, kv_heads=2 * a.kv_heads) if near else a
    usual = gqa("self_attn.", c.num("hidden_size"), a, bias=(c.flag("attention_bias"), False))
    sinks = (Param("self_attn.attention_sink_bias", (a.heads,), "other"),)
    return usual._replace(params=(*usual.params, *(sinks if near else ())))


def mimo(c: Config) -> Decoder:
    c.skip(*(f"swa_{name}" for name in REPEATED), "sliding_window_size")
    c.skip("intermediate_size", "attention_chunk_size")

    def layer(kind: tuple[str, bool]) -> Submodules:
        width, inner = c.num("hidden_size"), c.num("intermediate_size")
        feed = mimo_moe(c) if kind[1] else gated("mlp", width, inner)
        return (mimo_attention(c, kind[0]), feed, normed(width, *BEFORE))

    layers = by_kind(list(zip(mimo_kinds(c), mimo_sparse(c), strict=True)), layer)
    return tree(c, layers, kinds=mimo_kinds)


def mimo_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from rotary_by_kind(c, prefix, mimo_kinds(c), {"full_attention": 0.334, SLIDING: 0.334})
    name = "mlp.gate.e_score_correction_bias"
    yield from correction(prefix, mimo_sparse(c), name, c.num("n_routed_experts"))


# Laguna and Step


def gated_attention(c: Config, heads: int) -> Submodule:
    """Return attention with an output gate: by `gating` one gate per head, or one per element of
    its values."""
    width, bias = c.num("hidden_size"), c.flag("attention_bias")
    a = replace(grouped(c), heads=heads)
    gates = heads if c.get("gating") in (None, True, "per-head") else heads * a.key_dim
    usual = gqa("self_attn.", width, a, bias=(bias, bias), norms=("q_norm", "k_norm"))
    return submodule(usual.params, linear("self_attn.g_proj", gates, width), mixer=grouped(c))


def laguna_moe(c: Config) -> Submodule:
    e, width = routed(c, "num_experts", "moe_intermediate_size"), c.num("hidden_size")
    shared = c.num("shared_expert_intermediate_size")
    return submodule(
        router("mlp.gate", e.count, width),
        [Param("mlp.experts.e_score_correction_bias", (e.count,), "bias")],
        each("mlp.experts", width, e),
        gated_mlp("mlp.shared_expert", width, shared),
        feed=fed(e, shared=shared),
    )


def laguna(c: Config) -> Decoder:
    layers, heads = c.layers("num_hidden_layers"), c.num("num_attention_heads")
    c.skip("mlp_only_layers")  # mlp_layer_types says it
    c.skip("intermediate_size", "shared_expert_intermediate_size")
    each_layer = c.per_layer("num_attention_heads_per_layer", count=layers, default=heads)

    def layer(kind: tuple[int, bool]) -> Submodules:
        width = c.num("hidden_size")
        feed = laguna_moe(c) if kind[1] else gated("mlp", width, c.num("intermediate_size"))
        return (gated_attention(c, kind[0]), feed, normed(width, *BEFORE))

    mixed = by_kind(list(zip(each_layer, by_kinds(c, 1), strict=True)), layer)
    return tree(c, mixed, kinds=layer_kinds)


def laguna_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    each_kind = kinds(c, "layer_types", lambda _: "full_attention")
    yield from rotary_by_kind(c, prefix, each_kind, {"full_attention": 0.5, SLIDING: 1.0})


def step_kinds(c: Config) -> list[str]:
    return kinds(c, "layer_types", lambda _: "full_attention")


def step_sparse(c: Config) -> Sequence[bool]:
    """Return for each layer whether it has experts; published configs have moe_layers_enum,
    "3,4,5,..."."""
    named = c.get("moe_layers_enum")
    if c.get("mlp_layer_types") is not None or named is None:
        return by_kinds(c, 3)
    items = named.split(",") if isinstance(named, str) else named
    if not isinstance(items, list) or not all(str(i).strip().isdecimal() for i in items):
        raise c.error("moe_layers_enum", "must.commas")
    sparse = frozenset(int(i) for i in items)
    return [i in sparse for i in range(c.layers("num_hidden_layers"))]


def step_choice(c: Config) -> RoutedExperts:
    c.skip("n_shared_experts")  # one, and share_expert_dim says how wide
    count = "num_experts" if c.has("num_experts") else "n_routed_experts"
    return routed(c, count, "moe_intermediate_size")


def step_moe(c: Config) -> Submodule:
    """Return Step's MoE module: three stacks of experts in `moe`, and a shared expert."""
    e, width = step_choice(c), c.num("hidden_size")
    shared, bias = c.num("share_expert_dim"), c.flag("mlp_bias")
    return submodule(
        router("moe.gate", e.count, width),
        stacked("moe.gate_proj.weight", (e.count, e.inner, width), e),
        stacked("moe.up_proj.weight", (e.count, e.inner, width), e),
        stacked("moe.down_proj.weight", (e.count, width, e.inner), e),
        gated_mlp("share_expert", width, shared, bias=bias),
        feed=fed(e, shared=shared),
    )


def step(c: Config) -> Decoder:
    usual, other = c.num("num_attention_heads"), c.get("attention_other_setting")
    fewer = other.get("num_attention_heads", usual) if isinstance(other, Mapping) else usual
    heads = {SLIDING: c.num("num_sliding_attention_heads", default=fewer)}

    def layer(kind: tuple[str, bool]) -> Submodules:
        width, inner, bias = c.num("hidden_size"), c.num("intermediate_size"), c.flag("mlp_bias")
        feed = step_moe(c) if kind[1] else gated("mlp", width, inner, bias=bias)
        return (gated_attention(c, heads.get(kind[0], usual)), feed, normed(width, *BEFORE))

    layers = by_kind(list(zip(step_kinds(c), step_sparse(c), strict=True)), layer)
    return tree(c, layers, kinds=layer_kinds)


def step_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies and the correction biases; published configs have one rotary
    factor per layer."""
    each_kind, factors = step_kinds(c), c.many("partial_rotary_factors")
    first = {kind: each_kind.index(kind) for kind in each_kind}
    usual = {k: factors[i] if i < len(factors) else 1.0 for k, i in first.items()}
    yield from rotary_by_kind(c, prefix, each_kind, usual)
    count = step_choice(c).count
    yield from correction(prefix, step_sparse(c), "moe.router_bias", count, dtype="")


MIMO_V2_FLASH = DecoderFamily(tree=mimo, cls="MiMoV2FlashForCausalLM", buffers=mimo_buffers)
LAGUNA = DecoderFamily(tree=laguna, cls="LagunaForCausalLM", buffers=laguna_buffers)
STEP3P7_TEXT = Family(tree=step, cls="Step3p7TextModel", buffers=step_buffers)

TYPES = {
    "mimo_v2_flash": ModelType(MIMO_V2_FLASH, predicts="dense, near"),
    "laguna": ModelType(LAGUNA, windows=windows.nowhere),
    "step3p7_text": ModelType(STEP3P7_TEXT, windows=windows.nowhere),
}
