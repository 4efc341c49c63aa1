"""`train` with rewards or preferences: models in several roles that share the same cards.

    engine-start             the engine loads beside the trainer and profiles its largest step
    rollout                  it generates, in the first step: the optimizer has no states yet
    log-probs, reference     passes without gradients
    reward                   a reward model scores the answers
    forward, loss, backward, step      the policy's update; before it that of a critic
    weight-sync              the engine, awake without its KV cache, receives the weights
    cache-wakes              it generates again, from the second step on: states exist

Each role is an answer by itself (`infer`, `train`), cut into its phases and what it holds while
other roles work; only `compose` adds them up. Preferences have one role, whose reference is part of
its step.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

from weighbridge.answers.estimate import learning_host, row_lengths
from weighbridge.answers.estimate import train as training
from weighbridge.answers.estimate.infer import infer
from weighbridge.answers.estimate.learning_roles import (
    ALONE,
    ASLEEP,
    AWAKE,
    AWAY,
    GENERATED,
    HERE,
    POOLED,
    PROCESS,
    SENT,
    STATES,
    WEIGHTS,
    awake_of,
    cards_of,
    either,
    fullest,
    on_base,
    only,
    trainer,
    widened,
    without,
)
from weighbridge.answers.verdict import on_devices, on_host
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.memory import (
    Bytes,
    Component,
    Device,
    Instant,
    Role,
    binding,
    compose,
    exactly,
)
from weighbridge.base.records import replace
from weighbridge.base.sentences import Sentence, clauses, parts_of, sentence
from weighbridge.base.units import MIB
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EngineCards
from weighbridge.memory.report.verdict import Condition
from weighbridge.models.checkpoint.model import Model
from weighbridge.training import learning
from weighbridge.training.forward.heads import another, head
from weighbridge.training.learning import LearningRun, Rollout
from weighbridge.training.learning.words import keyed, program_of
from weighbridge.training.objective import LOG_PROBS, REFERENCE, Objective
from weighbridge.training.plan import USUAL
from weighbridge.workload import Infer, Train

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.memory.report.verdict import Verdict

UPDATE = ("forward", "loss", "backward", "step")
MORE_ASLEEP = Bytes(
    0, 0, 1536 * MIB
)  # several ranks: 0.7 to 2.5 GiB were read, and no rule is known
QUIET = (20, 10, 3)  # of what Megatron's layers save, a pass that saves nothing has a part at once
SHARING = ("data", "tensor", "pipeline", "context")


def train(
    model: Model, workload: Train, others: Mapping[str, Model | None], *, sought: bool = True
) -> Report:
    """Report the fullest moment of a step, per card. `others`: the models of "critic" and "reward",
    None for the trained one; `sought`: also search for the longest rows that fit. Raises
    UnsupportedError if our rules do not cover the method or the framework."""

    def ask(changed: Train) -> Report:
        return _step(model, changed, others)[0]

    report, run = _step(model, workload, others)
    if run.capped:
        report = row_lengths.judged(workload, report, ask, sought=sought)
    return _open(report, run)


def _step(
    model: Model, workload: Train, others: Mapping[str, Model | None]
) -> tuple[Report, LearningRun]:
    budget = workload.budget()
    if workload.writes and not training.writes(model):
        raise ContradictionError(sentence("learning.no_writer", method=workload.learns))
    run = learning.run(workload, learning.counted(workload))
    actor = _either(model, workload, run, _trained(model, run))
    lines = (_of_rows(line, run) for line in actor.warnings)
    actor = replace(actor, warnings=(*filter(None, lines), *run.notes))
    derived = actor.derived.copy()
    if not {"seq_len", "max_new_tokens"}.isdisjoint(run.unsaid):
        derived["context_from"] = USUAL
    report = replace(actor, workload={**actor.workload, **run.effective}, derived=derived)
    if run.rollout is not None:
        report = _Meeting(model, report, run, run.rollout, others, budget).report
    else:
        report = replace(report, **_alone(actor, run, budget))
    return report, run


def _either(model: Model, workload: Train, run: LearningRun, newest: Report) -> Report:
    """Return the policy's step by the newest release. If the user named none, its high ends are
    raised to those of another release that it may be."""
    release = another(workload.learns or "", workload.framework or learning.USUAL)
    if workload.framework_version or release is None or run.trained.framework == training.MEGATRON:
        return newest
    with suppress(UsageError):  # some methods are newer than that release
        named = workload.but(framework_version=release)
        other = learning.run(named, learning.counted(workload))
        return either(newest, _trained(model, replace(other, outside="")), release)
    return newest


def _of_rows(line: str, run: LearningRun) -> str:
    """Return a warning about a forward's length as one about its longest row, since a forward packs
    several; "" if the row is no longer than the model's maximum."""
    if not isinstance(line, Sentence) or line.key != "beyond":
        return line
    row, most = run.effective.get("seq_len") or line.values["tokens"], line.values["most"]
    return sentence("beyond", tokens=row, most=most) if row > most else ""


