"""Llama 1 to 3 and the decoders that differ from it only in a few switches.

    embed_tokens V x D, L layers of (q, k, v, o; gate, up, down; two norms), norm, lm_head V x D

Source: transformers 5.23 models/{llama,mistral,ministral,ministral3,qwen2,qwen3,smollm3,ernie4_5,
granite,seed_oss,arcee,helium,nemotron,starcoder2,hunyuan_v1_dense,exaone4,jais2,...}/modeling_*.py.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from weighbridge.base.records import NamedTuple, replace
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Family
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    gated,
    gqa,
    normed,
    tree,
    ungated,
)
from weighbridge.models.arch.families import drafts
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import head_dim as head_dim
from weighbridge.models.arch.rotary import partly_rotary
from weighbridge.models.arch.rotary import rotary as rotary
from weighbridge.models.arch.windows import layer_kinds

AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")  # after each: OLMo 2, EXAONE 4


class LlamaSwitches(NamedTuple):
    """Switches in which classes of Llama's kind differ; the defaults are Llama's."""

    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # one norm of head size on queries, one on keys
    qk_names: tuple[str, str] = ("q_norm", "k_norm")
    norms: tuple[str, ...] = BEFORE
    norm_bias: bool = False  # LayerNorm in place of RMSNorm
    mlp: Callable[..., Submodule] = gated  # (path, width, inner, *, bias)


def kv_heads(c: Config) -> int:
    """Return the KV heads; as many as heads if the config has none, or a null."""
    heads = c.num("num_attention_heads")
    if c.null("num_key_value_heads"):
        return heads
    return c.num("num_key_value_heads", default=heads)


def grouped(c: Config) -> Attention:
    """Return grouped-query attention, with sizes from the usual keys."""
    size = head_dim(c)
    return Attention(
        heads=c.num("num_attention_heads"), kv_heads=kv_heads(c), key_dim=size, value_dim=size
    )


def attention(c: Config, switches: LlamaSwitches, path: str = "self_attn.") -> Submodule:
    names = switches.qk_names if switches.qk_norm else ()
    bias = (switches.qkv_bias, switches.o_bias)
    return gqa(path, c.num("hidden_size"), grouped(c), bias=bias, norms=names)


def layer(c: Config, switches: LlamaSwitches) -> Submodules:
    """Return a layer: attention, MLP, and norms over the hidden size."""
    width = c.num("hidden_size")
    return (
        attention(c, switches),
        switches.mlp("mlp", width, c.num("intermediate_size"), bias=switches.mlp_bias),
        normed(width, *switches.norms, bias=switches.norm_bias),
    )


def decoder(c: Config, switches: LlamaSwitches, names: DecoderNames | None = None) -> Decoder:
    """Return a decoder with as many equal layers as the config states."""
    names = names or DecoderNames(norm_bias=switches.norm_bias)
    return tree(c, alike(c, lambda: layer(c, switches)), names, kinds=layer_kinds)


# c_fc, c_proj, as plain Linears
gpt = partial(ungated, names=("c_fc", "c_proj"))


def llama(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"))


def mistral(c: Config) -> LlamaSwitches:
    return LlamaSwitches()


def cwm(c: Config) -> LlamaSwitches:
    return LlamaSwitches(mlp_bias=c.flag("mlp_bias"))


def qwen2(c: Config) -> LlamaSwitches:
    return LlamaSwitches(qkv_bias=True)


def qwen3(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, qk_norm=True)


def ernie(c: Config) -> LlamaSwitches:
    bias = c.flag("use_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, mlp_bias=bias)


def seed(c: Config) -> LlamaSwitches:
    return LlamaSwitches(
        qkv_bias=c.flag("attention_bias"),
        o_bias=c.flag("attention_out_bias"),
        mlp_bias=c.flag("mlp_bias"),
    )


def arcee(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), mlp=ungated)


def helium(c: Config) -> LlamaSwitches:
    return LlamaSwitches(qkv_bias=c.flag("attention_bias"), mlp_bias=c.flag("mlp_bias"))


def nemotron(c: Config) -> LlamaSwitches:
    """Return Nemotron's switches. LayerNorm1P adds one to its weight but has LayerNorm's
    parameters, as in Jais 2."""
    bias = c.flag("attention_bias")
    return LlamaSwitches(
        qkv_bias=bias, o_bias=bias, mlp_bias=c.flag("mlp_bias"), norm_bias=True, mlp=ungated
    )


def starcoder2(c: Config) -> LlamaSwitches:
    bias = c.enabled("use_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, mlp_bias=bias, norm_bias=True, mlp=gpt)


def hunyuan(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    names = ("query_layernorm", "key_layernorm")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias, qk_norm=True, qk_names=names)


def shared_keys(c: Config, layers: Sequence[Submodules]) -> tuple[Submodules, ...]:
    """Return the layers; with `use_cla`, the first of each `cla_share_factor` layers stores keys
    and values for the others."""
    if not c.flag("use_cla"):
        c.skip("cla_share_factor")
        return tuple(layers)
    from weighbridge.models.arch.mixers import Shared  # others do without

    step = max(1, c.num("cla_share_factor"))
    return tuple(
        one if i % step == 0 else (one[0]._replace(mixer=Shared(owner=i - i % step)), *one[1:])
        for i, one in enumerate(layers)
    )


def hunyuan_dense(c: Config) -> Decoder:
    base = decoder(c, hunyuan(c))
    return base._replace(layers=shared_keys(c, base.layers))


def exaone4(c: Config) -> LlamaSwitches:
    return LlamaSwitches(qk_norm=True, norms=AFTER)


def clova(c: Config) -> LlamaSwitches:
    bias, extra = c.flag("attention_bias"), ("post_norm1", "post_norm2")
    return LlamaSwitches(
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=c.flag("mlp_bias"),
        norms=BEFORE + (extra if c.flag("use_post_norm") else ()),
    )


# Their span predictors kept an old name for the model inside.
SPANS: Mapping[str, str] = {"ForQuestionAnswering": "transformer"}


def relative(
    cls: str, switches: Callable[[Config], LlamaSwitches], *, spans: bool = False
) -> Family:
    return DecoderFamily(
        tree=lambda c: decoder(c, switches(c)),
        cls=f"{cls}ForCausalLM",
        bases=SPANS if spans else {},
        buffers=rotary,
    )


LLAMA = replace(relative("Llama", llama, spans=True), classes=drafts.CLASSES)
MISTRAL = relative("Mistral", mistral)
MINISTRAL = relative("Ministral", mistral, spans=True)
MINISTRAL3 = relative("Ministral3", mistral)
QWEN2 = replace(relative("Qwen2", qwen2, spans=True), classes=drafts.CLASSES)
QWEN3 = replace(relative("Qwen3", qwen3, spans=True), classes=drafts.CLASSES)
SMOLLM3 = relative("SmolLM3", llama, spans=True)
ERNIE4_5 = relative("Ernie4_5", ernie)
GRANITE = relative("Granite", llama)
CWM = relative("Cwm", cwm)
HYPERCLOVAX = relative("HyperCLOVAX", clova)
SEED_OSS = relative("SeedOss", seed, spans=True)
ARCEE = relative("Arcee", arcee, spans=True)
HELIUM = relative("Helium", helium)
JAIS2 = relative("Jais2", nemotron)
STARCODER2 = relative("Starcoder2", starcoder2)
EXAONE4 = relative("Exaone4", exaone4, spans=True)
NEMOTRON = replace(relative("Nemotron", nemotron, spans=True), buffers=partly_rotary(0.5))
HUNYUAN = replace(relative("HunYuanDenseV1", hunyuan), tree=hunyuan_dense)
# transformers reads both with the classes of Llama
INTERNLM3 = replace(relative("InternLM3", llama, spans=True), stems=("InternLM3", "Llama"))
IQUEST_CODER = replace(relative("IQuestCoder", llama, spans=True), stems=("IQuestCoder", "Llama"))

TYPES = {
    "llama": ModelType(LLAMA, computes=("torchtune_units",)),
    "mistral": ModelType(MISTRAL, windows=windows.everywhere, gguf="llama"),
    "qwen2": ModelType(QWEN2, windows=windows.upper),
    "qwen3": ModelType(QWEN3, windows=windows.upper),
    "arcee": ModelType(ARCEE),
    "cwm": ModelType(CWM, windows=windows.period(4, first=True)),
    "ernie4_5": ModelType(ERNIE4_5, computes=("wide_rotary",)),
    "exaone4": ModelType(EXAONE4, windows=windows.pattern, computes=("whole_layers_unrotated",)),
    "granite": ModelType(GRANITE, computes=("scaled_logits", "multipliers")),
    "helium": ModelType(HELIUM),
    "hunyuan_v1_dense": ModelType(HUNYUAN, gguf="hunyuan-dense"),
    "hyperclovax": ModelType(HYPERCLOVAX),
    "internlm3": ModelType(INTERNLM3, gguf="llama"),
    "iquestcoder": ModelType(IQUEST_CODER),
    "jais2": ModelType(JAIS2),
    "ministral": ModelType(MINISTRAL, windows=windows.everywhere, gguf="llama"),
    "ministral3": ModelType(MINISTRAL3, windows=windows.everywhere, gguf="llama"),
    "nemotron": ModelType(NEMOTRON),
    "seed_oss": ModelType(SEED_OSS),
    "smollm3": ModelType(
        SMOLLM3, windows=windows.without_positions, computes=("every_fourth_unrotated",)
    ),
    "starcoder2": ModelType(STARCODER2, windows=windows.everywhere),
}
