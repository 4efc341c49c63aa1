"""Neural audio codecs: EnCodec, Mimi, DAC. Convolutions down to frames, codebooks, and up again.

    EnCodec, Mimi  SEANet: at each ratio r, residual blocks, then a convolution of kernel 2r that
                   doubles the channels; EnCodec has an LSTM at the bottom, Mimi two transformers
    DAC            three residual units at each ratio, with a learned frequency (snake)

The codebooks of EnCodec and Mimi are not parameters but buffers, which the checkpoint holds.
Source: transformers 5.23 models/{encodec,mimi,dac}/modeling_*.py.
"""

from collections.abc import Iterator
from math import ceil, log2, prod

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    conv,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.families.modernbert import head_dim
from weighbridge.models.arch.model_types import ModelType

WEIGHT_NORM = "parametrizations.weight.original"
MIMI_RATIOS = (8, 6, 5, 4)
SCALARS = ("stride", "kernel_size", "padding_total")  # each convolution keeps them as tensors


class Convolution(NamedTuple):
    """A convolution of SEANet, [out, in, kernel]; its weight is [in, out, kernel] if transposed."""

    path: str
    outputs: int
    inputs: int
    kernel: int
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        ends = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        return (*ends, self.kernel)


def ratios(c: Config) -> tuple[int, ...]:
    """Return upsampling ratios; Mimi's own if the config has null (MimiConfig.__post_init__)."""
    strides = c.nums("upsampling_ratios") or MIMI_RATIOS
    if not all(strides):
        raise c.error("upsampling_ratios", "has.zero")
    return strides


def residuals(c: Config, prefix: str, start: int, width: int) -> Iterator[Convolution]:
    """Yield the convolutions of the residual blocks of one width. `start` is the first block's
    number; between them are activations without weights (0, 2)."""
    inner = width // max(1, c.num("compress"))
    for i in range(start, start + c.layers("num_residual_layers")):
        yield Convolution(f"{prefix}{i}.block.1", inner, width, c.num("residual_kernel_size"))
        yield Convolution(f"{prefix}{i}.block.3", width, inner, 1)
        if c.flag("use_conv_shortcut"):
            yield Convolution(f"{prefix}{i}.shortcut", width, width, 1)


def encoder(c: Config, prefix: str, *, recurrent: bool) -> Iterator[Convolution]:
    width, blocks, i = c.num("num_filters"), c.layers("num_residual_layers"), 1
    yield Convolution(f"{prefix}0", width, c.num("audio_channels"), c.num("kernel_size"))
    for ratio in reversed(ratios(c)):
        yield from residuals(c, prefix, i, width)
        i += blocks + 2  # an activation and the convolution that follows
        yield Convolution(f"{prefix}{i - 1}", 2 * width, width, 2 * ratio)
        width *= 2
    last = i + 1 + recurrent
    yield Convolution(f"{prefix}{last}", c.num("hidden_size"), width, c.num("last_kernel_size"))


