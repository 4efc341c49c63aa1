"""DeepSeek and the models with its multi-head latent attention: Kimi K2, GLM-4.7-Flash, GLM-5,
Mistral 4, A.X, LongCat-Flash.

    latent attention, N heads of nope + rope sizes, value size v, ranks r_q and r_kv:
    q_a r_q x D, norm r_q, q_b N(nope + rope) x r_q      (one q_proj when r_q is null)
    kv_a (r_kv + rope) x D, norm r_kv, kv_b N(nope + v) x r_kv, o D x Nv

    DSA indexer (V3.2, GLM-5), M heads of size h: wq_b Mh x r_q, wk h x D, its norm, weights M x D

Source: transformers 5.23 models/{deepseek_v2,deepseek_v3,deepseek_v32,glm4_moe_lite,glm_moe_dsa,
mistral4,longcat_flash,axk1}/modeling_*.py; DeepSeek-MoE's modeling_deepseek.py (remote code).
The layers for multi-token prediction are no part of these classes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Param,
    Params,
    gated_mlp,
    layer_norm,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    alike,
    by_kind,
    gated,
    kinds,
    multi_head,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Indexer
from weighbridge.models.arch.rotary import frequencies, rotary
from weighbridge.models.arch.sparse import (
    Parts,
    RoutedExperts,
    after_first,
    block,
    by_kinds,
    by_kinds_or_first,
    correction,
    dense_mlp,
    each,
    fed,
    moe,
    routed,
    router,
    sparse_decoder,
    stacked_pair,
)


def query_rank(c: Config) -> int | None:
    """Return the rank of the compressed queries; None if the config has null. A missing key means
    the class default."""
    return None if c.null("q_lora_rank") else c.maybe("q_lora_rank")


def latent_mixer(c: Config, picks: Indexer | None = None) -> Latent:
    heads = c.num("num_attention_heads")
    return Latent(
        heads=heads,
        rank=c.num("kv_lora_rank"),
        rotary=c.num("qk_rope_head_dim"),
        nope=c.num("qk_nope_head_dim"),
        value_dim=c.num("v_head_dim", default=c.num("hidden_size") // max(1, heads)),
        indexer=picks,
    )


def queries(c: Config, path: str, latent: Latent) -> Iterator[Param]:
    width, rank = c.num("hidden_size"), query_rank(c)
    inner = latent.heads * (latent.nope + latent.rotary)
    if rank is None:
        yield from linear(f"{path}q_proj", inner, width, role="q")
    else:
        bias = c.flag("attention_bias")
        yield from linear(f"{path}q_a_proj", rank, width, bias=bias, role="q_a")
        yield from norm(f"{path}q_a_layernorm", rank)
        yield from linear(f"{path}q_b_proj", inner, rank, role="q_b")


def latent(c: Config, path: str = "self_attn.", picks: Indexer | None = None) -> Submodule:
    """Return multi-head latent attention (MLA), with an indexer if `picks` is given.
    `num_key_value_heads` has no meaning for it."""
    c.skip("num_key_value_heads", "head_dim", "qk_head_dim")
    width, bias, m = c.num("hidden_size"), c.flag("attention_bias"), latent_mixer(c, picks)
    return submodule(
        queries(c, path, m),
        linear(f"{path}kv_a_proj_with_mqa", m.rank + m.rotary, width, bias=bias, role="kv_a"),
        norm(f"{path}kv_a_layernorm", m.rank),
        linear(f"{path}kv_b_proj", m.heads * (m.nope + m.value_dim), m.rank, role="kv_b"),
        linear(f"{path}o_proj", width, m.heads * m.value_dim, bias=bias, role="o"),
        indexer(c, f"{path}indexer.", picks) if picks else (),
        mixer=m,
        query_rank=query_rank(c) or 0,
    )


def own_indexer(c: Config) -> Indexer:
    return Indexer(heads=c.num("index_n_heads"), dim=c.num("index_head_dim"))


def indexer(c: Config, path: str, picks: Indexer) -> Iterator[Param]:
    """Yield the DSA indexer, a small attention that selects the tokens for the main one."""
    width = c.num("hidden_size")
    yield from linear(f"{path}wq_b", picks.heads * picks.dim, c.num("q_lora_rank"), role="whole")
    yield from linear(f"{path}wk", picks.dim, width, role="index_k")
    yield from layer_norm(f"{path}k_norm", picks.dim)
    yield from linear(f"{path}weights_proj", picks.heads, width, role="whole")


def indexed(c: Config) -> Submodule:
    return latent(c, picks=own_indexer(c))


def choice(c: Config) -> RoutedExperts:
    return routed(c, "n_routed_experts", "moe_intermediate_size")


def shared_size(c: Config) -> int | None:
    """Return the width of all shared experts, stored as one MLP; None if there are none."""
    count = c.maybe("n_shared_experts")
    return (
        None
        if count is None or c.null("n_shared_experts")
        else count * c.num("moe_intermediate_size")
    )


def deepseek_moe(c: Config) -> Submodule:
    return moe("mlp.", c.num("hidden_size"), choice(c), shared=shared_size(c))


def indexed_choice(c: Config) -> RoutedExperts:
    """Return the routed experts of classes with an indexer: `num_experts` wins over
    `n_routed_experts` if the config sets both."""
    name = "num_experts" if c.has("num_experts") else "n_routed_experts"
    return routed(c, name, "moe_intermediate_size")


def indexed_moe(c: Config) -> Submodule:
    return moe("mlp.", c.num("hidden_size"), indexed_choice(c), shared=shared_size(c))


def with_shared(
    c: Config, experts: RoutedExperts, *params: Params, bias: bool = False
) -> Submodule:
    """Return an MoE module: `params` of the routed experts, then the shared experts' MLP."""
    width, shared = c.num("hidden_size"), shared_size(c)
    shared_mlp = () if shared is None else gated_mlp("mlp.shared_experts", width, shared, bias=bias)
    return submodule(*params, shared_mlp, feed=fed(experts, shared=shared or 0))


