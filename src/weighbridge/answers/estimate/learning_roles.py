"""Roles of a reinforcement-learning step, cut out of finished answers: their phases, and what they
hold at rest.

    away, here, states, states-alone    of a role that trains: nothing, its weights, those with the
                                        optimizer's states, or only these states
    awake, sleep, wake, sent            of an engine: it generates, its pools are unmapped, its
                                        weights arrive before its cache; only what is sent
"""

from collections.abc import Iterable, Mapping

from weighbridge.answers.bounds.phases import NAMES
from weighbridge.base.memory import LEVELS, Bytes, Component, Device, Instant, Role
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.memory.report import Report
from weighbridge.training.learning import LearningRun
from weighbridge.training.objective import LOG_PROBS, REFERENCE

AWAY, HERE, STATES, ALONE = ("away", "here", "states", "states-alone")
AWAKE, ASLEEP, WEIGHTS, SENT = ("awake", "sleep", "wake", "sent")
PROCESS = "trainer"
OF_PROCESS = frozenset({"context", "communication", "other"})  # never offloaded
# What sleep unmaps: sglang managers/scheduler_update_weights_mixin.py (release_memory_occupation)
POOLED = ("weights", "kv_cache", "recurrent_state", "activations", "logits", "temporaries")
GENERATED = ("kv_cache", "recurrent_state", "activations", "logits", "temporaries")
WRITING = 200 * MIB  # while a few sequences decode, of the profiled step's room (assumed)
PASSES = (LOG_PROBS, REFERENCE, "forward", "loss", "backward")
MASK = 3  # bytes per pair of tokens: a boolean mask, and 16 bits added to the score
BY_EYE = 25  # percent of logits, either way, if the program was read but never run (assumed)
# Percent, below and above, of what a pass computes in a release that was not read: how much
# neighbours of a known release differ. Of 21 pairs (TRL, verl, AgileRL; 2026) an older one took
# 0.64 to 2.3 times as much, except three whose head was not fused yet; a newer one 0.13 to 1.56
UNREAD = {"earlier": (36, 130), "newer": (87, 56)}
MADE = ("logits", "activations", "workspaces", "temporaries")


def cards_of(gpu: str, count: int) -> str:
    """Return the GPU setting for `count` cards of the trainer's kind."""
    return f"{gpu.partition(':')[0]}:{count}" if count > 1 else gpu.partition(":")[0]


def fullest(report: Report) -> Device:
    gpus = (d for d in report.devices if d.kind == "gpu")
    return max(gpus, key=lambda d: d.peak("driver").expected)


def trainer(report: Report, *, fresh: bool) -> Role:
    """Return the role of a model that trains: its phases, and what it holds while others work.
    Unless `fresh`, the allocator's cache is not emptied, and its free room stays. Gradients stay
    only if a step begins with them, in flat buffers."""
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


def on_base(instants: Mapping[str, Instant]) -> dict[str, Instant]:
    """Return a role's phases without weights, since another role's base on the card has them."""
    return {name: without(one, ("weights",)) for name, one in instants.items()}


def only(one: Instant, names: Iterable[str]) -> Instant:
    return replace(one, components=tuple(c for c in one.components if c.name in names))


def without(one: Instant, names: Iterable[str]) -> Instant:
    return replace(one, components=tuple(c for c in one.components if c.name not in names))


def awake_of(device: Device, served: Report) -> Instant:
    """Return the engine's phase while it generates. Its cache is what its share leaves; the
    profiled step's room is empty while a few sequences decode, and at worst full."""
    decode = next(one for one in device.phases if one.name == "decode")
    cache = served.derived.get("available_kv_cache_interval")
    if cache is None:
        return device.reserving(decode, alone=True)
    stays = [c for c in decode.components if c.name not in GENERATED]
    blocks = Component(
        name="kv_cache",
        bytes=Bytes(*cache),
        basis="computed",
        detail="all that the share leaves",
        source="vllm v1/worker/gpu_worker.py (determine_available_memory)",
    )
    there = sum(c.bytes.high for c in (*stays, blocks))
    wide = min(
        WRITING,
        max(one.of("activations", "logits", "temporaries").expected for one in device.phases),
    )
    step = Component(
        name="temporaries",
        bytes=Bytes(0, wide, max(wide, (device.taken or 0) - there)),
        basis="assumed",
        detail="a step of the engine",
        formula="up to the room of the profile's widest step",
        source="vllm v1/worker/gpu_worker.py",
    )
    return Instant(AWAKE, (*stays, blocks, step))


def widened(report: Report, run: LearningRun, rows: int) -> Report:
    """Return the report with wider logits if the step's program was never run, and with masks if
    rows are padded: without FlashAttention, each pair of tokens may have a mask, and 16 bits that
    are added to scores. Source: transformers 5.23 masking_utils.py (_ignore_causal_mask_sdpa);
    torch ATen/native/transformers/attention.cpp; two windows of AgileRL with rows of 32,768 tokens
    had 2.6 to 2.8 GiB more than without."""
    masks = _masks(run, rows)
    if run.objective.head.known and not masks and not run.outside:
        return report
    devices = (
        replace(d, phases=tuple(_wider(p, run, masks) for p in d.phases)) if d.kind == "gpu" else d
        for d in report.devices
    )
    return replace(report, devices=tuple(devices))


def either(report: Report, other: Report, release: str) -> Report:
    """Return the report with the high ends of its phases raised to those of another `release`. The
    optimizer's phase is left: the next rollout writes over what it leaves free."""
    most = {one.name: one for one in fullest(other).phases if one.name != "step"}
    devices = (
        replace(d, phases=tuple(_raised(p, most.get(p.name, p), release) for p in d.phases))
        if d.kind == "gpu"
        else d
        for d in report.devices
    )
    return replace(report, devices=tuple(devices))


def _raised(one: Instant, other: Instant, release: str) -> Instant:
    below, parts = 0, []
    for level in LEVELS[:2]:
        more = max(below, other.at(level).high - one.at(level).high)
        parts.append(
            Component(
                name=NAMES[level],
                detail=f"by release {release}",
                bytes=Bytes(0, 0, more - below),
                basis="assumed",
                formula="what it takes more than the newest, where no release was named",
                source="heads.txt",
                passing=True,
            )
        )
        below = more
    return replace(one, components=(*one.components, *(c for c in parts if c.bytes.high)))


def _masks(run: LearningRun, rows: int) -> list[Component]:
    asked, objective = run.trained, run.objective
    counted = asked.padded or asked.attention == "flash" or run.effective["packing"]
    if counted or run.rollout is None:
        return []
    ranks = asked.context_parallel_size or 1
    most = MASK * max(rows, objective.quiet) * objective.length**2 // ranks
    return [
        Component(
            name="temporaries",
            detail="masks of padded rows",
            bytes=Bytes(0, 0, most),
            basis="assumed",
            formula="none, to three bytes of each pair of tokens",
            source="transformers 5.23 masking_utils.py",
        )
    ]


def _wider(one: Instant, run: LearningRun, masks: list[Component]) -> Instant:
    shares = UNREAD.get(run.outside, (BY_EYE, BY_EYE))
    names = MADE if run.outside else () if run.objective.head.known else MADE[:1]
    parts = (_by_eye(c, *shares) if c.name in names else c for c in one.components)
    return replace(one, components=(*parts, *(masks if one.name in PASSES else ())))


def _by_eye(part: Component, below: int, above: int) -> Component:
    low, expected, high = part.bytes
    return replace(
        part, bytes=Bytes(low * (100 - below) // 100, expected, high * (100 + above) // 100)
    )
