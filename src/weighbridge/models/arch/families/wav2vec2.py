"""wav2vec 2.0 and the speech encoders built alike: HuBERT, WavLM, UniSpeech (-SAT), Conformer.

    waves -> convolutions (conv_dim, conv_kernel) -> projection to D -> one grouped convolution of
    positions -> L layers of BERT's shape; a Conformer layer has two feed-forwards around
    attention and convolutions

The convolution of positions is weight-normalised: a length for each place of its kernel
(original0) and a direction (original1), as torch's parametrization saves them; older files call
the same tensors weight_g and weight_v.

Source: transformers 5.23 models/{wav2vec2,hubert,wavlm,unispeech,unispeech_sat,
wav2vec2_conformer}/modeling_*.py.
"""

from collections.abc import Callable, Iterator
from functools import partial

from weighbridge.base.records import frozen_record
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    conv,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import labels, project
from weighbridge.models.arch.inputs import sounds
from weighbridge.models.arch.model_types import Hearing, ModelType
from weighbridge.models.arch.vision import batchnorm_buffers

NORMS = ("group", "layer")  # feat_extract_norm: on the first convolution, or on all
IDLE = (  # sizes of heads that a class may not have, and what follows from other keys
    "num_attention_heads",
    "num_feat_extract_layers",
    "codevector_dim",
    "proj_codevector_dim",
    "tdnn_dim",
    "xvector_output_dim",
    "adapter_attn_dim",
    "num_adapter_layers",
    "output_hidden_size",
    "vocab_size",
)
WEIGHT_NORM = "parametrizations.weight.original"


def extractor(c: Config, prefix: str) -> Iterator[Param]:
    kind, bias = c.word("feat_extract_norm", default="group"), c.flag("conv_bias")
    if kind not in NORMS:
        raise c.error("feat_extract_norm", "is.unknown", kind=kind, known=", ".join(NORMS))
    widths, kernels = c.nums("conv_dim"), c.nums("conv_kernel")
    if not widths or len(widths) != len(kernels):
        raise c.error("conv_kernel", "has.convolutions", count=len(kernels), layers=len(widths))
    for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        path = f"{prefix}conv_layers.{i}"
        yield from conv(f"{path}.conv", (width, widths[i - 1] if i else 1, kernel), bias=bias)
        if kind == "layer" or i == 0:
            yield from layer_norm(f"{path}.layer_norm", width)


def projection(c: Config, prefix: str) -> Iterator[Param]:
    last = c.nums("conv_dim")[-1]
    if c.enabled("feat_proj_layer_norm"):  # HuBERT's switch
        yield from layer_norm(f"{prefix}feature_projection.layer_norm", last)
    yield from affine(f"{prefix}feature_projection.projection", c.num("hidden_size"), last)


