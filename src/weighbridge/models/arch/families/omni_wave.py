"""Vocoders of Qwen's Omni models, from codes to sound.

    Qwen2.5  a diffusion transformer from codes to mel spectra, with a speaker encoder (ECAPA-TDNN)
             in it, then a BigVGAN from spectra to samples
    Qwen3    a small decoder over the codes, ConvNeXt blocks and transposed convolutions

Transposed convolutions are stored [in, out, kernel]. Sources: transformers 5.23
models/{qwen2_5_omni,qwen3_omni_moe}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    affine,
    conv,
    embedding,
    gated_mlp,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import ModelType
from weighbridge.models.arch.vision import layernorm, sizes

TIME = 256  # DiTTimestepEmbedding: freq_embed_dim
FILTER = 12  # taps of the filters around each activation: up_kernel_size, down_kernel_size


def transposed(path: str, inputs: int, outputs: int, kernel: int) -> Iterator[Param]:
    yield Param(f"{path}.weight", (inputs, outputs, kernel), "conv")
    yield Param(f"{path}.bias", (outputs,), "bias")


def snake(path: str, width: int) -> Iterator[Param]:
    yield Param(f"{path}.alpha", (width,), "other")
    yield Param(f"{path}.beta", (width,), "other")


# Qwen2.5: the diffusion transformer and its speaker encoder


def speaker_block(c: Config, prefix: str, into: int, width: int, kernel: int) -> Iterator[Param]:
    scale, squeezed = max(1, c.num("enc_res2net_scale")), c.num("enc_se_channels")
    part = width // scale
    yield from conv(f"{prefix}tdnn1.conv", (width, into, 1))
    for i in range(scale - 1):
        yield from conv(f"{prefix}res2net_block.blocks.{i}.conv", (part, part, kernel))
    yield from conv(f"{prefix}tdnn2.conv", (width, width, 1))
    yield from conv(f"{prefix}se_block.conv1", (squeezed, width, 1))
    yield from conv(f"{prefix}se_block.conv2", (width, squeezed, 1))


def speaker(c: Config, prefix: str) -> Iterator[Param]:
    widths = sizes(c, "enc_channels")
    kernels = c.per_layer("enc_kernel_sizes", count=len(widths))
    last, attended = widths[-1], c.num("enc_attention_channels")
    yield from conv(f"{prefix}blocks.0.conv", (widths[0], c.num("mel_dim"), kernels[0]))
    for i in range(1, len(widths) - 1):
        yield from speaker_block(c, f"{prefix}blocks.{i}.", widths[i - 1], widths[i], kernels[i])
    yield from conv(f"{prefix}mfa.conv", (last, last, kernels[-1]))
    yield from conv(f"{prefix}asp.tdnn.conv", (attended, 3 * last, 1))
    yield from conv(f"{prefix}asp.conv", (last, attended, 1))
    yield from conv(f"{prefix}fc", (c.num("enc_dim"), 2 * last, 1))


def dit_block(c: Config, prefix: str) -> Iterator[Param]:
    width, mult = c.num("hidden_size"), c.num("ff_mult")
    inner = c.num("head_dim") * c.num("num_attention_heads")
    yield from affine(f"{prefix}attn_norm.linear", 6 * width, width)
    for name in ("to_q", "to_k", "to_v"):
        yield from affine(f"{prefix}attn.{name}", inner, width)
    yield from affine(f"{prefix}attn.to_out.0", width, inner)
    yield from affine(f"{prefix}ff.ff.0", mult * width, width)
    yield from affine(f"{prefix}ff.ff.3", width, mult * width)


def dit(c: Config, prefix: str) -> Iterator[Param]:
    width, mel = c.num("hidden_size"), c.num("mel_dim")
    into = mel + c.num("enc_dim") + c.num("enc_emb_dim") + c.num("emb_dim")
    yield from affine(f"{prefix}time_embed.time_mlp.0", width, TIME)
    yield from affine(f"{prefix}time_embed.time_mlp.2", width, width)
    codes = c.num("num_embeds") + 1
    yield from embedding(f"{prefix}text_embed.codec_embed", codes, c.num("emb_dim"))
    yield from affine(f"{prefix}input_embed.proj", width, into)
    yield from speaker(c, f"{prefix}input_embed.spk_encoder.")
    for i in range(c.layers("num_hidden_layers")):
        yield from dit_block(c, f"{prefix}transformer_blocks.{i}.")
    yield from affine(f"{prefix}norm_out.linear", 2 * width, width)
    yield from affine(f"{prefix}proj_out", mel, width)


def rotary(c: Config, prefix: str, size: int) -> Iterator[Buffer]:
    for name in ("inv_freq", "original_inv_freq"):
        yield Buffer(f"{prefix}{name}", (size // 2,), "float32")


# Qwen2.5: BigVGAN


def branches(c: Config) -> list[tuple[str, int, int]]:
    """Return (name, width, kernel) of each residual branch: several per stage; widths halve."""
    kernels, first = sizes(c, "resblock_kernel_sizes"), c.num("upsample_initial_channel")
    outputs = []
    for i in range(len(sizes(c, "upsample_rates"))):
        for j, kernel in enumerate(kernels):
            outputs.append((f"resblocks.{i * len(kernels) + j}", first >> (i + 1), kernel))
    return outputs


def bigvgan(c: Config, prefix: str) -> Iterator[Param]:
    first, kernels = c.num("upsample_initial_channel"), sizes(c, "upsample_kernel_sizes")
    stages = len(sizes(c, "upsample_rates"))
    yield from conv(f"{prefix}conv_pre", (first, c.num("mel_dim"), 7))
    for i in range(stages):
        kernel = c.per_layer("upsample_kernel_sizes", count=len(kernels))[i % len(kernels)]
        yield from transposed(f"{prefix}ups.{i}.0", first >> i, first >> (i + 1), kernel)
    for name, width, kernel in branches(c):
        for convs in ("convs1", "convs2"):
            for k in range(3):
                yield from conv(f"{prefix}{name}.{convs}.{k}", (width, width, kernel))
        for k in range(6):
            yield from snake(f"{prefix}{name}.activations.{k}.act", width)
    yield from snake(f"{prefix}activation_post.act", first >> stages)
    yield from conv(f"{prefix}conv_post", (1, first >> stages, 7), bias=False)


def filters(c: Config, prefix: str) -> Iterator[Buffer]:
    paths = [f"{prefix}{name}.activations.{k}" for name, _, _ in branches(c) for k in range(6)]
    for path in (*paths, f"{prefix}activation_post"):
        for name in ("upsample", "downsample"):
            yield Buffer(f"{path}.{name}.filter", (1, 1, FILTER), "")


def halves(c: Config) -> tuple[Config, Config]:
    return (c.sub("dit_config"), c.sub("bigvgan_config"))


def token2wav(c: Config, prefix: str) -> Iterator[Param]:
    transformer, vocoder = halves(c)
    yield from dit(transformer, f"{prefix}code2wav_dit_model.")
    yield from bigvgan(vocoder, f"{prefix}code2wav_bigvgan_model.")


def token2wav_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    transformer, vocoder = halves(c)
    path = f"{prefix}code2wav_dit_model.rotary_embed."
    yield from rotary(transformer, path, transformer.num("head_dim"))
    yield from filters(vocoder, f"{prefix}code2wav_bigvgan_model.")


# Qwen3


def small_decoder(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    size = width // max(1, c.num("num_attention_heads"))
    inner, kv = size * c.num("num_attention_heads"), size * c.num("num_key_value_heads")
    for i in range(c.layers("num_hidden_layers")):
        path = f"{prefix}layers.{i}."
        for name, out in (("q_proj", inner), ("k_proj", kv), ("v_proj", kv)):
            yield from linear(f"{path}self_attn.{name}", out, width)
        yield from linear(f"{path}self_attn.o_proj", width, inner)
        yield from gated_mlp(f"{path}mlp", width, c.num("intermediate_size"))
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield from norm(f"{path}{name}", width)
        for name in ("self_attn_layer_scale", "mlp_layer_scale"):
            yield Param(f"{path}{name}.scale", (width,), "other")
    yield from norm(f"{prefix}norm", width)


def convnext(prefix: str, width: int) -> Iterator[Param]:
    yield Param(f"{prefix}gamma", (width,), "other")
    yield from conv(f"{prefix}dwconv.conv", (width, 1, 7))
    yield from layernorm(f"{prefix}norm", width)
    yield from affine(f"{prefix}pwconv1", 4 * width, width)
    yield from affine(f"{prefix}pwconv2", width, 4 * width)


def rising(prefix: str, into: int, out: int, rate: int) -> Iterator[Param]:
    """Yield a transposed convolution, then three residual units of kernels 7 and 1."""
    yield from snake(f"{prefix}block.0", into)
    yield from transposed(f"{prefix}block.1.conv", into, out, 2 * rate)
    for i in range(2, 5):
        path = f"{prefix}block.{i}."
        yield from snake(f"{path}act1", out)
        yield from conv(f"{path}conv1.conv", (out, out, 7))
        yield from snake(f"{path}act2", out)
        yield from conv(f"{path}conv2.conv", (out, out, 1))


def code2wav(c: Config, prefix: str) -> Iterator[Param]:
    width, first, rates = c.num("hidden_size"), c.num("decoder_dim"), sizes(c, "upsample_rates")
    yield from small_decoder(c, f"{prefix}pre_transformer.")
    codes = c.num("codebook_size") * c.num("num_quantizers")
    yield from embedding(f"{prefix}code_embedding", codes, width)
    for i, factor in enumerate(sizes(c, "upsampling_ratios")):
        yield from transposed(f"{prefix}upsample.{i}.0.conv", width, width, factor)
        yield from convnext(f"{prefix}upsample.{i}.1.", width)
    yield from conv(f"{prefix}decoder.0.conv", (first, width, 7))
    for i, rate in enumerate(rates):
        yield from rising(f"{prefix}decoder.{i + 1}.", first >> i, first >> (i + 1), rate)
    last = first >> len(rates)
    yield from snake(f"{prefix}decoder.{len(rates) + 1}", last)
    yield from conv(f"{prefix}decoder.{len(rates) + 2}.conv", (1, last, 7))


def code2wav_buffers(c: Config, prefix: str) -> Iterator[Buffer]:
    yield Buffer(f"{prefix}code_offset", (1, c.num("num_quantizers"), 1), "int64")
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield from rotary(c, f"{prefix}pre_transformer.rotary_emb.", size)


TOKEN2WAV = Family(
    body=token2wav,
    cls="Qwen2_5OmniToken2WavModel",
    buffers=token2wav_buffers,
    blocks=("code2wav_dit_model", "code2wav_bigvgan_model"),
)
CODE2WAV = Family(
    body=code2wav, cls="Qwen3OmniMoeCode2WavModel", buffers=code2wav_buffers, blocks=()
)

TYPES = {
    "qwen2_5_omni_token2wav": ModelType(TOKEN2WAV, no_cache="audio", encodes="pyramid"),
    "qwen3_omni_moe_code2wav": ModelType(CODE2WAV, no_cache="audio", encodes="pyramid"),
}
