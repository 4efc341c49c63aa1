"""Remedies for runs with rewards or preferences, as one ladder of steps.

    one row per pass without gradients, a fused head, checkpoints, half of the rows or tokens of a
    forward, full sharding, sleep, a smaller share, states and weights offloaded while the engine
    generates, a reference elsewhere, rows split over cards, states in RAM, 16 bits, adapters,
    shorter answers; then other cards; then, if RAM cannot hold what is offloaded, less of that

A step is tried if it lowers the fullest phase, and if the framework has a flag for it
(training/learning/words.txt). Typed settings of how a run goes change only if nothing cheap that
was not typed helps. Source of the order: threads about verl, OpenRLHF and TRL (docs/rewards.md).
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import ceil
from typing import Any

from weighbridge.answers.remedies import devices
from weighbridge.answers.remedies.case import RemedyCase
from weighbridge.answers.remedies.climbing import LEAST, Climb, Step, answered
from weighbridge.answers.remedies.typed import WANTED
from weighbridge.base.memory import HIGH
from weighbridge.base.records import replace
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.base.units import ceil_div
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.training.learning.words import keyed, program_of, spelled
from weighbridge.workload.flags import flags
from weighbridge.workload.train import REWARDS

ROWS = ("batch_size", "gradient_accumulation")
QUIET = ("log-probs", "reference")
# The optimizer's step, too: the allocator still caches the backward's blocks there
GRAPH = ("forward", "loss", "backward", "step", "critic")
TRAINS = (*QUIET, "reward", *GRAPH)
WRITES = ("engine-start", "rollout", "cache-wakes")
ASKS = 14  # estimates per ladder: each takes 0.3 to 1 s
SHORTEST = 256  # tokens per answer, at least (assumed)
LITTLE = 0.02  # share of a card: a smaller decrease lowers next to nothing (assumed)
RANK = 16  # LoRA rank of most recipes (assumed)
# Settings that define the task: rows per forward are not among them, as their product with
# accumulation stays
ASKED = {*WANTED, "num_generations", "reward_model", "critic", "tuner"} - {*ROWS}
# Loss kernels without full logits; other frameworks' Liger fuses only layers
FUSED: Mapping[str, str] = {"verl": "chunked", **dict.fromkeys(("trl", "ms-swift"), "liger")}
# Frameworks whose DeepSpeed files offload states in stage 2, and everything in stage 3
FILES = ("ms-swift", "llama-factory", "axolotl")
# Sharding of a model with parameters in RAM
SHARED = {"verl": "fsdp2", **dict.fromkeys(("trl", *FILES), "zero3")}
TO_A_ROW = ("nemo-rl",)  # tokens per forward are per row, however many cards split it
USUAL, EIGHT = "adamw_torch_fused", "adamw_8bit"
SHARE = "gpu_memory_utilization"
LEAVES = ("states", "weights")
SLEEPS: tuple[Mapping[str, Any], ...] = (
    *({"sleep_level": level} for level in (1, 2)),
    {"standby": True},  # Unsloth's
)
Hears = Callable[[tuple[Remedy, ...]], None]
Rungs = Callable[[Report], Iterator[Step]]
# Prices in comparable points (assumed but for the order)
FREE, SLOWER, WAITS = Price(), Price(speed=6), Price(speed=3)
DEAR = 7  # points: dearer steps come after cheap changes of typed settings
LOOSER, FEWER, SHORTER = Price(quality=8), Price(quality=6, scope=4), Price(scope=25)


def ladder(case: RemedyCase, *, hears: Hears | None = None) -> tuple[Remedy, ...]:
    """Return the steps climbed from the user's question; if nothing fits, up to other cards.
    `hears` gets all steps at the end: they take a second or two."""
    if _fits(case.report):
        return ()
    climb = Climb(case.report, case.workload, case.ask)
    pinned = case.pinned & ASKED

    def later(step: Step) -> tuple[bool, bool]:
        return step.price.points > DEAR, not case.free(*step.change)

    def able(now: Report, *rungs: Rungs) -> list[Step]:
        program, steps = program_of(now.workload), (one for each in rungs for one in each(now))
        able = (one for one in steps if pinned.isdisjoint(one.change))
        return [one for one in able if keyed(program, one.change) is not None]

    _starting(case, climb)
    tuple(
        climb.up(lambda now, w: sorted(able(now, *RUNGS), key=later), asks=ASKS, enough=_on_cards)
    )
    _to_cards(case, climb)
    _off_host(case, climb, lambda now: able(now, _host))
    _spoken(case, climb)
    steps_taken = tuple(_pasted(remedy, climb, case) for remedy in climb.climbed)
    if hears is not None:
        hears(steps_taken)
    return steps_taken


def _fits(report: Report) -> bool:
    """Return whether cards and machine have the room and the engine starts; other conditions may be
    open."""
    v = report.verdict
    return v is None or (v.fits != "no" and _on_cards(report))


def _on_cards(report: Report) -> bool:
    """Return the same for the cards only."""
    v = report.verdict
    if v is None:
        return True
    lacks = v.fits == "no" and (v.host is None or v.host.fits != "no")
    return not lacks and v.per_device.high <= v.usable.low


def _off_host(case: RemedyCase, climb: Climb, steps: Callable[[Report], list[Step]]) -> None:
    """Take the steps that lower host memory, as long as the cards have room."""
    tried: list[Mapping[str, Any]] = []
    while _on_cards(climb.now) and not _fits(climb.now) and len(tried) < ASKS:
        step = next((one for one in steps(climb.now) if one.change not in tried), None)
        if step is None:
            return
        tried.append(step.change)
        step, then = _with_room(case, climb, step)
        if (
            then is not None
            and _on_cards(then)
            and _in_ram(then) < _in_ram(climb.now) * (1 - LEAST)
        ):
            climb.take(step, then)


def _with_room(case: RemedyCase, climb: Climb, step: Step) -> tuple[Step, Report | None]:
    """Return a step with its answer; with a smaller engine share if the cards lack room for what
    then stays on them."""
    then = answered(case.ask, climb.current.but(**step.change))
    if then is None or _on_cards(then):
        return step, then
    shares = (one.change for one in _engine(then) if SHARE in one.change)
    smaller = {**step.change, **next(shares, {})}
    cost = _flagged(smaller, sentence("step.stays"))
    return step._replace(change=smaller, cost=cost), answered(
        case.ask, climb.current.but(**smaller)
    )


def _in_ram(report: Report) -> int:
    v = report.verdict
    return 0 if v is None or v.host is None else v.host.needed.low


def _starting(case: RemedyCase, climb: Climb) -> None:
    """Take the share that the engine needs to start, if it has less."""
    row, needed = case.report.workload, case.report.derived.get("share_needed")
    share = row.get("gpu_memory_utilization")
    if needed is None or share is None or share >= needed:
        return
    step = _step("needed", {"gpu_memory_utilization": needed}, FREE, share=f"{needed:.0%}")
    then = answered(case.ask, case.workload.but(**step.change))
    if then is not None:
        climb.take(step, then)


def _spoken(case: RemedyCase, climb: Climb) -> None:
    """Take the assumed values of unset settings as a step, if it fits then."""
    counted = {name: climb.now.workload[name] for name in climb.now.workload["unsaid"] or ()}
    if counted and climb.climbed:
        then = case.ask(climb.current.but(**counted))
        if then.verdict is not None and then.verdict.fits == "yes":
            climb.take(_step("said", counted, FREE), then)


def _to_cards(case: RemedyCase, climb: Climb) -> None:
    """Take the first other cards on which the changed question fits, if these have no room."""
    if _on_cards(climb.now):
        return
    there = replace(case, workload=climb.current, report=climb.now, pinned=case.pinned | {"shard"})
    for move in islice(devices.moves(there), 3):
        then = answered(case.ask, climb.current.but(**move.change))
        if then is not None and _on_cards(then):
            climb.take(Step(move.change, _flagged(move.change, move.cost.words), FREE), then)
            return


def _pasted(remedy: Remedy, climb: Climb, case: RemedyCase) -> Remedy:
    """Return the remedy with the framework's own flags, and with the assumed dtype of a base beside
    adapters: a command may have another. A note names what has no flag."""
    row = climb.now.workload
    program, adapted = program_of(row), row["tuner"] != "full"
    counted = {"dtype": row["dtype"]} if adapted and case.workload.dtype is None else {}
    full = case.effective["tuner"] == "full" and "lora_r" not in remedy.change
    beside = {} if full or not keyed(program, counted) else counted
    words, others = spelled(program, {**beside, **remedy.change})
    names = ", ".join(f"--{name.replace('_', '-')}" for name in others if name != "gpu")
    note = sentence("learning.elsewhere", names=names) if names and words else ""
    return replace(remedy, paste=words, note=note)


def _flagged(change: Mapping[str, Any], what: str) -> Sentence:
    return sentence("step.flagged", flags=flags(change, ""), what=what)


def _step(key: str, change: Mapping[str, Any], price: Price, *lowers: str, **values: Any) -> Step:
    return Step(change, _flagged(change, sentence(f"step.{key}", **values)), price, lowers)


def _passes(now: Report) -> Iterator[Step]:
    row = now.workload
    framework = row["framework"]
    if (row.get("logprob_batch_size") or 1) > 1:
        yield _step("quiet", {"logprob_batch_size": 1}, FREE, *QUIET)
    fused = FUSED.get(framework)
    newest = framework == "trl" and row["framework_version"] is None  # its head is fused
    if fused and not newest and row["loss"] != fused:
        yield _step("logits", {"loss": fused}, FREE, *QUIET, *GRAPH)
    if row["checkpointing"] == "none":
        yield _step("again", {"checkpointing": "full"}, SLOWER, *GRAPH)


def _rows(now: Report) -> Iterator[Step]:
    row = now.workload
    rows, tokens = row["batch_size"], row.get("max_tokens_per_gpu")
    cards = 1 if row["framework"] in TO_A_ROW else row["context_parallel_size"] or 1
    if tokens and tokens // 2 * cards >= row["seq_len"]:
        half = {"max_tokens_per_gpu": tokens // 2}
        yield _step("tokens", half, WAITS, *QUIET, *GRAPH, tokens=f"{tokens // 2:,}")
    elif not tokens and rows > 1 and rows % 2 == 0:
        steps = 2 * (row["gradient_accumulation"] or 1)
        change = {"batch_size": rows // 2, "gradient_accumulation": steps}
        yield _step("rows", change, WAITS, *QUIET, *GRAPH, rows=rows // 2, steps=steps)


def _shares(now: Report) -> Iterator[Step]:
    row = now.workload
    shards = row["shard"] in ("none", "ddp", "zero1", "zero2")
    if shards and _cards(now) > 1:
        yield _step("sharded", {"shard": "zero3"}, WAITS)


def _engine(now: Report) -> Iterator[Step]:
    """Yield the steps of an engine on the trainer's cards."""
    row = now.workload
    if row.get("rollout_engine") in (None, "none") or row.get("rollout_gpu"):
        return
    asleep = bool(row.get("sleep_level"))
    for change in () if asleep else SLEEPS:
        yield _step("sleep", change, WAITS, *TRAINS)
    share, v = row.get("gpu_memory_utilization"), now.verdict
    if share and v is not None:
        binding = now.fullest.binding(HIGH).at("driver").high
        lacks = (binding - v.usable.low) / v.total.expected
        least = ceil(100 * float(now.derived.get("share_needed") or share)) / 100
        less = max(int(100 * (share - lacks) - 1) / 100, least)
        if less < share - LITTLE:
            change = {"gpu_memory_utilization": less}
            everywhere = () if asleep else TRAINS
            yield _step("share", change, WAITS, *WRITES, *everywhere, share=f"{less:.0%}")
    there = row.get("rollout_offload")
    for what in LEAVES[LEAVES.index(there) + 1 :] if there in LEAVES else LEAVES:
        waits = (*WRITES, "weight-sync") if what == "states" else WRITES
        yield _step(what, {"rollout_offload": what}, WAITS, *waits)