def v2_moe(c: Config) -> Submodule:
    """Return DeepSeek-V2's MoE module, whose shared MLP may have biases."""
    e = choice(c)
    return with_shared(c, e, block("mlp.", c.num("hidden_size"), e), bias=c.flag("mlp_bias"))


def v1_sparse(c: Config) -> Sequence[bool]:
    period = max(1, c.num("moe_layer_freq", default=1))
    late = after_first(c)
    return [late[i] and i % period == 0 for i in range(len(late))]


def v1_attention(c: Config) -> Submodule:
    bias = c.flag("attention_bias")
    return attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))


def v2_attention(c: Config) -> Submodule:
    """Return DeepSeek-V2's attention: MLA, or multi-head for a rank of null or 0 and without
    `use_mla` (small DeepSeek-VL2)."""
    if c.null("kv_lora_rank") or not c.num("kv_lora_rank") or not c.enabled("use_mla"):
        heads = multi_head(c.num("num_attention_heads"), c.num("hidden_size"))
        return attention(c, LlamaSwitches())._replace(mixer=heads)
    return latent(c)


def stacked_moe(c: Config) -> Submodule:
    """Return Mistral 4's MoE module, with all experts stacked in one parameter."""
    width, e = c.num("hidden_size"), choice(c)
    return with_shared(
        c, e, router("mlp.gate", e.count, width), stacked_pair("mlp.experts", width, e)
    )


V1 = Parts(attention=v1_attention, moe=deepseek_moe, sparse=v1_sparse)
V2 = Parts(
    attention=v2_attention, moe=v2_moe, sparse=after_first, mlp_bias=lambda c: c.flag("mlp_bias")
)
V3 = Parts(attention=latent, moe=deepseek_moe, sparse=after_first)
V32 = Parts(attention=indexed, moe=indexed_moe, sparse=by_kinds_or_first)
LITE = Parts(attention=latent, moe=deepseek_moe, sparse=lambda c: by_kinds(c, 1))
MISTRAL4 = Parts(attention=latent, moe=stacked_moe, sparse=after_first)


def read(parts: Parts) -> Callable[[Config], Decoder]:
    return partial(sparse_decoder, parts=parts)


def glm_moe_dsa(c: Config) -> Decoder:
    """Return GLM-5's decoder. Layers whose indexer is "shared" reuse an earlier layer's selection
    and store no indexer keys."""
    chooses = [kind != "shared" for kind in index_kinds(c)]
    c.skip("intermediate_size", "shared_expert_intermediate_size")

    def layer(kind: tuple[bool, bool]) -> Submodules:
        sparse, picks = kind
        feed = indexed_moe(c) if sparse else dense_mlp(c, V32)
        mixer = indexed(c) if picks else latent(c)
        return (mixer, feed, normed(c.num("hidden_size"), *BEFORE))

    return tree(c, by_kind(list(zip(by_kinds_or_first(c), chooses, strict=True)), layer))


def index_kinds(c: Config) -> list[str]:
    pattern = c.get("index_topk_pattern")
    if c.get("indexer_types") is None and isinstance(pattern, str):
        names = {"F": "full", "S": "shared"}
        if len(pattern) < c.layers("num_hidden_layers") or set(pattern) - names.keys():
            raise c.error("index_topk_pattern", "must.letter")
        return [names[letter] for letter in pattern]
    name = "index_topk_pattern" if c.get("indexer_types") is None and pattern else "indexer_types"
    period = max(1, c.num("index_topk_freq", default=1))
    offset = c.num("index_skip_topk_offset", default=2)
    return kinds(c, name, lambda i: "shared" if max(i - offset + 1, 0) % period else "full")


