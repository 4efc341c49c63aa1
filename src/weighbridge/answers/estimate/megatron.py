"""`train --framework megatron`: memory of a Megatron-core run, per pipeline stage."""

from weighbridge.answers import bounds
from weighbridge.answers.estimate import traits, uncounted
from weighbridge.answers.estimate.facts import cautions, derived, facts, layers
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.answers.estimate.train import MEGATRON, first_step, subject_for
from weighbridge.answers.verdict import on_devices, on_host
from weighbridge.base.memory import Device
from weighbridge.base.records import dataclass
from weighbridge.engines import ignorance
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import usual, version, written
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.training.megatron import answer
from weighbridge.training.megatron.arguments import plainly
from weighbridge.training.megatron.described import described
from weighbridge.training.megatron.plan import MegatronPlan, plan
from weighbridge.workload import Train


@dataclass(frozen=True, slots=True)
class MegatronRuns:
    """The estimate without margins (`alone`), and the kind of published runs to widen it by."""

    alone: tuple[Device, ...]
    like: bounds.RunForm

    def devices(self, table: bounds.MarginTable | None = None) -> tuple[Device, ...]:
        """Return the devices with the margins of `table`, as a report has them."""
        return bounds.widened(self.alone, self.like, table)


def run(model: Model, workload: Train) -> MegatronRuns:
    """Return the estimate of a run without the margins of published runs."""
    number, _ = version(usual(), workload.engine_version)
    asked = subject_for(model, workload, number)
    training = plan(asked, workload, workload.budget())
    return MegatronRuns(answer.devices(training, answer.stages(training)), form_of(asked, training))


def train(model: Model, workload: Train, *, values: bool = False) -> Report:
    """Report the memory of a run; `values`: of a critic, whose head has one output. Raises
    UnsupportedError if our rules do not cover the model, UsageError if settings contradict each
    other."""
    number, note = version(usual(), workload.engine_version)
    budget = workload.budget()
    asked = subject_for(model, workload, number)
    critic = described(asked, values=True) if values else None
    training = plan(asked, workload, budget, critic)
    runs = answer.stages(training)
    like, known = form_of(asked, training), answer.derived(training, runs)
    devices = bounds.widened(answer.devices(training, runs), like, None)
    missing = uncounted.of_training(asked)
    judged = None
    if budget is not None:
        judged = uncounted.judged(on_devices.serving(devices, budget), missing)
        judged = on_devices.cited(judged, bounds.published(devices, like))
    return Report(
        task="train",
        model=facts(model),
        workload=_effective(asked, workload, training, written(number)),
        devices=devices,
        derived=derived(asked, missing) | known | first_step(known, like),
        verdict=spilled(on_host.both(judged, devices, workload.host_memory()), workload),
        warnings=(
            *filter(None, (note,)),
            *asked.model.notes,
            *asked.notes,
            *answer.warnings(training),
            *cautions(workload),
        ),
    )


def form_of(asked: Subject, training: MegatronPlan) -> bounds.RunForm:
    """Return the kind of published runs whose margins apply."""
    known = traits.training(asked, training.sharding, training.part, ())
    sharing = f"{MEGATRON}, context" if training.sharding.context > 1 else MEGATRON
    doubt = ignorance.doubt(ignorance.of_name(asked.model.notes))
    return bounds.RunForm(
        "train", MEGATRON, layers=layers(asked), sharing=sharing, traits=known, doubt=doubt
    )


def _effective(
    asked: Subject, workload: Train, training: MegatronPlan, number: str
) -> EffectiveSettings:
    return answer.settings(training) | {
        "engine": usual().name,
        "engine_version": number,
        "dtype": asked.choice.dtype.name,
        "quantization": None,
        "seq_len": asked.context,
        "offload": "none",
        "megatron_args": [plainly(word) for word in workload.megatron_args or ()] or None,
        "gpu": workload.gpu,
        "gpu_memory": workload.gpu_memory,
        "headroom": workload.headroom,
        "ram": workload.ram,
        "platform": workload.platform,
    }
