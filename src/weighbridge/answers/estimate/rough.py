"""`infer` for a bare size ("7B"): only a parameter count is known, so every part is an interval.

A dense transformer of L layers as wide as 128 L has 12 L (128 L)^2 parameters (Kaplan et al. 2020,
table 6, and the Llama family: 32 layers of 4,096 for 6.7 billion). Its KV cache takes 2 L D e bytes
per token with as many KV heads as heads; models of today have a quarter of them (Llama-3-8B,
Qwen3-8B), and an eighth or a sixteenth is common above 30 billion.

Several cards share all of it evenly, as far as layers and vocabulary let them (UNEVEN).
"""

from math import ceil

from weighbridge.base.memory import Bytes, Component, Device, around
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.memory.components.device import ASPECT, rough, words_alone
from weighbridge.memory.components.weights import total
from weighbridge.workload import SPREAD, Infer

FEWEST, USUAL = 16, 4  # query heads per KV head
UNEVEN = 1.25  # the fullest card has at most this many even shares (assumed)


def answer(subject: Subject, workload: Infer, count: int = 1) -> EngineAnswer:
    """Return the answer for `count` cards that share the model; all of it is assumed."""
    weights = total(subject.tensors, "weights")
    layers = max(1, round((subject.model.parameters / (12 * ASPECT**2)) ** (1 / 3)))
    token = 2 * layers * ASPECT * layers * subject.choice.dtype.nbytes
    tokens = subject.context * (workload.batch_size or 1)
    cache = Component(
        name="kv_cache",
        bytes=Bytes(tokens * token // FEWEST, tokens * token // USUAL, tokens * token),
        basis="assumed",
        formula=f"{tokens:,} tokens x 2 x {layers} layers x {ASPECT * layers:,}, a quarter of it",
        source="the shape of a usual transformer of this size",
    )
    step = Component(
        name="activations",
        bytes=Bytes(0, weights // 50, weights // 10),
        basis="assumed",
        formula="a fiftieth of the weights, at most a tenth",
        source="a rule of thumb",
    )
    alone = words_alone(subject.model.parameters, subject.choice, weights)
    whole = rough(weights, alone=alone)
    ranks = shares(workload, count)
    held, context = whole.components
    serving = _shared(cache, ranks), _shared(step, ranks)
    others = {"load": (), "prefill": serving, "decode": serving}
    phases = around((_shared(held, ranks), context), others)
    return EngineAnswer(
        devices=tuple(Device(index=i, kind="gpu", phases=phases) for i in range(ranks)),
        settings={},
        derived={"kv_cache_bytes_per_token": token // USUAL},
        warnings=(sentence("bare_size.engine"),),
    )


def shares(workload: Infer, count: int) -> int:
    """Return the cards that share one replica: tensor x pipeline ranks if set, else all of them."""
    tensor, pipeline, _ = (getattr(workload, name) for name in SPREAD)
    return int((tensor or 1) * (pipeline or 1)) if tensor or pipeline else max(1, count)


def _shared(component: Component, ranks: int) -> Component:
    """Return a component's bytes on the fullest of `ranks` cards."""
    if ranks == 1:
        return component
    low, expected, high = component.bytes
    part = Bytes(low // ranks, ceil_div(expected, ranks), ceil(high * UNEVEN / ranks))
    formula = f"{component.formula}; shared by {ranks} cards"
    return replace(component, bytes=part, formula=formula)
