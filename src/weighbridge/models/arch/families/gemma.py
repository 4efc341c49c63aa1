"""Gemma 1 to 3, and the decoder of Gemma 3n.

Gemma 1 to 3 (text), VaultGemma: Llama with a norm after each block and one scaled embedding.

    layer: attention, gated MLP, and norms     Gemma 1 and VaultGemma: 2     Gemma 2 and 3: 4

Gemma 3 normalises queries and keys, and has rotary frequencies for each kind of layer.
Source: transformers 5.23 models/{gemma,gemma2,gemma3,vaultgemma}/modeling_*.py.

Gemma 3n (text): Gemma 3 with per-layer embeddings, AltUp, LAuReL and shared keys and values.

    embed_tokens_per_layer  V' x (L P): one table for all layers, P numbers a layer
    altup                   A copies of the stream, mixed by small Linears
    the last S layers hold no k, v: they reuse those of an earlier layer of their kind

Source: transformers 5.23 models/gemma3n/modeling_gemma3n.py (Gemma3nText*).
"""

from collections.abc import Callable, Iterator

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, embedding, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    normed,
    submodule,
)
from weighbridge.models.arch.decoder import tree as decoder_tree
from weighbridge.models.arch.families.llama import LlamaSwitches, decoder, grouped
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.rotary import layered_rotary, rotary
from weighbridge.models.arch.windows import layer_kinds

