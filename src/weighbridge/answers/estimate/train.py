"""`train`: memory of a training run by phase, by the rules of one framework."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from weighbridge.answers import bounds
from weighbridge.answers.bounds.phases import DETAIL
from weighbridge.answers.estimate import exact, traits, uncounted
from weighbridge.answers.estimate.facts import cautions, derived, facts, layers
from weighbridge.answers.estimate.spilling import spilled
from weighbridge.answers.verdict import on_devices, on_host
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.memory import Device, Instant, exactly
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines import ignorance
from weighbridge.engines.format_choice import own_dtype
from weighbridge.engines.interface import Subject
from weighbridge.engines.subject import subject as subject_of
from weighbridge.engines.table import usual, version, written
from weighbridge.engines.weight_formats import declared_name
from weighbridge.memory.components.device import OPEN
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.models.checkpoint.model import Model
from weighbridge.settings.setting import fields
from weighbridge.settings.shared import DeviceSettings
from weighbridge.training import frameworks, host, kbit, packages, unsloth
from weighbridge.training.answer import TrainingAnswer, answer
from weighbridge.training.forward.nets import predicts_next
from weighbridge.training.gguf import unpacked
from weighbridge.training.kept import KeptRuns
from weighbridge.training.objective import Objective
from weighbridge.training.plan import USUAL, USUAL_LENGTH, TrainingPlan, plan
from weighbridge.training.remarks import refused, remarks
from weighbridge.training.run import StageRuns
from weighbridge.training.tuners import TUNERS
from weighbridge.workload import Infer, Train
from weighbridge.workload.consistency import OWN_DTYPE
from weighbridge.workload.train import LEARNERS

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

MEGATRON = "megatron"  # its step is in estimate/megatron.py
DEQUANTIZED = ("fp8", "mxfp4")
# Kernel packages for recurrent layers in a framework's own environment: NeMo-RL 7ea279ab
# pyproject.toml, extra automodel
KERNELS = {"nemo-rl": "mamba-ssm and causal-conv1d"}
Devices = tuple[Device, ...]
# Settings of cards, of the machine, and of host memory only: stages run alike with any of them
BESIDE_RUNS = (
    *fields(DeviceSettings),
    *("cpu_ram_efficient_loading", "dataloader_num_workers", "gather_on_save", "zero_pin_memory"),
)


def train(
    model: Model,
    workload: Train,
    *,
    counts: bool = False,
    roles: Mapping[str, Model | None] | None = None,
    sought: bool = False,
) -> Report:
    """Report the memory of a training run; with `counts` a lower bound, sooner. `roles`: a critic
    and a reward model for runs with rewards; `sought`: also search for the longest rows that fit.
    Raises UnsupportedError if our rules do not cover the model, UsageError if settings contradict
    each other."""
    if workload.learns:
        from weighbridge.answers.estimate import learning

        return learning.train(model, workload, roles or {}, sought=sought)
    if workload.framework in LEARNERS:  # what trains in that framework
        from weighbridge.training.learning import fine_tuned

        asked = with_kernels(model, fine_tuned(workload), workload.framework)
        report = train(model, asked, counts=counts)
        return replace(report, workload=report.workload | {"framework": workload.framework})
    return _apart(model, workload) or of_step(model, workload, counts=counts)


def with_kernels(model: Model, workload: Train, framework: object) -> Train:
    """Return the workload with kernel packages installed, if the framework's environment has those
    for the model's layers and the user sets none."""
    there = KERNELS.get(str(framework))
    if there is None or workload.kernels or workload.framework == MEGATRON:
        return workload
    number, _ = version(usual(), workload.engine_version)
    body = subject_for(model, workload, number).body
    return workload.but(kernels="installed") if packages.of(body) == there else workload


def _apart(model: Model, workload: Train) -> Report | None:
    """Return the report of Megatron's step, or of an image network's; None for all other runs."""
    if workload.framework == MEGATRON:
        from weighbridge.answers.estimate import megatron

        return megatron.train(model, workload)
    if workload.megatron_args:
        raise UsageError(sentence("train.megatron_args"))
    if workload.exact or not uncounted.sees_in_stages(model):
        return None
    from weighbridge.answers.estimate import image_training, images

    return image_training.train(model, workload) if images.known(model, workload) else None


