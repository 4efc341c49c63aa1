"""Qwen's mixtures of experts and its hybrids of full attention and gated delta nets; OLMoE,
FlexOlmo and Mellum, which name experts as Qwen does.

    a sparse block: mlp.gate E x D, mlp.experts.N.{gate,up,down}_proj; in Qwen 1.5, 3-Next and 3.5
    also mlp.shared_expert, always used, and a gate on it of D weights

    a gated delta net, K key heads of size H and V value heads of size W:
    in_proj D x (2KH + 2VW + 2V), convolution over 2KH + VW, A_log V, dt_bias V, norm W, out_proj

Source: transformers 5.23 models/{qwen2_moe,qwen3_moe,qwen3_next,qwen3_5,qwen3_5_moe,olmoe,
flex_olmo,mellum}/modeling_*.py and conversion_mapping.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Layer, kinds, stack, two_norms
from weighbridge.arch.heads import DECODER_HEADS, causal_lm
from weighbridge.arch.llama import SPANS
from weighbridge.arch.rotary import frequencies, head_dim, partly_rotary, rotary
from weighbridge.arch.sparse import (
    Parts,
    Routed,
    block,
    by_kinds,
    by_step,
    routed,
    sparse_decoder,
)
from weighbridge.arch.written import Switches, attention, kv_heads, norms


def choice(c: Config) -> Routed:
    return routed(c, "num_experts", "moe_intermediate_size")


def moe(c: Config, at: str) -> Iterator[Param]:
    yield from block(at, c.num("hidden_size"), choice(c))


def moe_and_shared(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from moe(c, at)
    yield from gated_mlp(f"{at}shared_expert", width, c.num("shared_expert_intermediate_size"))
    yield from linear(f"{at}shared_expert_gate", 1, width)


def qwen2_attention(c: Config, at: str, _: int) -> Iterator[Param]:
    yield from attention(c, at, Switches(qkv_bias=c.flag("qkv_bias", default=True)))


def qwen3_attention(c: Config, at: str, _: int) -> Iterator[Param]:
    bias = c.flag("attention_bias")
    yield from attention(c, at, Switches(qkv_bias=bias, o_bias=bias, qk_norm=True))


def qwen2_moe(c: Config, at: str) -> Iterator[Param]:
    parts = Parts(attention=qwen2_attention, moe=moe_and_shared, sparse=by_step)
    yield from sparse_decoder(c, at, parts)


def qwen3_moe(c: Config, at: str) -> Iterator[Param]:
    parts = Parts(attention=qwen3_attention, moe=moe, sparse=by_step)
    yield from sparse_decoder(c, at, parts)


# Qwen3-Next and Qwen3.5: three of four layers are gated delta nets.


def gated_attention(c: Config, at: str) -> Iterator[Param]:
    """q_proj holds a gate on the output beside the queries."""
    width, size, bias = c.num("hidden_size"), head_dim(c), c.flag("attention_bias")
    heads = c.num("num_attention_heads")
    yield from linear(f"{at}q_proj", 2 * heads * size, width, bias=bias)
    yield from linear(f"{at}k_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}v_proj", kv_heads(c) * size, width, bias=bias)
    yield from linear(f"{at}o_proj", width, heads * size, bias=bias)
    yield from norm(f"{at}q_norm", size)
    yield from norm(f"{at}k_norm", size)


def delta_net(c: Config, at: str, *, fused: bool) -> Iterator[Param]:
    """`fused`: Qwen3-Next projects to queries, keys, values and gate in one Linear."""
    width, heads = c.num("hidden_size"), c.num("linear_num_value_heads")
    keys = c.num("linear_num_key_heads") * c.num("linear_key_head_dim")
    values = heads * c.num("linear_value_head_dim")
    mixed = 2 * keys + values
    yield from conv(f"{at}conv1d", (mixed, 1, c.num("linear_conv_kernel_dim")), bias=False)
    sizes = {"qkv": mixed, "z": values, "b": heads, "a": heads}
    if fused:
        sizes = {"qkvz": mixed + values, "ba": 2 * heads}
    for name, size in sizes.items():
        yield from linear(f"{at}in_proj_{name}", size, width)
    yield Param(f"{at}dt_bias", (heads,), "other")
    yield Param(f"{at}A_log", (heads,), "other")
    yield from norm(f"{at}norm", c.num("linear_value_head_dim"))
    yield from linear(f"{at}out_proj", width, values)


def mixers(c: Config) -> list[str]:
    period = max(1, c.num("full_attention_interval", default=4))
    return kinds(
        c, "layer_types", lambda i: "linear_attention" if (i + 1) % period else "full_attention"
    )


def hybrid(c: Config, at: str, mlp: Layer, *, fused: bool) -> Iterator[Param]:
    found = mixers(c)
    c.skip("intermediate_size", "mlp_only_layers")

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if found[i] == "linear_attention":
            yield from delta_net(c, f"{at}linear_attn.", fused=fused)
        else:
            yield from gated_attention(c, f"{at}self_attn.")
        yield from mlp(c, f"{at}mlp.", i)
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def dense(c: Config, at: str, _: int) -> Iterator[Param]:
    path = at.removesuffix(".")
    yield from gated_mlp(path, c.num("hidden_size"), c.num("intermediate_size"))


def qwen3_next(c: Config, at: str) -> Iterator[Param]:
    sparse = by_step(c)

    def mlp(c: Config, at: str, i: int) -> Iterator[Param]:
        yield from moe_and_shared(c, at) if sparse[i] else dense(c, at, i)

    yield from hybrid(c, at, mlp, fused=True)


def qwen3_5(c: Config, at: str) -> Iterator[Param]:
    yield from hybrid(c, at, dense, fused=False)


def qwen3_5_moe(c: Config, at: str) -> Iterator[Param]:
    yield from hybrid(c, at, lambda c, at, _: moe_and_shared(c, at), fused=False)


# OLMoE, FlexOlmo, Mellum


def olmo_attention(bias: str) -> Callable[[Config, str], Iterator[Param]]:
    """Norms over all heads at once on queries and keys."""

    def layer(c: Config, at: str) -> Iterator[Param]:
        has, size = c.flag(bias), head_dim(c)
        yield from attention(c, at, Switches(qkv_bias=has, o_bias=has))
        yield from norm(f"{at}q_norm", c.num("num_attention_heads") * size)
        yield from norm(f"{at}k_norm", kv_heads(c) * size)

    return layer


def olmo_moe(c: Config, at: str, names: tuple[str, ...]) -> Iterator[Param]:
    e = routed(c, "num_experts", "intermediate_size")
    own = olmo_attention("attention_bias")

    def layer(c: Config, at: str, _: int) -> Iterator[Param]:
        yield from own(c, f"{at}self_attn.")
        yield from block(f"{at}mlp.", c.num("hidden_size"), e)
        yield from norms(c, at, names)

    yield from stack(c, at, layer)


def olmoe(c: Config, at: str) -> Iterator[Param]:
    yield from olmo_moe(c, at, ("input_layernorm", "post_attention_layernorm"))


def flex_olmo(c: Config, at: str) -> Iterator[Param]:
    yield from olmo_moe(c, at, ("post_attention_layernorm", "post_feedforward_layernorm"))


def mellum(c: Config, at: str) -> Iterator[Param]:
    parts = Parts(attention=qwen3_attention, moe=moe, sparse=lambda c: by_kinds(c, 0))
    yield from sparse_decoder(c, at, parts)


def mellum_rotary(c: Config, at: str) -> Iterator[Buffer]:
    """Frequencies of their own for every kind of attention."""
    for kind in sorted(set(kinds(c, "layer_types", lambda _: "full_attention"))):
        yield from frequencies(f"{at}rotary_emb.{kind}_", head_dim(c))


QWEN2_MOE = Family(body=qwen2_moe, cls="Qwen2MoeForCausalLM", heads=DECODER_HEADS, buffers=rotary)
QWEN3_MOE = Family(
    body=qwen3_moe, cls="Qwen3MoeForCausalLM", heads=DECODER_HEADS, bases=SPANS, buffers=rotary
)
QWEN3_NEXT = Family(
    body=qwen3_next,
    cls="Qwen3NextForCausalLM",
    heads=DECODER_HEADS,
    bases=SPANS,
    buffers=partly_rotary(0.25),
)
# Text alone under the name of the class with images: as that class stores it.
WITH_IMAGES = "ForConditionalGeneration"
HEADS = {**DECODER_HEADS, WITH_IMAGES: causal_lm}
BASES = {WITH_IMAGES: "model.language_model"}
QWEN3_5 = Family(
    body=qwen3_5,
    cls="Qwen3_5ForCausalLM",
    heads=HEADS,
    bases=BASES,
    buffers=partly_rotary(0.25),
)
QWEN3_5_MOE = Family(
    body=qwen3_5_moe,
    cls="Qwen3_5MoeForCausalLM",
    heads=HEADS,
    bases=BASES,
    buffers=partly_rotary(0.25),
)
OLMOE = Family(body=olmoe, cls="OlmoeForCausalLM", heads=DECODER_HEADS, buffers=rotary)
FLEX_OLMO = Family(body=flex_olmo, cls="FlexOlmoForCausalLM", heads=DECODER_HEADS, buffers=rotary)
MELLUM = Family(body=mellum, cls="MellumForCausalLM", heads=DECODER_HEADS, buffers=mellum_rotary)