def _references(now: Report) -> Iterator[Step]:
    row = now.workload
    if row["reference"] not in ("copy", "host"):
        return
    if row["reference"] == "copy":
        yield _step("reference", {"reference": "host"}, SLOWER)
    yield _without_reference(row)


def _without_reference(row: Mapping[str, Any]) -> Step:
    if row["method"] in REWARDS:
        return _step("free", {"kl_beta": 0.0}, LOOSER)
    return _step("precomputed", {"reference": "precomputed"}, FREE)


def _elsewhere(now: Report) -> Iterator[Step]:
    row = now.workload
    count = _cards(now)
    cut = 2 * (row["context_parallel_size"] or 1)  # doubled, to find the fewest
    if count % cut == 0:
        change = {"context_parallel_size": cut}
        tokens = row.get("max_tokens_per_gpu")
        if tokens and row["framework"] not in TO_A_ROW:  # per card that shares a row
            change["max_tokens_per_gpu"] = max(tokens // 2, ceil_div(row["seq_len"], cut))
        yield _step("cut", change, SLOWER, *QUIET, *GRAPH, cards=cut)
    if row["tuner"] == "full" and str(row["optimizer"]).startswith("adamw_torch"):
        yield _step("eight", {"optimizer": EIGHT}, Price(quality=1))
    if count == 1:  # no other card to share states with: people train adapters
        yield from _adapters(row)
    if row["offload"] in ("none", "optimizer"):
        yield from _in_ram_for_good(row, count)


def _adapters(row: Mapping[str, Any]) -> Iterator[Step]:
    if row["tuner"] == "full":
        yield _step("adapters", {"lora_r": RANK}, FEWER)


def _in_ram_for_good(row: Mapping[str, Any], count: int) -> Iterator[Step]:
    framework = row["framework"]
    # On the CPU, DeepSpeed steps only with its own Adam
    steps: Mapping[str, Any] = {"optimizer": USUAL} if row["optimizer"] == EIGHT else {}
    shard, by_file = row["shard"], framework in FILES and row["shard"] == "zero3"
    if row["offload"] == "none" and row["tuner"] == "full" and not by_file:
        zero = {} if shard.startswith("zero") else {"shard": "zero2"}
        change = {**zero, **steps, "offload": "optimizer"}
        yield _step("states_own" if steps else "states_host", change, Price(speed=12))
    if count > 1 or shard.startswith("zero"):
        share = SHARED.get(framework, shard)
        change = {**({} if share == shard else {"shard": share}), **steps, "offload": "params"}
        yield _step("all_host", change, Price(speed=30))


def _smaller(now: Report) -> Iterator[Step]:
    row = now.workload
    full = row["tuner"] == "full"
    if row["dtype"] == "float32":
        name, price = ("sixteen", LOOSER) if full else ("halved", FREE)
        yield _step(name, {"dtype": "bfloat16"}, price)
    yield from _adapters(row)
    answer, length = row.get("max_new_tokens"), row["seq_len"]
    if answer and answer // 2 >= SHORTEST:
        change = {"max_new_tokens": answer // 2}
        yield _step("shorter", change, SHORTER, *QUIET, *GRAPH, tokens=f"{answer // 2:,}")
    elif not answer and length // 2 >= SHORTEST:
        change = {"seq_len": length // 2}
        yield _step("pairs", change, SHORTER, *QUIET, *GRAPH, tokens=f"{length // 2:,}")


def _host(now: Report) -> Iterator[Step]:
    """Yield the steps of a machine short of memory: no sleeping copy of the weights, no reference,
    fewer engines, and less offloaded from the cards."""
    row = now.workload
    ranks, there = row.get("rollout_tp") or 1, row.get("rollout_offload")
    if row.get("sleep_level") == 1:
        yield _step("dropped", {"sleep_level": 2}, WAITS)
    if row["reference"] == "host":
        yield _without_reference(row)
    if ranks < _cards(now) and _cards(now) % (2 * ranks) == 0:
        yield _step("engines", {"rollout_tp": 2 * ranks}, WAITS, ranks=2 * ranks)
    stays = ("none", *LEAVES)
    for what in stays[: stays.index(there)][::-1] if there in LEAVES else ():
        yield _step("stays", {"rollout_offload": what}, FREE)


def _cards(now: Report) -> int:
    return 1 if now.verdict is None else now.verdict.count


RUNGS: tuple[Rungs, ...] = (*(_passes, _rows, _shares, _engine, _references, _elsewhere, _smaller),)