def of_step(
    model: Model, workload: Train, *, counts: bool = False, objective: Objective | None = None
) -> Report:
    """Report one training step: next-token prediction, or another `objective`."""
    kind, named = usual(), workload.framework
    workload = meant(model, workload)
    if workload.exact:
        workload = workload.but(engine_version=exact.ready(kind.name, workload.engine_version))
    number, note = version(kind, workload.engine_version)
    budget = workload.budget()
    asked, training = _planned(model, workload, number, budget, objective)
    stages = _stages(model, workload, training)
    answered = answer(training, budget, runs=stages, counts=counts)
    if workload.exact:
        answered = exact.trained(asked, workload, training, answered)
    like = bounds.TRACED if workload.exact else _runs(asked, training)
    answered = replace(answered, devices=_widened(answered, training, budget, like))
    if budget is not None and not workload.exact and not counts:
        answered = _given_back(answered, training, budget, like, stages)
    missing = () if workload.exact else uncounted.of_training(asked)
    judged = None
    if budget is not None:
        judged = uncounted.judged(on_devices.serving(answered.devices, budget), missing)
    said_no = refused(training)
    if judged is not None and said_no:
        judged = replace(judged, reason=clauses(said_no, judged.reason))
    judged = on_devices.cited(judged, bounds.published(answered.devices, _runs(asked, training)))
    return Report(
        task="train",
        model=facts(model),
        workload=_effective(asked, workload, training, written(number)) | answered.settings,
        devices=answered.devices,
        derived=derived(asked, missing)
        | answered.derived
        | first_step(answered.derived, like)
        | _recipe(workload, named)
        | _condition(said_no),
        verdict=spilled(on_host.both(judged, answered.devices, workload.host_memory()), workload),
        warnings=(
            *_warnings(asked, answered, note, workload),
            *remarks(training),
            *(() if workload.exact else traits.few(answered.devices, like)),
            *uncounted.warnings(missing),
        ),
    )


# Classes that predict the next token, which TRL's SFTTrainer trains (trl 1.16 sft_trainer.py)
PREDICT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def meant(model: Model, workload: Train) -> Train:
    """Return the workload with the default recipe: adapters without a framework use PEFT and TRL,
    if TRL trains the class."""
    number, _ = version(usual(), workload.engine_version)
    settings, part = frameworks.recipe(workload, number), model.parts[0]
    trained = part.library == "transformers" and part.blueprint.cls.endswith(PREDICT)
    if not settings or not trained or not writes(model):
        return workload
    return workload.but(**settings)


def writes(model: Model) -> bool:
    """Return whether all of the model's classes predict the next token."""
    config = model.parts[0].config
    kinds = (c.get("model_type") for c in (config, config.get("text_config") or {}))
    return all(predicts_next(str(kind)) for kind in kinds if kind)


def followed(model: Model, workload: Train) -> int:
    """Return the number of parameter tensors; before transformers 5 each expert has its own."""
    number, _ = version(usual(), workload.engine_version)
    apart = number < (5,)
    return sum(
        parameter.routed[1] if apart and parameter.kind == "expert" else 1
        for parameter in model.parts[0].blueprint.counted
    )


def first_step(
    known: DerivedFacts, like: bounds.RunForm, table: bounds.MarginTable | None = None
) -> DerivedFacts:
    """Return the first step's peak as an interval, with the margin of its level."""
    nbytes = exactly(known["first_step_peak_bytes"])
    bounded = bounds.around(nbytes, like, bounds.PEAK, "allocated", table=table)
    return {"first_step_peak_interval": list(bounded)}


def _recipe(workload: Train, named: str | None) -> DerivedFacts:
    """Return the recipe's name if it was the default, not the user's framework."""
    return {"recipe": "PEFT + TRL"} if workload.framework == "trl" and named is None else {}


def _condition(condition: str) -> DerivedFacts:
    """Return the condition under which the verdict holds, if the launch is refused as it is."""
    return {"runs_only": condition} if condition else {}


