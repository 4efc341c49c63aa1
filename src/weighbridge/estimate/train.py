"""`train`: what a training run takes, by phase, by the rules of one framework."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from weighbridge import bounds
from weighbridge.checkpoint.model import Model
from weighbridge.components.device import OPEN
from weighbridge.components.weights import FormatChoice
from weighbridge.engines.interface import Subject
from weighbridge.engines.readable import declared_name
from weighbridge.engines.subject import subject
from weighbridge.engines.table import usual, version, written
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.estimate import exact, uncounted
from weighbridge.estimate.facts import cautions, facts, layers
from weighbridge.memory import Device, Phase
from weighbridge.report import Report
from weighbridge.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.settings import Infer, Train
from weighbridge.training import frameworks, host
from weighbridge.training.answer import TrainingAnswer, answer, runs_of
from weighbridge.training.gguf import unpacked
from weighbridge.training.plan import USUAL_LENGTH, TrainingPlan, plan
from weighbridge.training.remarks import refused, remarks
from weighbridge.training.run import StageRuns
from weighbridge.verdict import on_devices, on_host

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

DEQUANTIZED = ("fp8", "mxfp4")


def train(model: Model, w: Train) -> Report:
    """Raises UnsupportedError where the model is outside our rules, UsageError where settings
    contradict each other."""
    kind = usual()
    if w.exact:
        w = w.but(engine_version=exact.ready(kind.name, w.engine_version))
    number, said = version(kind, w.engine_version)
    budget = w.budget()
    asked, p = _planned(model, w, number, budget)
    stages = runs_of(p)
    found = answer(p, budget, runs=stages)
    if w.exact:
        found = exact.trained(asked, w, p, found)
    like = bounds.TRACED if w.exact else _runs(asked, p)
    found = replace(found, devices=_widened(found, p, budget, like))
    if budget is not None and not w.exact:
        found = _given_back(found, p, budget, like, stages)
    missing = () if w.exact else uncounted.of_training(asked)
    judged = None
    if budget is not None:
        judged = uncounted.judged(on_devices.serving(found.devices, budget), missing)
    said_no = refused(p)
    if judged is not None and said_no:
        judged = judged.turned(judged.fits, f"{said_no}; {judged.reason}")
    judged = on_devices.cited(judged, bounds.published(found.devices, _runs(asked, p)))
    return Report(
        task="train",
        model=facts(model),
        workload=_effective(asked, w, p, written(number)) | found.settings,
        devices=found.devices,
        derived=_derived(asked, missing) | found.derived | _condition(said_no),
        verdict=on_host.both(
            judged,
            found.devices,
            w.host_memory(),
            shared=budget is not None and budget.shares_host,
        ),
        warnings=(
            *_warnings(asked, found, said, budget),
            *remarks(p),
            *uncounted.warnings(missing),
        ),
    )


def followed(model: Model, w: Train) -> int:
    """Parameters that a run follows one by one: before transformers 5 each expert has its own."""
    number, _ = version(usual(), w.engine_version)
    apart = number < (5,)
    return sum(
        p.routed[1] if apart and p.kind == "expert" else 1 for p in model.parts[0].blueprint.counted
    )


def _condition(said: str) -> DerivedFacts:
    """Return what the verdict rests on where the launch is refused as asked."""
    return {"runs_only": said} if said else {}


def _given_back(
    found: TrainingAnswer,
    p: TrainingPlan,
    budget: "Budget",
    like: bounds.RunForm,
    stages: Sequence[StageRuns],
) -> TrainingAnswer:
    """torch gives blocks that nothing lives in back to the driver before it gives up. Where it is
    open whether the run fits, it is run again with only what all else surely leaves of the card:
    if it comes to its end there, it fits."""
    usable = budget.usable.low
    if on_devices.serving(found.devices, budget).fits != "unknown":
        return found
    most = usable - max(
        _beside_tensors(x) for d in found.devices if d.kind == "gpu" for x in d.phases
    )
    if most <= 0:
        return found
    again = answer(p, budget, most, stages)
    again = replace(again, devices=_widened(again, p, budget, like))
    return again if on_devices.serving(again.devices, budget).fits == "yes" else found


def _beside_tensors(phase: Phase) -> int:
    """All that may be on the device beside expected tensors and the free room of segments."""
    free = sum(c.bytes.high for c in phase.components if c.name == "fragmentation" and not c.detail)
    return phase.at("driver").high - free - phase.at("allocated").expected + OPEN


@dataclass(frozen=True, slots=True)
class Alone:
    """What the rules say alone, and which published runs it is like."""

    answer: TrainingAnswer
    like: bounds.RunForm
    plan: TrainingPlan
    budget: "Budget | None"

    def devices(self, table: bounds.MarginTable | None = None) -> tuple[Device, ...]:
        """Return the devices with the margins of `table`, as a report has them."""
        return _widened(self.answer, self.plan, self.budget, self.like, table)


def run(model: Model, w: Train) -> Alone:
    """The run without the margins of published ones."""
    number, _ = version(usual(), w.engine_version)
    budget = w.budget()
    asked, p = _planned(model, w, number, budget)
    return Alone(answer(p, budget), _runs(asked, p), p, budget)


def _widened(
    found: TrainingAnswer,
    p: TrainingPlan,
    budget: "Budget | None",
    like: bounds.RunForm,
    table: bounds.MarginTable | None = None,
) -> tuple[Device, ...]:
    """Devices with margins, and then with states that the driver pages: they have what room all
    else surely leaves."""
    usable = None if budget is None else budget.usable
    devices = bounds.widened(found.devices, like, table)
    return host.with_paged_states(devices, found.managed, p.optimizer, usable)


def _planned(
    model: Model, w: Train, number: tuple[int, ...], budget: "Budget | None"
) -> tuple[Subject, TrainingPlan]:
    asked = _subject(unpacked(model, w), w, number)
    return asked, plan(asked, w, budget, (number[0], number[1] if len(number) > 1 else 0))


def _runs(s: Subject, p: TrainingPlan) -> bounds.RunForm:
    form = s.choice.scheme
    known = bounds.COMPILED if p.compiled else bounds.form(form.name if form else None)
    return bounds.RunForm("train", p.framework.name, known, layers(s), _sharing(p))


def _sharing(p: TrainingPlan) -> str:
    """The way several devices share a run, by which published runs are told apart."""
    split = p.sharding.tensor * p.sharding.pipeline * p.sharding.context > 1
    return "layers in parts" if split else p.sharding.kind


def _subject(model: Model, w: Train, number: tuple[int, ...]) -> Subject:
    """The model as it is loaded: in the framework's dtype, unless one was named."""
    if model.rough:
        raise UnsupportedError(
            f"{model.reference}: a bare size has no layers to train; name a model, or ask "
            "`weighbridge load` for the 16 bytes a parameter of Adam"
        )
    beside = uncounted.beside_weights(model)
    if beside:
        raise UnsupportedError(
            f"{model.reference}: {beside} is not followed, so training it is not answered; "
            "`weighbridge trace` runs the script that does"
        )
    made, chosen = frameworks.held(w)
    full = (w.method or "full") == "full"
    dtype = w.dtype or (chosen.weights if full else chosen.frozen).name
    form, note = _packed_as(model, w, made)
    asked = Infer(
        dtype=dtype,
        quantization=form,
        engine=usual().name,
        engine_version=w.engine_version,
        base_model=w.base_model,
        context=w.seq_len,
        image_size=w.image_size,
        images=w.images,
        audio_seconds=w.audio_seconds,
    )
    found = _dequantized(subject(model, asked, usual(), number), form)
    found = replace(found, notes=(*found.notes, note)) if note else found
    if w.base_model and found.body.causal:
        raise UsageError(
            "--base-model: the headless class has no logits, and so no loss to train by; leave it "
            "out"
        )
    if full and found.choice.scheme is not None:
        raise UsageError(
            f"{model.reference}: its weights are in {found.choice.scheme.name}, and a quantized "
            "model is not trained in full: use --method lora"
        )
    if w.seq_len is None:
        length = min(USUAL_LENGTH, found.longest or USUAL_LENGTH)
        found = replace(found, context=length, context_from="the usual default")
    return found


