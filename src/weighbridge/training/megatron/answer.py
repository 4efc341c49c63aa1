"""The answer of a Megatron run: each stage's phases, the settings, derived facts, warnings.

    reserved    what the allocator keeps besides tensors: the replay of one stream, and what other
                streams add. Of allocated bytes, beyond the replay, ranks of 23 published settings
                had 1 % less to 3.5 % more, most 1.5 %; with experts 2.5 to 4.6 %; with context
                parallelism, for which attention has its own streams, 0.6 to 6.6 %. Of stages in
                several chunks none is published; one at 58.8 GB of tensors failed on 80 GB for lack
                of one piece, and ran with expandable segments: without those their upper bound is
                30 %
    experts     a rank gets more tokens than its equal part, or fewer: bounds have both
    on the host with optimizer_cpu_offload master weights and gradients, pinned one parameter at a
                time, and both averages, which are not pinned
    saving      each rank copies its shard of weights and states to pinned memory before it writes;
                blocks of powers of two, which are one to two times as large as what they hold

Source of the first: MooreThreads/SimuMax 4dcaae5 docs/b200/b200_release_v1.2_summary.json;
NVIDIA-NeMo/Megatron-Bridge 067f987 skills/nemo-mbridge-perf-memory-tuning/SKILL.md. Of the last:
Megatron-LM d98e8a6 core/dist_checkpointing/strategies/filesystem_async.py (preload_tensors); torch
aten/src/ATen/native/TensorConversions.cpp (pin_out).
"""

from collections.abc import Iterator, Sequence

from weighbridge.base.memory import Bytes, Component, Device, Instant, around, exactly
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, ceil_div, human
from weighbridge.machines.kernels.nccl import LAZY_SINCE, SOURCE, communicator
from weighbridge.memory.components import host, spelled
from weighbridge.memory.components.activations import LivePeak
from weighbridge.memory.components.device import REPLAY, context, libraries, rounding
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.training.megatron import adapters, exchanges, graphs, muon, sharded
from weighbridge.training.megatron.costs import feed_forward_again
from weighbridge.training.megatron.plan import MegatronPlan
from weighbridge.training.megatron.run import HOPPER, WEIGHT, MegatronRun
from weighbridge.training.megatron.stage import StageRun, fewest_states, run_stage, run_stages
from weighbridge.training.megatron.states import StageNumbers, layers_of

NAMES = ("load", "forward", "backward", "step")
LISTED = 4096  # devices in a report
THREADS = 2  # threads that multiply in torch: forward and backward
MASKS = GIB  # bytes of an attention mask from which a warning mentions it
USER_BUFFERS = 10  # of products: four as rings, two in pieces, four in bulk
FLOAT = 4  # bytes per element in float32
MASTER, AVERAGES = 4, 8  # bytes per element offloaded to the host
OFFLOAD = "Megatron-LM d98e8a6 core/optimizer/cpu_offloading/hybrid_optimizer.py"
PINNED = 1.4  # pinned bytes per copied byte: mean of blocks rounded up to a power of two (assumed)
SAVING = "Megatron-LM d98e8a6 core/dist_checkpointing/strategies/filesystem_async.py"
BESIDE = {  # share of allocated bytes that is reserved beyond the replay: least, usual, most
    "plain": (-0.01, 0.015, 0.05),
    "experts": (0.01, 0.035, 0.06),
    "adapters": (0.01, 0.035, 0.25),  # with experts: two of ms-swift's had 1.2 of what is counted
    "context": (0.0, 0.03, 0.1),
}
IN_CHUNKS = 0.3  # upper bound for stages in several chunks
EXCHANGES = {"deepep": "DeepEP", "hybridep": "HybridEP"}
KERNEL_NAMES = {"fused": "cudnn", "flash": "flash", "unfused": "math", "local": "math"}
GATHERED = ", shared out among ranks, and those that are gathered"
REDUCED = ", shared out among ranks, and those that wait to be reduced"
BRIDGE = "ms-swift 3602360a swift/megatron/arguments/megatron_args.py: freeze_vit, freeze_aligner"
CORE = "Megatron-LM d98e8a6 megatron/core, Transformer Engine c188b53"


def stages(plan: MegatronPlan) -> tuple[StageRun, ...]:
    """Return the run of each pipeline stage, in order."""
    return run_stages(plan.model, plan.run)


