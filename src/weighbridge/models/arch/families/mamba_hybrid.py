"""Attention and Mamba layers in one model: Jamba, Bamba, Falcon-H1, Nemotron-H and
Nemotron 3.

    Jamba     one layer in eight attends; one in two has experts       (Mamba 1 with three norms)
    Bamba     attn_layer_indices attend                                (Mamba 2)
    Falcon-H1 every layer does both, in parallel
    Nemotron  hybrid_override_pattern, a letter a layer: M Mamba 2, * attention, - MLP, E experts

Source: transformers 5.23 models/{jamba,bamba,falcon_h1,nemotron_h}/modeling_*.py and
conversion_mapping.py.
"""

from collections.abc import Callable, Iterator, Mapping

from weighbridge.base.records import replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, experts, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    by_kind,
    counted,
    gated,
    kinds,
    normed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.families.mamba import Biases, expanded, mamba1, mamba2, step_rank
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.mixers import Mamba1, Mamba2
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import partly_rotary, rotary
from weighbridge.models.arch.sparse import RoutedExperts, each, fed, routed, router

MAMBA, ATTENTION = "linear_attention", "full_attention"
LAST = DecoderNames(final="final_layernorm")
PRE = ("input_layernorm", "pre_ff_layernorm")

# Jamba


def jamba_mamba(c: Config) -> Submodule:
    width, bias = c.num("hidden_size"), c.flag("mamba_proj_bias")
    m = Mamba1(
        inner=c.num("mamba_expand") * width,
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
    )
    rank = step_rank(c, "mamba_dt_rank")
    has = Biases(conv=c.flag("mamba_conv_bias"), inner=bias, out=bias)
    usual = mamba1("mamba.", width, m, rank, has)
    sizes = {"dt": rank, "b": m.state, "c": m.state}
    norms = (p for name, n in sizes.items() for p in norm(f"mamba.{name}_layernorm", n))
    return submodule(usual.params, norms, mixer=m)


def jamba(c: Config) -> Decoder:
    e, width = routed(c, "num_experts", "intermediate_size"), c.num("hidden_size")
    attends = max(1, c.num("attn_layer_period")), c.num("attn_layer_offset")
    sparse = max(1, c.num("expert_layer_period")), c.num("expert_layer_offset")

    def feed(has_experts: bool) -> Submodule:
        if not has_experts:
            return gated("feed_forward", width, e.inner)
        return submodule(
            router("feed_forward.router", e.count, width),
            each("feed_forward.experts", width, e),
            feed=fed(e),
        )

    def layer(kind: tuple[bool, bool]) -> Submodules:
        mixer = attention(c, LlamaSwitches()) if kind[0] else jamba_mamba(c)
        return (mixer, feed(kind[1]), normed(width, *PRE))

    kinds = [
        (i % attends[0] == attends[1], e.count > 1 and i % sparse[0] == sparse[1])
        for i in range(c.layers("num_hidden_layers"))
    ]
    return tree(c, by_kind(kinds, layer), LAST)


# Bamba, Falcon-H1 and Granite 4 name Mamba 2's sizes alike.


def prefixed_mixer(c: Config) -> Mamba2:
    return Mamba2(
        inner=expanded(c, "mamba_expand"),
        heads=c.num("mamba_n_heads"),
        groups=c.num("mamba_n_groups"),
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
    )


def prefixed_mamba(c: Config) -> Submodule:
    bias = c.flag("mamba_proj_bias")
    has = Biases(conv=c.flag("mamba_conv_bias"), inner=bias, out=bias)
    return mamba2("mamba.", c.num("hidden_size"), prefixed_mixer(c), has)


def all_bias(c: Config) -> Submodule:
    bias = c.flag("attention_bias")
    return attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))


def forward(c: Config) -> Submodule:
    inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
    return gated("feed_forward", c.num("hidden_size"), inner, bias=bias)


def bamba_kinds(c: Config) -> list[str]:
    attends = frozenset(c.nums("attn_layer_indices"))
    return kinds(c, "layer_types", lambda i: ATTENTION if i in attends else MAMBA)


def bamba(c: Config) -> Decoder:
    def layer(kind: str) -> Submodules:
        mixer = prefixed_mamba(c) if kind == MAMBA else all_bias(c)
        return (mixer, forward(c), normed(c.num("hidden_size"), *PRE))

    return tree(c, by_kind(bamba_kinds(c), layer), LAST)


def falcon_h1_mixer(c: Config) -> Mamba2:
    usual = prefixed_mixer(c)
    inner_width = None if c.null("mamba_d_ssm") else c.maybe("mamba_d_ssm")
    return usual if inner_width is None else replace(usual, inner=inner_width)


def falcon_h1(c: Config) -> Decoder:
    """Return Falcon-H1's decoder, with attention and Mamba side by side in every layer."""

    def layer() -> Submodules:
        width = c.num("hidden_size")
        has = Biases(
            conv=c.flag("mamba_conv_bias"),
            inner=c.flag("mamba_proj_bias"),
            out=c.flag("projectors_bias"),
        )
        has_norm = c.flag("mamba_rms_norm")
        mamba = mamba2("mamba.", width, falcon_h1_mixer(c), has, has_norm=has_norm)
        return (forward(c), mamba, all_bias(c), normed(width, *PRE))

    return tree(c, alike(c, layer), LAST)


def falcon_h1_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the rotary frequencies, and muP's multipliers per layer: one per row of in_proj."""
    m = falcon_h1_mixer(c)
    yield from rotary(c, prefix)
    for i in range(c.layers("num_hidden_layers")):
        shape = (1, 1, m.inner + m.channels + m.heads)
        yield Buffer(f"{prefix}layers.{i}.mamba.mup_vector", shape, "")


