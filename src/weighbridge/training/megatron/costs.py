"""Costs of a layout besides memory: what is recomputed, what waits, and what is sent.

    again     FLOPs that are recomputed, as a share of a step's: a forward is a third
    bubble    time in which a stage of the pipeline waits: (stages - 1) / (chunks x micro-batches),
              and for the stage that has most layers
    near      bytes that a device sends per step to others of its machine, of 8 devices
    far       and to other machines

    tensor    with sequence parallel, of each half of a layer: a gathering and a scattering in the
              forward, two gatherings and a scattering in the backward, of its tokens
    context   keys and values of the other ranks' tokens, and their gradients
    expert    each token to its experts and back, and the same in the backward
    pipeline  hidden states to the next stage, and their gradients back
    data      gradients once per step, and the parameters that the others have stepped

No seconds: the speed of cards and networks, and what overlaps, are unknown. Ranks are adjacent in
the order tensor, context, data, pipeline, experts within tensor to data (Megatron-LM d98e8a6
core/parallel_state.py, order tp-cp-ep-dp-pp).
"""

from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.training.megatron.model import MegatronModel, matrices
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.states import StageNumbers, layers_of
from weighbridge.training.sharding.costs import (
    FORWARD,
    GATHERS,
    HALVES,
    LOW,
    SCATTERS,
    LayoutCost,
    others,
)


def cost(model: MegatronModel, run: MegatronRun) -> LayoutCost:
    """Return the cost of a layout, from its last stage; bytes sent once per step are from the
    first."""
    sent = _sent(model, run)
    near = sum(n for inside, n in sent if inside)
    return LayoutCost(
        again=again(model, run),
        bubble=_uneven(model, run) * (1 + (run.pipeline - 1) / (run.chunks * run.accumulation)) - 1,
        near=near,
        far=sum(n for _, n in sent) - near,
    )


def _uneven(model: MegatronModel, run: MegatronRun) -> float:
    """Return the layers of the longest stage, divided by the mean."""
    most = max(sum(map(len, layers_of(model, run, i))) for i in range(run.pipeline))
    return most * run.pipeline / model.layers


def again(model: MegatronModel, run: MegatronRun) -> float:
    """Return the recomputed FLOPs, as a share of a step's."""
    if run.recompute != "none":
        return FORWARD
    return feed_forward_again(model) if "mlp" in run.modules else 0.0


def feed_forward_again(model: MegatronModel) -> float:
    """Return the FLOPs of a second forward of all MLPs, as a share of a step's. Published: 704
    TFLOP/s per card of Llama 3 70B in fp8 were 594 with it, 16 % less (NVIDIA-NeMo/Megatron-Bridge
    067f987 skills/nemo-mbridge-perf-activation-recompute), for a step that does more than
    products."""
    sizes = [(x.name, x.numbers) for x in matrices(model, 1, 1, routed=False)]
    feed = sum(n for name, n in sizes if name.startswith("fc"))
    return FORWARD * feed / sum(n for _, n in sizes)


def _sent(model: MegatronModel, run: MegatronRun) -> list[tuple[bool, int]]:
    """Return (whether within a machine, bytes that a device sends per step) for each kind of rank
    group."""
    tokens = run.tokens * run.accumulation
    layers = model.layers // run.pipeline
    wide = LOW * tokens * model.hidden  # all tokens of a tensor-parallel group
    out = [(run.span("data") <= MACHINE, _states(model, run))]
    if run.tensor > 1:
        passes = GATHERS + SCATTERS + (2 if run.recompute != "none" else 0)
        out.append(
            (run.span("tensor") <= MACHINE, layers * HALVES * passes * others(wide, run.tensor))
        )
    if run.context > 1:
        keys = LOW * tokens * 2 * model.kv_heads * model.head_dim // run.tensor
        out.append(
            (run.span("context") <= MACHINE, layers * 3 * others(keys, run.context) * run.context)
        )
    if run.pipeline > 1:
        states = 2 * run.chunks * wide // (run.tensor if run.sequence_parallel else 1)
        out.append((run.span("pipeline") <= MACHINE, states))
    if run.expert > 1 and model.experts is not None:
        routed = sum(model.routed(i) for i in range(model.layers)) // run.pipeline
        tops = model.experts.top * wide // run.tensor
        out.append((run.expert <= MACHINE, routed * 4 * others(tops, run.expert)))
    return out


def _states(model: MegatronModel, run: MegatronRun) -> int:
    """Return the bytes of gradients and parameters that each data-parallel rank sends per step."""
    numbers = StageNumbers(model, run, 0)
    each = run.main_gradient + LOW
    dense = others(each * numbers.dense, run.among)
    return dense + others(each * numbers.experts, max(1, run.expert_data))