def _given_back(
    trained: TrainingAnswer,
    training: TrainingPlan,
    budget: "Budget",
    like: bounds.RunForm,
    stages: Sequence[StageRuns],
) -> TrainingAnswer:
    """Return the answer, with a second run if the verdict is open. Before torch fails it returns
    empty blocks to the driver, so the second run has only what all else surely leaves of the card:
    if it ends there, it fits. A run whose lower bound (`counts`) is too large is not tried."""
    usable = budget.usable.low
    if on_devices.serving(trained.devices, budget).fits != "unknown":
        return trained
    if stages and all(run.counted for run in stages):
        least = answer(training, budget, runs=stages, counts=True)
        devices = _widened(least, training, budget, like)
        if on_devices.serving(devices, budget).fits != "yes":
            return trained
    most = usable - max(
        _beside_tensors(phase)
        for device in trained.devices
        if device.kind == "gpu"
        for phase in device.phases
    )
    if most <= 0:
        return trained
    again = answer(training, budget, most, stages)
    again = replace(again, devices=_widened(again, training, budget, like))
    if on_devices.serving(again.devices, budget).fits != "yes":
        return trained
    return replace(trained, devices=_ended(trained.devices, again.devices, usable))


def _ended(trained: Devices, again: Devices, usable: int) -> Devices:
    """Return the devices of a run that surely ends on a card: no phase exceeds the `usable` bytes;
    where even the expected bytes do, the phase of `again` stands. Ranks that are alike share their
    phases before and after."""
    phases = {
        id(one.phases): tuple(
            _within(*both, usable) for both in zip(one.phases, less.phases, strict=True)
        )
        for one, less in zip(trained, again, strict=True)
        if one.kind == "gpu"
    }
    return tuple(replace(d, phases=phases.get(id(d.phases), d.phases)) for d in trained)


def _within(phase: Instant, again: Instant, usable: int) -> Instant:
    """Return the phase with high ends of margins, then of free room, cut to the `usable` bytes."""
    over, parts = phase.at("driver").high - usable, [*phase.components]
    for place, part in reversed([*enumerate(parts)]):
        if over > 0 and (part.detail == DETAIL or part.name == "fragmentation"):
            less = min(over, part.bytes.high - part.bytes.expected)
            size = part.bytes._replace(high=part.bytes.high - less)
            parts[place], over = replace(part, bytes=size), over - less
    return again if over > 0 else replace(phase, components=tuple(parts))


def _beside_tensors(phase: Instant) -> int:
    """Return the bytes that may be on the device besides the expected tensors and free room in
    segments."""
    free = sum(c.bytes.high for c in phase.components if c.name == "fragmentation" and not c.detail)
    return phase.at("driver").high - free - phase.at("allocated").expected + OPEN


@dataclass(frozen=True, slots=True)
class Alone:
    """The estimate without margins, and the kind of published runs to widen it by."""

    answer: TrainingAnswer
    like: bounds.RunForm
    plan: TrainingPlan
    budget: "Budget | None"

    def devices(self, table: bounds.MarginTable | None = None) -> tuple[Device, ...]:
        """Return the devices with the margins of `table`, as a report has them."""
        return _widened(self.answer, self.plan, self.budget, self.like, table)


def run(model: Model, workload: Train) -> Alone:
    """Return the estimate of a run without the margins of published runs."""
    workload = meant(model, workload)
    number, _ = version(usual(), workload.engine_version)
    budget = workload.budget()
    asked, training = _planned(model, workload, number, budget)
    return Alone(answer(training, budget), _runs(asked, training), training, budget)


def _widened(
    answer: TrainingAnswer,
    training: TrainingPlan,
    budget: "Budget | None",
    like: bounds.RunForm,
    table: bounds.MarginTable | None = None,
) -> tuple[Device, ...]:
    """Return the devices with margins, and then with optimizer states that the driver pages, in the
    room that all else surely leaves."""
    usable = None if budget is None else budget.usable
    devices = bounds.widened(answer.devices, like, table)
    return host.with_paged_states(
        devices, answer.managed, training.optimizer, usable, training.sharding.per_machine
    )


def _stages(model: Model, workload: Train, training: TrainingPlan) -> tuple[StageRuns, ...]:
    """Return the plan's runs by stage, kept if the same run was asked of another card."""
    runs = memo(model, ("training runs",), KeptRuns)
    asked = (workload.but(**dict.fromkeys(BESIDE_RUNS)), training.sharding, training.objective)
    return runs.of(asked, training)


