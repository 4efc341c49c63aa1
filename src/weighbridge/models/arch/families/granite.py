"""Granite that is more than Llama with factors: windows with sinks, mixtures, hybrids with Mamba 2.

    SWA       Llama's layer with one learnt logit a head, the window in three of four layers
    MoE       experts in every layer; a shared MLP beside them, if there is one
    hybrid    layer_types says which layers attend; the others are Mamba 2

Source: transformers 5.23 models/{granitemoe,granitemoeshared,granitemoehybrid}/modeling_*.py and
conversion_mapping.py; of the first, that of Llama's relatives (llama.py).
"""

from collections.abc import Iterator, Sequence
from functools import partial

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    alike,
    by_kind,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import layer as llama_layer
from weighbridge.models.arch.families.llama import llama
from weighbridge.models.arch.families.mamba_hybrid import ATTENTION, MAMBA, all_bias, prefixed_mamba
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Dense
from weighbridge.models.arch.rotary import frequencies, head_dim, rotary
from weighbridge.models.arch.sparse import fed, routed, router, stacked
from weighbridge.models.arch.windows import layer_kinds


def granite_swa(c: Config) -> Decoder:
    """Return Llama's decoder with a sink in each attention: one learnt logit per head."""
    sinks = Param("self_attn.sinks", (c.num("num_attention_heads"),), "other")
    layers = alike(c, lambda: (*llama_layer(c, llama(c)), submodule([sinks])))
    return tree(c, layers, kinds=layer_kinds)


def theta_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the model's own rotary frequencies, which are unused, and those of each base in
    `layer_rope_theta` but 0."""
    yield from rotary(c, prefix)
    known = c.has("layer_rope_theta")
    bases = {base for base in c.many("layer_rope_theta") if base} if known else {1}
    for i in range(len(bases)):
        yield from frequencies(f"{prefix}rotary_embs.{i}.", head_dim(c))


def feed_forward(c: Config, *, shared: int) -> Submodule:
    """Return the experts, if there are any, and the shared MLP of width `shared`."""
    width, e = c.num("hidden_size"), routed(c, "num_local_experts", "intermediate_size")
    path = "block_sparse_moe."
    experts = (
        *router(f"{path}router.layer", e.count, width),
        *stacked(f"{path}input_linear.weight", (e.count, 2 * e.inner, width), e),
        *stacked(f"{path}output_linear.weight", (e.count, width, e.inner), e),
    )
    beside = (
        *linear("shared_mlp.input_linear", 2 * shared, width),
        *linear("shared_mlp.output_linear", width, shared),
    )
    alone = Dense(width=shared, fused=True) if shared else None
    return submodule(
        experts if e.count else (),
        beside if shared else (),
        feed=fed(e, shared=shared) if e.count else alone,
    )


def mixture(c: Config, *, shared: bool) -> Decoder:
    def layer() -> Submodules:
        inner = c.num("shared_intermediate_size") if shared else 0
        return (all_bias(c), feed_forward(c, shared=inner), normed(c.num("hidden_size"), *BEFORE))

    return tree(c, alike(c, layer), kinds=layer_kinds)


def hybrid(c: Config) -> Decoder:
    def layer(kind: str) -> Submodules:
        mixer = prefixed_mamba(c) if kind == MAMBA else all_bias(c)
        feed = feed_forward(c, shared=c.num("shared_intermediate_size"))
        return (mixer, feed, normed(c.num("hidden_size"), *BEFORE))

    listed = kinds(c, "layer_types", lambda _: MAMBA)
    return tree(c, by_kind(listed, layer), kinds=attention_kinds)


def attention_kinds(c: Config) -> Sequence[str]:
    """Return full attention as the kind of all layers; Mamba layers ignore it. Raises BadFileError
    for MLA."""
    listed = kinds(c, "layer_types", lambda _: MAMBA)
    if "multihead_latent_attention" in listed:
        raise c.error("layer_types", "may.mamba")
    return [ATTENTION] * len(listed)


def hybrid_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    if c.word("position_embedding_type") == "rope":
        yield from rotary(c, prefix)


GRANITE_SWA = DecoderFamily(tree=granite_swa, cls="GraniteSWAForCausalLM", buffers=theta_rotary)
GRANITEMOE = DecoderFamily(
    tree=partial(mixture, shared=False),
    cls="GraniteMoeForCausalLM",
    buffers=rotary,
)
GRANITEMOESHARED = DecoderFamily(
    tree=partial(mixture, shared=True),
    cls="GraniteMoeSharedForCausalLM",
    buffers=rotary,
)
GRANITEMOEHYBRID = DecoderFamily(
    tree=hybrid, cls="GraniteMoeHybridForCausalLM", buffers=hybrid_buffers
)

TYPES = {
    "granite_swa": ModelType(
        GRANITE_SWA, windows=windows.period(4, first=True), computes=("multipliers",)
    ),
    "granitemoe": ModelType(
        GRANITEMOE, computes=("scaled_logits", "sorted_experts", "multipliers")
    ),
    "granitemoeshared": ModelType(
        GRANITEMOESHARED,
        computes=("scaled_logits", "sorted_experts", "multipliers"),
        gguf="granitemoe",
    ),
    "granitemoehybrid": ModelType(
        GRANITEMOEHYBRID,
        computes=("scaled_logits", "sorted_experts", "multipliers"),
        gguf="granitehybrid",
    ),
}
