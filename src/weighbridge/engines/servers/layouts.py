"""Usual parallel layouts of a server over several cards, besides its engine's default, and what
cards send each other in one.

    tensor x expert      every card has a part of each layer, and whole experts
    data x expert        replicas of the attention, each with its own requests; experts are
                         sharded. MLA's KV cache is replicated on all tensor ranks: this layout
                         has room for many requests then
    tensor x pipeline    parts of layers within a machine, and pipeline stages

By engine: vLLM and its kin count replicas of the whole (--data-parallel-size), SGLang replicas of
the attention among its tensor ranks (--enable-dp-attention). Recipes of both for DeepSeek-V3 and R1
run these (docs.vllm.ai serving/expert_parallel_deployment; docs.sglang.ai references/deepseek).
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
LAYOUT = (*SPREAD, EXPERTS, ATTENTION)  # settings that define a server's layout
TOGETHER = (1, 2, 4)  # tensor ranks per replica


def spreads(kind: "Engine", count: int, *, experts: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of each layout of `count` cards, the most usual first. `experts`: whether
    it is a MoE model."""
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


# Bytes that a device of a server sends per token that its replica of the model processes.
#
#     tensor    after each mixer and each MLP an all-reduce: a ring sends 2 (n - 1) / n of a hidden
#               state (vllm/distributed/parallel_state.py all_reduce)
#     pipeline  the hidden state and its residual go to the next stage, a part from each tensor rank
#               (vllm/model_executor/models/llama.py IntermediateTensors, send_tensor_dict)
#     data      experts are sharded over all replicas: each one's tokens go to all others and back
#               (vLLM's all2all backend allgather_reducescatter)
#     groups    every MLP is sharded over all replicas of the attention: the same
#               (SGLang's --enable-dp-attention, srt/layers/communicator.py)
#
# Ranks are ordered tensor, pipeline, data (vllm parallel_state.py initialize_model_parallel). No
# seconds: how fast a link is, and what overlaps, is unknown.

NUMBER = 2  # bytes per element sent: bfloat16
STATES = 2  # a hidden state and its residual


class ServerRanks(NamedTuple):
    """Numbers of ranks that split each layer, the layers, and the requests. `groups` are replicas
    of only the attention, among the tensor ranks."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    groups: int = 1


def sent(body: Body, ranks: ServerRanks, machine: int) -> tuple[int, int]:
    """Return the bytes per token that a device sends (within its machine, to other machines)."""
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
    """Return (mixers, MLPs, MoE layers), each of the stage with most of them."""
    share = max(1, ceil_div(len(body.blocks), pipeline))
    stages = [body.blocks[i : i + share] for i in range(0, len(body.blocks), share)]
    mixers = max((sum(len(b.mixers) for b in stage) for stage in stages), default=0)
    feeds = [[feed for b in stage for feed in b.feeds] for stage in stages]
    routed = (sum(isinstance(feed, Experts) for feed in each) for each in feeds)
    return mixers, max(map(len, feeds), default=0), max(routed, default=0)


def _ring(nbytes: int, ranks: int) -> int:
    return 2 * nbytes * (ranks - 1) // ranks


def _gathered(nbytes: int, ranks: int) -> int:
    """Return the bytes per token that a rank sends to all others, and of its result back."""
    return 2 * nbytes * (ranks - 1)
