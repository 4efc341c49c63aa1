"""The answer of a training run: devices, effective settings, derived facts, warnings."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.memory import Device
from weighbridge.base.records import field, frozen_record
from weighbridge.base.sentences import about, sentence
from weighbridge.memory.components.device import context, kernels
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.training.forward.limits import followed
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.training.host import on_host
from weighbridge.training.phases import phases
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import StageRuns, TrainingRun, runs_of
from weighbridge.training.sharding.schedule import in_flight

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget


MOST_LISTED = 4096  # devices in a report: each takes 20 kB of JSON
HANDS_ON = 5  # major release of transformers that hands reshard_after_forward on


@frozen_record
class TrainingAnswer:
    """The answer of a training run: what each device holds, the host last. Settings are the
    effective ones, defaults included."""

    devices: tuple[Device, ...]
    managed: int = 0  # bytes of states that the driver pages: on no device yet (host.py)
    settings: EffectiveSettings
    derived: DerivedFacts = field(default_factory=DerivedFacts)
    warnings: tuple[str, ...] = ()


def answer(
    plan: TrainingPlan,
    budget: "Budget | None",
    most: int | None = None,
    runs: Sequence[StageRuns] | None = None,
    *,
    counts: bool = False,
) -> TrainingAnswer:
    """Return the answer to a training request. `most` is the bytes that the allocator can have per
    device, by default all that the GPU has. `runs` are those of an earlier answer with the same
    plan. `counts`: return lower bounds."""
    most = capacity(plan, budget) if most is None else most
    s = plan.sharding
    flights = [in_flight(s, plan.accumulation, i) + 1 for i in range(s.pipeline)]
    followed(plan.subject.body, plan.subject.model.reference, flights)
    stages = [run.least() if counts else run.within(most) for run in (runs or runs_of(plan))]
    fullest = max(stages, key=lambda run: max(run.reserved.values()))
    return TrainingAnswer(
        devices=(*_devices(plan, stages), on_host(plan, fullest)),
        managed=fullest.elsewhere.get("managed", 0),
        settings=(
            {
                "method": plan.method,
                "framework": plan.framework.name,
                "optimizer": plan.optimizer.name,
                "optim_args": list(plan.optim_args),
                "gradient_accumulation": plan.accumulation,
                "checkpointing": plan.checkpointing,
                "use_reentrant": plan.reenters,
                "kbit_upcast": plan.base.upcast,
                "loss": plan.loss,
                "attention": plan.attention,
            }
        ),
        derived=_derived(plan, fullest, stages.index(fullest)),
        warnings=tuple(_warnings(plan, fullest)),
    )


def _ignores_shard_grad_op(plan: TrainingPlan) -> bool:
    """Return whether FSDP1 ignores a Trainer's SHARD_GRAD_OP. transformers 5.0 to 5.23
    training_args.py (_process_fsdp_args) has it as reshard_after_forward; accelerate 1.6 to 1.15
    prefers sharding_strategy, which is FULL_SHARD by then (utils/dataclasses.py,
    FullyShardedDataParallelPlugin). Measured, too (tests/golden/h100_ranks.jsonl)."""
    kept = plan.sharding.kind == "fsdp1" and plan.sharding.reshard is False
    return kept and plan.framework.name in ("trainer", "trl") and plan.major >= HANDS_ON


def _devices(plan: TrainingPlan, stages: list[TrainingRun]) -> Iterator[Device]:
    """Yield a device per rank. Ranks of a stage are alike: each shows the stage's first rank, which
    has the largest shards."""
    alike = plan.sharding.cards // plan.sharding.pipeline
    for number, run in enumerate(stages):
        shown = phases(plan, run)
        for i in range(min(alike, _listed(plan))):
            yield Device(index=number * alike + i, kind="gpu", phases=shown)


def _listed(plan: TrainingPlan) -> int:
    """Return how many of a stage's ranks the report lists."""
    return max(1, MOST_LISTED // plan.sharding.pipeline)


def capacity(plan: TrainingPlan, budget: "Budget | None") -> int | None:
    """Return the lowest estimate of the bytes that the allocator has per device; None without a
    budget."""
    if budget is None:
        return None
    loaded = sum(c.bytes.expected for c in kernels(plan.torch, plan.part))
    return max(0, budget.usable.low - context(plan.part).bytes.high - loaded)


def _derived(plan: TrainingPlan, result: TrainingRun, stage: int) -> DerivedFacts:
    """Return the derived facts of the fullest stage: trained parameters, saved activations, first
    peak."""
    first = max(result.first.values(), key=lambda peak: peak.allocated)
    found: DerivedFacts = {
        "trainable_parameters": _trained(plan, result),
        "saved_activation_bytes": result.saved,
        "first_step_peak_bytes": first.allocated,
    }
    if plan.sharding.pipeline == 1:
        return found
    return {**found, "fullest_stage": stage, "stage_layers": [*plan.sharding.layers]}


def _trained(plan: TrainingPlan, result: TrainingRun) -> int:
    """Return the number of trained parameters: of one rank, or of the whole model if ranks split it
    and all of it is trained."""
    s = plan.sharding
    cut = s.tensor > 1 or s.pipeline > 1 or s.expert > 1
    return plan.subject.part.blueprint.parameters if cut and not plan.adapters else result.trainable


def _warnings(plan: TrainingPlan, result: TrainingRun) -> Iterator[str]:
    alike = plan.sharding.cards // plan.sharding.pipeline
    if alike > _listed(plan):
        yield sentence("ranks_listed", listed=_listed(plan), alike=alike)
    if plan.sharding.pipeline > 1 and not plan.framework.stages:
        others = ", ".join(name for name, each in FRAMEWORKS.items() if each.stages)
        yield sentence("no_pipelines", framework=plan.framework.name, others=others)
    if _ignores_shard_grad_op(plan):
        yield sentence("units_given_up", major=plan.major)
    if result.program.said:
        yield about(plan.subject.model_type, result.program.said)
    yield from result.assumed
