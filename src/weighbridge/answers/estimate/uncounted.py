"""Memory that an answer leaves out. What is not counted cannot fit: its verdict is `cannot say`.

weights alone    pipelines, timm's models, adapters: their computation is not estimated
replaced         a class that a server's release lacks, and runs as transformers has it: experts
                 that it does not shard are replicated on every rank
missing          a class that no release of a server has, so nobody has read how it runs
the rest         a class whose layers are not in our tables, or are of a kind that is not
                 supported: convolutions, pyramids, attention with relative positions
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.records import replace
from weighbridge.base.sentences import about, sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import record
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.memory.report.verdict import Condition, Verdict
from weighbridge.models import catalogue
from weighbridge.models.arch import towers
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.pictures.seeing import sees

if TYPE_CHECKING:
    from weighbridge.workload import Infer

PIPELINES = ("diffusers", *catalogue.LIBRARIES.values())
BESIDE = "sentence-transformers"  # a part that processes one vector per text
# Modules that `generate` runs after the text; servers run only the language model.
BEHIND = frozenset(("talker", "token2wav", "code2wav", "t2u_model", "vocoder"))


def beside_weights(model: Model) -> str:
    """Return what a model needs besides its weights if our rules do not cover it; else ""."""
    first = model.parts[0]
    if "adapter" in first.config:
        base = first.config["adapter"].get("base_model_name_or_path") or "the base model"
        return f"{base!s:.120}, which the adapter is loaded on"
    parts = [part for part in model.parts if part.library != BESIDE]
    if len(parts) == 1 and first.library not in PIPELINES:
        return ""
    names = [part.name or part.blueprint.cls for part in parts]
    return f"what {_listed(names)} {'computes' if len(names) == 1 else 'compute'}"


def seen(model: Model, workload: "Infer") -> Report | None:
    """Return the report of an image network's forward; None if it is not supported."""
    if not sees_in_stages(model):
        return None
    from weighbridge.answers.estimate import images  # networks, which language models do without

    if not images.known(model, workload):
        return None
    return images.weighed(model, workload, _loaded(model, workload))


def sees_in_stages(model: Model) -> bool:
    """Return whether a model is an image network whose blocks are not all alike."""
    first = model.parts[0]
    if first.library != "transformers":
        return first.library in catalogue.LIBRARIES.values()
    if sees(first.config):
        return True
    kind = first.config.get("model_type")
    return isinstance(kind, str) and facts(kind).encodes == "pyramid"


def _loaded(model: Model, workload: "Infer") -> Report:
    from weighbridge.answers.estimate.load import load
    from weighbridge.workload import Load

    names = ("dtype", "quantization", "engine_version", "device_map", "base_model")
    where = ("gpu", "gpu_memory", "headroom", "ram", "platform")
    asked = Load(**{name: getattr(workload, name) for name in (*names, *where)})
    return load(model, asked, formats=False)


def weights_alone(model: Model, workload: "Infer", missing: str) -> Report:
    """Return the report of `load`, with a verdict that says what is missing."""
    report = _loaded(model, workload)
    settings: EffectiveSettings = {
        "context": workload.context,
        "batch_size": workload.batch_size or 1,
    }
    derived: DerivedFacts = {
        "dtype_from": report.derived["dtype_from"],
        "as_stored": report.derived["as_stored"],
        "volatile_buffer_bytes": report.derived["volatile_buffer_bytes"],
        "context_from": "",
        "longest_context": None,
        "not_counted": [missing],
    }
    return replace(
        report,
        task="infer",
        workload=report.workload | settings,
        derived=derived,
        table=(),
        verdict=None if report.verdict is None else judged(report.verdict, (missing,)),
        warnings=(*report.warnings, *warnings((missing,))),
    )


def of_subject(subject: Subject, workload: "Infer") -> tuple[str, ...]:
    """Return the names of what a model's steps take and our rules leave out."""
    divided = tuple(_of_division(subject))
    return (
        divided
        if subject.model.rough
        else (
            *divided,
            *_of_layers(subject),
            *_of_class(subject),
            *_of_others(subject, workload),
        )
    )


