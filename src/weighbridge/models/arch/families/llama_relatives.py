"""Llama's relatives whose norms, activations or layers need more than a switch.

    Apertus      no gate; xIELU with two learnt numbers; queries and keys normalised
    BitNet       a norm before o_proj and before down_proj
    DiffLlama    four vectors of head size that weigh two attentions against each other
    nanochat     fc1, fc2, and norms without weights
    EXAONE       3 and 3.5, by GPT-Neo's names: attn.attention.{q,k,v,out}_proj; mlp.c_fc_0, c_fc_1
                 F x D, c_proj D x F; two RMSNorms
    MiMo-7B      Qwen2 and, behind it, layers that predict the token after next: Qwen2's layer,
                 norms of token and hidden state, input_proj D x 2 D, a last norm
    StableLM     2 and 3B (`stablelm_epoch` while its code was remote): LayerNorms, biases on q, k,
                 v by choice, one norm when blocks run side by side, and (12B) one LayerNorm
                 without bias for every head of queries and keys
    DeciLM       Nemotron NAS, whose layers were searched one by one. A block that is left out takes
                 its norm with it.
                 block_configs[i].attention   no_op, or one Linear, or N / n_heads_in_group KV heads
                 block_configs[i].ffn         no_op, or one Linear, or F = 2/3 ffn_mult D, to a
                                              multiple of 256
    Command R    and Aya: one norm a layer, attention and MLP side by side after it; Command R+
                 normalises queries and keys, each head with weights of its own

Sources: transformers 5.23 models/{apertus,bitnet,diffllama,nanochat,stablelm,cohere,cohere2}/
modeling_*.py; remote code: LGAI-EXAONE/EXAONE-3.5-* modeling_exaone.py, XiaomiMiMo/MiMo-7B-*
modeling_mimo.py (as their weight maps show it), nvidia/Llama-3_3-Nemotron-Super-49B-v1
configuration_decilm.py and modeling_decilm.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.base.units import align_up
from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import Buffer, Param, embedding, linear, norm
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    DecoderNames,
    Submodule,
    Submodules,
    alike,
    by_kind,
    gated,
    gqa,
    named_gated,
    normed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.families.llama import (
    SPANS,
    LlamaSwitches,
    attention,
    decoder,
    grouped,
    kv_heads,
    layer,
)
from weighbridge.models.arch.heads import DecoderFamily
from weighbridge.models.arch.model_types import (
    ModelType,
)
from weighbridge.models.arch.parts import Attention
from weighbridge.models.arch.rotary import head_dim, partly_rotary, rotary
from weighbridge.models.arch.windows import layer_kinds


def biased(c: Config) -> LlamaSwitches:
    bias = c.flag("attention_bias")
    return LlamaSwitches(qkv_bias=bias, o_bias=bias)


def xielu(c: Config) -> bool:
    return c.word("hidden_act") == "xielu"


def apertus(c: Config) -> Submodules:
    names = ("attention_layernorm", "feedforward_layernorm")
    usual = layer(c, biased(c)._replace(qk_norm=True, norms=names, mlp=ungated))
    alphas = (Param(f"mlp.act_fn.alpha_{sign}", (1,), "other") for sign in "pn")
    return (*usual, submodule(alphas)) if xielu(c) else usual


def apertus_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    if xielu(c):
        for i in range(c.layers("num_hidden_layers")):
            yield Buffer(f"{prefix}layers.{i}.mlp.act_fn.beta", (), "", persistent=True)
            yield Buffer(f"{prefix}layers.{i}.mlp.act_fn.eps", (), "", persistent=True)
    yield from rotary(c, prefix)


def bitnet(c: Config) -> Submodules:
    wide = norm("self_attn.attn_sub_norm", c.num("hidden_size"))
    inner = norm("mlp.ffn_sub_norm", c.num("intermediate_size"))
    return (*layer(c, biased(c)), submodule(wide, inner))


def diffllama(c: Config) -> Submodules:
    names = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    weighed = (Param(f"self_attn.{name}", (head_dim(c),), "other") for name in names)
    return (*layer(c, biased(c)), submodule(weighed))


def nanochat(c: Config) -> Submodules:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    return (attention(c, biased(c)), ungated("mlp", width, inner, names=("fc1", "fc2")))


def like(layer: Callable[[Config], Submodules], last: str = "norm") -> Callable[[Config], Decoder]:
    """Return a rule for a decoder of equal layers made by `layer`; it has no last norm if `last` is
    ""."""
    return lambda c: tree(
        c, alike(c, lambda: layer(c)), DecoderNames(final=last), kinds=layer_kinds
    )


APERTUS = DecoderFamily(tree=like(apertus), cls="ApertusForCausalLM", buffers=apertus_buffers)
BITNET = DecoderFamily(tree=like(bitnet), cls="BitNetForCausalLM", buffers=rotary)
DIFFLLAMA = DecoderFamily(
    tree=like(diffllama),
    cls="DiffLlamaForCausalLM",
    bases=SPANS,
    buffers=rotary,
)
NANOCHAT = DecoderFamily(tree=like(nanochat, last=""), cls="NanoChatForCausalLM", buffers=rotary)


# EXAONE

HERE = "attn.attention."


def exaone_layer(c: Config) -> Submodules:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    return (
        gqa(HERE, width, grouped(c), names=("q_proj", "k_proj", "v_proj", "out_proj")),
        named_gated("mlp.", width, inner, names=("c_fc_0", "c_fc_1", "c_proj")),
        normed(width, "ln_1", "ln_2"),
    )


def exaone(c: Config) -> Decoder:
    layers = alike(c, lambda: exaone_layer(c), "num_layers", "num_hidden_layers")
    return tree(c, layers, DecoderNames(embed="wte", layers="h", final="ln_f"), kinds=layer_kinds)


EXAONE = DecoderFamily(
    tree=exaone,
    base="transformer",
    cls="ExaoneForCausalLM",
    blocks=("h.*",),
    ties=True,
)


# MiMo

QWEN2 = LlamaSwitches(qkv_bias=True)


def mimo(c: Config) -> Decoder:
    qwen2, width = decoder(c, QWEN2), c.num("hidden_size")
    more = (
        *layer(c, QWEN2),
        normed(width, "token_layernorm", "hidden_layernorm", "final_layernorm"),
        submodule(linear("input_proj", width, 2 * width)),
    )
    guess = tuple(p for part in more for p in part.params)
    behind = (
        p._replace(name=f"mtp_layers.{i}.{p.name}")
        for i in range(c.layers("num_nextn_predict_layers", default=0))
        for p in guess
    )
    return qwen2._replace(last=(*qwen2.last, *behind))


MIMO = DecoderFamily(
    tree=mimo,
    cls="MiMoForCausalLM",
)


# StableLM


def one(c: Config) -> Submodules:
    names = BEFORE[:1] if c.flag("use_parallel_residual") else BEFORE
    usual = layer(c, LlamaSwitches(qkv_bias=c.flag("use_qkv_bias"), norms=names, norm_bias=True))
    return (*usual, submodule(each_head(c))) if c.flag("qk_layernorm") else usual


def each_head(c: Config) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    size = c.num("hidden_size") // max(1, heads)
    for name, count in (("q_layernorm", heads), ("k_layernorm", kv_heads(c))):
        for i in range(count):
            yield from norm(f"self_attn.{name}.norms.{i}", size)


def stablelm(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: one(c)), DecoderNames(norm_bias=True), kinds=layer_kinds)


STABLELM = DecoderFamily(tree=stablelm, cls="StableLmForCausalLM", buffers=partly_rotary(0.25))


# DeciLM

QUANTUM = 256


def deci_attention(c: Config, block: Config) -> Submodule:
    width, size, heads = c.num("hidden_size"), head_dim(c), c.num("num_attention_heads")
    if block.flag("replace_with_linear"):
        return submodule(linear("self_attn.linear_attn", width, width))
    kv_heads = heads // max(1, block.num("n_heads_in_group"))
    a = Attention(heads=heads, kv_heads=kv_heads, key_dim=size, value_dim=size)
    bias = c.flag("attention_bias")
    return gqa("self_attn.", width, a, bias=(bias, bias))


def feed_forward(c: Config, block: Config) -> Submodule:
    width = c.num("hidden_size")
    if block.flag("replace_with_linear"):
        return submodule(linear("mlp.linear_mlp", width, width))
    inner = align_up(int(2 * block.ratio("ffn_mult") * width / 3), QUANTUM)
    return gated("mlp", width, inner, bias=c.flag("mlp_bias"))


def deci_layer(c: Config, block: Config) -> Submodules:
    width, first, second = c.num("hidden_size"), block.sub("attention"), block.sub("ffn")
    before = (
        () if first.flag("no_op") else (normed(width, "input_layernorm"), deci_attention(c, first))
    )
    if second.flag("no_op"):
        return before
    return (*before, normed(width, "post_attention_layernorm"), feed_forward(c, second))


def deci(c: Config) -> Decoder:
    count, blocks = c.layers("num_hidden_layers"), c.many("block_configs")
    if len(blocks) != count:
        raise c.error("block_configs", "has.layers", count=len(blocks), layers=count)
    first: dict[str, int] = {}  # of blocks that are alike
    for i, raw in enumerate(blocks):
        if not isinstance(raw, dict):
            raise c.error(f"block_configs[{i}]", "must.object_raw", raw=raw)
        first.setdefault(repr(raw), i)

    def prefix(i: int) -> Submodules:
        return deci_layer(c, Config(blocks[i], where=f"{c.where}: block_configs[{i}]"))

    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=tuple(embedding("embed_tokens", c.num("vocab_size"), width)),
        layers=by_kind([first[repr(raw)] for raw in blocks], prefix),
        last=tuple(norm("norm", width)),
    )


DECI = DecoderFamily(
    tree=deci,
    cls="DeciLMForCausalLM",
)


# Command R


def normalised_layer(c: Config) -> Submodules:
    bias, a = c.flag("attention_bias"), grouped(c)
    usual = layer(c, LlamaSwitches(qkv_bias=bias, o_bias=bias, norms=("input_layernorm",)))
    if not c.flag("use_qk_norm"):
        return usual
    shapes = {"q_norm": (a.heads, a.key_dim), "k_norm": (a.kv_heads, a.key_dim)}
    norms = (Param(f"self_attn.{n}.weight", shape, "norm") for n, shape in shapes.items())
    return (*usual, submodule(norms))


def cohere(c: Config) -> Decoder:
    return tree(c, alike(c, lambda: normalised_layer(c)), kinds=layer_kinds)


COHERE = DecoderFamily(tree=cohere, cls="CohereForCausalLM", buffers=rotary)
COHERE2 = DecoderFamily(tree=cohere, cls="Cohere2ForCausalLM", buffers=rotary)

TYPES = {
    "apertus": ModelType(APERTUS),
    "bitnet": ModelType(BITNET),
    "diffllama": ModelType(DIFFLLAMA),
    "nanochat": ModelType(NANOCHAT),
    "exaone": ModelType(EXAONE),
    "mimo": ModelType(MIMO, windows=windows.upper),
    "stablelm": ModelType(STABLELM, computes=("holds_normed", "holds_attended")),
    "stablelm_epoch": ModelType(STABLELM),
    "nemotron-nas": ModelType(DECI, gguf="deci"),
    "cohere": ModelType(
        COHERE, computes=("parallel", "scaled_logits", "float_rotary"), gguf="command-r"
    ),
    "cohere2": ModelType(
        COHERE2,
        windows=windows.period(4, "sliding_window_pattern"),
        computes=("parallel", "scaled_logits", "whole_layers_unrotated", "float_rotary"),
    ),
}
