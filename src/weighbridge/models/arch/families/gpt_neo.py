"""EleutherAI's decoders and their kin: GPT-Neo, GPT-J, CodeGen, GPT-NeoX, Persimmon and Fuyu.

GPT-Neo: GPT-2 with plain Linears and every other layer local.

    wte V x D, wpe P x D, L layers of (q, k, v without bias, out; c_fc, c_proj; two norms), ln_f

Every layer holds its mask, P x P booleans, in transformers 4 and 5 alike.
Source: transformers 5.23 models/gpt_neo/modeling_gpt_neo.py; 4.57.1 for `masked_bias`.

GPT-J and CodeGen: attention and MLP side by side after one norm; lm_head with a bias.

    GPT-J q, k, v, out D x D      CodeGen qkv 3 D x D, out D x D      both fc_in, fc_out with bias

Both keep a table of sines in every layer, P x R (R: rotary_dim, or D). MOSS 003 is CodeGen under
another name. Source: transformers 5.23 models/{gptj,codegen}/modeling_*.py.

GPT-NeoX, Pythia, GPT-NeoX Japanese and Persimmon: queries, keys and values in one Linear.

    embed_in V x D, L layers of (query_key_value 3 D x D, dense; h_to_4h, 4h_to_h; two LayerNorms),
    final_layer_norm, embed_out V x D

Checkpoints call the head `embed_out`. Japanese has no biases in its Linears; its last layer alone
has a bare `dense_bias`. Persimmon spells embedding and head as Llama does.
Source: transformers 5.23 models/{gpt_neox,gpt_neox_japanese,persimmon}/modeling_*.py.

Fuyu: no tower at all. Patches go through one Linear into a Persimmon.

Source: transformers 5.23 models/fuyu/modeling_fuyu.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.models.arch import windows
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.compose import SIDE_BY_SIDE, Inner, composite, nested, text_head
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    Decoder,
    DecoderNames,
    Submodules,
    alike,
    multi_head,
    normed,
    packed,
    submodule,
    tree,
    ungated,
)
from weighbridge.models.arch.families.gpt2 import ctrl_lm
from weighbridge.models.arch.heads import (
    DECODER_HEADS,
    LEGACY_HEADS,
    DecoderFamily,
    labels,
    lm_called,
)
from weighbridge.models.arch.inputs import images
from weighbridge.models.arch.model_types import (
    ModelType,
    Sight,
)
from weighbridge.models.arch.rotary import frequencies, head_dim, partly_rotary, share
from weighbridge.models.arch.windows import layer_kinds


def layer(c: Config) -> Submodules:
    width, here = c.num("hidden_size"), "attn.attention."
    inner = c.num("intermediate_size", default=4 * width)
    return (
        normed(width, "ln_1", bias=True),
        submodule(
            *(linear(here + name, width, width) for name in ("k_proj", "v_proj", "q_proj")),
            affine(f"{here}out_proj", width, width),
            mixer=multi_head(c.num("num_attention_heads", "num_heads"), width),
        ),
        normed(width, "ln_2", bias=True),
        ungated("mlp", width, inner, names=("c_fc", "c_proj"), bias=True),
    )


def gpt_neo(c: Config) -> Decoder:
    width = c.num("hidden_size")
    return Decoder(
        width=width,
        first=(
            *embedding("wte", c.num("vocab_size"), width),
            *embedding("wpe", c.num("max_position_embeddings"), width),
        ),
        layers=alike(c, lambda: layer(c), "num_layers"),
        last=tuple(layer_norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def masks(c: Config, prefix: str) -> Iterator[Buffer]:
    side = c.num("max_position_embeddings")
    for i in range(c.layers("num_layers")):
        here = f"{prefix}h.{i}.attn.attention"
        yield Buffer(f"{here}.bias", (1, 1, side, side), "bool")
        yield Buffer(f"{here}.masked_bias", (), "", until=5)


GPT_NEO = Family(
    tree=gpt_neo,
    base="transformer",
    cls="GPTNeoForCausalLM",
    heads=LEGACY_HEADS,
    buffers=masks,
    blocks=("h.*",),
)


SEPARATE = {"k_proj": 1, "v_proj": 1, "q_proj": 1}  # rows in widths of the model
TOGETHER = {"qkv_proj": 3}


def gptj_layer(c: Config, qkv: Mapping[str, int]) -> Submodules:
    width = c.num("n_embd")
    inner = c.num("n_inner", default=4 * width)
    return (
        normed(width, "ln_1", bias=True),
        submodule(
            *(linear(f"attn.{name}", times * width, width) for name, times in qkv.items()),
            linear("attn.out_proj", width, width),
            mixer=multi_head(c.num("n_head"), width),
        ),
        ungated("mlp", width, inner, names=("fc_in", "fc_out"), bias=True),
    )


def decoder(c: Config, qkv: Mapping[str, int]) -> Decoder:
    width = c.num("n_embd")
    c.skip("rotary_dim")
    return Decoder(
        width=width,
        first=tuple(embedding("wte", c.num("vocab_size"), width)),
        layers=alike(c, lambda: gptj_layer(c, qkv), "n_layer"),
        last=tuple(layer_norm("ln_f", width)),
        path="h.",
        kinds=layer_kinds,
    )


def sines(c: Config, prefix: str) -> Iterator[Buffer]:
    shape = (c.num("n_positions"), c.num("rotary_dim") or c.num("n_embd"))
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{prefix}h.{i}.attn.embed_positions", shape, "float32")


def spans(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head for spans of text, with one output per label, by default 2."""
    yield from affine(f"{prefix}qa_outputs", labels(c), c.num("n_embd"))


