"""Kimi Linear and Bailing's hybrids: delta attention in most layers, latent attention in the rest.

    delta attention, M heads of size H: q, k, v MH x D and a convolution of kernel k for each,
    b M x D, a forget gate, an output gate, norm H, o D x MH; Kimi's two gates have rank H

Source: transformers 5.23 models/{kimi_linear,bailing_hybrid}/modeling_*.py, conversion_mapping.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.arch.blueprint import (
    Buffer,
    Family,
    Param,
    conv,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, kinds, stack, two_norms
from weighbridge.arch.deepseek import latent, latent_rotary
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.sparse import (
    NUMBERED,
    Routed,
    block,
    by_kinds,
    correction,
    each,
    routed,
    router,
)
from weighbridge.errors import UnsupportedError

LINEAR = "linear_attention"


def choice(c: Config) -> Routed:
    return routed(c, "num_experts", "moe_intermediate_size", "num_experts_per_token")


def shared_size(c: Config) -> int:
    return c.num("num_shared_experts") * c.num("moe_intermediate_size")


def delta(c: Config, at: str, heads: int, size: int, kernel: int) -> Iterator[Param]:
    """What both models share of delta attention."""
    width, inner = c.num("hidden_size"), heads * size
    for name in "qkv":
        yield from linear(f"{at}{name}_proj", inner, width)
        yield from conv(f"{at}{name}_conv1d", (inner, 1, kernel), bias=False)
    yield from linear(f"{at}b_proj", heads, width)
    yield Param(f"{at}dt_bias", (inner,), "other")
    yield from norm(f"{at}o_norm", size)


# Kimi Linear


def published(c: Config) -> Mapping[str, Any]:
    found = c.get("linear_attn_config")
    return found if isinstance(found, Mapping) else {}


def kimi_kinds(c: Config) -> list[str]:
    """linear_attn_config counts layers from one; without it, every fifth layer but the first."""
    lists = published(c)
    if "full_attn_layers" not in lists or "kda_layers" not in lists:
        return kinds(c, "layer_types", lambda i: "full_attention" if i and i % 4 == 0 else LINEAR)
    full = frozenset(lists["full_attn_layers"])
    return kinds(c, "layer_types", lambda i: "full_attention" if i + 1 in full else LINEAR)


def kimi_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, c.num("first_k_dense_replace", default=1))


def kimi_delta(c: Config, at: str) -> Iterator[Param]:
    own = c.sub("linear_attn_config")
    heads = own.num("num_heads", default=c.num("linear_num_heads"))
    size = own.num("head_dim", default=c.num("linear_head_dim"))
    kernel = own.num("short_conv_kernel_size", default=c.num("linear_conv_kernel_dim"))
    width = c.num("hidden_size")
    yield from delta(c, at, heads, size, kernel)
    yield Param(f"{at}A_log", (1, 1, heads, 1), "other")
    for gate in "fg":
        yield from linear(f"{at}{gate}_a_proj", size, width)
        yield from linear(f"{at}{gate}_b_proj", heads * size, size)
    yield from linear(f"{at}o_proj", width, heads * size)


def kimi_linear(c: Config, at: str) -> Iterator[Param]:
    for key in ("routed_expert_hidden_size", "attn_res_block_size"):
        if c.has(key):
            raise UnsupportedError(f"{c.where}: {key}: Kimi K3's layers are not in our tables")
    found, sparse = kimi_kinds(c), kimi_sparse(c)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width, mlp = c.num("hidden_size"), f"{at}block_sparse_moe"
        mixer = kimi_delta if found[i] == LINEAR else latent
        yield from mixer(c, f"{at}self_attn.")
        if sparse[i]:
            yield from router(f"{mlp}.gate", choice(c).count, width)
            yield from each(f"{mlp}.experts", width, choice(c), NUMBERED)
            yield from gated_mlp(f"{mlp}.shared_experts", width, shared_size(c))
        else:
            yield from gated_mlp(mlp, width, c.num("intermediate_size"))
        yield from two_norms(c, at)

    yield from stack(c, at, layer)


def kimi_buffers(c: Config, at: str) -> Iterator[Buffer]:
    """Yield the router's correction bias; there are no rotary position embeddings."""
    name = "block_sparse_moe.gate.e_score_correction_bias"
    yield from correction(at, kimi_sparse(c), name, choice(c).count, dtype="")


# Bailing


def bailing_kinds(c: Config) -> list[str]:
    period = max(1, c.num("layer_group_size"))
    return kinds(c, "layer_types", lambda i: LINEAR if (i + 1) % period else "full_attention")


def bailing_sparse(c: Config) -> Sequence[bool]:
    return by_kinds(c, c.num("first_k_dense_replace"))


def bailing_delta(c: Config, at: str) -> Iterator[Param]:
    """Convolution, decay and time step stay in float32; gates have full rank."""
    heads, width = c.num("linear_num_heads", "num_attention_heads"), c.num("hidden_size")
    size = c.num("linear_head_dim", "head_dim")
    kernel = c.num("linear_conv_kernel_dim", "short_conv_kernel_size")
    for p in delta(c, at, heads, size, kernel):
        whole = p.kind == "conv" or p.name.endswith("dt_bias")
        yield p._replace(dtype="float32") if whole else p
    yield Param(f"{at}A_log", (heads,), "other", "float32")
    for gate in "fg":
        yield from linear(f"{at}{gate}_proj", heads * size, width)
    yield from linear(f"{at}dense", width, heads * size)


def bailing_latent(c: Config, at: str) -> Iterator[Param]:
    """Latent attention without compressed queries, and a gate a head."""
    heads, width = c.num("num_attention_heads"), c.num("hidden_size")
    size = c.num("qk_nope_head_dim") + c.num("qk_rope_head_dim")
    yield from linear(f"{at}q_proj", heads * size, width)
    for p in latent(c, at):
        if not p.name.startswith(f"{at}q_"):
            yield p._replace(name=p.name.replace(f"{at}o_proj", f"{at}dense"))
    yield from linear(f"{at}g_proj", heads, width)


def bailing(c: Config, at: str) -> Iterator[Param]:
    found, sparse = bailing_kinds(c), bailing_sparse(c)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        width = c.num("hidden_size")
        mixer = bailing_delta if found[i] == LINEAR else bailing_latent
        yield from mixer(c, f"{at}attention.")
        if sparse[i]:
            yield from block(f"{at}mlp.", width, choice(c), shared=shared_size(c))
        else:
            yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"))
        yield from two_norms(c, at)

    yield from stack(c, at, layer, Names(embed="word_embeddings"))


def bailing_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield from latent_rotary(c, at)
    name = "mlp.gate.expert_bias"
    yield from correction(at, bailing_sparse(c), name, choice(c).count)


def never(_: Config) -> bool:
    """The classes have no list of tied weights, whatever their configs say."""
    return False


KIMI_LINEAR = Family(
    body=kimi_linear,
    cls="KimiLinearForCausalLM",
    heads=DECODER_HEADS,
    buffers=kimi_buffers,
    ties=never,
)
BAILING_HYBRID = Family(
    body=bailing,
    cls="BailingHybridForCausalLM",
    heads=DECODER_HEADS,
    buffers=bailing_buffers,
    ties=never,
)
