"""Towers before a DeepSeek language model: DeepSeek-VL2, DeepSeek-OCR 1 and 2, Kimi-VL, Kimi-K2.5.

    VL2    timm's SigLIP with its pooling head, 2 x 2 patches together through an MLP
    OCR    SAM's tower, halved twice more, beside CLIP L/14 without its last norm
    OCR-2  the same SAM, then a small Qwen2 over its output and learned queries
    Kimi   MoonViT: patches 14 x 14, learned positions 64 x 64, L blocks of (wqkv, wo; fc0, fc1; two
           LayerNorms), LayerNorm; 2 x 2 patches become one in the projector

DeepSeek's three classes share one model type; their language model is a DeepSeek-V2, in the small
ones without latent attention. Sources: deepseek-ai/DeepSeek-VL2 modeling_deepseek_vl_v2.py and
siglip_vit.py; DeepSeek-OCR deepencoder.py; transformers 5.23 models/{deepseek_ocr2,kimi_k25} and
conversion_mapping.py; moonshotai/Kimi-VL-A3B-Instruct modeling_kimi_vl.py. The names of MoonViT are
checked against the published index of nvidia/LocateAnything-3B, which has the same tower.
"""

import re
from collections.abc import Iterator
from functools import partial

from weighbridge.models.arch.blueprint import Buffer, Family, Param, affine, conv, embedding, linear
from weighbridge.models.arch.compose import Inner, composite, nested
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.clip import side
from weighbridge.models.arch.families.deepseek import DEEPSEEK_V2
from weighbridge.models.arch.families.llama import LlamaSwitches, decoder
from weighbridge.models.arch.families.sam import vision as sam
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.rotary import rotary
from weighbridge.models.arch.vision import layernorm, nothing, patch_shape, scaled

