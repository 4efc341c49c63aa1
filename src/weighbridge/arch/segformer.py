"""SegFormer: overlapping patches, attention over shortened sequences, an all-MLP decoder.

    stage i: patch convolution, depths[i] blocks; keys and values of a block are shortened by
    sr_ratios[i] with a convolution where that is more than 1; the MLP holds a depthwise 3 x 3

Source: transformers 5.23 models/segformer/modeling_segformer.py, names as before 5.0.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, conv, linear
from weighbridge.arch.config import Config
from weighbridge.arch.heads import labels
from weighbridge.arch.model_types import ModelType, TransformersFacts
from weighbridge.arch.vision import batchnorm_buffers, layernorm, scaled_by, sizes


def by_stage(c: Config, name: str) -> tuple[int, ...]:
    return c.per_layer(name, count=c.layers("num_encoder_blocks"))


def attention(at: str, width: int, shorten: int) -> Iterator[Param]:
    for name in ("query", "key", "value"):
        yield from linear(f"{at}self.{name}", width, width, bias=True)
    if shorten > 1:
        yield from conv(f"{at}self.sr", (width, width, shorten, shorten))
        yield from layernorm(f"{at}self.layer_norm", width)
    yield from linear(f"{at}output.dense", width, width, bias=True)


def block(at: str, width: int, shorten: int, inner: int) -> Iterator[Param]:
    yield from layernorm(f"{at}layer_norm_1", width)
    yield from attention(f"{at}attention.", width, shorten)
    yield from layernorm(f"{at}layer_norm_2", width)
    yield from linear(f"{at}mlp.dense1", inner, width, bias=True)
    yield from conv(f"{at}mlp.dwconv.dwconv", (inner, 1, 3, 3))
    yield from linear(f"{at}mlp.dense2", width, inner, bias=True)


def stage(c: Config, at: str, i: int) -> Iterator[Param]:
    widths, patch = by_stage(c, "hidden_sizes"), by_stage(c, "patch_sizes")[i]
    inputs = widths[i - 1] if i else c.num("num_channels", default=3)
    inner = scaled_by(c, widths[i], "mlp_ratios", i)
    yield from conv(f"{at}patch_embeddings.{i}.proj", (widths[i], inputs, patch, patch))
    yield from layernorm(f"{at}patch_embeddings.{i}.layer_norm", widths[i])
    shorten = by_stage(c, "sr_ratios")[i]
    for j in range(by_stage(c, "depths")[i]):
        yield from block(f"{at}block.{i}.{j}.", widths[i], shorten, inner)
    yield from layernorm(f"{at}layer_norm.{i}", widths[i])


def segformer(c: Config, at: str) -> Iterator[Param]:
    for i in range(c.layers("num_encoder_blocks")):
        yield from stage(c, f"{at}encoder.", i)


def classifier(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}classifier", labels(c), sizes(c, "hidden_sizes")[-1], bias=True)


def decoder(c: Config, at: str) -> Iterator[Param]:
    inner, count = c.num("decoder_hidden_size"), c.num("num_encoder_blocks")
    for i in range(count):
        width = by_stage(c, "hidden_sizes")[i]
        yield from linear(f"{at}decode_head.linear_c.{i}.proj", inner, width, bias=True)
    yield from conv(f"{at}decode_head.linear_fuse", (inner, inner * count, 1, 1), bias=False)
    yield from layernorm(f"{at}decode_head.batch_norm", inner)
    yield from conv(f"{at}decode_head.classifier", (labels(c), inner, 1, 1))


def statistics(c: Config, at: str) -> Iterator[Buffer]:
    if c.cls.endswith("ForSemanticSegmentation"):
        yield from batchnorm_buffers("decode_head.batch_norm", c.num("decoder_hidden_size"))


SEGFORMER = Family(
    body=segformer,
    base="segformer",
    cls="SegformerModel",
    heads={"ForImageClassification": classifier, "ForSemanticSegmentation": decoder},
    buffers=statistics,
    blocks=("encoder.block.*",),
)

TYPES = {
    "segformer": ModelType(
        SEGFORMER, no_cache="image", encodes="pyramid", transformers=TransformersFacts(sdpa=(5, 1))
    ),
}