# Nemotron-H

LETTERS = {"M": MAMBA, "*": ATTENTION, "-": "mlp", "E": "moe"}


def nemotron_kinds(c: Config) -> list[str]:
    named, pattern = c.many("layers_block_type"), c.word("hybrid_override_pattern")
    if not named and set(pattern) - LETTERS.keys():
        raise c.error("hybrid_override_pattern", "must.letters", letters="".join(LETTERS))
    kinds = [str(kind) for kind in named] or [LETTERS[letter] for letter in pattern]
    c.skip("num_hidden_layers")  # the pattern decides
    return counted(c, "hybrid_override_pattern", kinds or [MAMBA, "moe", ATTENTION, "mlp"])


def nemotron_mamba(c: Config) -> Submodule:
    heads, bias = c.num("mamba_num_heads"), c.flag("use_bias")
    m = Mamba2(
        inner=heads * c.num("mamba_head_dim"),
        heads=heads,
        groups=c.num("mamba_n_groups", "n_groups"),
        state=c.num("ssm_state_size"),
        kernel=c.num("mamba_d_conv", "conv_kernel"),
    )
    has = Biases(conv=c.flag("mamba_conv_bias", "use_conv_bias"), inner=bias, out=bias)
    return mamba2("mixer.", c.num("hidden_size"), m, has)


def latent_size(c: Config) -> int | None:
    """Return the width of the projection on which Nemotron 3 Super's and Ultra's experts work; None
    without one."""
    return None if c.null("moe_latent_size") else c.maybe("moe_latent_size")


def nemotron_moe(c: Config) -> Submodule:
    e, width = routed(c, "n_routed_experts", "moe_intermediate_size"), c.num("hidden_size")
    latent, bias = latent_size(c), c.flag("mlp_bias")
    shared = c.num("moe_shared_expert_intermediate_size")
    projections = (
        *linear("mixer.fc1_latent_proj", latent or 0, width, bias=bias),
        *linear("mixer.fc2_latent_proj", width, latent or 0, bias=bias),
    )
    return submodule(
        router("mixer.gate", e.count, width),
        ungated_experts("mixer.experts", latent or width, e),
        ungated("mixer.shared_experts", width, shared, bias=bias).params,
        projections if latent is not None else (),
        feed=fed(e, shared=shared, gated=False, inputs=latent or 0),
    )


def ungated_experts(path: str, width: int, mixture: RoutedExperts) -> Iterator[Param]:
    k, _ = mixture.share

    def one(prefix: str) -> Iterator[Param]:
        yield from linear(f"{prefix}.up_proj", mixture.inner, width)
        yield from linear(f"{prefix}.down_proj", width, mixture.inner)

    yield from experts(f"{path}.", one, top_k=k, count=mixture.count)


def nemotron_attention(c: Config) -> Submodule:
    """Return Nemotron-H's attention. `attention_head_dim` is an old key of the head size."""
    return attention(c, LlamaSwitches(), "mixer.")


def nemotron_mlp(c: Config) -> Submodule:
    inner, bias = c.num("intermediate_size"), c.flag("mlp_bias")
    return ungated("mixer", c.num("hidden_size"), inner, bias=bias)


MADE: Mapping[str, Callable[[Config], Submodule]] = {
    MAMBA: nemotron_mamba,
    ATTENTION: nemotron_attention,
    "mlp": nemotron_mlp,
}


def nemotron_h(c: Config) -> Decoder:
    c.skip("intermediate_size", "attention_head_dim", "time_step_rank")

    def layer(kind: str) -> Submodules:
        """Return a norm and the layer's only module: experts for an unknown letter."""
        part = MADE.get(kind, nemotron_moe)
        return (normed(c.num("hidden_size"), "norm"), part(c))

    names = DecoderNames(embed="embeddings", final="norm_f")
    return tree(c, by_kind(nemotron_kinds(c), layer), names)


def nemotron_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    count = c.num("n_routed_experts")
    for i, kind in enumerate(nemotron_kinds(c)):
        if kind == "moe":
            path = f"{prefix}layers.{i}.mixer.gate.e_score_correction_bias"
            yield Buffer(path, (count,), "float32", persistent=True)


def as_megatron(c: Config) -> bool:
    """Return whether Megatron's HybridModel ties the embedding, by its own argument. transformers'
    class has no list of tied weights, whatever its config says."""
    return c.flag("share_embeddings_and_output_weights", default=False)


JAMBA = DecoderFamily(
    tree=jamba,
    cls="JambaForCausalLM",
)
BAMBA = DecoderFamily(tree=bamba, cls="BambaForCausalLM", buffers=partly_rotary(0.5))
FALCON_H1 = DecoderFamily(tree=falcon_h1, cls="FalconH1ForCausalLM", buffers=falcon_h1_buffers)
NEMOTRON_H = DecoderFamily(
    tree=nemotron_h,
    base="backbone",
    cls="NemotronHForCausalLM",
    buffers=nemotron_buffers,
    ties=as_megatron,
)

TYPES = {
    "jamba": ModelType(JAMBA, windows=windows.nowhere, computes=("not_rotary",)),
    "bamba": ModelType(BAMBA, gguf="granitehybrid"),
    "falcon_h1": ModelType(FALCON_H1, gguf="falcon-h1"),
    "nemotron_h": ModelType(NEMOTRON_H, computes=("not_rotary",), gguf="nemotron_h_moe"),
}
