"""`train` of what learns from rewards or preferences: roles that meet on the same cards.

    engine-start             the engine loads beside the trainer, and profiles its widest step
    rollout                  it writes, in the first step: the optimizer has no states yet
    log-probs, reference     passes without gradients
    forward, loss, backward, step      the update; of a critic, too
    weight-sync              weights go to the engine, which is awake without its cache
    cache-wakes              it writes again, from the second step on: states are there

Each role is an answer of its own (`infer`, `train`), cut into its instants and what it leaves where
others work; `compose` puts them together, and nothing else adds them up. Preferences have one role,
whose reference is part of its step.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.estimate import train as training
from weighbridge.answers.estimate.infer import infer
from weighbridge.answers.verdict import on_devices, on_host
from weighbridge.base.memory import (
    Bytes,
    Component,
    Device,
    Instant,
    Role,
    compose,
    exactly,
    total,
)
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import MIB
from weighbridge.memory.report import Report
from weighbridge.models.checkpoint.model import Model
from weighbridge.training import learning
from weighbridge.training.learning import LearningRun, Rollout
from weighbridge.training.objective import LOG_PROBS, REFERENCE
from weighbridge.workload import Infer, Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

AWAY, HERE, STATES, AWAKE = "away", "here", "here, with states", "awake"
UPDATE = ("forward", "loss", "backward", "step")
OF_PROCESS = frozenset({"context", "communication", "other"})  # there whatever is offloaded
WRITING = 200 * MIB  # of a few sequences that decode, of what a wide step has (assumed)
MORE_ASLEEP = Bytes(0, 0, 3 << 29)  # several ranks: 0.7 to 2.5 GiB were read, and no rule is known


def train(model: Model, workload: Train) -> Report:
    """Report what the fullest instant of a step takes, of each card. Raises UnsupportedError where
    the method or the framework is outside our rules."""
    budget = workload.budget()
    run = learning.run(workload, 1 if budget is None else budget.choice.count)
    actor = training.of_step(model, run.trained, objective=run.objective)
    report = replace(actor, workload=actor.workload | run.effective)
    if run.rollout is not None:
        report = _together(model, report, run, run.rollout, budget)
    return _open(report, run)


def _together(
    model: Model, actor: Report, run: LearningRun, rollout: Rollout, budget: "Budget | None"
) -> Report:
    """Return the report of a step whose roles meet."""
    gpus = [d for d in actor.devices if d.kind == "gpu"]
    served = _served(model, run, rollout, budget)
    engine = served and next(d for d in served.devices if d.kind == "gpu")
    fullest = max(gpus, key=lambda d: d.peak("driver").expected)
    roles = {"actor": _actor(fullest)}
    if served and engine:
        roles["engine"] = _engine(engine, served, rollout)
    phases = compose(_schedule(run, rollout, roles), roles)
    devices = tuple(replace(d, phases=phases) for d in gpus)
    hosts = tuple(d for d in actor.devices if d.kind == "host")
    judged = None if budget is None else on_devices.serving(devices, budget)
    return replace(
        actor,
        devices=(*devices, *hosts),
        workload=actor.workload | _of_engine(rollout, served),
        verdict=on_host.both(judged, (*devices, *hosts), run.trained.host_memory()),
        warnings=(*actor.warnings, *(served.warnings if served else ())),
    )


def _served(
    model: Model, run: LearningRun, rollout: Rollout, budget: "Budget | None"
) -> Report | None:
    """Ask what the engine takes on the cards that it has."""
    if rollout.generates:
        asked = Infer(
            engine="transformers",
            dtype="bfloat16",
            gpu=run.trained.gpu,
            batch_size=rollout.generates,
            context=run.trained.seq_len,
        )
        return infer(model, asked, limits=())
    card = rollout.cards or _cards(run.trained.gpu, rollout.infer.tensor_parallel_size or 1)
    return infer(model, rollout.infer.but(gpu=card), limits=())


def _cards(gpu: str | None, count: int) -> str | None:
    """Name so many of the trainer's cards."""
    return gpu if gpu is None else f"{gpu.partition(':')[0]}:{count}"


# ---- roles, cut


def _actor(device: Device) -> Role:
    """The trainer: its own instants, and what stays of it where others work."""
    instants = {one.name: one for one in device.phases}
    forward = instants["forward"]
    stays = [c for c in forward.components if c.stays or c.name == "gradients"]
    rest = {
        AWAY: [c for c in stays if c.name in OF_PROCESS],
        HERE: [c for c in stays if c.name != "optimizer_states"],
        STATES: stays,
    }
    named = {name: Instant(name, tuple(there)) for name, there in rest.items()}
    return Role(instants | named, process="trainer")