def _packed_as(model: Model, w: Train, made: frameworks.Framework) -> tuple[str | None, str]:
    """(the format that the frozen base is asked for in; what is to be said of it). Adapters are
    trained beside most packed formats as they are stored; FP8 and MXFP4 are unpacked to be trained,
    and no loader of transformers packs a packed checkpoint another way."""
    form = w.quantization or (made.packs if w.method == "qlora" else None)
    stored = declared_name(model.parts[0])
    if form in (None, stored) or not stored or made.own_copies or made.loads != "transformers":
        return form, ""
    unpacked_first = stored.startswith(DEQUANTIZED)
    if w.quantization is None and not unpacked_first:
        return None, f"QLoRA trains adapters beside weights in {stored}, as they are stored"
    lora = "--method lora trains it unpacked" if unpacked_first else "leave out --quantization"
    return form, (
        f"{model.reference} is stored in {stored}, which transformers does not pack again: this is "
        f"a copy of it in 16 bits, packed in {form}; {lora}"
    )


def _dequantized(s: Subject, asked: str | None) -> Subject:
    """Weights that a model keeps in fp8 or mxfp4 are trained in 16 bits: transformers'
    FineGrainedFP8Config(dequantize=True), Mxfp4Config(dequantize=True)."""
    form = s.choice.scheme
    if asked is not None or form is None or not form.name.startswith(DEQUANTIZED):
        return s
    plain = FormatChoice(dtype=s.choice.dtype)
    note = f"weights in {form.name} are taken as dequantized to {plain.dtype.name} for training"
    return replace(
        s,
        choice=plain,
        choices={**s.choices, s.part.name: plain},
        why=f"dequantized from {form.name}",
        notes=(*s.notes, note),
    )


