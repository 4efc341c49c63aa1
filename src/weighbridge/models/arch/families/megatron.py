"""GPTModel of Megatron-core, as the arguments of pretrain_gpt.py describe it.

    a layer    linear_qkv (N + 2 K) H x D, linear_proj D x N H; linear_fc1 F x D (2 F gated),
               linear_fc2 D x F; two norms; or latent attention; or a router and experts
    around     word_embeddings V x D, position_embeddings P x D where they are learned; a last norm;
               output_layer V x D where it is not the embedding

Names of sizes in its config are those that transformers gives them, other names Megatron's.
Source: Megatron-LM d98e8a6 core/models/gpt/gpt_model.py, gpt_layer_specs.py, core/transformer/
attention.py, multi_latent_attention.py, mlp.py, moe/experts.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Family, Param, embedding, experts, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    normed,
    submodule,
)
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.parts import Attention, Dense, Experts
from weighbridge.models.arch.sparse import router
from weighbridge.models.arch.windows import layer_kinds

ATTENTION = "self_attention."


def centered(c: Config) -> bool:
    return c.get("normalization") in (None, "LayerNorm")


def grouped(c: Config) -> Submodule:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    groups = c.num("num_key_value_heads", default=heads)
    size = c.num("head_dim", default=width // max(1, heads))
    bias, into = c.flag("add_bias_linear"), c.flag("add_qkv_bias")
    inner = (heads + 2 * groups) * size
    names = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else ()
    return submodule(
        linear(f"{ATTENTION}linear_qkv", inner, width, bias=bias or into, role="qkv"),
        linear(f"{ATTENTION}linear_proj", width, heads * size, bias=bias, role="o"),
        *(norm(f"{ATTENTION}{name}", size, bias=centered(c)) for name in names),
        mixer=Attention(heads=heads, kv_heads=groups, key_dim=size, value_dim=size),
    )


def latent(c: Config) -> Submodule:
    width, rank = c.num("hidden_size"), c.num("q_lora_rank", default=0)
    bias, normal = c.flag("add_bias_linear"), centered(c)
    m = Latent(
        heads=c.num("num_attention_heads"),
        rank=c.num("kv_lora_rank"),
        rotary=c.num("qk_rope_head_dim"),
        nope=c.num("qk_nope_head_dim"),
        value_dim=c.num("v_head_dim"),
    )
    inner = m.heads * (m.nope + m.rotary)

    def queries() -> Iterator[Param]:
        if not rank:
            yield from linear(f"{ATTENTION}linear_q_proj", inner, width, role="q")
            return
        yield from linear(f"{ATTENTION}linear_q_down_proj", rank, width, role="q_a")
        yield from norm(f"{ATTENTION}q_layernorm", rank, bias=normal)
        yield from linear(f"{ATTENTION}linear_q_up_proj", inner, rank, role="q_b")

    up = m.heads * (m.nope + m.value_dim)
    return submodule(
        queries(),
        linear(f"{ATTENTION}linear_kv_down_proj", m.rank + m.rotary, width, role="kv_a"),
        norm(f"{ATTENTION}kv_layernorm", m.rank, bias=normal),
        linear(f"{ATTENTION}linear_kv_up_proj", up, m.rank, role="kv_b"),
        linear(f"{ATTENTION}linear_proj", width, m.heads * m.value_dim, bias=bias, role="o"),
        mixer=m,
        query_rank=rank,
    )


def two_linears(c: Config, path: str, inner: int, *, bias: bool) -> Iterator[Param]:
    width, gated = c.num("hidden_size"), c.flag("swiglu")
    rows, role = (2 * inner, "gate_up") if gated else (inner, "up")
    yield from linear(f"{path}linear_fc1", rows, width, bias=bias, role=role)
    yield from linear(f"{path}linear_fc2", width, inner, bias=bias, role="down")


def dense(c: Config) -> Submodule:
    inner = c.num("intermediate_size")
    return submodule(
        two_linears(c, "mlp.", inner, bias=c.flag("add_bias_linear")),
        feed=Dense(width=inner, gated=c.flag("swiglu"), fused=True),
    )


def sparse(c: Config) -> Submodule:
    count, top = c.num("num_experts"), c.num("num_experts_per_tok")
    inner = c.num("moe_intermediate_size", default=c.num("intermediate_size"))
    shared = c.num("shared_expert_intermediate_size", default=0)

    def one(prefix: str) -> Iterator[Param]:
        yield from two_linears(c, f"{prefix}.", inner, bias=False)

    return submodule(
        router("mlp.router", count, c.num("hidden_size")),
        experts("mlp.experts.", one, top_k=top, count=count),
        two_linears(c, "mlp.shared_experts.", shared, bias=False) if shared else (),
        feed=Experts(count=count, top_k=top, width=inner, gated=c.flag("swiglu"), shared=shared),
    )


def layer(c: Config, *, routed: bool) -> Submodules:
    mixing = latent(c) if c.maybe("kv_lora_rank") else grouped(c)
    names = ("input_layernorm", "pre_mlp_layernorm")
    return (
        mixing,
        sparse(c) if routed else dense(c),
        normed(c.num("hidden_size"), *names, bias=centered(c)),
    )


def gpt_model(c: Config) -> Decoder:
    width, count = c.num("hidden_size"), c.layers("num_hidden_layers")
    first = c.num("first_k_dense_replace", default=0) if c.maybe("num_experts") else count
    learned = c.get("position_embedding_type") in (None, "learned_absolute")
    c.skip("max_position_embeddings")
    rows = c.num("max_position_embeddings") if learned else 0
    return Decoder(
        width=width,
        first=(
            *embedding("embedding.word_embeddings", c.num("vocab_size"), width),
            *(embedding("embedding.position_embeddings", rows, width) if learned else ()),
        ),
        layers=by_kind([i >= first for i in range(count)], lambda kind: layer(c, routed=kind)),
        last=tuple(norm("decoder.final_layernorm", width, bias=centered(c))),
        path="decoder.layers.",
        kinds=layer_kinds,
    )


def head(c: Config, prefix: str) -> Iterator[Param]:
    tied = f"{prefix}embedding.word_embeddings.weight" if c.flag("tie_word_embeddings") else ""
    for p in linear(f"{prefix}output_layer", c.num("vocab_size"), c.num("hidden_size")):
        yield p._replace(tied=tied)


MEGATRON = Family(
    tree=gpt_model,
    base="",
    cls="GPTModel",
    heads={"GPTModel": head},
    ties=False,
    blocks=("decoder.layers.*",),
)

TYPES = {"megatron-gpt": ModelType(MEGATRON, gguf="none")}