def decoder(c: Config, prefix: str, *, recurrent: bool) -> Iterator[Convolution]:
    width, i = c.num("num_filters") << len(ratios(c)), 1 + recurrent
    yield Convolution(f"{prefix}0", width, c.num("hidden_size"), c.num("kernel_size"))
    for ratio in ratios(c):
        yield Convolution(f"{prefix}{i + 1}", width // 2, width, 2 * ratio, transposed=True)
        width //= 2
        yield from residuals(c, prefix, i + 2, width)
        i += 2 + c.layers("num_residual_layers")
    channels, kernel = c.num("audio_channels"), c.num("last_kernel_size")
    yield Convolution(f"{prefix}{i + 1}", channels, c.num("num_filters"), kernel)


def scalars(path: str) -> Iterator[Buffer]:
    for name in SCALARS:
        yield Buffer(f"{path}.{name}", (), "int64")


# EnCodec


def normalised(c: Config, convolution: Convolution) -> Iterator[Param]:
    """Yield a convolution whose weight is stored as a direction and a length (weight_norm), or one
    followed by a norm."""
    kind, path = c.word("norm_type", default="weight_norm"), convolution.path
    yield Param(f"{path}.conv.bias", (convolution.outputs,), "bias")
    if kind == "weight_norm":
        yield Param(f"{path}.conv.{WEIGHT_NORM}0", (convolution.shape[0], 1, 1), "other")
        yield Param(f"{path}.conv.{WEIGHT_NORM}1", convolution.shape, "conv")
    elif kind == "time_group_norm":
        yield Param(f"{path}.conv.weight", convolution.shape, "conv")
        yield from layer_norm(f"{path}.norm", convolution.outputs)
    else:
        raise c.error("norm_type", "is.unknown", known="weight_norm, time_group_norm", kind=kind)


def lstm(c: Config, prefix: str, width: int) -> Iterator[Param]:
    """Yield an LSTM: four gates, each with a weight and a bias for the input and for the state."""
    for layer in range(c.layers("num_lstm_layers")):
        for side in ("ih", "hh"):
            yield Param(f"{prefix}.lstm.weight_{side}_l{layer}", (4 * width, width), "other")
            yield Param(f"{prefix}.lstm.bias_{side}_l{layer}", (4 * width,), "bias")


def encodec_convolutions(c: Config, prefix: str) -> Iterator[Convolution]:
    yield from encoder(c, f"{prefix}encoder.layers.", recurrent=True)
    yield from decoder(c, f"{prefix}decoder.layers.", recurrent=True)


def encodec(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("codebook_dim")
    for convolution in encodec_convolutions(c, prefix):
        yield from normalised(c, convolution)
    deep = c.num("num_filters") << len(ratios(c))
    bottom = 1 + len(ratios(c)) * (c.layers("num_residual_layers") + 2)
    yield from lstm(c, f"{prefix}encoder.layers.{bottom}", deep)
    yield from lstm(c, f"{prefix}decoder.layers.1", deep)


def frames(c: Config) -> int:
    """Return the frames per second that the convolutions give, before any further downsampling."""
    return ceil(c.num("sampling_rate") / max(1, prod(ratios(c))))


def encodec_quantizers(c: Config) -> int:
    """Return the number of codebooks: as many as the widest bandwidth (kbit/s) allows."""
    widest = float((c.many("target_bandwidths") or [24.0])[-1])
    bits = max(1, ceil(log2(max(2, c.num("codebook_size")))))
    return int(1000 * widest // (max(1, frames(c)) * bits))


def encodec_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    for convolution in encodec_convolutions(c, prefix):
        if not convolution.transposed:
            yield from scalars(convolution.path)
    size = c.num("codebook_size")
    table = (size, c.num("codebook_dim", default=c.num("hidden_size")))
    shapes = {"inited": (1,), "cluster_size": (size,), "embed": table, "embed_avg": table}
    for i in range(encodec_quantizers(c)):
        for name, shape in shapes.items():
            path = f"{prefix}quantizer.layers.{i}.codebook.{name}"
            yield Buffer(path, shape, "", persistent=True)


# Mimi


def mimi_layer(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    size, bias = head_dim(c), c.flag("attention_bias")
    heads, kv_heads = c.num("num_attention_heads"), c.num("num_key_value_heads")
    for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
        yield from linear(f"{prefix}self_attn.{name}", count * size, width, bias=bias)
    yield from linear(f"{prefix}self_attn.o_proj", width, heads * size, bias=bias)
    yield from linear(f"{prefix}mlp.fc1", inner, width)
    yield from linear(f"{prefix}mlp.fc2", width, inner)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield from layer_norm(f"{prefix}{name}", width)
    for name in ("self_attn_layer_scale", "mlp_layer_scale"):
        yield Param(f"{prefix}{name}.scale", (width,), "other")


def frame_rate(c: Config) -> float:
    """Return the codes per second: `frame_rate` if the config has it, else half of the
    convolutions' frame rate."""
    return c.ratio("frame_rate", default=c.num("sampling_rate") / (2 * max(1, prod(ratios(c)))))


def latent_stride(c: Config) -> int:
    """Return the stride from the convolutions' frames to codes; 0 if there is no resampling."""
    rate = frame_rate(c)
    return 0 if rate in (0, frames(c)) else int(frames(c) / rate)


def halves(c: Config) -> tuple[str, ...]:
    """Return the halves in the files; Mimi's config is null for a missing encoder or decoder."""
    return tuple(
        half
        for half in ("encoder", "decoder")
        if c.raw.get(f"{half}_config", "derived") is not None
    )


def mimi_convolutions(c: Config, prefix: str, half: str) -> Iterator[Convolution]:
    net = encoder if half == "encoder" else decoder
    yield from net(c, f"{prefix}{half}.layers.", recurrent=False)


def resampling(c: Config, prefix: str, half: str) -> Iterator[Param]:
    width, kernel = c.num("hidden_size"), 2 * latent_stride(c)
    groups = max(1, c.num("upsample_groups")) if half == "decoder" else 1
    name = "upsample" if half == "decoder" else "downsample"
    if kernel:
        yield from conv(f"{prefix}{name}.conv", (width, width // groups, kernel), bias=False)


def mimi(c: Config, prefix: str) -> Iterator[Param]:
    c.skip("codebook_dim", "head_dim", "vector_quantization_hidden_dimension")
    for half in halves(c):
        for convolution in mimi_convolutions(c, prefix, half):
            yield Param(f"{convolution.path}.conv.weight", convolution.shape, "conv")
            yield Param(f"{convolution.path}.conv.bias", (convolution.outputs,), "bias")
        for i in range(c.layers("num_hidden_layers")):
            yield from mimi_layer(c, f"{prefix}{half}_transformer.layers.{i}.")
        yield from resampling(c, prefix, half)
    yield from mimi_projections(c, prefix)


def mimi_projections(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("vector_quantization_hidden_dimension")
    for kind in ("semantic", "acoustic") if inner != width else ():
        path = f"{prefix}quantizer.{kind}_residual_vector_quantizer."
        yield from conv(f"{path}input_proj", (inner, width, 1), bias=False)
        yield from conv(f"{path}output_proj", (width, inner, 1), bias=False)


def mimi_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    for half in halves(c):
        for convolution in mimi_convolutions(c, prefix, half):
            if not convolution.transposed:
                yield from scalars(convolution.path)
        for name in ("inv_freq", "original_inv_freq"):
            path = f"{prefix}{half}_transformer.rotary_emb.{name}"
            yield Buffer(path, ((head_dim(c) + 1) // 2,), "float32")
    if "encoder" in halves(c) and latent_stride(c):
        yield from scalars(f"{prefix}downsample")
    yield from mimi_codebooks(c, prefix)


def mimi_codebooks(c: Config, prefix: str) -> Iterator[Buffer]:
    size, semantic = c.num("codebook_size"), c.layers("num_semantic_quantizers")
    table = (size, c.num("codebook_dim", default=c.num("hidden_size")))
    shapes = {"initialized": (1,), "cluster_usage": (size,), "embed_sum": table}
    counts = {"semantic": semantic, "acoustic": c.layers("num_quantizers") - semantic}
    for kind, count in counts.items():
        for i in range(count):
            path = f"{prefix}quantizer.{kind}_residual_vector_quantizer.layers.{i}.codebook."
            for name, shape in shapes.items():
                yield Buffer(f"{path}{name}", shape, "", persistent=True)


# DAC


def snake(path: str, width: int) -> Iterator[Param]:
    yield Param(f"{path}.alpha", (1, width, 1), "other")


def units(prefix: str, width: int) -> Iterator[Param]:
    for i in (1, 2, 3):
        path = f"{prefix}res_unit{i}."
        yield from snake(f"{path}snake1", width)
        yield from conv(f"{path}conv1", (width, width, 7))
        yield from snake(f"{path}snake2", width)
        yield from conv(f"{path}conv2", (width, width, 1))


def dac_encoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("encoder_hidden_size")
    yield from conv(f"{prefix}conv1", (width, 1, 7))
    for i, ratio in enumerate(c.nums("downsampling_ratios")):
        path = f"{prefix}block.{i}."
        yield from units(path, width)
        yield from snake(f"{path}snake1", width)
        yield from conv(f"{path}conv1", (2 * width, width, 2 * ratio))
        width *= 2
    yield from snake(f"{prefix}snake1", width)
    yield from conv(f"{prefix}conv2", (dac_width(c), width, 3))


def dac_width(c: Config) -> int:
    deep = c.num("encoder_hidden_size") << len(c.nums("downsampling_ratios"))
    return c.num("hidden_size", default=deep)


def dac_decoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("decoder_hidden_size")
    strides = c.nums("upsampling_ratios") or tuple(reversed(c.nums("downsampling_ratios")))
    yield from conv(f"{prefix}conv1", (width, dac_width(c), 7))
    for i, ratio in enumerate(strides):
        path, half = f"{prefix}block.{i}.", width // 2
        yield from snake(f"{path}snake1", width)
        yield Param(f"{path}conv_t1.weight", (width, half, 2 * ratio), "conv")
        yield Param(f"{path}conv_t1.bias", (half,), "bias")
        yield from units(path, half)
        width = half
    yield from snake(f"{prefix}snake1", width)
    yield from conv(f"{prefix}conv2", (1, width, 7))


def dac(c: Config, prefix: str) -> Iterator[Param]:
    yield from dac_encoder(c, f"{prefix}encoder.")
    yield from dac_decoder(c, f"{prefix}decoder.")
    width, narrow = dac_width(c), c.num("codebook_dim")
    for i in range(c.layers("n_codebooks")):
        path = f"{prefix}quantizer.quantizers.{i}."
        yield from conv(f"{path}in_proj", (narrow, width, 1))
        yield from conv(f"{path}out_proj", (width, narrow, 1))
        yield from embedding(f"{path}codebook", c.num("codebook_size"), narrow)


ENCODEC = Family(body=encodec, cls="EncodecModel", buffers=encodec_buffers, blocks=())
MIMI = Family(
    body=mimi,
    cls="MimiModel",
    buffers=mimi_buffers,
    blocks=("quantizer", "encoder_transformer.layers.*", "decoder_transformer.layers.*"),
)
UNITS = tuple(f"{half}.block.*.res_unit{i}" for half in ("encoder", "decoder") for i in (1, 2, 3))
DAC = Family(body=dac, cls="DacModel", blocks=UNITS)

TYPES = {
    "encodec": ModelType(ENCODEC, no_cache="audio", encodes="pyramid"),
    "mimi": ModelType(MIMI, no_cache="audio", encodes="pyramid"),
    "dac": ModelType(DAC, no_cache="audio", encodes="pyramid"),
}
