"""Vision models whose language model gets n learned queries that have attended to a tower's
patches.

    MiniCPM-V  SigLIP, and a whole language model, which its `version` tells. The first two releases
               take their tower from timm and name it only; 2.5 and later describe it.
               resampler: query n x D, kv_proj D x W, nn.MultiheadAttention, three LayerNorms,
               proj D x D
    Aria       Idefics 3's tower, and a mixture of experts with shared ones: fc1 E x D x 2F and fc2
               E x F x D, each in one parameter
    Kosmos-2   CLIP, and a decoder with extra norms: q, k, v, out with a norm before out; fc1, norm,
               fc2; positions are computed

Sources: openbmb/MiniCPM-V, -V-2, -Llama3-V-2_5 modeling_minicpmv.py and resampler.py (names are
checked against their indexes); transformers 5.23 models/{aria,kosmos2}/modeling_*.py and
conversion_mapping.py.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
)
from weighbridge.models.arch.compose import (
    SIDE_BY_SIDE,
    Inner,
    buffers,
    composite,
    nested,
    params,
    text_head,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodules,
    alike,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.families.clip import clip_vision, layers, patch_kernel, side
from weighbridge.models.arch.families.llama import LlamaSwitches, attention
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.sparse import RoutedExperts, fed, router, stacked
from weighbridge.models.arch.vision import layernorm, nothing
from weighbridge.models.arch.windows import layer_kinds

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Layer

# MiniCPM-V

# modeling_minicpmv.py of each release: the class of `self.llm`, which the table names
VERSIONS = ("", "2.0", "2.5", "2.6", "4.5")
# timm's vit_so400m_patch14_siglip: what `vision_encoder` of the first two releases names
SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def language(c: Config) -> Inner:
    version = c.word("version")
    if version not in VERSIONS:
        known = ", ".join(sorted(v for v in VERSIONS if v))
        raise c.error("version", "is.unknown_language", version=version, known=known)
    return Inner(path="llm.", config=version, flat=True, head="ForCausalLM")


def timm_block(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from layernorm(f"{prefix}norm1", width)
    yield from affine(f"{prefix}attn.qkv", 3 * width, width)
    yield from affine(f"{prefix}attn.proj", width, width)
    yield from layernorm(f"{prefix}norm2", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)


def timm_tower(c: Config, prefix: str) -> Iterator[Param]:
    """Yield timm's SigLIP tower, with the positions of the image size in its name."""
    name = c.word("vision_encoder")
    known = re.match(r"vit_so400m_patch14_siglip_(\d+)", name)
    if not known:
        usual = "vit_so400m_patch14_siglip_384"
        raise c.error("vision_encoder", "is.unknown", known=usual, kind=name)
    tower = Config({**SO400M, "image_size": int(known[1])})
    width = tower.num("hidden_size")
    yield Param(f"{prefix}pos_embed", (1, side(tower) ** 2, width), "other")
    yield from conv(f"{prefix}patch_embed.proj", patch_kernel(tower, width))
    dropped = 1 if c.enabled("drop_vision_last_layer") else 0
    for i in range(tower.num("num_hidden_layers") - dropped):
        yield from timm_block(tower, f"{prefix}blocks.{i}.")
    yield from layernorm(f"{prefix}norm", width)


def tower(c: Config, prefix: str) -> Iterator[Param]:
    vision = c.sub("vision_config")
    width = vision.num("hidden_size")
    dropped = 1 if c.flag("drop_vision_last_layer") else 0
    count = max(0, vision.layers("num_hidden_layers") - dropped)
    yield from conv(f"{prefix}embeddings.patch_embedding", patch_kernel(vision, width))
    yield from embedding(f"{prefix}embeddings.position_embedding", side(vision) ** 2, width)
    yield from layers(Config({**vision.raw, "num_hidden_layers": count}), prefix)
    yield from layernorm(f"{prefix}post_layernorm", width)


def resampler(c: Config, prefix: str, seen: int) -> Iterator[Param]:
    width, queries = nested(c, language(c)).num("hidden_size"), c.num("query_num")
    yield Param(f"{prefix}query", (queries, width), "other")
    if not c.has("vision_config"):
        yield Param(f"{prefix}pos_embed", (queries, width), "other")
    yield Param(f"{prefix}proj", (width, width), "other")
    yield from linear(f"{prefix}kv_proj", width, seen)
    yield Param(f"{prefix}attn.in_proj_weight", (3 * width, width), "other")
    yield Param(f"{prefix}attn.in_proj_bias", (3 * width,), "bias")
    yield from affine(f"{prefix}attn.out_proj", width, width)
    for name in ("ln_q", "ln_kv", "ln_post"):
        yield from layernorm(f"{prefix}{name}", width)