AROUND = (*BEFORE, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def tree(norms: tuple[str, ...], *, qk_norm: bool = False) -> Callable[[Config], Decoder]:
    """Return a rule for the decoder of Gemma 1 to 3; the config decides on attention biases, the
    MLP has none."""

    def read(c: Config) -> Decoder:
        biased = c.flag("attention_bias")
        switches = LlamaSwitches(qkv_bias=biased, o_bias=biased, norms=norms, qk_norm=qk_norm)
        return decoder(c, switches)

    return read


def scale(path: str) -> Buffer:
    """Return the embedding's scale: the root of the hidden size, in the model's dtype."""
    return Buffer(f"{path}.embed_scale", (), "")


def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield scale(f"{prefix}embed_tokens")
    yield from rotary(c, prefix)


def gemma3_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield scale(f"{prefix}embed_tokens")
    yield from layered_rotary(c, prefix, period=c.num("sliding_window_pattern", default=6))


GEMMA = DecoderFamily(tree=tree(BEFORE), cls="GemmaForCausalLM", buffers=buffers)
GEMMA2 = DecoderFamily(tree=tree(AROUND), cls="Gemma2ForCausalLM", buffers=buffers)
VAULTGEMMA = DecoderFamily(
    tree=tree(("input_layernorm", "pre_feedforward_layernorm")),
    cls="VaultGemmaForCausalLM",
    buffers=buffers,
)
GEMMA3 = DecoderFamily(
    tree=tree(AROUND, qk_norm=True),
    cls="Gemma3ForCausalLM",
    buffers=gemma3_buffers,
)


def altup(c: Config, prefix: str) -> Iterator[Param]:
    width, copies = c.num("hidden_size"), c.num("altup_num_inputs")
    yield Param(f"{prefix}correct_output_scale", (width,), "other")
    yield from linear(f"{prefix}correction_coefs", copies, copies)
    yield from linear(f"{prefix}prediction_coefs", copies**2, copies)
    yield from linear(f"{prefix}modality_router", copies, width)
    yield from norm(f"{prefix}router_norm", width)


def laurel(c: Config, prefix: str) -> Iterator[Param]:
    width, rank = c.num("hidden_size"), c.num("laurel_rank")
    yield from linear(f"{prefix}linear_left", rank, width)
    yield from linear(f"{prefix}linear_right", width, rank)
    yield from norm(f"{prefix}post_laurel_norm", width)


def attention(c: Config, *, shared: bool) -> Submodule:
    width, bias, a, path = c.num("hidden_size"), c.flag("attention_bias"), grouped(c), "self_attn."
    queries, keys = a.heads * a.key_dim, a.kv_heads * a.key_dim
    projections = (
        *linear(f"{path}k_proj", keys, width, bias=bias),
        *linear(f"{path}v_proj", keys, width, bias=bias),
        *norm(f"{path}k_norm", a.key_dim),
    )
    return submodule(
        linear(f"{path}q_proj", queries, width, bias=bias),
        norm(f"{path}q_norm", a.key_dim),
        () if shared else projections,
        linear(f"{path}o_proj", width, queries, bias=bias),
        mixer=a,
    )


def per_layer_input(c: Config, prefix: str) -> Iterator[Param]:
    """Yield a layer's module that takes its slice of the per-layer embedding."""
    width, slim = c.num("hidden_size"), c.num("hidden_size_per_layer_input")
    yield from linear(f"{prefix}per_layer_input_gate", slim, width)
    yield from linear(f"{prefix}per_layer_projection", width, slim)
    yield from norm(f"{prefix}post_per_layer_input_norm", width)


def per_layer_embedding(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the per-layer embedding and its projection, as wide as all layers' slices together."""
    slim = c.num("hidden_size_per_layer_input")
    packed = c.layers("num_hidden_layers") * slim
    rows = c.num("vocab_size_per_layer_input")
    yield from embedding(f"{prefix}embed_tokens_per_layer", rows, packed)
    yield from linear(f"{prefix}per_layer_model_projection", packed, c.num("hidden_size"))
    yield from norm(f"{prefix}per_layer_projection_norm", slim)


def gemma3n(c: Config) -> Decoder:
    width, count = c.num("hidden_size"), c.layers("num_hidden_layers")
    sharing = c.num("num_kv_shared_layers")

    def layer(kind: tuple[int, bool]) -> Submodules:
        return (
            attention(c, shared=kind[1]),
            gated("mlp", width, kind[0]),
            normed(width, *AROUND),
            submodule(altup(c, "altup."), laurel(c, "laurel."), per_layer_input(c, "")),
        )

    inners = c.per_layer("intermediate_size", count=count)
    layers = by_kind([(f, i >= count - sharing) for i, f in enumerate(inners)], layer)
    decoder = decoder_tree(c, layers, kinds=layer_kinds)._replace(sharing=sharing)
    names = ("altup_projections", "altup_unembed_projections")
    streams = (
        p
        for i in range(c.num("altup_num_inputs") - 1)
        for name in names
        for p in linear(f"{name}.{i}", width, width)
    )
    behind = submodule(decoder.last, per_layer_embedding(c, ""), streams)
    return decoder._replace(last=behind.params)


def gemma3n_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield scale(f"{prefix}embed_tokens")
    yield scale(f"{prefix}embed_tokens_per_layer")
    yield Buffer(f"{prefix}per_layer_projection_scale", (), "")
    yield Buffer(f"{prefix}per_layer_input_scale", (), "")
    for i in range(c.layers("num_hidden_layers")):
        yield Buffer(f"{prefix}layers.{i}.altup.router_input_scale", (), "")
    yield from layered_rotary(c, prefix, period=5)


GEMMA3N = DecoderFamily(tree=gemma3n, cls="Gemma3nForCausalLM", buffers=gemma3n_buffers)


TYPES = {
    "gemma": ModelType(GEMMA),
    "gemma2": ModelType(GEMMA2, windows=windows.period(2)),
    "gemma3_text": ModelType(
        GEMMA3,
        windows=windows.period(6, "sliding_window_pattern"),
        positions="stretched",
        computes=("rotary_by_window",),
        gguf="gemma3",
    ),
    "vaultgemma": ModelType(VAULTGEMMA, windows=windows.period(2), gguf="llama"),
    "gemma3n_text": ModelType(
        GEMMA3N, windows=windows.period(5), positions="stretched", gguf="gemma3n"
    ),
}
