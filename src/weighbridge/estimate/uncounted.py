"""What an answer leaves out. What is not counted cannot fit: such a verdict is `cannot say`.

weights alone    pipelines, timm's models, adapters: nothing that they compute is followed
the rest         a class whose layers are not in our tables, or are of a kind that is not
                 followed: convolutions, pyramids, attention with relative positions
"""

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.arch import towers
from weighbridge.arch.model_types import differs
from weighbridge.checkpoint.model import Model, ModelPart
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import record
from weighbridge.memo import memo
from weighbridge.report import Report
from weighbridge.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.report.verdict import Verdict
from weighbridge.settings import Infer, Load

PIPELINES = ("diffusers", "timm")
BESIDE = "sentence-transformers"  # a part that works on one vector a text
# Modules that `generate` runs behind the text; servers run the language model alone.
BEHIND = frozenset(("talker", "token2wav", "code2wav", "t2u_model", "vocoder"))


def beside_weights(model: Model) -> str:
    """What a model takes beside its weights and has no rules here; "" where there are some."""
    first = model.parts[0]
    if "adapter" in first.config:
        base = first.config["adapter"].get("base_model_name_or_path") or "the base model"
        return f"{base!s:.120}, which the adapter is loaded on"
    parts = [p for p in model.parts if p.library != BESIDE]
    if len(parts) == 1 and first.library not in PIPELINES:
        return ""
    names = [p.name or p.blueprint.cls for p in parts]
    return f"what {_listed(names)} {'computes' if len(names) == 1 else 'compute'}"


def weights_alone(model: Model, w: Infer, missing: str) -> Report:
    """The answer of `load`, and a verdict that says what is missing."""
    from weighbridge.estimate.load import load

    names = ("dtype", "quantization", "engine_version", "device_map", "base_model")
    where = ("gpu", "gpu_memory", "headroom", "ram")
    asked = Load(**{name: getattr(w, name) for name in (*names, *where)})
    found = load(model, asked, formats=False)
    settings: EffectiveSettings = {"context": w.context, "batch_size": w.batch_size or 1}
    derived: DerivedFacts = {
        "dtype_from": found.derived["dtype_from"],
        "as_stored": found.derived["as_stored"],
        "volatile_buffer_bytes": found.derived["volatile_buffer_bytes"],
        "context_from": "",
        "longest_context": None,
        "not_counted": [missing],
    }
    return replace(
        found,
        task="infer",
        workload=found.workload | settings,
        derived=derived,
        table=(),
        verdict=None if found.verdict is None else judged(found.verdict, (missing,)),
        warnings=(*found.warnings, *warnings((missing,))),
    )


def of_subject(s: Subject, w: Infer) -> tuple[str, ...]:
    """What the steps of one model take and our rules leave out."""
    divided = tuple(_of_division(s))
    return divided if s.model.rough else (*divided, *_of_layers(s), *_of_others(s, w))


def _of_division(s: Subject) -> Iterator[str]:
    """Weights as if all were alike: a division of the contract's table, and no loader's format."""
    dtype = s.choice.dtype
    if dtype.nbytes < 2 and s.choice.scheme is None and not s.choice.as_stored:
        yield (
            f"what a loader keeps beside {dtype.name}: none holds every weight alike, so name a "
            "format with --quantization (nf4, int8, fp8, Q4_K_M)"
        )


def _of_layers(s: Subject) -> Iterator[str]:
    body, cls, kind = s.body, s.part.blueprint.cls, s.part.config.get("model_type")
    if s.guessed:
        yield f"what the layers of model type {kind!r:.60} keep and compute beyond usual attention"
    elif not body.blocks:
        yield f"what {cls} computes: its layers are of no kind that is followed"
    elif not any(b.mixers for b in body.blocks):
        yield f"how the layers of {cls} mix tokens"
    # The real classes of transformers 5.23, traced at 1,024 tokens, take 30 % (DeBERTa) and 88 %
    # (XLNet) more in all than the closed form.
    if differs(kind or "", "relative_scores"):
        yield f"relative positions in the attention of {cls}"
    yield from _of_samples(s)


def of_training(s: Subject) -> tuple[str, ...]:
    """What a step of training takes and is not followed. A class without rules of its own is
    refused before, or followed by its parameters within an interval."""
    return tuple(_of_samples(s))


def _of_samples(s: Subject) -> Iterator[str]:
    if s.config is not None and towers.reads_samples(s.config.model_type):
        cls = s.part.blueprint.cls
        yield f"convolutions over the samples of a sound, which {cls} begins with"


def _of_others(s: Subject, w: Infer) -> Iterator[str]:
    """Models within the class that run before the language model, and behind it."""
    kind = record(w.engine or "")
    server = kind.server
    asked = {"image": w.images or w.image_size is not None, "audio": bool(w.audio_seconds)}
    for tower in s.body.towers:
        if not tower.layers and s.body.causal and (server or asked[tower.kind]):
            yield f"the convolutions of its tower for {tower.kind}s"
    if not kind.drafts and s.draft is not None:
        yield "the draft model, with a cache and buffers of its own"
    behind = memo(s.part, ("behind",), lambda: _behind(s.part))
    if behind and not server:
        yield f"what its {_listed(sorted(behind))} makes of the text"


def _behind(part: ModelPart) -> frozenset[str]:
    return BEHIND & {p.name.partition(".")[0] for p in part.blueprint.counted}


def judged(found: Verdict, missing: tuple[str, ...]) -> Verdict:
    """The verdict over what is counted, where something is not."""
    if not missing or found.fits == "no":
        return found
    reason = f"weights only are surely counted, not {'; nor '.join(missing)}: {found.reason}"
    return found.turned("unknown", reason)


def warnings(missing: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"not counted: {what}" for what in missing)


def refuse_to_serve(part: ModelPart, engine: str) -> str:
    """Why a server does not take it."""
    kind = part.library if part.library in PIPELINES else "a pipeline or an adapter"
    return (
        f"{engine} serves language models and text encoders, not {kind}; "
        "--engine transformers answers with its weights"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
