"""Whisper: sound of 30 seconds through two convolutions, BART's layers with norms before, queries,
keys and values copied to have heads before tokens.

Features are in float32, or in the dtype of the weights where nothing casts them; `seq_len` is of
the text alone. What the convolutions give has its dimensions in another order and hands that on
from layer to layer, so that each norm of the encoder copies its input.
Source: transformers 5.23 models/whisper/modeling_whisper.py.
"""

from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.errors import UnsupportedError
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import UNCOVERED, Net, bart
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.matrix import ConvForm, conv, rearranges
from weighbridge.forward.ops.pointwise import add, dropout, of_input
from weighbridge.forward.ops.shaping import pick
from weighbridge.forward.parts.encoder import heads_of
from weighbridge.forward.parts.layer import run
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor

STRIDE = 2  # of the second convolution


def whisper_model(s: TrainingStep) -> Tensor:
    """WhisperModel.forward"""
    m, built = s.m, s.built
    if not built.root.has("model.encoder.conv1"):
        raise UnsupportedError(f"{built.kind}: its class has no encoder and decoder: {UNCOVERED}")
    root = bart.halves(s)
    length = built.config.num("max_source_positions")
    states = read(s, root.at("encoder"), bart.encoder_side(s, length)._replace(dense=False))
    s.outputs.append(states)
    shifted = m.new((s.batch, s.length), INT64)
    h = heads_of(s, built.body, s.length)
    side = bart.BartSide("decoder", built.layers, h, states, length)
    return write(s, root.at("decoder"), side, shifted)


def read(s: TrainingStep, p: Module, side: bart.BartSide) -> Tensor:
    """WhisperEncoder.forward"""
    m, length = s.m, side.h.length
    weight = p.weight("conv1")
    dtype = FLOAT32 if m.autocast else weight.dtype
    input_features = m.new((s.batch, weight.shape[1], STRIDE * length), dtype)
    s.inputs.append(input_features)
    inputs_embeds = of_input(m, entered(s, convolved(s, p, "conv1", input_features, 1)))
    inputs_embeds = of_input(m, convolved(s, p, "conv2", inputs_embeds, STRIDE))
    inputs_embeds = inputs_embeds.view(s.batch, length, inputs_embeds.shape[1])
    all_positions = m.new((length,), INT64)
    x = add(m, inputs_embeds, embedding(m, all_positions, p.weight("embed_positions")))
    x = dropout(m, x, s.rate("dropout"))
    for q in side.layers:
        x = run(s, bart.layer, x, q, side, bart.Masks(None, None))
    return bart.side_norm(s, p, "layer_norm", x, side)


def convolved(s: TrainingStep, p: Module, name: str, x: Tensor, stride: int) -> Tensor:
    """torch.nn.Conv1d of kernel 3"""
    w = p.weight(name)
    shape = s.batch, w.shape[0], x.shape[2] // stride
    wide = rearranges(x, s.m)
    return conv(s.m, x, w, p.bias(name), ConvForm(shape, rearranged=wide, turned=stride > 1))


def write(s: TrainingStep, p: Module, side: bart.BartSide, ids: Tensor) -> Tensor:
    """WhisperDecoder.forward"""
    m = s.m
    inputs_embeds = entered(s, embedding(m, ids, p.weight("embed_tokens")))
    position_ids = m.new((s.batch, s.length), INT64)
    positions = pick(m, p.weight("embed_positions"), s.batch * s.length, position_ids)
    x = add(m, inputs_embeds, positions.view(*inputs_embeds.shape))
    x = dropout(m, x, s.rate("dropout"))
    causal_mask = bart.causal(s)
    for q in side.layers:
        x = run(s, bart.layer, x, q, side, bart.Masks(causal_mask, None))
    return bart.side_norm(s, p, "layer_norm", x, side)


whisper = Net(whisper_model, loss=bart.loss)