GPTJ = Family(
    tree=partial(decoder, qkv=SEPARATE),
    base="transformer",
    cls="GPTJForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": ctrl_lm, "ForQuestionAnswering": spans},
    buffers=sines,
    blocks=("h.*",),
)
CODEGEN = Family(
    tree=partial(decoder, qkv=TOGETHER),
    base="transformer",
    cls="CodeGenForCausalLM",
    heads={"ForCausalLM": ctrl_lm},
    buffers=sines,
    blocks=("h.*",),
)
MOSS = Family(
    tree=partial(decoder, qkv=TOGETHER),
    base="transformer",
    cls="MossForCausalLM",
    heads={"ForCausalLM": ctrl_lm},
    blocks=("h.*",),
)


TWO = ("input_layernorm", "post_attention_layernorm")
NAMES = DecoderNames(embed="embed_in", final="final_layer_norm", norm_bias=True)
MEGATRON = ("dense_h_to_4h", "dense_4h_to_h")


def gpt_neox_layer(c: Config, path: str, inner: int, *, bias: bool, mlp_bias: bool) -> Submodules:
    width = c.num("hidden_size")
    return (
        packed(path, width, c.num("num_attention_heads"), bias=bias),
        ungated("mlp", width, inner, names=MEGATRON, bias=mlp_bias),
        normed(width, *TWO, bias=True),
    )


def neox(c: Config) -> Decoder:
    bias = c.flag("attention_bias")

    def one() -> Submodules:
        return gpt_neox_layer(c, "attention.", c.num("intermediate_size"), bias=bias, mlp_bias=True)

    return tree(c, alike(c, one), NAMES, kinds=layer_kinds)


def japanese(c: Config) -> Decoder:
    width = c.num("hidden_size")
    inner = width * c.num("intermediate_multiple_size")
    one = alike(c, lambda: gpt_neox_layer(c, "attention.", inner, bias=False, mlp_bias=False))
    decoder = tree(c, one, NAMES, kinds=layer_kinds)
    last = len(decoder.layers) - 1
    behind = Param(f"layers.{last}.attention.dense_bias", (width,), "bias")
    return decoder._replace(last=(*decoder.last, behind)) if decoder.layers else decoder


