"""Layouts of a server that people run over several cards, beside the one that its engine takes.

    tensor x expert      every card has a part of each layer, and whole experts
    data x expert        copies of the attention, each with its own requests; experts are shared
                         out. A cache of latents (MLA) is the same on all tensor ranks: this is what
                         has room for many requests then
    tensor x pipeline    parts of layers within a machine, and stages

By engine: vLLM and its kin count copies of the whole (--data-parallel-size), SGLang copies of the
attention among its tensor ranks (--enable-dp-attention). Recipes of both for DeepSeek-V3 and R1 run
these (docs.vllm.ai serving/expert_parallel_deployment; docs.sglang.ai references/deepseek).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.settings import SPREAD
from weighbridge.settings.setting import fields

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine

EXPERTS, ATTENTION = "enable_expert_parallel", "enable_dp_attention"
LAYOUT = (*SPREAD, EXPERTS, ATTENTION)  # settings that say how a server is laid out
TOGETHER = (1, 2, 4)  # tensor ranks of one copy


def spreads(kind: "Engine", count: int, *, experts: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of each layout of so many cards, those that people run first. `experts`:
    the model has some of which a token meets a few."""
    if not kind.server or count < 2:
        return
    if experts:
        yield from _of_experts(kind, count)
    tensor, pipeline, _ = SPREAD
    for ranks in (MACHINE, *reversed(TOGETHER)):
        if count % ranks == 0 and count > ranks:
            yield {tensor: ranks, pipeline: count // ranks}


def _of_experts(kind: "Engine", count: int) -> Iterator[Mapping[str, Any]]:
    tensor, _, data = SPREAD
    if ATTENTION in fields(kind.settings):
        for ranks in TOGETHER:
            if count % ranks == 0 and count > ranks:
                yield {tensor: count, data: count // ranks, ATTENTION: True}
        return
    for ranks in TOGETHER:
        if count % ranks == 0 and count > ranks:
            yield {tensor: ranks, data: count // ranks, EXPERTS: True}
    yield {tensor: min(count, MACHINE), EXPERTS: True}
