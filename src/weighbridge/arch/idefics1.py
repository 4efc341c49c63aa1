"""IDEFICS (the first): a Llama with gated layers in between that look at the images.

    every n-th layer is preceded by cross-attention over the tower's width, behind two gates;
    words that were added have an embedding and a head of their own

Source: transformers 5.23 models/idefics/{modeling_idefics,vision,perceiver}.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, gated_mlp, linear, norm
from weighbridge.arch.clip import clip_vision, side
from weighbridge.arch.config import Config
from weighbridge.arch.inputs import images
from weighbridge.arch.model_types import ModelType, Sight, TransformersFacts
from weighbridge.arch.vision import layernorm

IDEFICS_POSITIONS = 2048  # default of IdeficsEmbedding, which no config changes


def parts(c: Config) -> tuple[Config, Config]:
    return (
        c.sub("vision_config"),
        c.sub("perceiver_config"),  # so spelt
    )


def attention(c: Config, at: str, seen: int, *, norms: bool) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), max(1, c.num("num_attention_heads"))
    yield from linear(f"{at}q_proj", width, width)
    yield from linear(f"{at}k_proj", width, seen)
    yield from linear(f"{at}v_proj", width, seen)
    yield from linear(f"{at}o_proj", width, width)
    for name in ("q_layer_norm", "k_layer_norm") if norms else ():
        yield from norm(f"{at}{name}", width // heads)


def layer(c: Config, at: str, name: str, seen: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    norms = name == "cross_attn" and c.flag("qk_layer_norms")
    yield from attention(c, f"{at}{name}.", seen, norms=norms)
    yield from gated_mlp(f"{at}mlp", width, c.num("intermediate_size"))
    yield from norm(f"{at}input_layernorm", width)
    yield from norm(f"{at}post_attention_layernorm", width)


def gates(c: Config, at: str) -> Iterator[Param]:
    shape = (
        (1,) if c.word("alpha_type", default="float") == "float" else (1, 1, c.num("hidden_size"))
    )
    yield Param(f"{at}alpha_cross_attn", shape, "other")
    yield Param(f"{at}alpha_dense", shape, "other")


def resampler(c: Config, at: str, width: int) -> Iterator[Param]:
    size = c.num("resampler_head_dim")
    inner = size * c.num("resampler_n_heads")
    yield Param(f"{at}latents", (c.num("resampler_n_latents"), width), "other")
    for i in range(c.layers("resampler_depth")):
        path = f"{at}blocks.{i}.0."
        yield from layernorm(f"{path}context_layer_norm", width)
        yield from layernorm(f"{path}latents_layer_norm", width)
        for name in ("q_layer_norm", "k_layer_norm") if c.flag("qk_layer_norms_perceiver") else ():
            yield from layernorm(f"{path}{name}", size)
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from linear(f"{path}{name}", inner, width)
        yield from linear(f"{path}output_proj", width, inner)
        yield from layernorm(f"{at}blocks.{i}.1.ln", width)
        yield from linear(f"{at}blocks.{i}.1.fc", 4 * width, width)
        yield from linear(f"{at}blocks.{i}.1.c_proj", width, 4 * width)
    yield from layernorm(f"{at}layer_norm", width)


def crossings(c: Config) -> int:
    return c.layers("num_hidden_layers") // max(1, c.num("cross_layer_interval"))


def idefics(c: Config, at: str) -> Iterator[Param]:
    vision, perceiver = parts(c)
    width, seen, added = (
        c.num("hidden_size"),
        vision.num("embed_dim"),
        c.num("additional_vocab_size"),
    )
    yield from embedding(f"{at}embed_tokens", c.num("vocab_size"), width)
    if added:
        yield from embedding(f"{at}embed_tokens.additional_embedding", added, width)
    yield from clip_vision(vision, at)
    if c.flag("use_resampler"):
        yield from resampler(perceiver, f"{at}perceiver_resampler.", seen)
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{at}layers.{i}.", "self_attn", width)
    for i in range(crossings(c)):
        yield from layer(c, f"{at}gated_cross_attn_layers.{i}.", "cross_attn", seen)
        yield from gates(c, f"{at}gated_cross_attn_layers.{i}.")
    yield from norm(f"{at}norm", width)


def head(c: Config, at: str) -> Iterator[Param]:
    width, added = c.num("hidden_size"), c.num("additional_vocab_size")
    yield from linear(f"{at}lm_head", c.num("vocab_size"), width)
    if added:
        words = f"{at}model.embed_tokens.additional_embedding.weight"
        owner = words if c.flag("tie_word_embeddings") else ""
        yield Param(f"{at}lm_head.additional_fc.weight", (added, width), tied=owner)


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    """Every attention has frequencies of its own, and before transformers 5 the cosines and sines
    of all positions (4.57, IdeficsEmbedding)."""
    places = side(parts(c)[0]) ** 2 + 1
    yield Buffer(f"{at}vision_model.embeddings.position_ids", (1, places), "int64")
    half = c.num("hidden_size") // max(1, c.num("num_attention_heads")) // 2
    angles = (IDEFICS_POSITIONS, 2 * half)
    own = [f"layers.{i}.self_attn" for i in range(c.layers("num_hidden_layers"))]
    cross = [f"gated_cross_attn_layers.{i}.cross_attn" for i in range(crossings(c))]
    for path in own + cross:
        for name in ("inv_freq", "original_inv_freq"):
            yield Buffer(f"{at}{path}.rotary_emb.{name}", (half,), "float32")
        for name in ("cos_cached", "sin_cached"):
            yield Buffer(f"{at}{path}.rotary_emb.{name}", angles, "", until=5)


IDEFICS = Family(
    body=idefics,
    cls="IdeficsForVisionText2Text",
    heads={"ForVisionText2Text": head},
    buffers=buffers,
    blocks=("layers.*", "gated_cross_attn_layers.*", "vision_model.encoder.layers.*"),
    parts=(("vision_model.", "vision tower"), ("perceiver_resampler.", "projector")),
)

TYPES = {
    "idefics": ModelType(
        IDEFICS,
        layers="attention.multi_head",
        sees=Sight(images.perceived),
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0)),
    ),
}