def persimmon_layer(c: Config) -> Submodules:
    inner, width = c.num("intermediate_size"), c.num("hidden_size")
    attention, *others = gpt_neox_layer(c, "self_attn.", inner, bias=True, mlp_bias=True)
    names = ("q_layernorm", "k_layernorm") if c.flag("qk_layernorm") else ()
    size = width // max(1, c.num("num_attention_heads"))
    norms = submodule(*(layer_norm(f"self_attn.{name}", size) for name in names))
    return (attention, norms, *others)


def persimmon(c: Config) -> Decoder:
    names = DecoderNames(final="final_layernorm", norm_bias=True)
    return tree(c, alike(c, lambda: persimmon_layer(c)), names, kinds=layer_kinds)


def rotary(c: Config, prefix: str, *, part: float) -> Iterator[Buffer]:
    """Yield the rotary frequencies of a fraction of the head, here called `rotary_pct`."""
    yield from frequencies(
        f"{prefix}rotary_emb.", int(head_dim(c) * share(c, "rotary_pct", default=part))
    )


def reward(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head of Open-Assistant's GPTNeoXRewardModel: one score
    (model_training/models/reward_model.py)."""
    yield from affine(f"{prefix}out_proj", 1, c.num("hidden_size"))


GPT_NEOX = Family(
    tree=neox,
    base="gpt_neox",
    cls="GPTNeoXForCausalLM",
    heads={**LEGACY_HEADS, "ForCausalLM": lm_called("embed_out", "gpt_neox.embed_in")},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_REWARD = Family(
    tree=neox,
    base="gpt_neox",
    cls="GPTNeoXRewardModel",
    heads={"RewardModel": reward},
    buffers=partial(rotary, part=0.25),
)
GPT_NEOX_JAPANESE = Family(
    tree=japanese,
    base="gpt_neox_japanese",
    cls="GPTNeoXJapaneseForCausalLM",
    heads={"ForCausalLM": lm_called("embed_out", "gpt_neox_japanese.embed_in")},
    buffers=partial(rotary, part=1.0),
)
PERSIMMON = DecoderFamily(tree=persimmon, cls="PersimmonForCausalLM", buffers=partly_rotary(0.5))


TEXT = Inner(path="language_model.", flat=True)


def patches(c: Config, prefix: str) -> Iterator[Param]:
    pixels = c.num("patch_size") ** 2 * c.num("num_channels")
    out = nested(c, TEXT).num("hidden_size")
    yield from affine(f"{prefix}vision_embed_tokens", out, pixels)


FUYU = composite(
    TEXT,
    own=patches,
    projectors=("vision_embed_tokens.",),
    cls="FuyuForCausalLM",
    heads={"ForCausalLM": text_head(TEXT)},
    renames=SIDE_BY_SIDE,
)


TYPES = {
    "gpt_neo": ModelType(
        GPT_NEO,
        windows=windows.nowhere,
        computes=("not_rotary", "own_softmax", "wide_queries", "lingering_scores"),
        gguf="none",
    ),
    "codegen": ModelType(
        CODEGEN, computes=("parallel", "own_softmax", "wide_queries", "lingering_scores")
    ),
    "gptj": ModelType(
        GPTJ, computes=("parallel", "own_softmax", "wide_queries", "lingering_scores"), gguf="none"
    ),
    "moss": ModelType(MOSS),
    "gpt_neox": ModelType(GPT_NEOX, computes=("parallel",), gguf="gptneox"),
    "gpt_neox_japanese": ModelType(GPT_NEOX_JAPANESE),
    "gpt_neox_reward_model": ModelType(GPT_NEOX_REWARD),
    "persimmon": ModelType(PERSIMMON, gguf="none"),
    "fuyu": ModelType(FUYU, language="text_config", flat=True, sees=Sight(images.fuyu, bare=True)),
}