def _planned(
    model: Model,
    workload: Train,
    number: tuple[int, ...],
    budget: "Budget | None",
    objective: Objective | None = None,
) -> tuple[Subject, TrainingPlan]:
    asked = subject_for(unpacked(model, workload), workload, number)
    if objective is not None and objective.marks:
        from weighbridge.training.roles import with_one_output

        one = replace(asked.part, blueprint=with_one_output(asked.part.blueprint))
        asked = replace(asked, part=one)
    return asked, replace(plan(asked, workload, budget, number), objective=objective)


def _runs(subject: Subject, training: TrainingPlan) -> bounds.RunForm:
    form = subject.choice.scheme
    known = bounds.COMPILED if training.compiled else bounds.form(form.name if form else None)
    modes = (training.method, "compiled" if training.compiled else "", training.float8_recipe)
    return bounds.RunForm(
        "train",
        training.framework.name,
        known,
        layers(subject),
        _sharing(training),
        traits.training(subject, training.sharding, training.part, modes),
        ignorance.doubt(ignorance.of_name(subject.model.notes)),
    )


def _sharing(training: TrainingPlan) -> str:
    """Return the name of the parallelism, by which published runs are told apart."""
    split = training.sharding.tensor * training.sharding.pipeline * training.sharding.context > 1
    return "layers in parts" if split else training.sharding.kind


def subject_for(model: Model, workload: Train, number: tuple[int, ...]) -> Subject:
    """Return the model as it is loaded: in the framework's dtype, unless the user names one."""
    if model.rough:
        raise UnsupportedError(sentence("size_trainless", model=model.reference))
    beside = uncounted.beside_weights(model)
    if beside:
        raise UnsupportedError(sentence("train.beside", what=beside), where=model.reference)
    framework, chosen = frameworks.resolved(workload)
    full = (workload.method or "full") == "full"
    mixed = (workload.precision or framework.precision).endswith("-mixed")
    converted = mixed and (workload.shard or "").startswith("zero")  # ZeRO converts any dtype
    dtype = None if converted else workload.dtype
    dtype = dtype or (chosen.weights if full else chosen.frozen).name
    if dtype == OWN_DTYPE:
        dtype = own_dtype(model.parts[0])[0].name
    form, note = _packed_as(model, workload, framework)
    model = unsloth.copied(model) if framework.own_copies else model
    asked = Infer(
        dtype=dtype,
        quantization=form,
        engine=usual().name,
        engine_version=workload.engine_version,
        base_model=workload.base_model,
        context=workload.seq_len,
        image_size=workload.image_size,
        images=workload.images,
        audio_seconds=workload.audio_seconds,
    )
    subject = _dequantized(subject_of(model, asked, usual(), number), form)
    subject = _with_experts(subject, workload, framework)
    subject = replace(subject, notes=(*subject.notes, note)) if note else subject
    if workload.base_model and subject.body.causal:
        raise UsageError(sentence("train.headless"))
    if full and subject.choice.scheme is not None:
        raise UsageError(
            sentence("train.stored", form=subject.choice.scheme.name), where=model.reference
        )
    if workload.seq_len is None:
        length = min(USUAL_LENGTH, subject.longest or USUAL_LENGTH)
        subject = replace(subject, context=length, context_from=USUAL)
    return subject


def _with_experts(subject: Subject, workload: Train, trainer: frameworks.Framework) -> Subject:
    """Return the subject with quantized experts, if Unsloth or the user has it so."""
    if trainer.own_copies:
        return unsloth.fetched(subject)
    if not workload.quantize_moe_experts:
        return subject
    if not kbit.four_bits(subject.choice.scheme):
        raise UsageError(sentence("train.experts"))
    return kbit.experts_too(subject, "axolotl")


def _packed_as(
    model: Model, workload: Train, trainer: frameworks.Framework
) -> tuple[str | None, str]:
    """Return (format to load the frozen base in, note about it). Adapters train on most quantized
    formats as stored; FP8 and MXFP4 are dequantized for training, and no loader of transformers
    quantizes a quantized checkpoint another way."""
    form = workload.quantization or (trainer.packs if workload.method == "qlora" else None)
    stored = declared_name(model.parts[0])
    if (
        form in (None, stored)
        or not stored
        or trainer.own_copies
        or trainer.loads != "transformers"
    ):
        return form, ""
    unpacked_first = stored.startswith(DEQUANTIZED)
    if workload.quantization is None and not unpacked_first:
        return None, sentence("qlora.as_stored", stored=stored)
    key = "qlora.copy.unpacked" if unpacked_first else "qlora.copy"
    return form, sentence(key, model=model.reference, stored=stored, form=form)


