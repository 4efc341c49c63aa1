"""Phi 1 to 2 (one shared norm, biases everywhere), Phi 3 and 4 (fused qkv and gate_up).

    Phi     layer: q, k, v, dense, fc1, fc2 with biases; one LayerNorm; lm_head with a bias
    Phi-3   layer: qkv_proj (N + 2 K) H x D, o_proj, gate_up_proj 2 F x D, down_proj; two RMSNorms

Two layouts came with remote code before Phi was part of transformers: `mixformer-sequential` (one
nn.Sequential, layers.0 the embedding and the last one the head) and `phi-msft` (GPT-2's names).
Source: transformers 5.23 models/{phi,phi3}/modeling_*.py; microsoft/phi-2 modeling_phi.py and
modeling_mixformer_sequential.py, as their checkpoints' weight maps show them.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.arch.blueprint import Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import BEFORE
from weighbridge.arch.rotary import head_dim, partly_rotary
from weighbridge.arch.written import fused_mlp, kv_heads, norms, stack


def two_layer_mlp(c: Config, at: str, inner: int) -> Iterator[Param]:
    width = c.num("hidden_size", "n_embd")
    yield from linear(f"{at}fc1", inner, width, bias=True)
    yield from linear(f"{at}fc2", width, inner, bias=True)


def phi_layer(c: Config, at: str) -> Iterator[Param]:
    width, size = c.num("hidden_size"), head_dim(c)
    queries, keys = c.num("num_attention_heads") * size, kv_heads(c) * size
    for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield from linear(f"{at}self_attn.{name}", rows, width, bias=True)
    yield from linear(f"{at}self_attn.dense", width, queries, bias=True)
    if c.flag("qk_layernorm"):
        for name in ("q_layernorm", "k_layernorm"):
            yield from norm(
                f"{at}self_attn.{name}", width // max(1, c.num("num_attention_heads")), bias=True
            )
    yield from two_layer_mlp(c, f"{at}mlp.", c.num("intermediate_size"))
    yield from norm(f"{at}input_layernorm", width, bias=True)


def biased_lm(c: Config, at: str) -> Iterator[Param]:
    width = c.num("hidden_size", "n_embd")
    yield from linear(f"{at}lm_head", c.num("vocab_size"), width, bias=True)


def phi3_layer(c: Config, at: str) -> Iterator[Param]:
    width, size = c.num("hidden_size"), head_dim(c)
    heads = c.num("num_attention_heads")
    yield from linear(f"{at}self_attn.qkv_proj", (heads + 2 * kv_heads(c)) * size, width)
    yield from linear(f"{at}self_attn.o_proj", width, heads * size)
    yield from fused_mlp(f"{at}mlp", width, c.num("intermediate_size"))
    yield from norms(c, at, BEFORE)


def old_layer(c: Config, at: str) -> Iterator[Param]:
    """Yield a layer of both remote layouts, with queries, keys and values in one Linear."""
    width = c.num("hidden_size", "n_embd")
    heads = c.num("num_attention_heads", "n_head")
    c.skip("rotary_dim")
    keys = c.num("n_head_kv", default=heads) * (width // max(1, heads))
    yield from norm(f"{at}ln", width, bias=True)
    yield from linear(f"{at}mixer.Wqkv", width + 2 * keys, width, bias=True)
    yield from linear(f"{at}mixer.out_proj", width, width, bias=True)
    yield from two_layer_mlp(c, f"{at}mlp.", c.num("n_inner", default=4 * width))


def msft(c: Config, at: str) -> Iterator[Param]:
    yield from embedding(f"{at}embd.wte", c.num("vocab_size"), c.num("hidden_size", "n_embd"))
    for i in range(c.layers("num_hidden_layers", "n_layer")):
        yield from old_layer(c, f"{at}h.{i}.")


def msft_head(c: Config, at: str) -> Iterator[Param]:
    yield from norm(f"{at}lm_head.ln", c.num("hidden_size", "n_embd"), bias=True)
    yield from linear(
        f"{at}lm_head.linear", c.num("vocab_size"), c.num("hidden_size", "n_embd"), bias=True
    )


def mixformer(c: Config, at: str) -> Iterator[Param]:
    """Everything is an entry of one list, so there is no base model to speak of."""
    width, count = c.num("hidden_size", "n_embd"), c.layers("num_hidden_layers", "n_layer")
    yield from embedding(f"{at}layers.0.wte", c.num("vocab_size"), width)
    for i in range(1, count + 1):
        yield from old_layer(c, f"{at}layers.{i}.")
    yield from norm(f"{at}layers.{count + 1}.ln", width, bias=True)
    yield from linear(f"{at}layers.{count + 1}.linear", c.num("vocab_size"), width, bias=True)


PHI = Family(
    body=partial(stack, one=phi_layer, last="final_layernorm", norm_bias=True),
    cls="PhiForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": biased_lm},
    buffers=partly_rotary(0.5),
)
PHI3 = Family(
    body=partial(stack, one=phi3_layer),
    cls="Phi3ForCausalLM",
    heads=DECODER_HEADS,
    buffers=partly_rotary(1.0),
)
PHI_MSFT = Family(
    body=msft,
    base="transformer",
    cls="PhiForCausalLM",
    heads={"ForCausalLM": msft_head},
    blocks=("h.*",),
)
MIXFORMER = Family(
    body=mixformer,
    base="",
    cls="MixFormerSequentialForCausalLM",
    heads={"ForCausalLM": lambda c, at: iter(())},
)
