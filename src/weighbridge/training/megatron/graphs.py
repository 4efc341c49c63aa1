"""CUDA graphs of a stage: static buffers, and separate pools of the allocator.

    buffers    per layer and micro-batch in flight the inputs and outputs, and their gradients on
               the way back: two hidden states per layer, for whole graphs of a step one each way
    pools      what graphs save is in their own pool, which others cannot use. What was cached for
               the steps before the capture is freed (empty_cache), or may be in use as fragments:
               at most as much as all activations

None of Megatron's own peaks has graphs. Megatron-Bridge says a few gigabytes, and more than 10 GB
with a pipeline; a pair of its memory snapshots had 85.89 and 119.80 GiB. So the bounds are far
apart: only buffers, and all activations once more. Source: Megatron-LM d98e8a6
core/transformer/cuda_graphs.py; NVIDIA-NeMo/Megatron-Bridge 067f987 docs/performance-guide.md,
skills/nemo-mbridge-memory-snapshot-analysis/SKILL.md.
"""

from weighbridge.base.memory import Bytes, Component
from weighbridge.memory.components.activations import LivePeak
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.states import layers_of

HIDDEN = 2  # bytes per element
EACH = 2  # buffers per layer, one each for forward and backward


def held(run: MegatronRun, stage: int) -> int:
    """Return how many micro-batches, times chunks, a stage holds at once."""
    behind = run.pipeline - stage - 1
    if run.chunks == 1:
        return min(run.accumulation, behind + 1)
    turns = 2 * behind + (run.chunks - 1) * run.turns + 1
    return min(run.accumulation * run.chunks, turns)


def buffers(model: MegatronModel, run: MegatronRun, stage: int) -> int:
    """Return the bytes of static input and output buffers of a stage's graphs."""
    one = HIDDEN * run.tokens // run.parts * model.hidden
    chunks = layers_of(model, run, stage)
    layers = 1 if run.graphs == "full_iteration" else max(map(len, chunks))
    return EACH * one * layers * held(run, stage)


def component(model: MegatronModel, run: MegatronRun, stage: int, peak: LivePeak) -> Component:
    least = buffers(model, run, stage)
    most = max(least, peak.live.get("activations", 0) + least)
    return Component(
        name="cuda_graphs",
        bytes=Bytes(0, least, most),
        basis="assumed",
        formula=f"buffers of graphs of {held(run, stage)} micro-batches, {EACH} hidden states a "
        "layer; at most pools as large as all activations, too",
        source="Megatron-LM d98e8a6 core/transformer/cuda_graphs.py",
    )