def _alone(report: Report, run: LearningRun, budget: "Budget | None") -> dict[str, Any]:
    """Return the report's fields for a run without rollouts: its devices, as its reference may be
    on the host, and a new verdict if those differ from the step's: they may be larger by a release
    that nobody named (`_either`)."""
    devices, objective = report.devices, run.objective
    if objective.reference == "host":
        roles = {"actor": trainer(report, fresh=True)}
        cards = (d for d in devices if d.kind == "gpu")
        devices = (*cards, *_hosts(report, run, roles, None))
    asked = run.trained
    as_asked = objective.head.known and asked.framework != training.MEGATRON
    if budget is None or (as_asked and asked.framework_version and devices is report.devices):
        return {"devices": devices}
    judged = on_devices.serving([d for d in devices if d.kind == "gpu"], budget)
    verdict = on_host.both(judged, devices, run.trained.host_memory())
    return {"devices": devices, "verdict": verdict}


def _trained(model: Model, run: LearningRun) -> Report:
    """Return the report of the policy's step, with its passes without gradients."""
    if run.trained.framework != training.MEGATRON:
        asked = training.with_kernels(model, run.trained, run.effective["framework"])
        report = training.of_step(model, asked, objective=run.objective)
        return widened(report, run, run.trained.batch_size or 1)
    from weighbridge.answers.estimate import megatron

    report = megatron.train(model, run.trained, values=run.objective.marks)
    devices = (_with_passes(d, run) if d.kind == "gpu" else d for d in report.devices)
    return replace(report, devices=tuple(devices))


def _valued(model: Model, run: LearningRun) -> Report:
    """Return the report of a critic's step, with the settings of the policy's."""
    if run.trained.framework == training.MEGATRON:
        from weighbridge.answers.estimate import megatron

        return megatron.train(model, run.trained, values=True)
    valued = Objective(method="critic", head=head("reward", "trl", None))
    asked = training.with_kernels(model, run.trained, run.effective["framework"])
    return training.of_step(model, asked, objective=valued)


def _with_passes(device: Device, run: LearningRun) -> Device:
    """Return the device with phases for passes without gradients, for Megatron, whose loss is part
    of its forward; and with the reference's copy of the weights in every phase."""
    phases = device.phases
    if run.objective.reference == "copy":
        weights = phases[0].of("weights")
        copy = Component(
            name="weights", role=REFERENCE, detail=REFERENCE, bytes=weights, basis="computed"
        )
        phases = tuple(replace(one, components=(*one.components, copy)) for one in phases)
    forward = next(one for one in phases if one.name == "forward")
    step = (run.trained.batch_size or 1) * (run.trained.seq_len or 1)
    tokens = Fraction(run.objective.quiet * run.objective.length or step, step)
    parts = tuple(_unsaved(part, tokens) for part in forward.components)
    passes = (Instant(name, parts) for name in run.objective.before)
    return replace(device, phases=(*phases, *passes))


def _unsaved(part: Component, tokens: Fraction) -> Component:
    """Return a forward's component in a pass without gradients of `tokens` times its tokens."""
    if part.name == "logits":
        return replace(part, bytes=Bytes(*(int(tokens * each) for each in part.bytes)))
    if part.name != "activations":
        return part
    few = Bytes(*(int(tokens * part.bytes.expected / each) for each in QUIET))
    return replace(
        part, bytes=few, basis="assumed", formula="a layer or two of those that are kept"
    )