def mask(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the vector that replaces masked frames, if the config masks at all."""
    chances = (c.ratio("mask_time_prob", default=0.05), c.ratio("mask_feature_prob", default=0.0))
    if any(chances):
        yield Param(f"{prefix}masked_spec_embed", (c.num("hidden_size"),), "other")


def always_masked(c: Config, prefix: str) -> Iterator[Param]:
    yield Param(f"{prefix}masked_spec_embed", (c.num("hidden_size"),), "other")


def position_convolution(c: Config, prefix: str) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), c.num("num_conv_pos_embeddings")
    groups = max(1, c.num("num_conv_pos_embedding_groups"))
    path, shape = f"{prefix}pos_conv_embed.", (width, width // groups, kernel)
    if c.flag("conv_pos_batch_norm"):  # HuBERT's switch
        yield from conv(f"{path}conv", shape)
        yield from layer_norm(f"{path}batch_norm", width)
        return
    yield Param(f"{path}conv.bias", (width,), "bias")
    yield Param(f"{path}conv.{WEIGHT_NORM}0", (1, 1, kernel), "other")
    yield Param(f"{path}conv.{WEIGHT_NORM}1", shape, "conv")


def attention(c: Config, prefix: str, i: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from affine(f"{prefix}{name}", width, width)


def gated_attention(c: Config, prefix: str, i: int) -> Iterator[Param]:
    """Yield WavLM's attention: relative positions through a small gate, with their table in the
    first layer."""
    heads = c.num("num_attention_heads")
    size = c.num("hidden_size") // max(1, heads)
    yield from attention(c, prefix, i)
    yield Param(f"{prefix}gru_rel_pos_const", (1, heads, 1, 1), "other")
    yield from affine(f"{prefix}gru_rel_pos_linear", 8, size)
    if i == 0:
        yield from embedding(f"{prefix}rel_attn_embed", c.num("num_buckets"), heads)


def feed_forward(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from affine(f"{prefix}intermediate_dense", inner, width)
    yield from affine(f"{prefix}output_dense", width, inner)


def attention_adapter(c: Config, prefix: str) -> Iterator[Param]:
    """Yield MMS's adapter of a layer, one per language; only with `do_stable_layer_norm`."""
    inner, width = c.num("adapter_attn_dim", default=0), c.num("hidden_size")
    if inner and c.flag("do_stable_layer_norm"):
        yield from layer_norm(f"{prefix}adapter_layer.norm", width)
        yield from affine(f"{prefix}adapter_layer.linear_1", inner, width)
        yield from affine(f"{prefix}adapter_layer.linear_2", width, inner)


Layer = Callable[[Config, str, int], Iterator[Param]]


def layer(c: Config, prefix: str, i: int) -> Iterator[Param]:
    yield from attention(c, f"{prefix}attention.", i)
    yield from block_rest(c, prefix)
    yield from attention_adapter(c, prefix)


def block_rest(c: Config, prefix: str) -> Iterator[Param]:
    yield from layer_norm(f"{prefix}layer_norm", c.num("hidden_size"))
    yield from feed_forward(c, f"{prefix}feed_forward.")
    yield from layer_norm(f"{prefix}final_layer_norm", c.num("hidden_size"))


def wavlm_layer(c: Config, prefix: str, i: int) -> Iterator[Param]:
    yield from gated_attention(c, f"{prefix}attention.", i)
    yield from block_rest(c, prefix)


def position_kind(c: Config) -> str:
    """Return the kind of position embedding; "" if the config has null, which here means none."""
    unset = c.raw.get("position_embeddings_type", "relative") is None
    return "" if unset else c.word("position_embeddings_type")


def conformer_attention(c: Config, prefix: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
        yield from affine(f"{prefix}{name}", width, width)
    if position_kind(c) == "relative":
        yield from linear(f"{prefix}linear_pos", width, width)
        for name in ("pos_bias_u", "pos_bias_v"):
            yield Param(f"{prefix}{name}", (heads, width // max(1, heads)), "other")


def conformer_convolutions(c: Config, prefix: str) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), c.num("conv_depthwise_kernel_size")
    yield from layer_norm(f"{prefix}layer_norm", width)
    yield from conv(f"{prefix}pointwise_conv1", (2 * width, width, 1), bias=False)
    yield from conv(f"{prefix}depthwise_conv", (width, 1, kernel), bias=False)
    yield from layer_norm(f"{prefix}batch_norm", width)
    yield from conv(f"{prefix}pointwise_conv2", (width, width, 1), bias=False)


def conformer_layer(c: Config, prefix: str, i: int) -> Iterator[Param]:
    width = c.num("hidden_size")
    for half in ("ffn1", "ffn2"):
        yield from layer_norm(f"{prefix}{half}_layer_norm", width)
        yield from feed_forward(c, f"{prefix}{half}.")
    yield from layer_norm(f"{prefix}self_attn_layer_norm", width)
    yield from conformer_attention(c, f"{prefix}self_attn.")
    yield from conformer_convolutions(c, f"{prefix}conv_module.")
    yield from layer_norm(f"{prefix}final_layer_norm", width)


def adapter(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the convolutions after the encoder that shorten its output further."""
    if not c.flag("add_adapter"):
        return
    width, kernel = output_width(c), c.num("adapter_kernel_size")
    if width != c.num("hidden_size"):
        yield from affine(f"{prefix}adapter.proj", width, c.num("hidden_size"))
        yield from layer_norm(f"{prefix}adapter.proj_layer_norm", width)
    for i in range(c.layers("num_adapter_layers")):
        yield from conv(f"{prefix}adapter.layers.{i}.conv", (2 * width, width, kernel))


def output_width(c: Config) -> int:
    """Return the width of the output: the model's, unless an adapter changes it."""
    width = c.num("hidden_size")
    return c.num("output_hidden_size", default=width) if c.flag("add_adapter") else width


@frozen_record
class Wav2Vec2Variant:
    """Parts in which encoders of sound of Wav2Vec2's kind differ."""

    layer: Layer = layer
    mask: ParamRule = mask
    adapts: bool = False  # knows `add_adapter`


def stack(kind: Wav2Vec2Variant) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        c.skip(*IDLE)
        yield from extractor(c, f"{prefix}feature_extractor.")
        yield from projection(c, prefix)
        yield from kind.mask(c, prefix)
        yield from position_convolution(c, f"{prefix}encoder.")
        yield from layer_norm(f"{prefix}encoder.layer_norm", c.num("hidden_size"))
        for i in range(c.layers("num_hidden_layers")):
            yield from kind.layer(c, f"{prefix}encoder.layers.{i}.", i)
        if kind.adapts:
            yield from adapter(c, prefix)

    return body


def hubert_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    if c.flag("conv_pos_batch_norm"):
        yield from batchnorm_buffers(
            f"{prefix}encoder.pos_conv_embed.batch_norm", c.num("hidden_size")
        )


def conformer_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    width, path = c.num("hidden_size"), f"{prefix}encoder."
    kind = position_kind(c)
    if kind == "relative":  # from -P to P
        shape = (1, 2 * c.num("max_source_positions") - 1, width)
        yield Buffer(f"{path}embed_positions.pe", shape, "")
    if kind == "rotary":
        half = (width // max(1, c.num("num_attention_heads")) + 1) // 2
        yield Buffer(f"{path}embed_positions.inv_freq", (half,), "", persistent=True)
    for i in range(c.layers("num_hidden_layers")):
        yield from batchnorm_buffers(f"{path}layers.{i}.conv_module.batch_norm", width)


def ctc(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}lm_head", c.num("vocab_size"), output_width(c))


def layer_weights(c: Config, prefix: str) -> Iterator[Param]:
    if c.flag("use_weighted_layer_sum"):
        yield Param(f"{prefix}layer_weights", (c.num("num_hidden_layers") + 1,), "other")


def sequence(c: Config, prefix: str) -> Iterator[Param]:
    inner = c.num("classifier_proj_size")
    yield from layer_weights(c, prefix)
    yield from affine(f"{prefix}projector", inner, c.num("hidden_size"))
    yield from affine(f"{prefix}classifier", labels(c), inner)


def frames(c: Config, prefix: str) -> Iterator[Param]:
    yield from layer_weights(c, prefix)
    yield from project("classifier")(c, prefix)


def xvector(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the head for speaker verification: time-delay layers, a projection of mean and
    deviation, a margin loss."""
    widths, kernels = c.nums("tdnn_dim"), c.nums("tdnn_kernel")
    if not widths or len(widths) != len(kernels):
        raise c.error("tdnn_kernel", "has.layers", count=len(kernels), layers=len(widths))
    size, inputs = c.num("xvector_output_dim"), widths[0]
    yield from layer_weights(c, prefix)
    yield from affine(f"{prefix}projector", inputs, c.num("hidden_size"))
    for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        yield from affine(f"{prefix}tdnn.{i}.kernel", width, inputs * kernel)
        inputs = width
    yield from affine(f"{prefix}feature_extractor", size, 2 * inputs)
    yield from affine(f"{prefix}classifier", size, size)
    yield Param(f"{prefix}objective.weight", (size, labels(c)), "other")


def quantizer(c: Config, prefix: str, inputs: int) -> Iterator[Param]:
    """Yield the quantizer: a codebook of V codes per group, and a Linear that selects them."""
    groups, width = max(1, c.num("num_codevector_groups")), c.num("codevector_dim")
    codes = groups * c.num("num_codevectors_per_group")
    yield Param(f"{prefix}quantizer.codevectors", (1, codes, width // groups), "other")
    yield from affine(f"{prefix}quantizer.weight_proj", codes, inputs)
    yield from affine(f"{prefix}project_q", c.num("proj_codevector_dim"), width)


def pretraining(c: Config, prefix: str) -> Iterator[Param]:
    yield from quantizer(c, prefix, c.nums("conv_dim")[-1])
    width = c.num("proj_codevector_dim")
    yield from affine(f"{prefix}project_hid", width, c.num("hidden_size"))


def unispeech_pretraining(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from quantizer(c, prefix, c.nums("conv_dim")[-1])
    yield from affine(f"{prefix}project_hid", width, c.num("proj_codevector_dim"))
    yield from affine(f"{prefix}ctc_proj", c.num("num_ctc_classes"), width)


def speaker_pretraining(c: Config, prefix: str) -> Iterator[Param]:
    """Yield UniSpeech-SAT's pretraining heads: clusters to predict, and the speaker."""
    width, code = c.num("hidden_size"), c.num("codevector_dim")
    yield from quantizer(c, prefix, width)
    yield from affine(f"{prefix}project_hid", c.num("proj_codevector_dim"), width)
    yield from affine(f"{prefix}speaker_proj", code, width)
    yield Param(f"{prefix}label_embeddings_concat", (c.num("num_clusters"), code), "other")
    yield from layer_norm(f"{prefix}layer_norm_for_extract", width)


COMMON = {"ForCTC": ctc, "ForSequenceClassification": sequence}
SPEAKERS = {"ForAudioFrameClassification": frames, "ForXVector": xvector}
WAV2VEC2 = Family(
    body=stack(Wav2Vec2Variant(adapts=True)),
    base="wav2vec2",
    cls="Wav2Vec2Model",
    heads={**COMMON, **SPEAKERS, "ForPreTraining": pretraining},
    blocks=(),
)
HUBERT = Family(
    body=stack(Wav2Vec2Variant()),
    base="hubert",
    cls="HubertModel",
    heads=COMMON,
    buffers=hubert_buffers,
    blocks=("encoder.layers.*", "encoder.pos_conv_embed.conv"),
)
WAVLM = Family(
    body=stack(Wav2Vec2Variant(layer=wavlm_layer, adapts=True)),
    base="wavlm",
    cls="WavLMModel",
    heads={**COMMON, **SPEAKERS},
    blocks=(),
)
UNISPEECH = Family(
    body=stack(Wav2Vec2Variant()),
    base="unispeech",
    cls="UniSpeechModel",
    heads={**COMMON, "ForPreTraining": unispeech_pretraining},
    blocks=(),
)
UNISPEECH_SAT = Family(
    body=stack(Wav2Vec2Variant(mask=always_masked)),
    base="unispeech_sat",
    cls="UniSpeechSatModel",
    heads={**COMMON, **SPEAKERS, "ForPreTraining": speaker_pretraining},
    blocks=(),
)
CONFORMER = Family(
    body=stack(Wav2Vec2Variant(layer=conformer_layer, adapts=True)),
    base="wav2vec2_conformer",
    cls="Wav2Vec2ConformerModel",
    heads={**COMMON, **SPEAKERS, "ForPreTraining": pretraining},
    buffers=conformer_buffers,
    blocks=(),
)

_hears = partial(
    ModelType,
    no_cache="encoder",
    hears=Hearing(sounds.waveform, tower=""),
    computes=("own_softmax",),
)
TYPES = {
    "wav2vec2": _hears(
        WAV2VEC2,
    ),
    "wav2vec2-conformer": _hears(
        CONFORMER,
    ),
    "hubert": _hears(
        HUBERT,
    ),
    "wavlm": _hears(WAVLM, computes=()),
    "unispeech": _hears(
        UNISPEECH,
    ),
    "unispeech-sat": _hears(
        UNISPEECH_SAT,
    ),
}
