"""From a class's tensors and its layers to what a step computes: `body(plan, config, layers)`.

Widths are read off the shapes of the parameters, so a family needs no table of its own here.
"""

from collections.abc import Sequence

from weighbridge.arch.blueprint import Blueprint
from weighbridge.arch.body import Block, Body, Dense
from weighbridge.arch.config import Config
from weighbridge.arch.mixers import Layer


def body(plan: Blueprint, config: Config | None, layers: Sequence[Layer]) -> Body:
    embedding = next((p for p in plan.params if p.kind == "embedding"), None)
    hidden = embedding.shape[1] if embedding else 0
    head = next((p for p in plan.params if p.name.endswith("lm_head.weight")), None)
    gate = next((p for p in plan.params if p.name.endswith("gate_proj.weight")), None)
    feeds = (Dense(width=gate.shape[0]),) if gate else ()
    blocks = tuple(Block(mixers=layer.mixers, feeds=feeds) for layer in layers)
    return Body(hidden=hidden, vocab=head.shape[0] if head else 0, blocks=blocks)