SIGLIP = {"width": 1152, "layers": 27, "patch_size": 14, "image_size": 384, "mlp_ratio": 3.7362}
SAM = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "image_size": 1024}
CLIP = {"width": 1024, "layers": 24, "patch_size": 14, "image_size": 224}
QWEN2 = {  # deepencoderv2: Qwen2-0.5B without embeddings
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
QUERIES = {"query_768": 144, "query_1024": 256}


def language(c: Config) -> Config:
    return c.sub("language_config")


def text(c: Config, prefix: str) -> Iterator[Param]:
    yield from DEEPSEEK_V2.tensors(c, prefix)


def head(c: Config, prefix: str) -> Iterator[Param]:
    inner = language(c)
    yield from linear(f"{prefix}lm_head", inner.num("vocab_size"), inner.num("hidden_size"))


def vl2_head(c: Config, prefix: str) -> Iterator[Param]:
    yield from head(c, f"{prefix}language.")


# VL2


def timm_block(prefix: str, width: int, inner: int) -> Iterator[Param]:
    yield from layernorm(f"{prefix}norm1", width)
    yield from affine(f"{prefix}attn.qkv", 3 * width, width)
    yield from affine(f"{prefix}attn.proj", width, width)
    yield from layernorm(f"{prefix}norm2", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)


def timm_pool(prefix: str, width: int, inner: int) -> Iterator[Param]:
    yield Param(f"{prefix}latent", (1, 1, width), "other")
    yield from affine(f"{prefix}q", width, width)
    yield from affine(f"{prefix}kv", 2 * width, width)
    yield from affine(f"{prefix}proj", width, width)
    yield from layernorm(f"{prefix}norm", width)
    yield from affine(f"{prefix}mlp.fc1", inner, width)
    yield from affine(f"{prefix}mlp.fc2", width, inner)


def siglip(c: Config, prefix: str) -> Iterator[Param]:
    tower = Config({**SIGLIP, **c.raw}, where=c.where)
    width, patch = tower.num("width"), tower.num("patch_size")
    inner = scaled(tower, width, "mlp_ratio")
    yield Param(f"{prefix}pos_embed", (1, side(tower) ** 2, width), "other")
    yield from conv(f"{prefix}patch_embed.proj", (width, 3, patch, patch))
    for i in range(tower.layers("layers")):
        yield from timm_block(f"{prefix}blocks.{i}.", width, inner)
    yield from layernorm(f"{prefix}norm", width)
    yield from timm_pool(f"{prefix}attn_pool.", width, inner)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    """Yield VL2's projector (downsample_mlp_gelu): squares of patches become one, then `depth`
    Linears."""
    out = c.num("n_embed") * c.num("mlp_ratio", default=1)
    into = c.num("input_dim") * c.num("downsample_ratio", default=2) ** 2
    depth = c.layers("depth", default=2)
    for i in range(depth):
        last = i == depth - 1
        width = c.num("n_embed") if last else out
        yield from affine(f"{prefix}layers.{2 * i}", width, out if i else into)


def vl2(c: Config, prefix: str) -> Iterator[Param]:
    bridge = c.sub("projector_config")
    kind = bridge.word("projector_type", default="downsample_mlp_gelu")
    if kind != "downsample_mlp_gelu":
        raise bridge.error("projector_type", "is.unknown", known="downsample_mlp_gelu", kind=kind)
    yield from text(language(c), f"{prefix}language.model.")
    yield from siglip(c.sub("vision_config"), f"{prefix}vision.")
    yield from projector(bridge, f"{prefix}projector.")
    for name in ("image_newline", "view_seperator"):  # so spelt
        yield Param(f"{prefix}{name}", (bridge.num("n_embed"),), "other")


# OCR

SAM_NAMES = (
    (r"^layers\.(\d+)\.layer_norm", r"blocks.\1.norm"),
    (r"^layers\.", "blocks."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^neck\.conv1\.", "neck.0."),
    (r"^neck\.layer_norm1\.", "neck.1."),
    (r"^neck\.conv2\.", "neck.2."),
    (r"^neck\.layer_norm2\.", "neck.3."),
)


def sam_tower(c: Config, prefix: str, out: int) -> Iterator[Param]:
    """Yield SAM's tower under its own names, and two convolutions that halve its output again."""
    tower = Config(SAM, where=c.where, model_type=c.held("tower"))
    for p in sam(tower, ""):
        name = next((re.sub(a, b, p.name) for a, b in SAM_NAMES if re.match(a, p.name)), p.name)
        yield p._replace(name=prefix + name)
    channels, middle = tower.num("output_channels"), 512
    yield from conv(f"{prefix}net_2", (middle, channels, 3, 3), bias=False)
    yield from conv(f"{prefix}net_3", (out, middle, 3, 3), bias=False)


def clip_block(prefix: str, width: int) -> Iterator[Param]:
    yield from layernorm(f"{prefix}layer_norm1", width)
    yield from affine(f"{prefix}self_attn.qkv_proj", 3 * width, width)
    yield from affine(f"{prefix}self_attn.out_proj", width, width)
    yield from layernorm(f"{prefix}layer_norm2", width)
    yield from affine(f"{prefix}mlp.fc1", 4 * width, width)
    yield from affine(f"{prefix}mlp.fc2", width, 4 * width)


def clip(prefix: str) -> Iterator[Param]:
    tower = Config(CLIP)
    width, patch = tower.num("width"), tower.num("patch_size")
    yield Param(f"{prefix}embeddings.class_embedding", (width,), "other")
    yield from conv(f"{prefix}embeddings.patch_embedding", (width, 3, patch, patch), bias=False)
    yield from embedding(f"{prefix}embeddings.position_embedding", side(tower) ** 2 + 1, width)
    yield from layernorm(f"{prefix}pre_layrnorm", width)
    for i in range(tower.layers("layers")):
        yield from clip_block(f"{prefix}transformer.layers.{i}.", width)


def joined(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the projector's Linear and the token between views."""
    bridge = c.sub("projector_config")
    out = bridge.num("n_embed")
    yield from affine(f"{prefix}projector.layers", out, bridge.num("input_dim"))
    yield Param(f"{prefix}view_seperator", (out,), "other")


def ocr(c: Config, prefix: str) -> Iterator[Param]:
    """Yield DeepSeek-OCR's parameters; its projector reads both towers' features side by side."""
    read = c.sub("projector_config").num("input_dim")
    yield from text(language(c), prefix)
    yield from sam_tower(c, f"{prefix}sam_model.", read - Config(CLIP).num("width"))
    yield from clip(f"{prefix}vision_model.")
    yield from joined(c, prefix)
    yield Param(f"{prefix}image_newline", (c.sub("projector_config").num("n_embed"),), "other")


def ocr2(c: Config, prefix: str) -> Iterator[Param]:
    read, small = c.sub("projector_config").num("input_dim"), Config({**QWEN2, "vocab_size": 0})
    yield from text(language(c), prefix)
    yield from sam_tower(c, f"{prefix}sam_model.", read)
    reader = decoder(small, LlamaSwitches(qkv_bias=True))._replace(first=())
    yield from reader.tensors(f"{prefix}qwen2_model.model.model.")
    for name, count in QUERIES.items():
        yield from embedding(f"{prefix}qwen2_model.{name}", count, small.num("hidden_size"))
    yield from joined(c, prefix)


def frequencies(c: Config, prefix: str, path: str) -> Iterator[Buffer]:
    inner = language(c)
    buffers = DEEPSEEK_V2.buffers if inner.enabled("use_mla") else rotary
    yield from buffers(inner, f"{prefix}{path}") if buffers else ()


PARTS = (
    ("sam_model.", "vision tower"),
    ("vision_model.", "vision tower"),
    ("qwen2_model.", "vision tower"),
    ("projector.", "projector"),
    ("view_seperator", "projector"),
    ("image_newline", "projector"),
)
OCR = Family(
    body=ocr,
    cls="DeepseekOCRForCausalLM",
    heads={"ForCausalLM": head},
    buffers=partial(frequencies, path=""),
    blocks=("layers.*",),
    parts=PARTS,
)
OCR2 = Family(
    body=ocr2,
    cls="DeepseekOCR2ForCausalLM",
    heads={"ForCausalLM": head},
    buffers=partial(frequencies, path=""),
    blocks=("layers.*",),
    parts=PARTS,
)
VL2 = Family(
    body=vl2,
    base="",
    cls="DeepseekVLV2ForCausalLM",
    stems=("Deepseek",),
    heads={"ForCausalLM": vl2_head},
    buffers=partial(frequencies, path="language.model."),
    blocks=("language.model.layers.*", "vision.blocks.*"),
    classes={"OCRForCausalLM": OCR, "OCR2ForCausalLM": OCR2},
    parts=(("vision.", "vision tower"), *PARTS),
)


# Kimi

LANGUAGE = Inner(path="language_model.", head="ForCausalLM")
K25_VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower")
MOONVIT_PART = Inner(path="vision_tower.", config="vision_config", label="vision tower")


# Kimi-K2.5's own code prefixes the keys of its tower with "vt_" and "mm_".


def width_of(c: Config) -> int:
    return c.num("hidden_size", "vt_hidden_size", default=1152)


def moonvit(c: Config, prefix: str) -> Iterator[Param]:
    width = width_of(c)
    inner = c.num("intermediate_size", "vt_intermediate_size", default=4304)
    rows = c.num("init_pos_emb_height", "pos_emb_height", default=64)
    columns = c.num("init_pos_emb_width", "pos_emb_width", default=64)
    yield from conv(f"{prefix}patch_embed.proj", patch_shape(c, width))
    yield Param(f"{prefix}patch_embed.pos_emb.weight", (rows, columns, width), "other")
    for i in range(c.layers("num_hidden_layers", "vt_num_hidden_layers", default=27)):
        path = f"{prefix}encoder.blocks.{i}."
        yield from layernorm(f"{path}norm0", width)
        yield from layernorm(f"{path}norm1", width)
        yield from affine(f"{path}wqkv", 3 * width, width)
        yield from affine(f"{path}wo", width, width)
        yield from affine(f"{path}mlp.fc0", inner, width)
        yield from affine(f"{path}mlp.fc1", width, inner)
    yield from layernorm(f"{prefix}encoder.final_layernorm", width)


def k25_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    width = width_of(c)
    size = width // max(1, c.num("num_attention_heads", "vt_num_attention_heads", default=16))
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}rotary_emb.{name}", (size // 4,), "float32")
    frames = c.num("pos_emb_time", "init_pos_emb_time", default=4)
    name = f"{prefix}patch_embed.pos_emb.time_position_embeddings"
    yield Buffer(name, (frames + 1, width), "float32")  # the first row is for single images


def merged(c: Config) -> int:
    tall, wide = c.per_layer("merge_kernel_size", count=2, default=2)
    return tall * wide


def k25_projector(c: Config, prefix: str) -> Iterator[Param]:
    tower, text = nested(c, K25_VISION), nested(c, LANGUAGE)
    width = tower.num("mm_hidden_size", default=width_of(tower))
    into = width * merged(tower)
    yield from layernorm(f"{prefix}mm_projector.pre_norm", width)
    yield from affine(f"{prefix}mm_projector.proj.0", into, into)
    yield from affine(f"{prefix}mm_projector.proj.2", text.num("hidden_size"), into)


def vl_projector(c: Config, prefix: str) -> Iterator[Param]:
    tower, text = nested(c, MOONVIT_PART), nested(c, LANGUAGE)
    width = width_of(tower)
    into = width * merged(tower)
    yield from layernorm(f"{prefix}multi_modal_projector.pre_norm", width)
    yield from affine(f"{prefix}multi_modal_projector.linear_1", into, into)
    out = text.num("hidden_size")
    yield from affine(f"{prefix}multi_modal_projector.linear_2", out, into)


MOONVIT = Family(body=moonvit, cls="MoonVitPretrainedModel", blocks=("encoder.blocks.*",))
KIMI_K25_VISION = Family(
    body=moonvit, cls="Kimi_K25VisionModel", buffers=k25_buffers, blocks=("encoder.blocks.*",)
)
KIMI_K25 = composite(
    LANGUAGE,
    K25_VISION,
    own=k25_projector,
    projectors=("mm_projector.",),
    base="",
    cls="KimiK25ForConditionalGeneration",
    stems=("Kimi",),
    heads={"ForConditionalGeneration": nothing},
)
KIMI_VL = composite(
    LANGUAGE,
    MOONVIT_PART,
    own=vl_projector,
    projectors=("multi_modal_projector.",),
    base="",
    cls="KimiVLForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
)

TYPES = {
    "deepseek_vl_v2": ModelType(
        VL2,
        language="language_config",
        holds={"language_config": "deepseek_v2", "tower": "sam_vision_model"},
    ),
    "kimi_k25": ModelType(KIMI_K25, language="text_config", sees=Sight(images.to_16384)),
    "kimi_k25_vision": ModelType(KIMI_K25_VISION, no_cache="image"),
    "kimi_vl": ModelType(
        KIMI_VL,
        language="text_config",
        holds={"text_config": "deepseek_v3", "vision_config": "moonvit"},
        sees=Sight(images.to_4096),
    ),
    "moonvit": ModelType(MOONVIT, no_cache="image"),
}
