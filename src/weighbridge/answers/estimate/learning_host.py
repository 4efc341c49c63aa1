"""Host memory per machine in a reinforcement-learning step: two phases, beside loading and saving.

    engine-writes    what is offloaded from the cards meanwhile, in pinned blocks
    trainer-trains   the engine's weights, asleep at level 1; and the training step's own memory

What is offloaded from the cards is here at the same moment. A frozen reference in host memory is
always here; so are one process per rank, and those of an engine with its own. Ray's object store
may fill 30 % of the machine, and is counted only at the high end.

Source: ray 2.50 _private/ray_constants.py (DEFAULT_OBJECT_STORE_MEMORY_PROPORTION); torch
ATen/core/CachingHostAllocator.h (blocks of powers of two).
"""

from collections.abc import Iterable, Iterator, Mapping

from weighbridge.base.memory import (
    Bytes,
    Component,
    Device,
    Instant,
    Role,
    compose,
    exactly,
    fullness,
)
from weighbridge.base.records import replace
from weighbridge.base.versions import numbers
from weighbridge.memory.report import Report
from weighbridge.training.learning import LearningRun
from weighbridge.training.objective import REFERENCE

WRITES, TRAINS = "engine-writes", "trainer-trains"
PINNED = (10, 13, 20)  # tenths: rounding adds none to all; 1.3 for many tensors (assumed)
RAY = frozenset(("verl", "easyr1", "openrlhf", "nemo-rl", "slime"))
# First vLLM with sleep mode; before, verl's copy of it moved weights, not pinned, without caches
# (verl 0.2 third_party/vllm/vllm_v_0_6_3/worker.py, free_cache_engine)
POOLS = (0, 7)
STORE = 30  # percent of the machine's memory, at most
WHAT = {  # what is offloaded -> names of its components
    "weights": ("weights", "adapters", "master_weights"),
    "states": ("optimizer_states",),
}


def host(
    device: Device, run: LearningRun, ranks: int, cards: Mapping[str, Role], served: Report | None
) -> Device:
    """Return the host `device` of the training step, with all roles' memory. `ranks`: per machine;
    `cards`: the roles on a card; `served`: the engine's report, if there is one."""
    kept = tuple(_kept(run, ranks, cards["actor"]))
    trainer = {one.name: one for one in device.phases}
    trained = max((trainer[n] for n in ("step", "backward") if n in trainer), key=fullness)
    away = tuple(_away(run, ranks, cards))
    trainer = {
        name: replace(one, components=(*one.components, *(kept if name != "load" else ())))
        for name, one in trainer.items()
    }
    trainer[WRITES] = Instant(WRITES, (*trainer["step"].components, *away))
    trainer[TRAINS] = Instant(TRAINS, (*trained.components, *kept))
    if served is None:
        return replace(device, phases=tuple(trainer[one.name] for one in device.phases))
    engine = _engine(served, run, ranks)
    schedule = (
        ("load", {"actor": "load", "engine": WRITES}),
        (WRITES, {"actor": WRITES, "engine": WRITES}),
        (TRAINS, {"actor": TRAINS, "engine": TRAINS}),
        ("save", {"actor": "save", "engine": TRAINS}),
    )
    here = (row for row in schedule if row[1]["actor"] in trainer)
    process = "actor" if run.rollout is not None and run.rollout.same_process else ""
    roles = {"actor": Role(trainer, process="actor"), "engine": Role(engine, process=process)}
    return replace(device, phases=compose(here, roles))


def _pinned(nbytes: int, role: str, name: str, detail: str) -> Component:
    return Component(
        name=name,
        role=role,
        detail=detail,
        bytes=Bytes(*(nbytes * tenths // 10 for tenths in PINNED)),
        basis="assumed",
        formula="pinned blocks of powers of two, of every rank of a machine",
        source="torch ATen/core/CachingHostAllocator.h",
    )


def _kept(run: LearningRun, ranks: int, actor: Role) -> Iterator[Component]:
    """Yield the components that are there in every phase: a reference, and Ray's object store."""
    if run.objective.reference == "host":
        weights = actor.instants["states"].of("weights").expected
        halves = 1 if run.trained.dtype is None and run.trained.tuning == "full" else 2
        halves = 2 if run.trained.framework == "megatron" else halves
        yield _pinned(ranks * weights * halves // 2, REFERENCE, "weights", REFERENCE)
    room = run.trained.host_memory()
    if run.effective["framework"] in RAY and room is not None:
        yield Component(
            name="other",
            detail="object store",
            bytes=Bytes(0, 0, room.room.high * STORE // 100),
            basis="assumed",
            formula="none to 30 % of the machine's memory",
            source="ray 2.50 _private/ray_constants.py",
            growing=True,
        )


def _away(run: LearningRun, ranks: int, cards: Mapping[str, Role]) -> Iterator[Component]:
    """Yield the copies of what is offloaded from the cards while the engine generates."""
    for what, names in WHAT.items():
        if what in run.away:
            nbytes = cards["actor"].instants["states"].of(*names).expected
            yield _pinned(ranks * nbytes, "", names[0], "away from the cards")
    if "others" in run.away:
        for name in cards.keys() - {"actor", "engine"}:
            nbytes = cards[name].instants["states"].of(*WHAT["weights"], *WHAT["states"]).expected
            yield _pinned(ranks * nbytes, name, "weights", "away from the cards")


def _engine(served: Report, run: LearningRun, ranks: int) -> dict[str, Instant]:
    """Return the engines of one machine while they generate, and while they sleep."""
    of_one = next(d for d in served.devices if d.kind == "host")
    phases = {one.name: one for one in of_one.phases}
    each = max(1, sum(d.kind == "gpu" for d in served.devices))
    copies = 1 if run.rollout is None or run.rollout.cards else max(1, ranks // each)
    awake = [c for c in phases["load"].components if not c.droppable and not c.passing]
    shared = run.rollout is not None and run.rollout.shared  # weights are the trainer's, on cards
    asleep = phases["sleep"].components if "sleep" in phases and not shared else awake
    if (numbers(served.workload["engine_version"]) or POOLS) < POOLS:
        asleep = [
            c if c.name == "other" else replace(c, bytes=exactly(c.bytes.low))
            for c in asleep
            if c.name != "kv_cache"
        ]
    return {
        WRITES: Instant(WRITES, tuple(_times(copies, awake))),
        TRAINS: Instant(TRAINS, tuple(_times(copies, asleep))),
    }


def _times(count: int, components: Iterable[Component]) -> Iterator[Component]:
    for c in components:
        yield replace(c, bytes=Bytes(*(count * each for each in c.bytes)))