class _Meeting:
    """The roles of one step, composed into one report."""

    def __init__(
        self,
        model: Model,
        actor: Report,
        run: LearningRun,
        rollout: Rollout,
        others: Mapping[str, Model | None],
        budget: "Budget | None",
    ) -> None:
        self.model, self.actor, self.run, self.rollout = model, actor, run, rollout
        self.budget, self.others = budget, others
        self.served = self._served()
        self.beside = dict(self._beside())
        self.roles = dict(self._roles())

    @property
    def report(self) -> Report:
        cards = [d for d in self.actor.devices if d.kind == "gpu"]
        phases = compose(self._schedule(), self.roles)
        devices = tuple(replace(d, phases=phases) for d in cards)
        apart = self._own_cards(len(cards))
        writes = None if self.rollout.generates else self.served
        hosts = _hosts(self.actor, self.run, self.roles, writes)
        judged = None if self.budget is None else on_devices.serving(devices, self.budget)
        every = (*devices, *apart, *hosts)
        derived = self.actor.derived.copy()
        needed = self.served.derived.get("gpu_memory_utilization_needed")
        if needed is not None:
            derived["share_needed"] = needed
        if apart:
            derived["rollout_cards"] = self._engine_alone(len(apart))
        return replace(
            self.actor,
            devices=every,
            workload=self.actor.workload | self._settings(),
            derived=derived,
            verdict=self._started(on_host.both(judged, every, self.run.trained.host_memory())),
            warnings=(*self.actor.warnings, *self._warnings()),
        )

    def _started(self, verdict: "Verdict | None") -> "Verdict | None":
        """Return the verdict, "no" if the engine would not start with its share of the card; open
        if the user named no engine release and the weights alone fit in that share."""
        served = self.served.verdict
        if verdict is None or served is None or verdict.fits == "no" or self.rollout.shared:
            return verdict  # the trainer's estimate includes a shared base
        unnamed = self.rollout.infer.engine_version is None
        starts = served.fits == "yes" or (served.fits == "unknown" and not unnamed)
        if self.served.derived.get("serves_as_asked", True) or starts:
            return verdict
        why, device = parts_of(served.reason)[0], fullest(self.served)
        least = device.phases[0].of("weights").low
        if unnamed and least <= (device.taken or 0):
            release = Condition("release", opens="yes")
            return verdict.under(release, reason=clauses(sentence("learning.release"), why))
        return verdict.under(*(one for one in served.conditions if one.holds == "no"), reason=why)

    # ---- questions

    def _served(self) -> Report:
        """Return the engine's report on the cards it uses."""
        asked, rollout = self.run.trained, self.rollout
        if rollout.generates:
            return self._by_transformers(self.model, rollout.generates)
        ranks, card = rollout.infer.tensor_parallel_size or 1, rollout.cards
        if ":" not in card and (card or asked.gpu):
            card = cards_of(card or asked.gpu or "", ranks)
        question = rollout.infer.but(gpu=card or None)
        if rollout.of_free and self.budget is not None and not rollout.cards:
            question = question.but(headroom=self._occupied(self.budget))
        return infer(_as_trained(self.model, asked), question, limits=())

    def _occupied(self, budget: "Budget") -> str:
        """Return the bytes of a card that are in use when an engine starts, as "... MiB"."""
        place = AWAY if "weights" in self.run.away else HERE
        here = trainer(self.actor, fresh=True).instants[place].at("driver").expected
        return f"{(budget.headroom + here) // MIB}MiB"

    def _by_transformers(self, model: Model, rows: int) -> Report:
        """Return the report of a model that runs `rows` rows at once in the trainer's process."""
        gpu = self.run.trained.gpu
        question = Infer(
            engine="transformers",
            dtype="bfloat16",
            gpu=gpu and cards_of(gpu, 1),
            batch_size=rows,
            context=self.actor.workload["seq_len"],
        )
        return infer(model, question, limits=())

    def _beside(self) -> Iterator[tuple[str, Report]]:
        """Yield the reports of a critic and a reward model, if there are any."""
        run = self.run
        if run.critic:
            yield "critic", _valued(self.others.get("critic") or self.model, run)
        marks = self.others.get("reward")
        if marks is not None:
            yield "reward", self._by_transformers(marks, run.effective["logprob_batch_size"])

    # ---- roles, cut

    def _roles(self) -> Iterator[tuple[str, Role]]:
        empties = self.run.objective.empties or self.rollout.sleep > 0
        yield "actor", trainer(self.actor, fresh=empties)
        yield "engine", self._engine()
        if "critic" in self.beside:
            critic = trainer(self.beside["critic"], fresh=True)
            if self.run.one_base:
                critic = critic._replace(instants=on_base(critic.instants))
            if self.run.workers:
                critic = critic._replace(process="critic")
            update = binding(critic.instants[name] for name in UPDATE if name in critic.instants)
            yield "critic", critic._replace(instants={**critic.instants, "critic": update})
        if "reward" in self.beside:
            device = fullest(self.beside["reward"])
            here = Instant(HERE, tuple(c for c in device.phases[0].components if c.stays))
            marks = replace(device.binding(), name="reward")
            yield "reward", Role({HERE: here, STATES: here, "reward": marks}, process=PROCESS)

    def _engine(self) -> Role:
        """Return the engine's role: loading, generating, asleep, and awake without its KV cache."""
        device, rollout = fullest(self.served), self.rollout
        if rollout.generates:
            there = (*GENERATED, "weights") if self.run.gathers else GENERATED
            return Role({AWAKE: only(device.binding(), there)}, process=PROCESS)
        awake = awake_of(device, self.served)
        instants = {one.name: one for one in device.phases} | {AWAKE: awake}
        slept = instants.get(ASLEEP) or without(awake, POOLED)  # SGLang's memory saver
        instants[ASLEEP] = self._asleep(slept) if rollout.sleep else awake
        woken = without(awake, POOLED[1:]) if rollout.sleep else awake
        woken = self._receiving(instants.get(WEIGHTS, woken))
        instants |= {WEIGHTS: woken, SENT: Instant(SENT, woken.components[-1:])}
        if rollout.shared:
            instants = on_base(instants)
        return Role(instants, process=PROCESS if rollout.same_process else "engine")

    def _receiving(self, awake: Instant) -> Instant:
        """Return the engine's phase while weights arrive, with the bytes sent at once."""
        sent, ranks = exactly(self.run.bucket), self.rollout.infer.tensor_parallel_size or 1
        if self.run.gathers:
            parts = self.run.effective["sync_parts"] or 1  # equal, but embeddings may be more
            part = ranks * awake.of("weights").expected // parts
            sent = Bytes(part, part, part if parts == 1 else 2 * part)
        at_once = Component(
            name="temporaries",
            detail="what is sent at once",
            bytes=sent,
            basis="read",
            formula="--sync-bucket, or the framework's own; of --sync-parts one",
        )
        return replace(awake, components=(*awake.components, at_once)) if sent.high else awake

    def _asleep(self, asleep: Instant) -> Instant:
        if sum(d.kind == "gpu" for d in self.served.devices) < 2:
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

    # ---- the schedule

    @property
    def _shares(self) -> bool:
        """Return whether the engine runs on the trainer's cards."""
        return not self.rollout.cards and not self.rollout.generates

    def _schedule(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield (phase of the step, role -> that role's phase), in order."""
        writing = dict.fromkeys(self.beside, AWAY if "others" in self.run.away else STATES)
        resting = AWAY if self.run.in_turn else STATES
        rests = dict.fromkeys(self.beside, resting) | ({"engine": ASLEEP} if self._shares else {})
        actor = self.roles["actor"].instants
        yield from self._first({name: HERE if at == STATES else at for name, at in writing.items()})
        for name in (LOG_PROBS, REFERENCE):
            if name in actor:
                yield name, {"actor": name, **rests}
        for name in self.beside:
            yield name, {"actor": resting, **rests, name: name}
        for name in UPDATE:
            if name in actor:
                yield name, {"actor": name, **rests}
        if self._shares:
            yield from self._again(writing)
        elif self.run.gathers and self.rollout.sends and self.rollout.cards:
            yield "weight-sync", {"actor": STATES, **writing, "engine": SENT}

    def _first(self, writing: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield the first rollout: with an engine before optimizer states exist, else with them."""
        if self._shares:
            resting = AWAY if "weights" in self.run.away else HERE
            yield "engine-start", {"actor": resting, **writing, "engine": "load"}
            yield "rollout", {"actor": resting, **writing, "engine": AWAKE}
        elif not self.rollout.cards:
            yield "rollout", {"actor": STATES, **writing, "engine": AWAKE}

    def _again(self, writing: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield the phases of rollouts from the second step on, and the weight sync before them."""
        sending, resting = (HERE, AWAY) if "states" in self.run.away else (STATES, ALONE)
        if self.rollout.sends:
            yield "weight-sync", {"actor": sending, **writing, "engine": WEIGHTS}
        if self.rollout.whole_wake:
            resting = STATES
        elif "weights" not in self.run.away:
            resting = sending
        yield "cache-wakes", {"actor": resting, **writing, "engine": AWAKE}

    def _own_cards(self, first: int) -> tuple[Device, ...]:
        """Return the devices of an engine on separate cards; empty on the trainer's."""
        if not self.rollout.cards:
            return ()
        served = [d for d in self.served.devices if d.kind == "gpu"]
        every = range(learning.own_cards(self.rollout))
        return tuple(replace(served[n % len(served)], index=first + n) for n in every)

    def _engine_alone(self, count: int) -> EngineCards:
        """Return the engine's peak on its `count` separate cards, and whether it fits there."""
        verdict = self.served.verdict
        most = self.roles["engine"].instants[AWAKE].at("driver").expected
        facts: EngineCards = {"count": count, "peak_bytes": most}
        if verdict is None:
            return facts
        usable = verdict.usable.expected
        return facts | {
            "accelerator": verdict.accelerator,
            "usable_bytes": usable,
            "fits": verdict.fits,
        }

    def _settings(self) -> dict[str, Any]:
        if self.rollout.generates:
            return {"rollout_engine": "none"}
        served, asked = self.served.workload, self.rollout.infer
        return {
            "rollout_engine": asked.engine,
            "rollout_version": served["engine_version"],
            "rollout_tp": asked.tensor_parallel_size,
            "sleep_level": self.rollout.sleep,
            "gpu_memory_utilization": served.get("gpu_memory_utilization"),
            "max_num_seqs": served.get("max_num_seqs"),
            "max_num_batched_tokens": served.get("max_num_batched_tokens"),
        }

    def _warnings(self) -> Iterator[str]:
        known = set(self.actor.warnings)
        starts = self.served.verdict is None or self.served.verdict.fits != "no"
        yield from (w for w in self.served.warnings if starts and w not in known)
        ours, theirs = _tokens(self.model), _tokens(self.others.get("reward"))
        if ours and theirs and ours != theirs:
            yield sentence("learning.vocabulary", ours=f"{ours:,}", theirs=f"{theirs:,}")


def _as_trained(model: Model, trained: Train) -> Model:
    """Return the model as the trainer sends it to the engine: an 8-bit checkpoint dequantized to 16
    bits, as the trainer has it. Source: verl 0.7 workers/megatron_workers.py (weights are sent in
    bfloat16)."""
    if trained.quantization is not None:
        return model
    parts = (
        replace(p, quantization=None, stored=(), unloaded=())
        if (p.quantization or {}).get("quant_method") in training.DEQUANTIZED
        else p
        for p in model.parts
    )
    return replace(model, parts=tuple(parts))


def _tokens(model: Model | None) -> int:
    """Return the vocabulary size of a model's config, 0 if it has none."""
    config: Mapping[str, Any] = {} if model is None else model.parts[0].config
    return int(config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 0)


def _hosts(
    actor: Report, run: LearningRun, roles: Mapping[str, Role], served: Report | None
) -> tuple[Device, ...]:
    """Return the host device of one machine, with the memory of all roles."""
    ranks = prod(actor.workload.get(f"{name}_parallel_size") or 1 for name in SHARING)
    nodes = 1 if actor.verdict is None else actor.verdict.nodes
    of_one = max(1, ranks // nodes)
    hosts = (d for d in actor.devices if d.kind == "host")
    return tuple(learning_host.host(d, run, of_one, roles, served) for d in hosts)


# ---- what was not said


STATIC = ("weights", "adapters", "master_weights", "gradients", "optimizer_states")


def _open(report: Report, run: LearningRun) -> Report:
    """Return the report with its verdict opened: a "yes" if a deciding setting is unset or the
    release was not read, a "no" if a setting that is unset may make the run fit."""
    verdict = report.verdict
    if verdict is None or verdict.fits == "unknown":
        return report
    if verdict.fits == "yes":
        names = [name for name in run.unsaid if name != "shard"]
    else:
        names = [*run.unsaid] if _least(report, run) <= verdict.usable.low else []
    if names:
        program = program_of(report.workload)
        told = ", ".join(_named(n, program) for n in names)
        unsaid = Condition("not_said", opens=verdict.fits, source=told)
        why = clauses(sentence("learning.unsaid", names=told), verdict.reason)
        return replace(report, verdict=verdict.under(unsaid, reason=why))
    if run.outside and verdict.fits == "yes":
        why = clauses(sentence("learning.outside"), verdict.reason)
        verdict = verdict.under(Condition("release", opens="yes"), reason=why)
    return replace(report, verdict=verdict)


def _least(report: Report, run: LearningRun) -> int:
    """Return the bytes of training state that a card holds at least: an even share, if the user set
    no sharding."""
    cards = report.verdict.count if report.verdict and "shard" in run.unsaid else 1
    return max(one.of(*STATIC).low for one in report.fullest.phases) // cards


def _named(name: str, program: str) -> str:
    """Return a setting's flag, with the framework's name for it in brackets."""
    words = " ".join(key.rpartition("|")[2] for key in keyed(program, {name: 0}) or ())
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} ({words})" if words else flag
