"""Kimi K3: Kimi Linear with what it lacks, and the tower of Kimi K2.5 without biases.

    delta       the output gate has full rank
    latent      attention has an output gate as wide as its values
    experts     are as narrow as a latent vector, between one Linear down and one up
    residuals   a norm and a number before attention and before the feed-forward of each layer

Its text config says kimi_linear. Source: vllm 0.33 models/kimi_k3/nvidia/{model,kda,mla}.py and
model_executor/models/kimi_k25_vit.py; the published config of moonshotai/Kimi-K3.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import Buffer, Family, Param, conv, gated_mlp, linear, norm
from weighbridge.models.arch.compose import Inner, composite, nested
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
    tree,
)
from weighbridge.models.arch.families.deepseek import latent
from weighbridge.models.arch.families.deepseek_vl import k25_buffers, merged, width_of
from weighbridge.models.arch.families.kimi_linear import (
    LINEAR,
    choice,
    delta,
    delta_sizes,
    kimi_kinds,
    kimi_sparse,
    shared_size,
)
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import ModelType, Sight
from weighbridge.models.arch.sparse import NUMBERED, correction, each, fed, router
from weighbridge.models.arch.vision import nothing, patch_shape

LANGUAGE = Inner(
    path="language_model.",
    head="ForCausalLM",
    fixed=True,
)
VISION = Inner(path="vision_tower.", config="vision_config", label="vision tower", fixed=True)
RESIDUALS = ("self_attention_res", "mlp_res")


def delta_attention(c: Config) -> Submodule:
    d, width, path = delta_sizes(c), c.num("hidden_size"), "self_attn."
    inner = d.heads * d.dim
    return submodule(
        delta(c, path, d),
        [Param(f"{path}A_log", (1, 1, d.heads, 1), "other")],
        linear(f"{path}f_a_proj", d.dim, width),
        linear(f"{path}f_b_proj", inner, d.dim),
        linear(f"{path}g_proj", inner, width),
        linear(f"{path}o_proj", width, inner),
        mixer=d,
    )


def latent_attention(c: Config) -> Submodule:
    usual, path = latent(c), "self_attn."
    inner = c.num("num_attention_heads") * c.num("v_head_dim")
    gate = linear(f"{path}g_proj", inner, c.num("hidden_size"))
    on = c.flag("mla_use_output_gate")
    return usual._replace(params=(*usual.params, *(gate if on else ())))


def experts(c: Config) -> Submodule:
    e, width, path = choice(c), c.num("hidden_size"), "block_sparse_moe."
    narrow = c.num("routed_expert_hidden_size", default=width)
    shared = shared_size(c)
    between = narrow != width
    return submodule(
        router(f"{path}gate", e.count, width),
        linear(f"{path}routed_expert_down_proj", narrow, width, role="whole") if between else (),
        norm(f"{path}routed_expert_norm", narrow) if c.flag("latent_moe_use_norm") else (),
        linear(f"{path}routed_expert_up_proj", width, narrow, role="whole") if between else (),
        each(f"{path}experts", narrow, e, NUMBERED),
        gated_mlp(f"{path}shared_experts", width, shared),
        feed=fed(e, shared=shared, inputs=narrow if between else 0),
    )


def residuals(c: Config, names: tuple[str, ...]) -> Iterator[Param]:
    """Yield a norm and a vector per name, which weight the outputs of earlier blocks of layers;
    nothing without `attn_res_block_size`."""
    width = c.num("hidden_size")
    for name in names if c.has("attn_res_block_size") else ():
        yield from norm(f"{name}_norm", width)
        yield from linear(f"{name}_proj", 1, width, role="whole")


def text(c: Config) -> Decoder:
    c.skip("activation_situ_beta", "activation_situ_linear_beta", "head_dim", "num_expert_group")

    def layer(kind: tuple[str, bool]) -> Submodules:
        width = c.num("hidden_size")
        mixer = delta_attention(c) if kind[0] == LINEAR else latent_attention(c)
        feed = experts(c) if kind[1] else gated("mlp", width, c.num("intermediate_size"))
        beside = submodule(residuals(c, RESIDUALS))
        return (mixer, feed, normed(width, *BEFORE), beside)

    base = tree(c, by_kind(list(zip(kimi_kinds(c), kimi_sparse(c), strict=True)), layer))
    return base._replace(last=(*base.last, *residuals(c, ("output_attn_res",))))


def text_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    name = "block_sparse_moe.gate.e_score_correction_bias"
    yield from correction(prefix, kimi_sparse(c), name, choice(c).count, dtype="")


def tower(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("mm_hidden_size", "text_hidden_size")
    width, inner = width_of(c), c.num("vt_intermediate_size")
    wide = c.num("qkv_hidden_size", default=width)
    rows, columns = c.num("init_pos_emb_height"), c.num("init_pos_emb_width")
    yield from conv(f"{prefix}patch_embed.proj", patch_shape(c, width), bias=False)
    yield Param(f"{prefix}patch_embed.pos_emb.weight", (rows, columns, width), "other")
    for i in range(c.layers("vt_num_hidden_layers")):
        path = f"{prefix}encoder.blocks.{i}."
        yield from norm(f"{path}norm0", width)
        yield from norm(f"{path}norm1", width)
        yield from linear(f"{path}wqkv", 3 * wide, width)
        yield from linear(f"{path}wo", width, wide)
        yield from linear(f"{path}mlp.fc0", inner, width)
        yield from linear(f"{path}mlp.fc1", width, inner)
    yield from norm(f"{prefix}encoder.final_layernorm", width)


def projector(c: Config, prefix: str) -> Iterator[Param]:
    vision, out = nested(c, VISION), nested(c, LANGUAGE).num("hidden_size")
    into = width_of(vision) * merged(vision)
    yield from linear(f"{prefix}mm_projector.proj.0", into, into)
    yield from linear(f"{prefix}mm_projector.proj.2", out, into)
    yield from norm(f"{prefix}mm_projector.post_norm", out)


KIMI_K3 = composite(
    LANGUAGE,
    VISION,
    own=projector,
    projectors=("mm_projector.",),
    base="",
    cls="KimiK3ForConditionalGeneration",
    stems=("Kimi",),
    heads={"ForConditionalGeneration": nothing},
)

TYPES = {
    "kimi_k3": ModelType(
        KIMI_K3,
        language="text_config",
        holds={"text_config": "kimi_k3_text", "vision_config": "kimi_k3_vision"},
        sees=Sight(images.to_16384),
    ),
    "kimi_k3_text": ModelType(
        DecoderFamily(
            tree=text,
            cls="KimiLinearForCausalLM",
            stems=("Kimi",),
            buffers=text_buffers,
        )
    ),
    "kimi_k3_vision": ModelType(
        Family(
            body=tower, cls="KimiK3VisionModel", buffers=k25_buffers, blocks=("encoder.blocks.*",)
        ),
        no_cache="image",
        heads_key="vt_num_attention_heads",
        width_key="qkv_hidden_size",
    ),
}
