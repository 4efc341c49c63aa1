"""Phi 1 to 2 (one shared norm, biases everywhere), Phi 3 and 4 (fused qkv and gate_up).

    Phi     layer: q, k, v, dense, fc1, fc2 with biases; one LayerNorm; lm_head with a bias
    Phi-3   layer: qkv_proj (N + 2 K) H x D, o_proj, gate_up_proj 2 F x D, down_proj; two RMSNorms

Two layouts came with remote code before Phi was part of transformers: `mixformer-sequential` (one
nn.Sequential, layers.0 the embedding and the last one the head) and `phi-msft` (GPT-2's names).
Source: transformers 5.23 models/{phi,phi3}/modeling_*.py; microsoft/phi-2 modeling_phi.py and
modeling_mixformer_sequential.py, as their checkpoints' weight maps show them.
"""

from collections.abc import Iterator

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import (
    Family,
    Param,
    affine,
    embedding,
    layer_norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodules,
    alike,
    fused_gated,
    fused_gqa,
    gqa,
    normed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.families import drafts
from weighbridge.models.arch.families.llama import grouped
from weighbridge.models.arch.heads import DECODER_HEADS, DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import partly_rotary
from weighbridge.models.arch.windows import layer_kinds

NAMES = ("q_proj", "k_proj", "v_proj", "dense")
FC = ("fc1", "fc2")


def phi_layer(c: Config) -> Submodules:
    width, a = c.num("hidden_size"), grouped(c)
    attention = gqa("self_attn.", width, a, bias=(True, True), names=NAMES)
    size = width // max(1, a.heads)
    names = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else ()
    return (
        attention,
        submodule(*(layer_norm(f"self_attn.{name}", size) for name in names)),
        ungated("mlp", width, c.num("intermediate_size"), names=FC, bias=True),
        normed(width, "input_layernorm", bias=True),
    )


def phi(c: Config) -> Decoder:
    names = DecoderNames(final="final_layernorm", norm_bias=True)
    return tree(c, alike(c, lambda: phi_layer(c)), names, kinds=layer_kinds)


def biased_lm(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size", "n_embd")
    yield from affine(f"{prefix}lm_head", c.num("vocab_size"), width)


def phi3_layer(c: Config) -> Submodules:
    width = c.num("hidden_size")
    return (
        fused_gqa("self_attn.", width, grouped(c), names=("qkv_proj", "o_proj")),
        fused_gated("mlp", width, c.num("intermediate_size")),
        normed(width, *BEFORE),
    )


def phi3(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: phi3_layer(c)), kinds=layer_kinds)


def old_layer(c: Config) -> Submodules:
    """Return a layer of both remote layouts; one Linear makes queries, keys and values."""
    width = c.num("hidden_size", "n_embd")
    heads = c.num("num_attention_heads", "n_head")
    c.skip("rotary_dim")
    size = width // max(1, heads)
    keys = c.num("n_head_kv", default=heads) * size
    return (
        normed(width, "ln", bias=True),
        submodule(
            affine("mixer.Wqkv", width + 2 * keys, width),
            affine("mixer.out_proj", width, width),
            mixer=Attention(heads=heads, kv_heads=heads, key_dim=size, value_dim=size),
        ),
        ungated("mlp", width, c.num("n_inner", default=4 * width), names=FC, bias=True),
    )


def old(c: Config, path: str, embed: str) -> Decoder:
    width = c.num("hidden_size", "n_embd")
    return Decoder(
        width=width,
        first=tuple(embedding(embed, c.num("vocab_size"), width)),
        layers=alike(c, lambda: old_layer(c), "num_hidden_layers", "n_layer"),
        last=(),
        path=path,
        kinds=layer_kinds,
    )


def msft(c: Config) -> Decoder:
    return old(c, "h.", "embd.wte")


def msft_head(c: Config, prefix: str) -> Iterator[Param]:
    yield from layer_norm(f"{prefix}lm_head.ln", c.num("hidden_size", "n_embd"))
    yield from affine(
        f"{prefix}lm_head.linear", c.num("vocab_size"), c.num("hidden_size", "n_embd")
    )


def mixformer(c: Config) -> Decoder:
    """Return Phi's decoder as one nn.Sequential: embedding, layers and head in one list."""
    width, named = c.num("hidden_size", "n_embd"), old(c, "layers.", "layers.0.wte")
    end = f"layers.{len(named.layers) + 1}"
    head = affine(f"{end}.linear", c.num("vocab_size"), width)
    return named._replace(start=1, last=(*layer_norm(f"{end}.ln", width), *head))


PHI = Family(
    tree=phi,
    cls="PhiForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": biased_lm},
    buffers=partly_rotary(0.5),
)
PHI3 = DecoderFamily(
    tree=phi3,
    cls="Phi3ForCausalLM",
    classes=drafts.CLASSES,
    buffers=partly_rotary(1.0),
)
PHI_MSFT = Family(
    tree=msft,
    base="transformer",
    cls="PhiForCausalLM",
    heads={"ForCausalLM": msft_head},
    blocks=("h.*",),
)
MIXFORMER = Family(
    tree=mixformer,
    base="",
    cls="MixFormerSequentialForCausalLM",
    heads={"ForCausalLM": lambda c, prefix: iter(())},
)

TYPES = {
    "mixformer-sequential": ModelType(MIXFORMER),
    "phi": ModelType(PHI, computes=("parallel",), gguf="phi2"),
    "phi-msft": ModelType(PHI_MSFT, gguf="phi2"),
    "phi3": ModelType(PHI3, windows=windows.everywhere),
    "phi4": ModelType(PHI3, windows=windows.everywhere, gguf="phi3"),
}