def devices(plan: MegatronPlan, runs: Sequence[StageRun]) -> tuple[Device, ...]:
    """Return the devices: one per rank, all ranks of a stage alike, and the host."""
    alike = plan.run.cards // plan.run.pipeline
    listed = min(alike, max(1, LISTED // plan.run.pipeline))
    out = []
    for run, fuller in zip(runs, _runs_with_most_tokens(plan, runs), strict=True):
        shown, start = tuple(_phases(plan, run, fuller)), run.index * alike
        out += [Device(index=start + i, kind="gpu", phases=shown) for i in range(listed)]
    return (*out, _host(plan, runs))


def _host(plan: MegatronPlan, runs: Sequence[StageRun]) -> Device:
    """Return the host memory of one machine: weights and states are made on devices, and copied
    when saved."""
    ranks = plan.run.local
    process = host.processes(ranks)
    away = tuple(_away(plan, runs, ranks))
    low = ranks * max(_saved(plan, run) for run in runs)
    saved = Component(
        name="weights",
        passing=True,
        detail="saved",
        bytes=Bytes(low, int(PINNED * low), 2 * low),
        basis="assumed",
        formula=f"a checkpoint's part of {ranks} ranks, weights and states, in pinned blocks of "
        "powers of two; they are kept once there",
        source=SAVING,
    )
    return Device(
        index=0,
        kind="host",
        phases=around((process,), {"load": (), "step": away, "save": (*away, saved)}),
    )


def _away(plan: MegatronPlan, runs: Sequence[StageRun], ranks: int) -> Iterator[Component]:
    """Yield the optimizer states and activations that the ranks of one machine offload to the
    host."""
    if plan.run.moves:
        most = ranks * max(run.saved for run in runs)
        yield Component(
            name="activations",
            bytes=Bytes(0, most // 2, most),
            basis="assumed",
            formula="those that fine_grained_activation_offloading moves, none to all",
            source="Megatron-LM d98e8a6 core/pipeline_parallel/fine_grained_activation_offload.py",
        )
    numbers = ranks * max(run.on_host for run in runs)
    if not numbers:
        return
    moved = numbers * (MASTER + plan.run.main_gradient)
    yield Component(
        name="optimizer_states",
        bytes=exactly(numbers * AVERAGES),
        basis="computed",
        formula=f"{numbers:,} numbers of {ranks} ranks, two averages in float32",
        source=OFFLOAD,
    )
    yield Component(
        name="master_weights",
        detail="and gradients",
        bytes=Bytes(moved, int(PINNED * moved), 2 * moved),
        basis="assumed",
        formula=f"{numbers:,} numbers in float32, and their gradients, in pinned blocks of powers "
        "of two",
        source=OFFLOAD,
    )


def _saved(plan: MegatronPlan, run: StageRun) -> int:
    """Return the bytes of a checkpoint that one rank of a stage writes."""
    states = muon.MATRIX if plan.run.muon else plan.run.states
    return StageNumbers(plan.model, plan.run, run.index).saved(plan.run, states)


def _phases(plan: MegatronPlan, run: StageRun, fuller: StageRun) -> Iterator[Instant]:
    for name in NAMES:
        if name in run.moments:
            yield Instant(name, tuple(_components(plan, run, name, fuller.moments[name])))


def _runs_with_most_tokens(plan: MegatronPlan, runs: Sequence[StageRun]) -> Sequence[StageRun]:
    """Return the stage runs with the upper bound of tokens per expert; `runs` if that equals the
    expected number."""
    _, expected, most = plan.uneven
    if expected == most:
        return runs
    fuller = replace(plan.run, uneven=most)
    if len(runs) == fuller.pipeline:
        return run_stages(plan.model, fuller)
    return [run_stage(plan.model, fuller, run.index) for run in runs]


def _components(
    plan: MegatronPlan, run: StageRun, phase: str, fuller: LivePeak
) -> Iterator[Component]:
    peak = run.moments[phase]
    for name, nbytes in peak.live.items():
        high = max(nbytes, fuller.live.get(name, 0))
        high += _unread(plan) if name == "logits" else 0
        high += _unexplained_norm_bytes(plan, run) if name == "activations" else 0
        high += _widened(plan, run) if (name, phase) == ("optimizer_states", "step") else 0
        low = _least(plan, run, name, max(0, nbytes - round(_fewer(plan) * (high - nbytes))))
        if name == "activations" and plan.run.moves:
            nbytes = (low + nbytes) // 2
        yield Component(
            name=name,
            bytes=Bytes(low, nbytes, high),
            basis="computed" if low == high else "assumed",
            formula=_formula(plan, run, name, nbytes),
            source=CORE,
        )
    if plan.model.beside and not run.index:
        yield _beside(plan)
    if plan.run.lora and phase != "load":
        layers = [i for chunk in layers_of(plan.model, plan.run, run.index) for i in chunk]
        yield adapters.kept(plan.model, plan.run, layers)
    yield rounding(peak.rounding)
    free = max(0, peak.reserved - peak.allocated)
    kind = ("adapters" if plan.run.lora else "experts") if plan.model.experts else "plain"
    least, share, most_of = BESIDE["context" if plan.run.context > 1 else kind]
    if plan.run.chunks > 1 and not plan.run.expandable and phase != "step":
        most_of = IN_CHUNKS  # a step has the room of activations, whose segments may be freed
    gone = _moved(plan, run) - peak.live.get("activations", 0) if plan.run.moves else 0
    rooms = (free - max(0, gone) - _spared(plan, peak), free - max(0, gone) // 2, free)
    low, usual, high = (
        max(0, room + round(part * peak.allocated))
        for room, part in zip(rooms, (least, share, most_of), strict=True)
    )
    yield Component(
        name="fragmentation",
        bytes=Bytes(low, usual, high),
        basis="assumed",
        formula="what the allocator keeps free: the replay of one stream, and "
        f"{least:.0%} to {most_of:.0%} of what is allocated beside it, as ranks of published runs "
        "have it",
        source=REPLAY,
    )
    yield from _outside(plan, run, peak)


def _beside(plan: MegatronPlan) -> Component:
    """Return the parameters besides Megatron's decoder, held by the first stage. They are frozen,
    and replicated on tensor ranks or sharded; at most they are trained like the decoder."""
    run, numbers = plan.run, plan.model.beside
    trained = 0 if run.lora else run.main_gradient + ceil_div(run.states, plan.sharding.data)
    least = WEIGHT * numbers // run.tensor
    return Component(
        name="weights",
        detail="beside the decoder",
        bytes=Bytes(least, WEIGHT * numbers, (WEIGHT + trained) * numbers),
        basis="assumed",
        formula=f"{numbers:,} numbers in 16 bits, frozen; at most trained like the decoder",
        source=BRIDGE,
    )


def _outside(plan: MegatronPlan, run: StageRun, peak: LivePeak) -> Iterator[Component]:
    """Yield the components outside torch's allocator: graphs, communication, context and others."""
    if plan.run.graphs:
        yield graphs.component(plan.model, plan.run, run.index, peak)
    if plan.run.cards > 1:
        yield _communication(plan)
    if plan.run.overlaps and plan.run.tensor > 1:
        yield _user_buffers(plan)
    if plan.model.experts is not None and plan.run.dispatcher in EXCHANGES:
        yield _exchange_buffers(plan)
    yield context(plan.part)
    if plan.part is None or plan.part.stack != "own":
        yield libraries((plan.torch[0], plan.torch[1]), plan.part)


def _least(plan: MegatronPlan, run: StageRun, name: str, nbytes: int) -> int:
    """Return the lower bound of a component that takes `nbytes` with the fewest tokens per
    expert."""
    if name == "activations" and plan.run.moves:
        return _stays(plan, run, nbytes)
    if name == "workspaces":
        return max(0, nbytes - THREADS * (plan.run.workspace - plan.least_workspace))
    if name == "optimizer_states":
        return fewest_states(plan.run, nbytes, run.spared)
    return max(0, nbytes - _copy(plan)) if name == "logits" else nbytes


def _copy(plan: MegatronPlan) -> int:
    """Return the bytes of a float32 copy of the logits in the native loss before Hopper; its
    kernels were not read and may avoid it."""
    run = plan.run
    if run.loss != "native" or run.capability >= HOPPER:
        return 0
    return FLOAT * run.tokens * plan.model.outputs(run.tensor, run.multiple)


def _spared(plan: MegatronPlan, peak: LivePeak) -> int:
    """Return the bytes of the float32 copy (`_copy`) at moments without logits, else 0."""
    copy = _copy(plan)
    return copy if peak.live.get("logits", 0) < copy else 0


def _stays(plan: MegatronPlan, run: StageRun, nbytes: int) -> int:
    """Return the bytes of activations that stay on the GPU while others are offloaded: those of the
    last layer, and of one in transfer."""
    layers = sum(map(len, layers_of(plan.model, plan.run, run.index)))
    return min(nbytes, ceil_div(2 * nbytes, max(1, layers)))


def _moved(plan: MegatronPlan, run: StageRun) -> int:
    """Return the most bytes of activations that may be offloaded to the host."""
    most = max(peak.live.get("activations", 0) for peak in run.moments.values())
    return most - _stays(plan, run, most)


def _unexplained_norm_bytes(plan: MegatronPlan, run: StageRun) -> int:
    """Return the bytes that norms of queries and keys may save beyond what was read, without rotary
    embeddings: four published runs took 1.4 to 1.8 query tensors more per layer. The cause is
    unknown, so it is taken as two (assumed)."""
    model, shares = plan.model, plan.run
    if not model.qk_norm or model.rotary:
        return 0
    layers = sum(map(len, layers_of(model, shares, run.index)))
    queries = WEIGHT * shares.tokens * model.heads * model.head_dim // shares.tensor
    return 2 * layers * queries


def _widened(plan: MegatronPlan, run: StageRun) -> int:
    """Return the bytes of optimizer states that only older releases copy to float32 in a step."""
    before = plan.run.widened_before - plan.run.widened
    if before <= 0:
        return 0
    numbers = StageNumbers(plan.model, plan.run, run.index)
    return numbers.widened(replace(plan.run, widened=before))


def _fewer(plan: MegatronPlan) -> float:
    """Return the distance from the fewest tokens per expert to the expected, as a share of that
    from the expected to the most. Bytes at each moment are linear in tokens, and a peak over
    moments falls no faster: with the fewest tokens they are no less than on that line."""
    low, expected, high = plan.uneven
    return (expected - low) / (high - expected) if high > expected else 0.0


def _unread(plan: MegatronPlan) -> int:
    """Return what kernels of the native loss take in addition on cards before Hopper, in bytes: two
    runs on A100 had 63 MiB besides copies of 394, a sixth of these, and the kernels were not
    read."""
    return _copy(plan) // 6


def _formula(plan: MegatronPlan, run: StageRun, name: str, nbytes: int) -> str:
    count = f"{run.parameters:,} parameters of a rank of stage {run.index}"
    tokens = plan.run.length * plan.run.batch
    low = ", those of linears in 8 bits with their copies" if plan.run.float8 else ""
    gathers = plan.run.sharded in sharded.GATHERS
    return {
        "weights": f"{count}, 2 bytes each{low}" + (GATHERED if gathers else ""),
        "gradients": f"{count}, {plan.run.main_gradient} bytes each"
        + (REDUCED if plan.run.sharded in sharded.REDUCES else "")
        + (", and one that nobody writes of each shape" if plan.run.fused_gradients else ""),
        "optimizer_states": (
            f"{muon.MATRIX} bytes each of matrices and {muon.OTHER} of others that a rank steps"
            if plan.run.muon
            else f"{plan.run.states} bytes each of the parameters that a rank steps"
        )
        + (f", less {plan.run.offloaded:.0%} on the host" if plan.run.offloaded else ""),
        "activations": f"{spelled.each(nbytes, tokens, 'tokens')} of a micro-batch, kept for "
        f"backward: checkpointing {plan.checkpointing}",
        "logits": f"{tokens:,} tokens, outputs with their loss: {plan.run.loss}",
        "temporaries": "gradients of activations and what kernels take for a moment",
        "workspaces": "Transformer Engine's, and torch's of each thread that multiplies",
        "buffers": "places, a mask of pairs of tokens, and the room in which tokens are gathered",
    }.get(name, "")


def _communication(plan: MegatronPlan) -> Component:
    s = plan.sharding
    groups = sum(n > 1 for n in (s.data, s.tensor, s.pipeline, s.context, s.expert))
    links = None if plan.part is None else plan.chip.links
    each = communicator(links, lazy=(plan.torch[0], plan.torch[1]) >= LAZY_SINCE)
    return Component(
        name="communication",
        detail="NCCL",
        bytes=Bytes(*(groups * n for n in each)),
        basis="assumed",
        formula=f"{groups} kinds of groups; buffers by links and channels, whatever the model is",
        source=SOURCE,
    )


def _exchange_buffers(plan: MegatronPlan) -> Component:
    run = plan.run
    return Component(
        name="communication",
        detail=EXCHANGES[run.dispatcher],
        bytes=exchanges.buffers(plan.model, run),
        basis="assumed",
        formula=f"buffers for the tokens of {exchanges.group(run)} ranks, beside torch's allocator",
        source="deepseek-ai/DeepEP dd758ca, 94a9f8f",
    )


def _user_buffers(plan: MegatronPlan) -> Component:
    """Return the buffers that products share with tensor-parallel communication: one of all tokens
    for each of ten products, those of 8 bits half as large; reduce-scatter rings have nearly
    two."""
    run = plan.run
    whole = USER_BUFFERS * run.tokens * plan.model.hidden
    return Component(
        name="communication",
        detail="user buffers",
        bytes=Bytes(whole if run.float8 else WEIGHT * whole, WEIGHT * whole, 2 * WEIGHT * whole),
        basis="assumed",
        formula=f"tp_comm_overlap: {USER_BUFFERS} buffers of {run.tokens:,} tokens",
        source="Transformer Engine d0067d0 pytorch/module/base.py (initialize_ub)",
    )


def settings(plan: MegatronPlan) -> EffectiveSettings:
    """Return the effective settings, defaults included."""
    run = plan.run
    return {
        "method": "lora" if run.lora else "full",
        **({"lora_r": run.lora} if run.lora else {}),
        "framework": "megatron",
        "optimizer": plan.optimizer,
        "precision": plan.precision,
        "batch_size": run.batch,
        "seq_len": run.length,
        "gradient_accumulation": run.accumulation,
        "checkpointing": plan.checkpointing,
        "attention": KERNEL_NAMES[run.attention],
        "loss": "standard",
        "shard": plan.sharding.kind,
        **run.settings(),
        **({"context_parallel_by": run.context_by} if run.context > 1 else {}),
        **({"expandable_segments": True} if run.expandable else {}),
    }


def derived(plan: MegatronPlan, runs: Sequence[StageRun]) -> DerivedFacts:
    """Return the derived facts of the fullest stage."""
    fullest = max(runs, key=lambda run: run.peak)
    first = max(fullest.first.values(), key=lambda peak: peak.allocated)
    return {
        "trainable_parameters": _trained(plan),
        "saved_activation_bytes": fullest.saved,
        "first_step_peak_bytes": first.allocated,
        "layers_by_part": list(plan.run.layout) or [plan.model.layers],
        "fullest_stage": fullest.index,
        "feed_forward_again": round(feed_forward_again(plan.model), 3),
    }


def _notes_on_moves(run: MegatronRun) -> Iterator[str]:
    if run.moves:
        yield sentence("fine_grained")


def _notes_on_training(run: MegatronRun) -> Iterator[str]:
    if run.lora:
        yield sentence("lora_megatron")
    elif run.data > 1 and not run.distributed_optimizer:
        yield sentence("megatron_default")


def _trained(plan: MegatronPlan) -> int:
    """Return the number of trained parameters of the whole model, or of its adapters."""
    if not plan.run.lora:
        return plan.subject.part.blueprint.parameters
    one = MegatronRun(multiple=1, lora=plan.run.lora, targets=plan.run.targets)
    return sum(StageNumbers(plan.model, one, 0).trained(one))


def warnings(plan: MegatronPlan) -> Iterator[str]:
    """Yield warnings about assumptions that a user may not expect."""
    run = plan.run
    if plan.filled:
        yield (
            sentence("stages_at_work", batches=run.accumulation)
            if run.deferred is None
            else sentence("heads_gradient", batches=run.accumulation)
        )
    low, expected, high = plan.uneven
    if expected > 1:
        yield sentence("experts_given", expected=expected, low=low, high=high)
    if run.muon and run.in_turn and run.distributed_optimizer:
        yield sentence("muon_ranks")
    if run.graphs:
        yield sentence("graphs_apart")
    yield from _notes_on_training(run)
    yield from _notes_on_moves(run)
    if "core_attn" in run.modules and run.attention != "unfused" and plan.model.latent is None:
        yield sentence("recomputed_attention")
    if run.mask >= MASKS:
        yield sentence("loader_mask", size=human(run.mask))