def latent_rotary(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the frequencies of the rope part of a head, all of which is rotated."""
    yield from frequencies(f"{prefix}rotary_emb.", c.num("qk_rope_head_dim"))


def balanced(
    parts: Parts, chosen: Callable[[Config], RoutedExperts] = choice
) -> Callable[[Config, str], Iterator[Buffer]]:
    """Return a rule that yields rotary frequencies and the correction bias of each V3 router."""

    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        yield from latent_rotary(c, prefix)
        name = "mlp.gate.e_score_correction_bias"
        yield from correction(prefix, parts.sparse(c), name, chosen(c).count)

    return buffers


def kimi_k2(c: Config) -> Decoder:
    """Return Kimi K2's decoder: DeepSeek-V3's classes with other sizes."""
    return sparse_decoder(c.retyped(c.held("")), V3)


def kimi_k2_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from balanced(V3)(c.retyped(c.held("")), prefix)


# LongCat-Flash: a layer is two attentions and two dense MLPs beside one sparse block. The router
# also scores experts that do nothing; checkpoints hold no tensors for them. (transformers 5.23 sets
# room for their gate_up_proj aside; its class does not load the published checkpoint.)


def longcat_experts(c: Config) -> Submodule:
    real = routed(c, "n_routed_experts", "expert_ffn_hidden_size", "moe_topk")
    width, path = c.num("hidden_size"), "mlp.router.classifier"
    scored = real.count + c.num("zero_expert_num", default=0)
    bias = [Param(f"{path}.bias", (scored,), "bias")] if c.flag("router_bias") else []
    return submodule(
        router(path, scored, width), bias, each("mlp.experts", width, real), feed=fed(real)
    )


def longcat_half(c: Config, half: str) -> Submodules:
    width = c.num("hidden_size")
    return (
        latent(c, f"self_attn.{half}."),
        gated(f"mlps.{half}", width, c.num("ffn_hidden_size")),
        normed(width, f"input_layernorm.{half}", f"post_attention_layernorm.{half}"),
    )


def longcat(c: Config) -> Decoder:
    def layer() -> Submodules:
        return (longcat_experts(c), *longcat_half(c, "0"), *longcat_half(c, "1"))

    return tree(c, alike(c, layer, "num_layers"))


def longcat_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    size = c.num("head_dim", default=c.num("qk_rope_head_dim"))
    yield from frequencies(f"{prefix}rotary_emb.", size)
    count = c.num("n_routed_experts") + c.num("zero_expert_num", default=0)
    layers = (True,) * c.layers("num_layers")
    yield from correction(prefix, layers, "mlp.router.e_score_correction_bias", count, dtype="")


DEEPSEEK = DecoderFamily(tree=read(V1), cls="DeepseekForCausalLM", buffers=rotary)
DEEPSEEK_V2 = DecoderFamily(tree=read(V2), cls="DeepseekV2ForCausalLM", buffers=latent_rotary)
DEEPSEEK_V3 = DecoderFamily(tree=read(V3), cls="DeepseekV3ForCausalLM", buffers=balanced(V3))
DEEPSEEK_V32 = DecoderFamily(
    tree=read(V32),
    cls="DeepseekV32ForCausalLM",
    buffers=balanced(V32, indexed_choice),
)
KIMI_K2 = replace(DEEPSEEK_V3, tree=kimi_k2, buffers=kimi_k2_buffers)
GLM4_MOE_LITE = DecoderFamily(tree=read(LITE), cls="Glm4MoeLiteForCausalLM", buffers=balanced(LITE))
GLM_MOE_DSA = DecoderFamily(
    tree=glm_moe_dsa,
    cls="GlmMoeDsaForCausalLM",
    buffers=balanced(V32, indexed_choice),
)
MISTRAL_4 = DecoderFamily(tree=read(MISTRAL4), cls="Mistral4ForCausalLM", buffers=latent_rotary)
LONGCAT = DecoderFamily(tree=longcat, cls="LongcatFlashForCausalLM", buffers=longcat_buffers)

TYPES = {
    "deepseek": ModelType(DEEPSEEK),
    "deepseek_v2": ModelType(
        DEEPSEEK_V2, computes=("float_routes", "complex_rotary"), gguf="deepseek2"
    ),
    "deepseek_v3": ModelType(DEEPSEEK_V3, gguf="deepseek2"),
    "deepseek_v32": ModelType(DEEPSEEK_V32),
    "kimi_k2": ModelType(KIMI_K2, holds={"": "deepseek_v3"}, gguf="deepseek2"),
    "glm4_moe_lite": ModelType(GLM4_MOE_LITE, predicts="last", gguf="deepseek2"),
    "glm_moe_dsa": ModelType(GLM_MOE_DSA, computes=("shared_picks",)),
    "mistral4": ModelType(MISTRAL_4, gguf="deepseek2"),
    "longcat_flash": ModelType(
        LONGCAT, computes=("looped_experts", "scaled_latents", "two_halves"), gguf="none"
    ),
}