def _of_division(subject: Subject) -> Iterator[str]:
    """Yield what is left out for a dtype below 2 bytes that is no loader's format: all weights are
    estimated alike."""
    dtype = subject.choice.dtype
    if dtype.nbytes < 2 and subject.choice.scheme is None and not subject.choice.as_stored:
        yield (sentence("loader_beside", dtype=dtype.name))


def _of_layers(subject: Subject) -> Iterator[str]:
    body, cls, kind = (
        subject.body,
        subject.part.blueprint.cls,
        subject.part.config.get("model_type"),
    )
    if subject.guessed:
        yield sentence("beyond_usual", kind=kind)
    elif not body.blocks:
        yield sentence("not_followed", cls=cls)
    elif not any(block.mixers for block in body.blocks):
        yield sentence("mixing", cls=cls)
    # The real classes of transformers 5.23, traced at 1,024 tokens, take 30 % (DeBERTa) and 88 %
    # (XLNet) more in all than the closed form.
    if differs(kind or "", "relative_scores"):
        yield sentence("relative", cls=cls)
    yield from _of_samples(subject)


def of_training(subject: Subject) -> tuple[str, ...]:
    """Return the names of what a training step takes and our rules leave out. A class without rules
    is refused before, or estimated from its parameters within an interval."""
    return tuple(_of_samples(subject))


def _of_samples(subject: Subject) -> Iterator[str]:
    if subject.config is not None and towers.reads_samples(subject.config.model_type):
        cls = subject.part.blueprint.cls
        yield sentence("convolutions", cls=cls)


def _of_class(subject: Subject) -> Iterator[str]:
    if subject.replaced:
        yield sentence("held_on_a_rank", cls=subject.part.blueprint.cls)
    if subject.missing:
        yield subject.missing


def _of_others(subject: Subject, workload: "Infer") -> Iterator[str]:
    """Yield what is missing of models before the language model, draft models, or behind it."""
    kind = record(workload.engine or "")
    server = kind.server
    asked = {
        "image": workload.images or workload.image_size is not None,
        "audio": bool(workload.audio_seconds),
    }
    for tower in subject.body.towers:
        if not tower.layers and subject.body.causal and (server or asked[tower.kind]):
            yield sentence(f"tower.{tower.kind}")
    if not kind.drafts and subject.draft is not None:
        yield sentence("draft_model")
    if (server or workload.draft_model) and subject.draft is None:
        yield from _of_drafts(subject, workload)
    if workload.mmproj and subject.projector is None and not subject.body.towers:
        yield sentence("projector_unread", name=f"{workload.mmproj!s:.120}")
    behind = memo(
        subject.part,
        ("behind",),
        lambda: BEHIND & {p.name.partition(".")[0] for p in subject.part.blueprint.counted},
    )
    if behind and not server:
        yield sentence("behind_text", names=_listed(sorted(behind)))


def _of_drafts(subject: Subject, workload: "Infer") -> Iterator[str]:
    """Yield the names of draft models or layers that could not be read."""
    from weighbridge.engines.servers.lora_and_speculation import NOTHING, predicting

    method = workload.speculative_method or ""
    if workload.draft_model:
        yield sentence("draft_unread", name=f"{workload.draft_model!s:.120}")
    elif method and method not in NOTHING and not predicting(subject, method):
        yield sentence("draft_layers")


def judged(verdict: Verdict, missing: tuple[str, ...]) -> Verdict:
    """Return the verdict, `cannot say` if something is missing; a "no" stays."""
    if not missing or verdict.fits == "no":
        return verdict
    lead = f"weights only are surely counted, not {'; nor '.join(missing)}"
    uncounted = Condition("not_counted", opens="yes", source="; ".join(missing))
    return verdict.under(uncounted, reason=about(lead, verdict.reason))


def warnings(missing: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sentence("not_counted", what=what) for what in missing)


def refuse_to_serve(part: ModelPart, engine: str) -> str:
    """Say why a server does not take a model."""
    kind = part.library if part.library in PIPELINES else "a pipeline or an adapter"
    return (
        f"{engine} serves language models and text encoders, not {kind}; "
        "--engine transformers answers with its weights"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