def _engine(device: Device, served: Report, rollout: Rollout) -> Role:
    """The engine: loading, writing, asleep, and awake without its cache."""
    instants = {one.name: one for one in device.phases}
    if rollout.generates:
        wrote = max(device.phases, key=lambda one: one.at("driver").expected)
        own = (c for c in wrote.components if c.name in GENERATED)
        return Role({AWAKE: Instant(AWAKE, tuple(own))}, process="trainer")
    awake = _awake(device, served)
    instants |= {AWAKE: awake, "sleep": _asleep(instants, served) if rollout.sleep else awake}
    instants.setdefault("wake", awake)
    if rollout.shared:
        instants = {name: _without(one, SHARED) for name, one in instants.items()}
    return Role(instants, process="trainer" if rollout.same_process else "engine")


GENERATED = ("kv_cache", "recurrent_state", "activations", "logits", "temporaries")
SHARED = ("weights",)


def _without(one: Instant, names: Iterable[str]) -> Instant:
    return replace(one, components=tuple(c for c in one.components if c.name not in names))


def _asleep(instants: Mapping[str, Instant], served: Report) -> Instant:
    asleep = instants["sleep"]
    if sum(d.kind == "gpu" for d in served.devices) < 2:
        return asleep
    more = Component(
        name="other",
        detail="left asleep by several ranks",
        bytes=MORE_ASLEEP,
        basis="assumed",
        formula="up to 1.5 GiB: 0.7 to 2.5 GiB were read beside context and graphs",
        source="published runs of several engine ranks",
    )
    return replace(asleep, components=(*asleep.components, more))


def _awake(device: Device, served: Report) -> Instant:
    """The engine as it writes: its cache is what its share leaves; the room of the profile's widest
    step is empty while a few sequences decode, and full at worst."""
    decode = next(one for one in device.phases if one.name == "decode")
    cache = served.derived.get("available_kv_cache_interval")
    if cache is None:
        return device.reserving(decode)
    stays = [
        c for c in decode.components if c.stays and c.name != "kv_cache" or c.name == "buffers"
    ]
    blocks = Component(
        name="kv_cache",
        bytes=Bytes(*cache),
        basis="computed",
        detail="all that the share leaves",
        source="vllm v1/worker/gpu_worker.py (determine_available_memory)",
    )
    there = total(c.bytes for c in (*stays, blocks))
    working = decode.of("activations", "logits", "temporaries").expected
    most = max(0, (device.taken or 0) - there.high)
    wide = min(WRITING, working)
    step = Component(
        name="temporaries",
        bytes=Bytes(0, wide, max(wide, most)),
        basis="assumed",
        detail="a step of the engine",
        formula="up to the room of the profile's widest step",
        source="vllm v1/worker/gpu_worker.py",
    )
    return Instant(AWAKE, (*stays, blocks, step))


# ---- the schedule


def _schedule(
    run: LearningRun, rollout: Rollout, roles: Mapping[str, Role]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each instant of a step with where each role is."""
    here = not rollout.cards
    actor = roles["actor"].instants
    resting = AWAY if "weights" in run.away else HERE
    again = AWAY if "weights" in run.away else HERE if "states" in run.away else STATES
    engine = {"engine": "sleep"} if here and not rollout.generates else {}
    if here and not rollout.generates:
        yield "engine-start", {"actor": HERE, "engine": "load"}
        yield "rollout", {"actor": resting, "engine": AWAKE}
    elif here:
        yield "rollout", {"actor": STATES, "engine": AWAKE}
    for name in (LOG_PROBS, REFERENCE, *UPDATE):
        if name in actor:
            yield name, {"actor": name, **engine}
    if here and not rollout.generates and not rollout.shared:
        sending = HERE if "states" in run.away else STATES
        yield "weight-sync", {"actor": sending, "engine": "wake"}
    if here and not rollout.generates:
        yield "cache-wakes", {"actor": again, "engine": AWAKE}


def _of_engine(rollout: Rollout, served: Report | None) -> dict[str, Any]:
    if rollout.generates or served is None:
        return {"rollout_engine": "none"}
    known = {"gpu_memory_utilization": "gpu_memory_utilization", "max_num_seqs": "max_num_seqs"}
    return {
        "rollout_engine": rollout.infer.engine,
        "rollout_version": served.workload["engine_version"],
        "rollout_tp": rollout.infer.tensor_parallel_size,
        "sleep_level": rollout.sleep,
        **{ours: served.workload.get(theirs) for ours, theirs in known.items()},
    }


# ---- what was not said


def _open(report: Report, run: LearningRun) -> Report:
    """Return the report with a verdict that is no "yes" where something that decides was not
    said."""
    verdict = report.verdict
    if verdict is None or not run.unsaid or verdict.fits != "yes":
        return report
    names = ", ".join(f"--{name.replace('_', '-')}" for name in run.unsaid)
    why = sentence("learning.unsaid", names=names)
    return replace(report, verdict=verdict.turned("unknown", clauses(why, verdict.reason)))
