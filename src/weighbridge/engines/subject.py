"""Make the subject of an engine's question from a model and the user's settings."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import BadFileError, NotServedError, UnsupportedError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.engines import ignorance, model_classes
from weighbridge.engines.engine import USUAL_CONTEXT, Engine, Version
from weighbridge.engines.engine import version as versions
from weighbridge.engines.format_choice import decision
from weighbridge.engines.interface import Subject
from weighbridge.engines.weight_formats import Loader
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.arch.bodies import body
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.cache_layers import layers, usual
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.longest import learned, longest, longest_of_gguf
from weighbridge.models.arch.mixers import Layer
from weighbridge.models.arch.roles import VOCAB, role
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.models.sources.reference import HubRef

if TYPE_CHECKING:
    from weighbridge.workload import Infer

LIVE = "torch"  # library of a module that the caller holds in memory
WORDS = "token_embedding"  # CLIP's, in addition to the names in arch/roles.py


def subject(model: Model, w: "Infer", engine: Engine, version: Version) -> Subject:
    """Return the model as `engine` loads it. Raises UnsupportedError for unknown caches."""
    part = model.parts[0]
    serves = engine.server or engine.reads == "gguf"  # language models and text encoders
    if serves and part.library == "transformers" and not reads_text(part):
        raise NotServedError(
            sentence("not_text", cls=part.blueprint.cls, engine=engine.name),
            sentence("ask", engines="transformers"),
            where=model.reference,
        )
    budget = w.budget()
    card = None if budget is None else budget.choice.part
    by = Loader(engine, version, card, model.reference)
    replaced = model_classes.check(part, by)
    missing = model_classes.missing(part, by)
    decisions = {p.name: decision(p, w, by) for p in model.parts}
    config, metadata = of_part(part), part.config.get("gguf")
    layers, notes = memo(part, ("remembered",), lambda: remembered(config, metadata, part))
    end = memo(
        part,
        ("longest",),
        lambda: longest_of_gguf(metadata) if metadata else longest(part.config),
    )
    context, why = asked(w, end, engine)
    if engine.reads != "gguf":  # its cache may be longer than its texts
        within(part, end, context)
    size, seconds = w.image_size, w.audio_seconds
    of_items = partial(body, part.blueprint, config, layers, metadata=metadata, image_size=size)
    computes = memo(part, ("body", size, seconds), lambda: of_items(audio_seconds=seconds))
    choice = decisions[part.name].choice
    gguf = "" if metadata or _named_by_us(model, choice.name) else model.reference
    release = _release(w, engine, version)
    flags = w.unmodelled or ""
    unsure = tuple(ignorance.kinds(model.notes, choice.name, flags, gguf=gguf, release=release))
    if engine.server and card is not None and card.stack == "own":
        unsure = (*unsure, ignorance.DEVICE)
    return Subject(
        model=model,
        part=part,
        choice=choice,
        why=decisions[part.name].why,
        config=config,
        layers=layers if computes.causal else (),  # T5's encoder generates nothing
        body=computes,
        longest=end,
        context=context,
        context_from=why,
        choices={name: d.choice for name, d in decisions.items()},
        major=version[0] if engine.reads == "any" else 5,
        guessed=bool(notes),
        replaced=bool(replaced),
        missing=missing.uncounted,
        unsure=unsure,
        notes=(
            *notes,
            *ignorance.sentences(unsure),
            *filter(None, (replaced, missing.warning)),
            *(
                unused(w, part.blueprint, computes, context)
                if reads_text(part)
                else _textless(model, w)
            ),
        ),
    )


def _release(w: "Infer", engine: Engine, version: Version) -> str:
    """Return `release` for `ignorance.kinds`: UNREAD, the engine's name if latest, or ""."""
    if versions(engine, w.engine_version)[1]:
        return ignorance.UNREAD
    return engine.name if version[: len(engine.newest)] == engine.newest else ""


def _named_by_us(model: Model, form: str) -> bool:
    """Return whether our run lines name a GGUF repository of the model in that format, or make the
    file."""
    if "gguf" not in model.reference.lower():
        return False
    origin = model.origin
    if isinstance(origin, HubRef):
        from weighbridge.models.catalogue.files import has_gguf  # which no other engine reads

        return has_gguf(origin.repo_id, form)
    return model.reference == f"{model.name}-{form}.gguf"