def minicpmv(c: Config, prefix: str) -> Iterator[Param]:
    described = c.has("vision_config")
    seen = c.sub("vision_config").num("hidden_size") if described else SO400M["hidden_size"]
    yield from params(c, prefix, [language(c)])
    yield from (tower if described else timm_tower)(c, f"{prefix}vpm.")
    yield from resampler(c, f"{prefix}resampler.", seen)


def language_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield from buffers(c, prefix, [language(c)])


MINICPMV = Family(
    body=minicpmv,
    base="",
    cls="MiniCPMV",
    heads={"MiniCPMV": nothing},
    buffers=language_buffers,
    blocks=("llm.model.layers.*", "vpm.blocks.*", "vpm.encoder.layers.*"),
    parts=(("llm.", "language model"), ("vpm.", "vision tower"), ("resampler.", "projector")),
)


def language_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the caches of the language model's layers; the config's `version` decides which model
    it is."""
    from weighbridge.models.arch.cache_layers import layers

    return layers(nested(c, language(c)))


# Aria

TEXT = Inner(path="language_model.")
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")
PROJECTOR = "multi_modal_projector."
QUERIES = 256  # the larger of AriaConfig's {1225: 128, 4900: 256}


def text(c: Config) -> Decoder:
    e = RoutedExperts(
        count=c.num("moe_num_experts"), inner=c.num("intermediate_size"), top_k=c.num("moe_topk")
    )
    bias, width = c.flag("attention_bias"), c.num("hidden_size")
    shared = e.inner * c.num("moe_num_shared_experts")

    def layer() -> Submodules:
        feed = submodule(
            router("mlp.router", e.count, width),
            stacked("mlp.experts.fc1.weight", (e.count, width, 2 * e.inner), e),
            stacked("mlp.experts.fc2.weight", (e.count, e.inner, width), e),
            gated_mlp("mlp.shared_experts", width, shared, bias=c.flag("mlp_bias")),
            feed=fed(e, shared=shared),
        )
        one = attention(c, LlamaSwitches(qkv_bias=bias, o_bias=bias))
        return (one, feed, normed(width, *BEFORE))

    return tree(c, alike(c, layer), kinds=layer_kinds)


def queries(c: Config) -> int:
    table = c.get("projector_patch_to_query_dict")
    counts = list(table.values()) if isinstance(table, dict) else []
    return max((n for n in counts if isinstance(n, int)), default=QUERIES)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    into, out = nested(c, VISION).num("hidden_size"), nested(c, TEXT).num("hidden_size")
    path = f"{prefix}{PROJECTOR}"
    yield Param(f"{path}query", (queries(c), into), "other")
    for name in ("q_proj", "k_proj", "v_proj"):
        yield from linear(f"{path}cross_attn.{name}", into, into)
    inside = f"{path}cross_attn.multihead_attn."
    yield Param(f"{inside}in_proj_weight", (3 * into, into), "other")
    yield Param(f"{inside}in_proj_bias", (3 * into,), "bias")
    yield from affine(f"{inside}out_proj", into, into)
    yield from affine(f"{path}cross_attn.linear", into, into)
    for name in ("cross_attn.layer_norm", "cross_attn.layer_norm_kv", "layer_norm"):
        yield from layernorm(f"{path}{name}", into)
    yield from linear(f"{path}feed_forward.linear_in", out, into)
    yield from linear(f"{path}feed_forward.linear_out", out, out)


ARIA_TEXT = DecoderFamily(tree=text, cls="AriaTextForCausalLM", buffers=rotary)
ARIA = composite(
    TEXT,
    VISION,
    own=projector,
    projectors=(PROJECTOR,),
    cls="AriaForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
    renames=SIDE_BY_SIDE,
)


# Kosmos-2


def kosmos_halves(c: Config) -> tuple[Config, Config]:
    return (c.sub("text_config"), c.sub("vision_config"))


def kosmos_attention(prefix: str, width: int, *, norm: bool) -> Iterator[Param]:
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        yield from affine(f"{prefix}{name}", width, width)
    if norm:
        yield from layernorm(f"{prefix}inner_attn_ln", width)


def kosmos_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("embed_dim"), c.num("ffn_dim")
    yield from kosmos_attention(f"{prefix}self_attn.", width, norm=True)
    yield from layernorm(f"{prefix}self_attn_layer_norm", width)
    if c.flag("add_cross_attention"):
        yield from kosmos_attention(f"{prefix}encoder_attn.", width, norm=False)
        yield from layernorm(f"{prefix}encoder_attn_layer_norm", width)
    yield from affine(f"{prefix}ffn.fc1", inner, width)
    yield from affine(f"{prefix}ffn.fc2", width, inner)
    yield from layernorm(f"{prefix}ffn.ffn_layernorm", inner)
    yield from layernorm(f"{prefix}final_layer_norm", width)


def kosmos_text(c: Config, prefix: str) -> Iterator[Param]:
    yield from embedding(f"{prefix}embed_tokens", c.num("vocab_size"), c.num("embed_dim"))
    for i in range(c.layers("layers")):
        yield from kosmos_layer(c, f"{prefix}layers.{i}.")
    yield from layernorm(f"{prefix}layer_norm", c.num("embed_dim"))


def kosmos_tower(c: Config, prefix: str) -> Iterator[Param]:
    """Yield CLIP's tower under `model.` instead of `vision_model.`."""
    for p in clip_vision(c, ""):
        yield p._replace(name=f"{prefix}model." + p.name.removeprefix("vision_model."))