def _effective(s: Subject, w: Train, p: TrainingPlan, number: str) -> EffectiveSettings:
    return {
        "engine": usual().name,
        "engine_version": number,
        "dtype": s.choice.dtype.name,
        "quantization": s.choice.scheme.name if s.choice.scheme else None,
        "base_model": w.base_model,
        "seq_len": s.context,
        "batch_size": w.batch_size or 1,
        "precision": p.precision.name,
        "shard": p.sharding.kind,
        "data_parallel_size": p.sharding.data,
        "tensor_parallel_size": p.sharding.tensor,
        "pipeline_parallel_size": p.sharding.pipeline,
        "context_parallel_size": p.sharding.context,
        "expert_parallel_size": p.sharding.expert,
        "offload": p.sharding.offload,
        "cpu_ram_efficient_loading": w.cpu_ram_efficient_loading,
        "padded": p.padded,
        "eval_batch_size": w.eval_batch_size,
        "images": p.items["image"],
        "image_size": None if w.image_size is None else list(w.image_size),
        "audio_seconds": w.audio_seconds,
        **_adapters(p),
        "gpu": w.gpu,
        "gpu_memory": w.gpu_memory,
        "headroom": w.headroom,
        "ram": w.ram,
    }


def _adapters(p: TrainingPlan) -> EffectiveSettings:
    a = p.adapters
    if a is None:
        return {
            "lora_r": None,
            "lora_alpha": None,
            "lora_targets": None,
            "lora_dropout": None,
            "use_rslora": False,
            "modules_to_save": None,
        }
    return {
        "lora_r": a.r,
        "lora_alpha": a.alpha,
        "lora_targets": list(a.targets),
        "lora_dropout": a.dropout,
        "use_rslora": a.rslora,
        "modules_to_save": list(a.modules_to_save),
    }


def _derived(s: Subject, missing: tuple[str, ...]) -> DerivedFacts:
    return {
        "dtype_from": s.why,
        "as_stored": s.choice.as_stored,
        "context_from": s.context_from,
        "longest_context": s.longest,
        "not_counted": list(missing),
    }


def _warnings(s: Subject, found: TrainingAnswer, said: str, budget: "Budget | None") -> list[str]:
    told = [*filter(None, (said,)), *s.model.notes, *s.notes, *found.warnings]
    if s.longest is not None and s.context > s.longest:
        told.append(
            f"{s.context:,} tokens are more than the {s.longest:,} that the model was made for"
        )
    return [*told, *(cautions(budget) if budget is not None else ())]
