"""What makes a run fit that learns from rewards or preferences, as one ladder of steps.

    one row to a pass without gradients, a fused head, checkpoints, half of the rows or tokens of a
    forward, everything shared, sleep, a smaller share, states and weights away while the engine
    writes, a reference elsewhere, rows cut over cards, states in RAM, 16 bits, adapters, shorter
    answers; then other cards

A step is tried where it lowers the instant that binds. What was typed of how a run goes is changed
where nothing cheap that was not does.
Source of the order: threads about verl, OpenRLHF and TRL (docs/rewards.md).
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from weighbridge.answers.remedies import devices
from weighbridge.answers.remedies.case import RemedyCase
from weighbridge.answers.remedies.climbing import Climb, Step, answered
from weighbridge.answers.remedies.typed import WANTED
from weighbridge.base.memory import HIGH
from weighbridge.base.records import replace
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.training import learning
from weighbridge.workload.flags import flags
from weighbridge.workload.train import REWARDS

ROWS = ("batch_size", "gradient_accumulation")
QUIET = ("log-probs", "reference")
# The step of an optimizer, too: what the allocator has kept of a backward is there
GRAPH = ("forward", "loss", "backward", "step", "critic")
TRAINS = (*QUIET, "reward", *GRAPH)
WRITES = ("engine-start", "rollout", "cache-wakes")
ASKS = 10  # questions of one ladder: each takes 0.3 to 1 s
SHORTEST = 256  # tokens of an answer that teaches (assumed)
LITTLE = 0.02  # of a card: a share that is smaller by less lowers next to nothing (assumed)
RANK = 16  # of adapters, as most recipes have it (assumed)
# Settings that say what is wanted: rows of a forward are none, as their product with accumulation
# stays
ASKED = {*WANTED, "num_generations", "reward_model", "critic", "tuner"} - {*ROWS}
# Who can: TRL and those on its classes share out by DeepSpeed; whose states leave, and weights
DEEPSPEED = ("trl", "ms-swift", "llama-factory", "axolotl", "openrlhf")
LEAVE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("verl", "easyr1", "ms-swift"), ("states", "weights")),
    "openrlhf": ("states",),
}
QUIET_ROWS = ("verl", "easyr1", "openrlhf", "nemo-rl")
FUSED: Mapping[str, str] = {"verl": "chunked", **dict.fromkeys(("trl", "ms-swift"), "liger")}
CUTS = ("verl", "easyr1", "openrlhf", "ms-swift", "nemo-rl")
Hears = Callable[[tuple[Remedy, ...]], None]
# Points that compare (assumed but for the order)
FREE, SLOWER, WAITS = Price(), Price(speed=6), Price(speed=3)
DEAR = 7  # points, from which on a step comes after cheap ones of what was typed
LOOSER, FEWER, SHORTER = Price(quality=8), Price(quality=6, scope=4), Price(scope=25)


def ladder(case: RemedyCase, *, hears: Hears | None = None) -> tuple[Remedy, ...]:
    """Climb from the question that was asked; where nothing fits, up to other cards. `hears` is
    told the steps when all are known: they take a second or two."""
    if _fits(case.report):
        return ()
    climb = Climb(case.report, case.workload, case.ask)
    pinned = case.pinned & ASKED

    def later(step: Step) -> tuple[bool, bool]:
        return step.price.points > DEAR, not case.free(*step.change)

    def steps(now: Report, w: Any) -> Iterator[Step]:
        able = (step for step in _steps(now) if pinned.isdisjoint(step.change))
        yield from sorted(able, key=later)

    _starting(case, climb)
    climb.up(steps, asks=ASKS, enough=_fits)
    if not _fits(climb.now):
        _to_cards(case, climb)
    steps_taken = tuple(_pasted(remedy, climb.now) for remedy in climb.climbed)
    if hears is not None:
        hears(steps_taken)
    return steps_taken


def _fits(report: Report) -> bool:
    """Tell whether cards have the room and the engine starts, though it may be open what else
    decides."""
    v = report.verdict
    return v is None or (v.fits != "no" and v.per_device.high <= v.usable.low)


def _starting(case: RemedyCase, climb: Climb) -> None:
    """Give an engine the share that it needs to start, where it has less."""
    row, needed = case.report.workload, case.report.derived.get("share_needed")
    share = row.get("gpu_memory_utilization")
    if needed is None or share is None or share >= needed:
        return
    step = _step("needed", {"gpu_memory_utilization": needed}, FREE, share=f"{needed:.0%}")
    then = answered(case.ask, case.workload.but(**step.change))
    if then is not None:
        climb.take(step, then)


def _to_cards(case: RemedyCase, climb: Climb) -> None:
    """Take the first other cards on which the changed question fits."""
    there = replace(case, workload=climb.current, report=climb.now, pinned=case.pinned | {"shard"})
    for move in islice(devices.moves(there), 3):
        then = answered(case.ask, climb.current.but(**move.change))
        if then is not None and _fits(then):
            climb.take(Step(move.change, _flagged(move.change, move.cost.words), FREE), then)
            return


def _pasted(remedy: Remedy, report: Report) -> Remedy:
    """Add the change in the framework's own words; what it has no word for is noted."""
    words, others = learning.spelled(str(report.workload["framework"]), remedy.change)
    names = ", ".join(f"--{name.replace('_', '-')}" for name in others if name != "gpu")
    note = sentence("learning.elsewhere", names=names) if names and words else ""
    return replace(remedy, paste=words, note=note)


def _flagged(change: Mapping[str, Any], what: str) -> Sentence:
    return sentence("step.flagged", flags=flags(change, ""), what=what)


