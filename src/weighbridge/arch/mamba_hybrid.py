"""Attention and Mamba layers in one model: Jamba, Bamba, Falcon-H1, Granite 4 and Granite MoE,
Nemotron-H and Nemotron 3.

    Jamba     one layer in eight attends; one in two has experts       (Mamba 1 with three norms)
    Bamba     attn_layer_indices attend                                (Mamba 2)
    Falcon-H1 every layer does both, in parallel
    Granite   layer_types; a shared MLP beside the experts, if there are any
    Nemotron  hybrid_override_pattern, a letter a layer: M Mamba 2, * attention, - MLP, E experts

Source: transformers 5.23 models/{jamba,bamba,falcon_h1,granitemoe,granitemoeshared,
granitemoehybrid,nemotron_h}/modeling_*.py and conversion_mapping.py.
"""

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.arch.blueprint import (
    Buffer,
    Family,
    Param,
    embedding,
    experts,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import MTP, Names, counted, kinds, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.mamba import Mamba1, Mamba2, expanded, mamba1, mamba2, step_rank
from weighbridge.arch.rotary import partly_rotary, rotary
from weighbridge.arch.sparse import Routed, each, routed, router, stacked
from weighbridge.arch.written import Switches, attention, norms, ungated_mlp

MAMBA, ATTENTION = "linear_attention", "full_attention"
LAST = Names(final="final_layernorm")
PRE = ("input_layernorm", "pre_ff_layernorm")

# Jamba


def jamba_mixer(c: Config) -> Mamba1:
    return Mamba1(
        width=c.num("hidden_size"),
        inner=c.num("mamba_expand") * c.num("hidden_size"),
        state=c.num("mamba_d_state"),
        rank=step_rank(c, "mamba_dt_rank"),
        kernel=c.num("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias"),
        bias=c.flag("mamba_proj_bias"),
    )


def jamba(c: Config, at: str) -> Iterator[Param]:
    m, e = jamba_mixer(c), routed(c, "num_experts", "intermediate_size")
    attends = max(1, c.num("attn_layer_period")), c.num("attn_layer_offset")
    sparse = max(1, c.num("expert_layer_period")), c.num("expert_layer_offset")

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if i % attends[0] == attends[1]:
            yield from attention(c, f"{at}self_attn.", Switches())
        else:
            yield from mamba1(f"{at}mamba.", m)
            yield from norm(f"{at}mamba.dt_layernorm", m.rank)
            yield from norm(f"{at}mamba.b_layernorm", m.state)
            yield from norm(f"{at}mamba.c_layernorm", m.state)
        if e.count > 1 and i % sparse[0] == sparse[1]:
            yield from router(f"{at}feed_forward.router", e.count, m.width)
            yield from each(f"{at}feed_forward.experts", m.width, e)
        else:
            yield from gated_mlp(f"{at}feed_forward", m.width, e.inner)
        yield from norms(c, at, PRE)

    yield from stack(c, at, layer, LAST)


# Bamba, Falcon-H1 and Granite 4 name Mamba 2's sizes alike.


def prefixed_mixer(c: Config) -> Mamba2:
    return Mamba2(
        width=c.num("hidden_size"),
        inner=expanded(c, "mamba_expand"),
        heads=c.num("mamba_n_heads"),
        groups=c.num("mamba_n_groups"),
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
        conv_bias=c.flag("mamba_conv_bias"),
        bias=c.flag("mamba_proj_bias"),
        out_bias=c.flag("mamba_proj_bias"),
    )


def all_bias(c: Config) -> Switches:
    bias = c.flag("attention_bias")
    return Switches(qkv_bias=bias, o_bias=bias)


def bamba(c: Config, at: str) -> Iterator[Param]:
    m, attends = prefixed_mixer(c), frozenset(c.nums("attn_layer_indices"))

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if i in attends:
            yield from attention(c, f"{at}self_attn.", all_bias(c))
        else:
            yield from mamba2(f"{at}mamba.", m)
        inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
        yield from gated_mlp(f"{at}feed_forward", m.width, inner, bias=bias)
        yield from norms(c, at, PRE)

    yield from stack(c, at, layer, LAST)


def falcon_h1_mixer(c: Config) -> Mamba2:
    usual = prefixed_mixer(c)
    own = None if c.null("mamba_d_ssm") else c.maybe("mamba_d_ssm")
    return replace(
        usual,
        inner=usual.inner if own is None else own,
        out_bias=c.flag("projectors_bias"),
        has_norm=c.flag("mamba_rms_norm"),
    )


def falcon_h1(c: Config, at: str) -> Iterator[Param]:
    m = falcon_h1_mixer(c)

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
        yield from gated_mlp(f"{at}feed_forward", m.width, inner, bias=bias)
        yield from mamba2(f"{at}mamba.", m)
        yield from attention(c, f"{at}self_attn.", all_bias(c))
        yield from norms(c, at, PRE)

    yield from stack(c, at, layer, LAST)


def falcon_h1_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """The multipliers of muP, one for each row of in_proj."""
    m = falcon_h1_mixer(c)
    yield from rotary(c, at)
    for i in range(c.layers("num_hidden_layers")):
        shape = (1, 1, m.inner + m.channels + m.heads)
        yield Buffer(f"{at}layers.{i}.mamba.mup_vector", shape, "")


# Granite


def granite_block(c: Config, at: str) -> Iterator[Param]:
    width, e = c.num("hidden_size"), routed(c, "num_local_experts", "intermediate_size")
    if e.count:
        path = f"{at}block_sparse_moe."
        yield from router(f"{path}router.layer", e.count, width)
        yield from stacked(f"{path}input_linear.weight", (e.count, 2 * e.inner, width), e)
        yield from stacked(f"{path}output_linear.weight", (e.count, width, e.inner), e)


def granite_shared(c: Config, at: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("shared_intermediate_size")
    yield from linear(f"{at}shared_mlp.input_linear", 2 * inner, width)
    yield from linear(f"{at}shared_mlp.output_linear", width, inner)


def granitemoe(c: Config, at: str) -> Iterator[Param]:
    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", all_bias(c))
        yield from granite_block(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def granitemoeshared(c: Config, at: str) -> Iterator[Param]:
    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from attention(c, f"{at}self_attn.", all_bias(c))
        yield from granite_block(c, at)
        if c.num("shared_intermediate_size"):
            yield from granite_shared(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def granitemoehybrid(c: Config, at: str) -> Iterator[Param]:
    m, found = prefixed_mixer(c), kinds(c, "layer_types", lambda _: MAMBA)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if found[i] == MAMBA:
            yield from mamba2(f"{at}mamba.", m)
        else:
            yield from attention(c, f"{at}self_attn.", all_bias(c))
        yield from granite_block(c, at)
        yield from granite_shared(c, at)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def granitemoehybrid_buffers(c: Config, at: str) -> Iterator[Buffer]:
    if c.word("position_embedding_type") == "rope":
        yield from rotary(c, at)


# Nemotron-H

LETTERS = {"M": MAMBA, "*": ATTENTION, "-": "mlp", "E": "moe"}


def nemotron_kinds(c: Config) -> list[str]:
    named, pattern = c.many("layers_block_type"), c.word("hybrid_override_pattern")
    if not named and set(pattern) - LETTERS.keys():
        raise c.error("hybrid_override_pattern", f"must be letters of {''.join(LETTERS)}")
    found = [str(kind) for kind in named] or [LETTERS[letter] for letter in pattern]
    c.skip("num_hidden_layers")  # the pattern decides
    return counted(c, "hybrid_override_pattern", found or [MAMBA, "moe", ATTENTION, "mlp"])


def nemotron_mixer(c: Config) -> Mamba2:
    heads = c.num("mamba_num_heads")
    return Mamba2(
        width=c.num("hidden_size"),
        inner=heads * c.num("mamba_head_dim"),
        heads=heads,
        groups=c.num("mamba_n_groups", "n_groups"),
        state=c.num("ssm_state_size"),
        kernel=c.num("mamba_d_conv", "conv_kernel"),
        conv_bias=c.flag("mamba_conv_bias", "use_conv_bias"),
        bias=c.flag("use_bias"),
        out_bias=c.flag("use_bias"),
    )


def latent_size(c: Config) -> int | None:
    """Nemotron 3 Super and Ultra: experts work on a projection of the hidden state."""
    return None if c.null("moe_latent_size") else c.maybe("moe_latent_size")


def nemotron_moe(c: Config, at: str) -> Iterator[Param]:
    e, width = routed(c, "n_routed_experts", "moe_intermediate_size"), c.num("hidden_size")
    latent, bias = latent_size(c), c.flag("mlp_bias")
    yield from router(f"{at}gate", e.count, width)
    yield from ungated_experts(f"{at}experts", latent or width, e)
    shared = c.num("moe_shared_expert_intermediate_size")
    yield from ungated_mlp(f"{at}shared_experts", width, shared, bias=bias)
    if latent is not None:
        yield from linear(f"{at}fc1_latent_proj", latent, width, bias=bias)
        yield from linear(f"{at}fc2_latent_proj", width, latent, bias=bias)


def ungated_experts(path: str, width: int, e: Routed) -> Iterator[Param]:
    k, _ = e.share

    def one(at: str) -> Iterator[Param]:
        yield from linear(f"{at}.up_proj", e.inner, width)
        yield from linear(f"{at}.down_proj", width, e.inner)

    yield from experts(f"{path}.", one, top_k=k, count=e.count)


def nemotron_layer(c: Config, at: str, kind: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from norm(f"{at}norm", width)
    if kind == MAMBA:
        yield from mamba2(f"{at}mixer.", nemotron_mixer(c))
    elif kind == ATTENTION:
        yield from attention(c, f"{at}mixer.", Switches())
    elif kind == "mlp":
        inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
        yield from ungated_mlp(f"{at}mixer", width, inner, bias=bias)
    else:
        yield from nemotron_moe(c, f"{at}mixer.")


def nemotron_h(c: Config, at: str) -> Iterator[Param]:
    c.skip(*MTP, "intermediate_size", "attention_head_dim", "time_step_rank")
    width = c.num("hidden_size")
    yield from embedding(f"{at}embeddings", c.num("vocab_size"), width)
    for i, kind in enumerate(nemotron_kinds(c)):
        yield from nemotron_layer(c, f"{at}layers.{i}.", kind)
    yield from norm(f"{at}norm_f", width)


def nemotron_buffers(c: Config, at: str) -> Iterator[Buffer]:
    count = c.num("n_routed_experts")
    for i, kind in enumerate(nemotron_kinds(c)):
        if kind == "moe":
            path = f"{at}layers.{i}.mixer.gate.e_score_correction_bias"
            yield Buffer(path, (count,), "float32", persistent=True)


def never(_: Config) -> bool:
    """The class has no list of tied weights, whatever its config says."""
    return False


JAMBA = Family(body=jamba, cls="JambaForCausalLM", heads=DECODER_HEADS)
BAMBA = Family(body=bamba, cls="BambaForCausalLM", heads=DECODER_HEADS, buffers=partly_rotary(0.5))
FALCON_H1 = Family(
    body=falcon_h1, cls="FalconH1ForCausalLM", heads=DECODER_HEADS, buffers=falcon_h1_buffers
)
GRANITEMOE = Family(
    body=granitemoe, cls="GraniteMoeForCausalLM", heads=DECODER_HEADS, buffers=rotary
)
GRANITEMOESHARED = Family(
    body=granitemoeshared, cls="GraniteMoeSharedForCausalLM", heads=DECODER_HEADS, buffers=rotary
)
GRANITEMOEHYBRID = Family(
    body=granitemoehybrid,
    cls="GraniteMoeHybridForCausalLM",
    heads=DECODER_HEADS,
    buffers=granitemoehybrid_buffers,
)
NEMOTRON_H = Family(
    body=nemotron_h,
    base="backbone",
    cls="NemotronHForCausalLM",
    heads=DECODER_HEADS,
    buffers=nemotron_buffers,
    ties=never,
)
