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
from dataclasses import replace
from functools import partial

from weighbridge.arch.blueprint import Body, Buffer, Family, Param, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, kinds, stack
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.rotary import frequencies, rotary
from weighbridge.arch.sparse import (
    Parts,
    Routed,
    after_first,
    block,
    by_kinds,
    by_kinds_or_first,
    correction,
    each,
    routed,
    router,
    sparse_decoder,
    stacked_pair,
)
from weighbridge.arch.written import Switches, attention


def query_rank(c: Config) -> int | None:
    """An explicit null says that queries are not compressed; an absent key says nothing."""
    return None if c.null("q_lora_rank") else c.maybe("q_lora_rank")


def queries(c: Config, at: str) -> Iterator[Param]:
    width, rank = c.num("hidden_size"), query_rank(c)
    size = c.num("qk_nope_head_dim") + c.num("qk_rope_head_dim")
    inner = c.num("num_attention_heads") * size
    if rank is None:
        yield from linear(f"{at}q_proj", inner, width)
    else:
        yield from linear(f"{at}q_a_proj", rank, width, bias=c.flag("attention_bias"))
        yield from norm(f"{at}q_a_layernorm", rank)
        yield from linear(f"{at}q_b_proj", inner, rank)


def latent(c: Config, at: str, _: int = 0) -> Iterator[Param]:
    """Multi-head latent attention: its latent has no key-value heads."""
    c.skip("num_key_value_heads", "head_dim", "qk_head_dim")
    width, bias = c.num("hidden_size"), c.flag("attention_bias")
    heads, rank = c.num("num_attention_heads"), c.num("kv_lora_rank")
    value = c.num("v_head_dim", default=width // max(1, heads))
    yield from queries(c, at)
    compressed = rank + c.num("qk_rope_head_dim")
    yield from linear(f"{at}kv_a_proj_with_mqa", compressed, width, bias=bias)
    yield from norm(f"{at}kv_a_layernorm", rank)
    yield from linear(f"{at}kv_b_proj", heads * (c.num("qk_nope_head_dim") + value), rank)
    yield from linear(f"{at}o_proj", width, heads * value, bias=bias)


def indexer(c: Config, at: str) -> Iterator[Param]:
    """The small attention that picks which tokens the large one sees."""
    heads, size, width = c.num("index_n_heads"), c.num("index_head_dim"), c.num("hidden_size")
    yield from linear(f"{at}wq_b", heads * size, c.num("q_lora_rank"))
    yield from linear(f"{at}wk", size, width)
    yield from norm(f"{at}k_norm", size, bias=True)
    yield from linear(f"{at}weights_proj", heads, width)


def indexed(c: Config, at: str, _: int) -> Iterator[Param]:
    yield from latent(c, at)
    yield from indexer(c, f"{at}indexer.")


def choice(c: Config) -> Routed:
    return routed(c, "n_routed_experts", "moe_intermediate_size")


def shared_size(c: Config) -> int | None:
    """All shared experts are one wide MLP; a null means that there are none."""
    count = c.maybe("n_shared_experts")
    return (
        None
        if count is None or c.null("n_shared_experts")
        else count * c.num("moe_intermediate_size")
    )


def moe(c: Config, at: str) -> Iterator[Param]:
    yield from block(at, c.num("hidden_size"), choice(c), shared=shared_size(c))


def indexed_choice(c: Config) -> Routed:
    """The classes with an index let `num_experts` decide where both are set."""
    name = "num_experts" if c.has("num_experts") else "n_routed_experts"
    return routed(c, name, "moe_intermediate_size")


def indexed_moe(c: Config, at: str) -> Iterator[Param]:
    yield from block(at, c.num("hidden_size"), indexed_choice(c), shared=shared_size(c))


def v2_moe(c: Config, at: str) -> Iterator[Param]:
    """V2 also knows a bias in its MLPs, the shared one included."""
    width, shared = c.num("hidden_size"), shared_size(c)
    yield from block(at, width, choice(c))
    if shared is not None:
        yield from gated_mlp(f"{at}shared_experts", width, shared, bias=c.flag("mlp_bias"))


def v1_sparse(c: Config) -> Sequence[bool]:
    period = max(1, c.num("moe_layer_freq", default=1))
    late = after_first(c)
    return [late[i] and i % period == 0 for i in range(len(late))]


def v1_attention(c: Config, at: str, _: int) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from attention(c, at, Switches(qkv_bias=bias, o_bias=bias))


def stacked_moe(c: Config, at: str) -> Iterator[Param]:
    """Mistral 4 stores all experts in one parameter."""
    width, shared = c.num("hidden_size"), shared_size(c)
    yield from router(f"{at}gate", choice(c).count, width)
    yield from stacked_pair(f"{at}experts", width, choice(c))
    if shared is not None:
        yield from gated_mlp(f"{at}shared_experts", width, shared)


V1 = Parts(attention=v1_attention, moe=moe, sparse=v1_sparse)
V2 = Parts(attention=latent, moe=v2_moe, sparse=after_first, mlp_bias=lambda c: c.flag("mlp_bias"))
V3 = Parts(attention=latent, moe=moe, sparse=after_first)
V32 = Parts(attention=indexed, moe=indexed_moe, sparse=by_kinds_or_first)
LITE = Parts(attention=latent, moe=moe, sparse=lambda c: by_kinds(c, 1))
MISTRAL4 = Parts(attention=latent, moe=stacked_moe, sparse=after_first)


def body(parts: Parts) -> Body:
    return partial(sparse_decoder, parts=parts)


def glm_moe_dsa(c: Config, at: str) -> Iterator[Param]:
    """Layers whose indexer is "shared" use the choice of an earlier layer."""
    own = index_kinds(c)

    def mixer(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from latent(c, at)
        if own[i] != "shared":
            yield from indexer(c, f"{at}indexer.")

    yield from sparse_decoder(c, at, replace(V32, attention=mixer))


def index_kinds(c: Config) -> list[str]:
    pattern = c.get("index_topk_pattern")
    if c.get("indexer_types") is None and isinstance(pattern, str):
        names = {"F": "full", "S": "shared"}
        if len(pattern) < c.layers("num_hidden_layers") or set(pattern) - names.keys():
            raise c.error("index_topk_pattern", "must be a letter F or S a layer")
        return [names[letter] for letter in pattern]
    name = "index_topk_pattern" if c.get("indexer_types") is None and pattern else "indexer_types"
    period = max(1, c.num("index_topk_freq", default=1))
    offset = c.num("index_skip_topk_offset", default=2)
    return kinds(c, name, lambda i: "shared" if max(i - offset + 1, 0) % period else "full")


def latent_rotary(c: Config, at: str) -> Iterator[Buffer]:
    """Only the rope part of a head is rotated, and all of it."""
    yield from frequencies(f"{at}rotary_emb.", c.num("qk_rope_head_dim"))


def balanced(
    parts: Parts, chosen: Callable[[Config], Routed] = choice
) -> Callable[[Config, str], Iterator[Buffer]]:
    """Return a rule that yields the correction bias of V3's router."""

    def buffers(c: Config, at: str) -> Iterator[Buffer]:
        yield from latent_rotary(c, at)
        name = "mlp.gate.e_score_correction_bias"
        yield from correction(at, parts.sparse(c), name, chosen(c).count)

    return buffers


def kimi_k2(c: Config, at: str) -> Iterator[Param]:
    """DeepSeek-V3 with other numbers, and the same classes."""
    yield from body(V3)(c.retyped(c.held("")), at)


def kimi_k2_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from balanced(V3)(c.retyped(c.held("")), at)


# LongCat-Flash: a layer is two attentions and two dense MLPs beside one sparse block. The router
# also scores experts that do nothing; checkpoints hold no tensors for them. (transformers 5.23 sets
# room for their gate_up_proj aside; its class does not load the published checkpoint.)


def longcat(c: Config, at: str) -> Iterator[Param]:
    real = routed(c, "n_routed_experts", "expert_ffn_hidden_size", "moe_topk")

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        scored = real.count + c.num("zero_expert_num", default=0)
        yield from router(f"{at}mlp.router.classifier", scored, width)
        if c.flag("router_bias"):
            yield Param(f"{at}mlp.router.classifier.bias", (scored,), "bias")
        yield from each(f"{at}mlp.experts", width, real)
        for half in ("0", "1"):
            yield from latent(c, f"{at}self_attn.{half}.")
            yield from gated_mlp(f"{at}mlps.{half}", width, c.num("ffn_hidden_size"))
            yield from norm(f"{at}input_layernorm.{half}", width)
            yield from norm(f"{at}post_attention_layernorm.{half}", width)

    yield from stack(c, at, layer, Names(count="num_layers"))


def longcat_buffers(c: Config, at: str) -> Iterator[Buffer]:
    size = c.num("head_dim", default=c.num("qk_rope_head_dim"))
    yield from frequencies(f"{at}rotary_emb.", size)
    count = c.num("n_routed_experts") + c.num("zero_expert_num", default=0)
    layers = (True,) * c.layers("num_layers")
    yield from correction(at, layers, "mlp.router.e_score_correction_bias", count, dtype="")


DEEPSEEK = Family(body=body(V1), cls="DeepseekForCausalLM", heads=DECODER_HEADS, buffers=rotary)
DEEPSEEK_V2 = Family(
    body=body(V2), cls="DeepseekV2ForCausalLM", heads=DECODER_HEADS, buffers=latent_rotary
)
DEEPSEEK_V3 = Family(
    body=body(V3), cls="DeepseekV3ForCausalLM", heads=DECODER_HEADS, buffers=balanced(V3)
)
DEEPSEEK_V32 = Family(
    body=body(V32),
    cls="DeepseekV32ForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced(V32, indexed_choice),
)
KIMI_K2 = replace(DEEPSEEK_V3, body=kimi_k2, buffers=kimi_k2_buffers)
GLM4_MOE_LITE = Family(
    body=body(LITE), cls="Glm4MoeLiteForCausalLM", heads=DECODER_HEADS, buffers=balanced(LITE)
)
GLM_MOE_DSA = Family(
    body=glm_moe_dsa,
    cls="GlmMoeDsaForCausalLM",
    heads=DECODER_HEADS,
    buffers=balanced(V32, indexed_choice),
)
MISTRAL_4 = Family(
    body=body(MISTRAL4), cls="Mistral4ForCausalLM", heads=DECODER_HEADS, buffers=latent_rotary
)
LONGCAT = Family(
    body=longcat, cls="LongcatFlashForCausalLM", heads=DECODER_HEADS, buffers=longcat_buffers
)