def _step(key: str, change: Mapping[str, Any], price: Price, *lowers: str, **values: Any) -> Step:
    return Step(change, _flagged(change, sentence(f"step.{key}", **values)), price, lowers)


def _steps(now: Report) -> Iterator[Step]:
    """Yield every step from an answer on, in the order that people take them."""
    row = now.workload
    for rungs in RUNGS:
        yield from rungs(now, row)


def _passes(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    framework = row["framework"]
    if framework in QUIET_ROWS and (row.get("logprob_batch_size") or 1) > 1:
        yield _step("quiet", {"logprob_batch_size": 1}, FREE, *QUIET)
    fused = FUSED.get(framework)
    newest = framework == "trl" and row["framework_version"] is None  # whose head is fused
    if fused and not newest and row["loss"] != fused:
        yield _step("logits", {"loss": fused}, FREE, *QUIET, *GRAPH)
    if row["checkpointing"] == "none":
        yield _step("again", {"checkpointing": "full"}, SLOWER, *GRAPH)


def _rows(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    rows, tokens = row["batch_size"], row.get("max_tokens_per_gpu")
    if tokens and tokens // 2 >= row["seq_len"]:
        half = {"max_tokens_per_gpu": tokens // 2}
        yield _step("tokens", half, WAITS, *QUIET, *GRAPH, tokens=f"{tokens // 2:,}")
    elif not tokens and rows > 1 and rows % 2 == 0:
        steps = 2 * (row["gradient_accumulation"] or 1)
        change = {"batch_size": rows // 2, "gradient_accumulation": steps}
        yield _step("rows", change, WAITS, *QUIET, *GRAPH, rows=rows // 2, steps=steps)


def _shares(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    shards = row["shard"] in ("none", "ddp", "zero1", "zero2")
    if shards and row["framework"] in DEEPSPEED and _cards(now) > 1:
        yield _step("sharded", {"shard": "zero3"}, WAITS)


def _engine(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    """Steps of an engine that is on the trainer's cards."""
    if row.get("rollout_engine") in (None, "none") or row.get("rollout_gpu"):
        return
    framework, asleep = row["framework"], bool(row.get("sleep_level"))
    if not asleep:
        level = 2 if framework == "trl" else 1
        yield _step("sleep", {"sleep_level": level}, WAITS, *TRAINS)
    share, v = row.get("gpu_memory_utilization"), now.verdict
    if share and v is not None:
        binding = now.fullest.binding(HIGH).at("driver").high
        lacks = (binding - v.usable.low) / v.total.expected
        less = int(100 * (share - lacks) - 1) / 100
        if float(now.derived.get("share_needed") or share) <= less < share - LITTLE:
            change = {"gpu_memory_utilization": less}
            everywhere = () if asleep else TRAINS
            yield _step("share", change, WAITS, *WRITES, *everywhere, share=f"{less:.0%}")
    away = LEAVE.get(framework, ())
    there = row.get("rollout_offload")
    for what in away[away.index(there) + 1 :] if there in away else away:
        waits = (*WRITES, "weight-sync") if what == "states" else WRITES
        yield _step(what, {"rollout_offload": what}, WAITS, *waits)


def _references(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    if row["reference"] not in ("copy", "host"):
        return
    if row["framework"] == "openrlhf" and row["reference"] == "copy":
        yield _step("reference", {"reference": "host"}, SLOWER)
    if row["method"] in REWARDS:
        yield _step("free", {"kl_beta": 0.0}, LOOSER)
    elif row["framework"] in ("trl", "unsloth"):
        yield _step("precomputed", {"reference": "precomputed"}, FREE)


def _elsewhere(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    count, framework = _cards(now), row["framework"]
    if count > 1 and framework in CUTS and row["context_parallel_size"] == 1:
        yield _step("cut", {"context_parallel_size": count}, SLOWER, *QUIET, *GRAPH, cards=count)
    if row["offload"] == "none" and row["tuner"] == "full" and framework in DEEPSPEED:
        change = {"offload": "optimizer"}
        if not row["shard"].startswith("zero"):
            change["shard"] = "zero2"
        yield _step("states_host", change, Price(speed=12))
    elif row["offload"] == "none" and framework == "verl" and count > 1:
        yield _step("all_host", {"shard": "fsdp2", "offload": "params"}, Price(speed=30))


def _smaller(now: Report, row: Mapping[str, Any]) -> Iterator[Step]:
    full = row["tuner"] == "full"
    if row["dtype"] == "float32" and row["framework"] in DEEPSPEED:
        name, price = ("sixteen", LOOSER) if full else ("halved", FREE)
        yield _step(name, {"dtype": "bfloat16"}, price)
    if full:
        yield _step("adapters", {"lora_r": RANK}, FEWER)
    answer, length = row.get("max_new_tokens"), row["seq_len"]
    if answer and answer // 2 >= SHORTEST:
        change = {"max_new_tokens": answer // 2}
        yield _step("shorter", change, SHORTER, *QUIET, *GRAPH, tokens=f"{answer // 2:,}")
    elif not answer and length // 2 >= SHORTEST:
        change = {"seq_len": length // 2}
        yield _step("pairs", change, SHORTER, *QUIET, *GRAPH, tokens=f"{length // 2:,}")


def _cards(now: Report) -> int:
    return 1 if now.verdict is None else now.verdict.count


RUNGS: tuple[Callable[[Report, Mapping[str, Any]], Iterator[Step]], ...] = (
    *(_passes, _rows, _shares, _engine, _references, _elsewhere, _smaller),
)