def kosmos_body(*, head: bool) -> ParamRule:
    def kosmos(c: Config, prefix: str) -> Iterator[Param]:
        language, tower = kosmos_halves(c)
        width = language.num("embed_dim")
        words = f"{prefix}text_model.model.embed_tokens.weight"
        yield from kosmos_text(language, f"{prefix}text_model.model.")
        if head:
            owner = words if kosmos_ties(c) else ""
            shape = (language.num("vocab_size"), width)
            yield Param(f"{prefix}text_model.lm_head.weight", shape, tied=owner)
        yield from kosmos_tower(tower, f"{prefix}vision_model.")
        path = f"{prefix}image_to_text_projection."
        yield from affine(f"{path}dense", width, tower.num("hidden_size"))
        yield Param(f"{path}latent_query", (c.num("latent_query_num"), width), "other")
        yield from kosmos_attention(f"{path}x_attn.", width, norm=False)

    return kosmos


def kosmos_ties(c: Config) -> bool:
    return any(k.enabled("tie_word_embeddings") for k in (c, kosmos_halves(c)[0]))


def kosmos_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield the computed sines of the text, two rows more than positions, and the tower's position
    indexes."""
    language, tower = kosmos_halves(c)
    rows = (language.num("max_position_embeddings") + 2, language.num("embed_dim"))
    yield Buffer(f"{prefix}text_model.model.embed_positions.weights", rows, "")
    places = (1, side(tower) ** 2 + 1)
    yield Buffer(f"{prefix}vision_model.model.embeddings.position_ids", places, "int64")


KOSMOS_BLOCKS = ("text_model.model.layers.*", "vision_model.model.encoder.layers.*")
KOSMOS_PARTS = (("vision_model.", "vision tower"), ("image_to_text_projection.", "projector"))
KOSMOS2 = Family(
    body=kosmos_body(head=False),
    cls="Kosmos2ForConditionalGeneration",
    buffers=kosmos_buffers,
    blocks=KOSMOS_BLOCKS,
    parts=KOSMOS_PARTS,
    classes={
        "ForConditionalGeneration": Family(
            body=kosmos_body(head=True),
            base="",
            heads={"ForConditionalGeneration": nothing},
            buffers=kosmos_buffers,
            blocks=KOSMOS_BLOCKS,
            parts=KOSMOS_PARTS,
        )
    },
)


def kosmos_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the caches of the language model's layers, with heads under fairseq's keys."""
    from weighbridge.models.arch.cache_layers import AttentionSizes, attention
    from weighbridge.models.arch.mixers import Layer

    language = c.sub("text_config")
    heads = language.num("attention_heads")
    sizes = AttentionSizes(heads, heads, language.num("embed_dim") // max(1, heads))
    return (Layer(mixers=(attention(language, sizes),)),) * language.layers("layers")


TYPES = {
    "minicpmv": ModelType(
        MINICPMV,
        layers=language_layers,
        holds={
            "": "minicpm",
            "2.0": "minicpm",
            "2.5": "llama",
            "2.6": "qwen2",
            "4.5": "qwen3",
            "tower": "siglip_vision_model",
        },
        sees=Sight(images.minicpmv, in_code={**SO400M, "image_size": 448}),
    ),
    "aria": ModelType(ARIA, language="text_config", sees=Sight(images.aria)),
    "aria_text": ModelType(ARIA_TEXT),
    "kosmos-2": ModelType(KOSMOS2, layers=kosmos_layers, sees=Sight(images.latent)),
}
