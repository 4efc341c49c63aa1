"""Bamba: Mamba-2 or attention in each layer, positions on a part of each head.

Source: transformers 5.23 models/bamba/modeling_bamba.py.
"""

from weighbridge.arch.body import LayerBlock
from weighbridge.arch.mixers import Attention, Mamba2
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net
from weighbridge.forward.nets.mamba2 import mixer, scan_of
from weighbridge.forward.ops.norms import rms_norm
from weighbridge.forward.parts.attention import Masks
from weighbridge.forward.parts.decoder import DecoderNet
from weighbridge.forward.parts.layer import AttentionShape, LayerShape, by_weight, mlp
from weighbridge.forward.parts.rotary import Rotary, part_rotated, rotary_of, turned_width
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor


def positions(s: TrainingStep) -> Rotary | None:
    """Make the rotary positions of the first layer with attention; None where no layer has it."""
    first = next((i for i, b in enumerate(s.built.body.blocks) if not _scans(b)), None)
    return None if first is None else rotary_of(s, turned_width(s, first))


def mixed(
    s: TrainingStep, p: Module, x: Tensor, number: int, positions: Rotary | None, masks: Masks
) -> tuple[Tensor, Tensor | None]:
    """Mamba-2, or attention."""
    if _scans(s.built.body.blocks[number]):
        return mixer(s, p.at("mamba"), x, scan_of(s, number)), None
    return PART(s, p.at("self_attn"), x, number, positions, masks)


def feed(s: TrainingStep, p: Module, x: Tensor, _number: int) -> Tensor:
    return mlp(s, p.at("feed_forward"), x)


def _scans(block: LayerBlock) -> bool:
    return any(isinstance(each, Mamba2) for each in block.mixers)


PART = AttentionShape(rotate=part_rotated, late=True, first=True)
NORMS = ("input_layernorm", "pre_ff_layernorm")
LAYER = LayerShape(attend=mixed, norm=by_weight(rms_norm), feed=feed, at="", before=NORMS)
bamba = Net(DecoderNet(layer=LAYER, rotary=positions), mixes=(Mamba2, Attention))