def within(part: ModelPart, end: int | None, context: int) -> None:
    """Raise UsageError if the context is longer than a learned table of positions."""
    if end is not None and context > end and learned(part.blueprint, end):
        raise UsageError(
            sentence(
                "learned_positions", count=context, cls=part.blueprint.cls, most=end, bound=end
            )
        )


def reads_text(part: ModelPart) -> bool:
    """Return whether a model has a token embedding."""

    def found() -> bool:
        named = (p.name for p in part.blueprint.counted if p.kind == "embedding")
        return any(role(name) in VOCAB or WORDS in name for name in named)

    return memo(part, ("reads text",), found)


def _textless(model: Model, w: "Infer") -> Iterator[str]:
    """Yield a warning for a context of a model that reads no text; a bare size may."""
    if w.context is not None and not model.rough:
        yield sentence("no_text")


def unused(w: "Infer", plan: Blueprint, computes: Body, context: int) -> Iterator[str]:
    """Yield a warning per request setting that has no effect on this model."""
    kinds = {t.kind for t in computes.towers}
    seen = w.images is not None or w.image_size is not None
    towers = {label for _, label in plan.parts}
    for value, kind, word in (
        (seen, "image", "image"),
        (w.audio_seconds is not None, "audio", "sound"),
    ):
        if value and kind not in kinds:
            unknown = "images_tables" if word == "image" else "sounds_tables"
            why = sentence(unknown if towers else "reads_none")
            yield about(plan.cls, clauses(sentence(word), why))
    if w.shared_prefix is not None and w.shared_prefix > context:
        yield sentence("shared_prefix", tokens=w.shared_prefix, context=context)


def of_part(part: ModelPart) -> Config | None:
    if part.library != "transformers" or not part.config.get("model_type"):
        return None
    return Config(part.config, cls=part.blueprint.cls)


def remembered(
    config: Config | None, metadata: Mapping[str, Any] | None, part: ModelPart
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Return (layers with their caches, notes). A model type that is not in our tables is taken as
    usual attention, with a note. Raises UnsupportedError if only headers are known."""
    if metadata:
        from weighbridge.models.arch.gguf_layers import layers_of_gguf

        return layers_of_gguf(metadata), ()
    if part.library == "size":
        return (), ()
    if config is None and part.library == LIVE:
        raise UnsupportedError(sentence("live_module", cls=part.blueprint.cls))
    if config is None:
        raise UnsupportedError(sentence("no_memory_known", cls=part.blueprint.cls))
    try:
        return layers(config), ()
    except UnsupportedError as error:
        try:
            layers_of = usual(config)
        except BadFileError:
            raise error from None
        return layers_of, (clauses(error.sentence, sentence("usual_attention")),)


def asked(w: "Infer", end: int | None, engine: Engine) -> tuple[int, str]:
    """Return (tokens of one request, why). The model's maximum is never taken without saying so."""
    both = w.prompt_len is not None and w.max_new_tokens is not None
    tokens = (w.prompt_len or 0) + (w.max_new_tokens or 0)
    if w.context is not None and (tokens > w.context or (both and tokens != w.context)):
        raise UsageError(sentence("context_made", context=w.context, tokens=tokens))
    if both:
        return tokens, "prompt and new tokens"
    if w.context is not None:
        if engine.sizes_by_card and end is not None and end < w.context:
            return end, f"the model's maximum, to which {engine.title} lowers it"
        return w.context, "as you asked"
    return (tokens, "the prompt alone") if w.prompt_len else _unnamed(w, end, engine, tokens)


def _unnamed(w: "Infer", end: int | None, engine: Engine, tokens: int) -> tuple[int, str]:
    """Return (tokens of one request, why) if the user sets no total; `tokens` are new ones."""
    if (w.engine_defaults or (engine.sizes_by_card and not tokens)) and end is not None:
        return engine.context(w, end)
    usual = max(USUAL_CONTEXT, tokens)
    if end is not None and end < usual:
        return max(end, tokens), "the model's maximum"
    return usual, "the usual default"