def _dequantized(subject: Subject, asked: str | None) -> Subject:
    """Return the subject with fp8 or mxfp4 weights dequantized to 16 bits for training:
    transformers' FineGrainedFP8Config(dequantize=True), Mxfp4Config(dequantize=True)."""
    form = subject.choice.scheme
    if asked is not None or form is None or not form.name.startswith(DEQUANTIZED):
        return subject
    plain = FormatChoice(dtype=subject.choice.dtype)
    note = sentence("for_training", form=form.name, dtype=plain.dtype.name)
    return replace(
        subject,
        choice=plain,
        choices={**subject.choices, subject.part.name: plain},
        why=f"dequantized from {form.name}",
        notes=(*subject.notes, note),
    )


def _effective(
    subject: Subject, workload: Train, training: TrainingPlan, number: str
) -> EffectiveSettings:
    return {
        "engine": usual().name,
        "engine_version": number,
        "dtype": subject.choice.dtype.name,
        "quantization": subject.choice.scheme.name if subject.choice.scheme else None,
        "base_model": workload.base_model,
        "seq_len": subject.context,
        "batch_size": workload.batch_size or 1,
        "precision": training.precision.name,
        "shard": training.sharding.kind,
        **training.sharding.settings(),
        "offload": training.sharding.offload,
        "cpu_ram_efficient_loading": workload.cpu_ram_efficient_loading,
        "padded": training.padded,
        "eval_batch_size": workload.eval_batch_size,
        "images": training.items["image"],
        "image_size": None if workload.image_size is None else list(workload.image_size),
        "audio_seconds": workload.audio_seconds,
        **_adapters(training),
        **_where_there_are(workload, training),
        "gpu": workload.gpu,
        "gpu_memory": workload.gpu_memory,
        "headroom": workload.headroom,
        "ram": workload.ram,
        "platform": workload.platform,
    }


def _where_there_are(asked: Train, training: TrainingPlan) -> EffectiveSettings:
    """Return the settings that few models, methods and ranks have, without unset ones."""
    shares = training.sharding
    by = shares.context_by or None
    order = shares.schedule or None
    found: EffectiveSettings = {
        "kernels": training.kernels,
        "expandable_segments": training.asked_expandable,
        "context_parallel_by": by,
        "pipeline_schedule": order,
        "pp_layer_partition": list(map(int, asked.pp_layer_partition or ())) or None,
        "reshard_after_forward": shares.reshard,
        "backward_prefetch": shares.prefetch,
        "reduce_dtype": shares.reduced.name if shares.reduced else None,
        "dataloader_num_workers": training.workers or None,
    }
    adapters = training.adapters
    if adapters is not None and adapters.virtual_tokens:
        found["virtual_tokens"] = adapters.virtual_tokens
    if adapters is not None and adapters.size:
        found[TUNERS[adapters.tuner].size] = adapters.size
    return {name: value for name, value in found.items() if value is not None}


def _adapters(training: TrainingPlan) -> EffectiveSettings:
    adapters = training.adapters
    if adapters is None:
        return {
            "lora_r": None,
            "lora_alpha": None,
            "lora_targets": None,
            "lora_dropout": None,
            "use_rslora": False,
            "modules_to_save": None,
        }
    return {
        "lora_r": adapters.r or None,
        "lora_alpha": adapters.alpha or None,
        "lora_targets": list(adapters.targets) or None,
        "lora_dropout": adapters.dropout,
        "use_rslora": adapters.rslora,
        "modules_to_save": list(adapters.modules_to_save),
    }


def _warnings(subject: Subject, answer: TrainingAnswer, note: str, workload: Train) -> list[str]:
    warnings = [*filter(None, (note,)), *subject.model.notes, *subject.notes, *answer.warnings]
    if subject.longest is not None and subject.context > subject.longest:
        warnings.append(sentence("beyond", tokens=subject.context, most=subject.longest))
    return [*warnings, *cautions(workload)]
