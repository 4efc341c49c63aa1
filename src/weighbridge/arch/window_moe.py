"""Mixtures of experts whose attention differs from layer to layer, full or over a sliding window:
MiMo-V2-Flash, Laguna, Step 3.7.

    MiMo: twice the key-value heads, and a sink a head, in sliding layers; values of their own size
    Laguna and Step: a number of query heads for each layer, and a gate on attention's output

Source: transformers 5.23 models/{mimo_v2_flash,laguna,step3p7}/modeling_*.py,
conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence

from weighbridge.arch.blueprint import Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import kinds, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, head_dim, rope_settings
from weighbridge.arch.sparse import (
    Parts,
    Routed,
    block,
    by_kinds,
    correction,
    each,
    routed,
    router,
    sparse_decoder,
    stacked,
)
from weighbridge.arch.written import kv_heads

SLIDING = "sliding_attention"


def by_kind(
    c: Config, at: str, found: Sequence[str], usual: Mapping[str, float]
) -> Iterator[Buffer]:
    """Frequencies of their own for each kind of attention; `usual` shares when none are given."""
    settings = rope_settings(c)
    for kind in sorted(set(found)):
        own = settings.get(kind)
        part = own.get("partial_rotary_factor", 1.0) if isinstance(own, dict) else usual[kind]
        yield from frequencies(f"{at}rotary_emb.{kind}_", int(head_dim(c) * part))


# MiMo-V2-Flash


# Of the sliding layers; the class derives them from those of the full ones.
REPEATED = ("head_dim", "v_head_dim", "num_attention_heads", "num_key_value_heads")


def mimo_kinds(c: Config) -> list[str]:
    return kinds(
        c, "layer_types", lambda i: "full_attention" if not i or (i + 1) % 6 == 0 else SLIDING
    )


def mimo_moe(c: Config, at: str) -> Iterator[Param]:
    e = routed(c, "n_routed_experts", "moe_intermediate_size")
    yield from block(at, c.num("hidden_size"), e)


def mimo_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, 1)


def mimo(c: Config, at: str) -> Iterator[Param]:
    found = mimo_kinds(c)
    c.skip(*(f"swa_{name}" for name in REPEATED), "sliding_window_size")

    def attention(c: Config, at: str, i: int) -> Iterator[Param]:
        width, bias, size = c.num("hidden_size"), c.flag("attention_bias"), head_dim(c)
        heads, value = c.num("num_attention_heads"), c.num("v_head_dim")
        kv = kv_heads(c) * (2 if found[i] == SLIDING else 1)
        yield from linear(f"{at}q_proj", heads * size, width, bias=bias)
        yield from linear(f"{at}k_proj", kv * size, width, bias=bias)
        yield from linear(f"{at}v_proj", kv * value, width, bias=bias)
        yield from linear(f"{at}o_proj", width, heads * value)
        if found[i] == SLIDING:
            yield Param(f"{at}attention_sink_bias", (heads,), "other")

    yield from sparse_decoder(c, at, Parts(attention=attention, moe=mimo_moe, sparse=mimo_sparse))


def mimo_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from by_kind(c, at, mimo_kinds(c), {"full_attention": 0.334, SLIDING: 0.334})
    name = "mlp.gate.e_score_correction_bias"
    yield from correction(at, mimo_sparse(c), name, c.num("n_routed_experts"))


# Laguna and Step


def gated_attention(c: Config, at: str, heads: int) -> Iterator[Param]:
    """`gating`: one gate a head, or one for each of its values."""
    width, size, bias = c.num("hidden_size"), head_dim(c), c.flag("attention_bias")
    gates = heads if c.get("gating") in (None, True, "per-head") else heads * size
    yield from linear(f"{at}q_proj", heads * size, width, bias=bias)
    yield from linear(f"{at}k_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}v_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=bias)
    yield from norm(f"{at}q_norm", size)
    yield from norm(f"{at}k_norm", size)
    yield from linear(f"{at}g_proj", gates, width)


def laguna_moe(c: Config, at: str) -> Iterator[Param]:
    e, width = routed(c, "num_experts", "moe_intermediate_size"), c.num("hidden_size")
    yield from router(f"{at}gate", e.count, width)
    yield Param(f"{at}experts.e_score_correction_bias", (e.count,), "bias")
    yield from each(f"{at}experts", width, e)
    yield from gated_mlp(f"{at}shared_expert", width, c.num("shared_expert_intermediate_size"))


def laguna(c: Config, at: str) -> Iterator[Param]:
    layers, heads = c.layers("num_hidden_layers"), c.num("num_attention_heads")
    c.skip("mlp_only_layers")  # mlp_layer_types says it
    each_layer = c.per_layer("num_attention_heads_per_layer", count=layers, default=heads)

    def attention(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from gated_attention(c, at, each_layer[i])

    parts = Parts(attention=attention, moe=laguna_moe, sparse=lambda c: by_kinds(c, 1))
    yield from sparse_decoder(c, at, parts)


def laguna_buffers(c: Config, at: str) -> Iterator[Buffer]:
    found = kinds(c, "layer_types", lambda _: "full_attention")
    yield from by_kind(c, at, found, {"full_attention": 0.5, SLIDING: 1.0})


def step_kinds(c: Config) -> list[str]:
    return kinds(c, "layer_types", lambda _: "full_attention")


def step_sparse(c: Config) -> Sequence[bool]:
    """moe_layers_enum of the published configs is "3,4,5,..."."""
    named = c.get("moe_layers_enum")
    if c.get("mlp_layer_types") is not None or named is None:
        return by_kinds(c, 3)
    items = named.split(",") if isinstance(named, str) else named
    if not isinstance(items, list) or not all(str(i).strip().isdecimal() for i in items):
        raise c.error("moe_layers_enum", "must be numbers with commas between them")
    sparse = frozenset(int(i) for i in items)
    return [i in sparse for i in range(c.layers("num_hidden_layers"))]


def step_choice(c: Config) -> Routed:
    return routed(c, "n_routed_experts", "moe_intermediate_size")


def step_moe(c: Config, at: str) -> Iterator[Param]:
    """Three stacks of experts; the shared one stands beside `moe`."""
    e, width = step_choice(c), c.num("hidden_size")
    yield from router(f"{at}moe.gate", e.count, width)
    yield from stacked(f"{at}moe.gate_proj.weight", (e.count, e.inner, width), e)
    yield from stacked(f"{at}moe.up_proj.weight", (e.count, e.inner, width), e)
    yield from stacked(f"{at}moe.down_proj.weight", (e.count, width, e.inner), e)
    shared, bias = c.num("share_expert_dim"), c.flag("mlp_bias")
    yield from gated_mlp(f"{at}share_expert", width, shared, bias=bias)


def step(c: Config, at: str) -> Iterator[Param]:
    found, sparse, usual = step_kinds(c), step_sparse(c), c.num("num_attention_heads")
    other = c.get("attention_other_setting")
    fewer = other.get("num_attention_heads", usual) if isinstance(other, Mapping) else usual
    heads = {SLIDING: c.num("num_sliding_attention_heads", default=fewer)}

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from gated_attention(c, f"{at}self_attn.", heads.get(found[i], usual))
        yield from step_moe(c, at) if sparse[i] else step_mlp(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def step_mlp(c: Config, at: str) -> Iterator[Param]:
    inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
    yield from gated_mlp(f"{at}mlp", c.num("hidden_size"), inner, bias=bias)


def step_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """partial_rotary_factors of the published configs has a number a layer."""
    found, factors = step_kinds(c), c.many("partial_rotary_factors")
    first = {kind: found.index(kind) for kind in found}
    usual = {k: factors[i] if i < len(factors) else 1.0 for k, i in first.items()}
    yield from by_kind(c, at, found, usual)
    count = step_choice(c).count
    yield from correction(at, step_sparse(c), "moe.router_bias", count, dtype="")


MIMO_V2_FLASH = Family(
    body=mimo, cls="MiMoV2FlashForCausalLM", heads=DECODER_HEADS, buffers=mimo_buffers
)
LAGUNA = Family(body=laguna, cls="LagunaForCausalLM", heads=DECODER_HEADS, buffers=laguna_buffers)
STEP3P7_TEXT = Family(body=step, cls="Step3p7TextModel", buffers=step_buffers)
