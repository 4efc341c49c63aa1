"""Layouts of a server over several cards, beside the one that its engine takes: those that people
run, and what cards send each other in one.

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

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import ceil_div
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.models.arch.body import Body, Experts
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


# Bytes that a device of a server sends to others for each token that its copy of the model reads
# or writes.
#
#     tensor    after each mixer and each feed-forward the ranks add what they have: a ring sends
#               2 (n - 1) / n of a hidden state (vllm/distributed/parallel_state.py all_reduce)
#     pipeline  the hidden state and its residual go to the next stage, a part from each tensor rank
#               (vllm/model_executor/models/llama.py IntermediateTensors, send_tensor_dict)
#     data      experts lie on the ranks of all copies: each copy's tokens go to all others and back
#               (vLLM's all2all backend allgather_reducescatter)
#     groups    every feed-forward lies on the ranks of all copies of the attention: the same
#               (SGLang's --enable-dp-attention, srt/layers/communicator.py)
#
# Ranks lie next to each other in the order tensor, pipeline, data (vllm parallel_state.py
# initialize_model_parallel). No seconds: how fast a link is, and what overlaps, is not said.

NUMBER = 2  # bytes of a number that is sent: bfloat16
STATES = 2  # a hidden state and its residual


class ServerRanks(NamedTuple):
    """How many ranks share each layer, the layers, and the requests. `groups` are copies of the
    attention alone, among the tensor ranks."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    groups: int = 1


def sent(body: Body, ranks: ServerRanks, machine: int) -> tuple[int, int]:
    """Return the bytes a token that a device sends within its machine, and to other machines."""
    tensor, pipeline, data, groups = ranks
    wide = NUMBER * body.hidden
    mixers, feeds, routed = _longest(body, pipeline)
    halves = mixers + (feeds if groups == 1 else 0)
    parts = [(tensor, halves * _ring(wide, tensor // groups))]  # (devices of the group, bytes)
    if groups > 1:
        parts.append((tensor, feeds * _gathered(wide, groups)))
    if pipeline > 1:
        parts.append((tensor * pipeline, ceil_div(STATES * wide, tensor)))
    if data > 1:
        parts.append((tensor * pipeline * data, routed * _gathered(wide, data)))
    near = sum(nbytes for span, nbytes in parts if span <= machine)
    return near, sum(nbytes for _, nbytes in parts) - near


def _longest(body: Body, pipeline: int) -> tuple[int, int, int]:
    """Count mixers, feed-forwards and those with experts, of the stage that has most of each."""
    share = max(1, ceil_div(len(body.blocks), pipeline))
    stages = [body.blocks[i : i + share] for i in range(0, len(body.blocks), share)]
    mixers = max((sum(len(b.mixers) for b in stage) for stage in stages), default=0)
    feeds = [[feed for b in stage for feed in b.feeds] for stage in stages]
    routed = (sum(isinstance(feed, Experts) for feed in each) for each in feeds)
    return mixers, max(map(len, feeds), default=0), max(routed, default=0)


def _ring(nbytes: int, ranks: int) -> int:
    return 2 * nbytes * (ranks - 1) // ranks


def _gathered(nbytes: int, ranks: int) -> int:
    """Return what a rank sends of a token to all others, and of its result back."""
    return 2 * nbytes * (ranks - 1)
