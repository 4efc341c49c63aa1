"""Roles of a step of rewards, cut out of answers that exist: their instants, and what they leave at
rest.

    away, here, states, states-alone    of one that trains: nothing, its weights, those with the
                                        optimizer's states, or these alone
    awake, sleep, wake                  of an engine: it writes, its pools are unmapped, and its
                                        weights arrive before its cache is there
"""

from collections.abc import Iterable, Mapping

from weighbridge.base.memory import Bytes, Component, Device, Instant, Role, total
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.memory.report import Report
from weighbridge.training.learning import LearningRun
from weighbridge.training.objective import LOG_PROBS, REFERENCE
from weighbridge.workload import Train

AWAY, HERE, STATES, ALONE = ("away", "here", "states", "states-alone")
AWAKE, ASLEEP, WEIGHTS = ("awake", "sleep", "wake")
PROCESS = "trainer"
OF_PROCESS = frozenset({"context", "communication", "other"})  # there whatever is offloaded
# What sleep unmaps: sglang managers/scheduler_update_weights_mixin.py (release_memory_occupation)
POOLED = ("weights", "kv_cache", "recurrent_state", "activations", "logits", "temporaries")
GENERATED = ("kv_cache", "recurrent_state", "activations", "logits", "temporaries")
WRITING = 200 * MIB  # of a few sequences that decode, of what a wide step has (assumed)
MASK = 3  # bytes of a pair of tokens: whether it is seen, and what is added to its score
BY_EYE = 25  # percent of logits, either way, of a head that was read and never run (assumed)


def cards_of(gpu: str, count: int) -> str:
    """Name so many of the trainer's cards."""
    return f"{gpu.partition(':')[0]}:{count}" if count > 1 else gpu.partition(":")[0]


def fullest(report: Report) -> Device:
    gpus = (d for d in report.devices if d.kind == "gpu")
    return max(gpus, key=lambda d: d.peak("driver").expected)


def trainer(report: Report, *, fresh: bool) -> Role:
    """A role that trains: its own instants, and what stays of it where others work. Where the
    allocator's cache is not emptied, its free room stays, too. Gradients stay where a step begins
    with them: flat buffers, not those of the batches before."""
    instants = {one.name: one for one in fullest(report).phases}
    begins, step = instants.get(LOG_PROBS, instants["forward"]), instants["step"]
    stays = [c for c in begins.components if c.stays or c.name in ("gradients", "rounding")]
    if not fresh:
        stays += [c for c in step.components if c.name == "fragmentation"]
    process = [c for c in stays if c.name in OF_PROCESS]
    cut = {
        AWAY: process,
        HERE: [c for c in stays if c.name != "optimizer_states"],
        STATES: stays,
        ALONE: [*process, *(c for c in stays if c.name == "optimizer_states")],
    }
    named = {name: Instant(name, tuple(parts)) for name, parts in cut.items()}
    return Role(instants | named, process=PROCESS)


def on_base(role: Role) -> Role:
    """A role whose adapters are on the base of another, which has it on the card."""
    parts = {name: without(one, ("weights",)) for name, one in role.instants.items()}
    return role._replace(instants=parts)


def only(one: Instant, names: Iterable[str]) -> Instant:
    return replace(one, components=tuple(c for c in one.components if c.name in names))


def without(one: Instant, names: Iterable[str]) -> Instant:
    return replace(one, components=tuple(c for c in one.components if c.name not in names))


def awake_of(device: Device, served: Report) -> Instant:
    """The engine as it writes: its cache is what its share leaves; the room of the profile's widest
    step is empty while a few sequences decode, and full at worst."""
    decode = next(one for one in device.phases if one.name == "decode")
    cache = served.derived.get("available_kv_cache_interval")
    if cache is None:
        return device.reserving(decode)
    stays = [c for c in decode.components if c.name not in GENERATED]
    blocks = Component(
        name="kv_cache",
        bytes=Bytes(*cache),
        basis="computed",
        detail="all that the share leaves",
        source="vllm v1/worker/gpu_worker.py (determine_available_memory)",
    )
    there = total(c.bytes for c in (*stays, blocks))
    widest = (one.of("activations", "logits", "temporaries").expected for one in device.phases)
    wide = min(WRITING, max(widest))
    step = Component(
        name="temporaries",
        bytes=Bytes(0, wide, max(wide, (device.taken or 0) - there.high)),
        basis="assumed",
        detail="a step of the engine",
        formula="up to the room of the profile's widest step",
        source="vllm v1/worker/gpu_worker.py",
    )
    return Instant(AWAKE, (*stays, blocks, step))


def read_by_eye(report: Report) -> Report:
    """Widen what logits take in a step whose program was read and never run."""
    return replace(report, devices=tuple(map(_wider, report.devices)))


def masked(report: Report, run: LearningRun) -> Report:
    """Widen a step by masks: answers of unlike lengths are padded to each other, and where
    FlashAttention does not run by itself each row has one of its pairs of tokens, a byte each, and
    of these 16 bits that are added to scores. Source: transformers 5.23 masking_utils.py
    (_ignore_causal_mask_sdpa); torch ATen/native/transformers/attention.cpp
    (convert_boolean_attn_mask); two windows of AgileRL with rows of 32,768 tokens had 2.6 to 2.8
    GiB more than without."""
    asked, objective = run.trained, run.objective
    counted = asked.padded or asked.attention == "flash"
    if run.rollout is None or run.effective["packing"] or counted:
        return report
    step = _masks(asked.batch_size or 1, asked.seq_len or 0, asked)
    passed = _masks(objective.quiet, objective.length, asked)
    sizes = dict.fromkeys(("forward", "loss", "backward"), step)
    sizes |= dict.fromkeys((LOG_PROBS, REFERENCE), passed)
    devices = (
        replace(d, phases=tuple(_with(p, sizes) for p in d.phases)) if d.kind == "gpu" else d
        for d in report.devices
    )
    return replace(report, devices=tuple(devices))


def _masks(rows: int, tokens: int, asked: Train) -> int:
    return MASK * rows * (tokens // (asked.context_parallel_size or 1)) * tokens


def _with(one: Instant, sizes: Mapping[str, int]) -> Instant:
    if one.name not in sizes:
        return one
    masks = Component(
        name="temporaries",
        detail="masks of padded rows",
        bytes=Bytes(0, 0, sizes[one.name]),
        basis="assumed",
        formula="none, to three bytes of each pair of tokens",
        source="transformers 5.23 masking_utils.py",
    )
    return replace(one, components=(*one.components, masks))


def _wider(device: Device) -> Device:
    phases = (
        Instant(p.name, tuple(_by_eye(c) if c.name == "logits" else c for c in p.components))
        for p in device.phases
    )
    return replace(device, phases=tuple(phases))


def _by_eye(part: Component) -> Component:
    low, expected, high = part.bytes
    wide = Bytes(low * (100 - BY_EYE) // 100, expected, high * (100 + BY_EYE) // 100)
    return replace(part, bytes=wide)
