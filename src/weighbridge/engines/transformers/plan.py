"""The effective settings of one run: the user's, and the defaults of this release."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import BFLOAT16, DType
from weighbridge.base.errors import BadFileError, ContradictionError, UsageError
from weighbridge.base.memo import memo
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import release
from weighbridge.engines.engine import version as nearest
from weighbridge.engines.interface import Subject
from weighbridge.engines.subject import reads_text
from weighbridge.engines.transformers import ENGINE
from weighbridge.engines.transformers.caches import CacheKind
from weighbridge.engines.transformers.rules import TransformersRules, attends, kernel, rules
from weighbridge.engines.transformers.step import ClassStyle, ForwardStep, around, style
from weighbridge.memory.components.device import context
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.arch.body import Tower
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedRecurrence,
    KimiDelta,
    LinearAttention,
    Mixer,
    Rwkv,
    packages,
)
from weighbridge.models.arch.model_types import differs
from weighbridge.models.arch.roles import role

if TYPE_CHECKING:
    from weighbridge.engines.transformers.settings import Transformers
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part

CACHES: tuple[CacheKind, ...] = ("dynamic", "static", "quanto", "hqq", "fp8")
GUESSED = (Compressed, GatedRecurrence, KimiDelta, LinearAttention, Rwkv)
# Kinds of cache by what they store: quanto's default is 4 bits.
STORED: Mapping[str, CacheKind] = {"fp8": "fp8", "fp8_e4m3": "fp8", "int4": "quanto"}


@frozen_record
class GenerationPlan:
    """The settings of a run. `prompt` is the first step; `context` is the tokens after the last."""

    rules: TransformersRules
    prompt: ForwardStep
    context: int
    new: int  # generated tokens; 0: only one forward
    logits_kept: int  # tokens per sequence whose logits are made; 0 is all
    beams: int
    devices: int
    rooms: tuple[int, ...]  # free bytes of each for tensors, if devices differ
    device_map: str | None
    items: Mapping[str, int]  # images and sounds per request
    part: "Part | None"  # the device that the user named
    capability: tuple[int, int] | None
    torch: tuple[int, ...] | None
    outputs: int  # elements per token of the head's output
    pixels: int  # elements of the image that a class without text reads
    kinds: Mapping[Mixer, int]  # the language model's mixers -> count
    packages: tuple[str, ...]  # packages that may be installed, but were not counted
    guessed: bool  # whether a layer's kind was not followed in detail
    stays: FormatChoice | None = None  # the format that weights keep if a package is installed

    def logits(self, step: ForwardStep) -> int:
        """Return the bytes of a step's logits, as they are returned."""
        tokens = min(step.tokens, self.logits_kept or step.tokens)
        size = 4 if self.rules.float_logits else step.size
        return step.batch * tokens * self.outputs * size

    def packed(self, choice: FormatChoice) -> "GenerationPlan":
        """Return the plan of weights that stay in `choice` if `kernels` is installed."""
        return replace(self, packages=("kernels", *self.packages), stays=choice)


def _rooms(budget: "Budget | None") -> tuple[int, ...]:
    """Return each card's free bytes besides the context, as accelerate's get_max_memory reads them;
    empty for equal cards."""
    if budget is None or not budget.mixed:
        return ()
    cards = zip(budget.each, budget.choice.cards, strict=True)
    return tuple(max(0, e.expected - context(c.part).bytes.expected) for e, c in cards)


def plan(subject: Subject, w: "Transformers", budget: "Budget | None") -> GenerationPlan:
    number, _ = nearest(ENGINE, w.engine_version)
    version = (number[0], number[1] if len(number) > 1 else 0)
    class_rules = rules(version, subject.model_type, inner=subject.text is not None)
    read, prompt, context = _lengths(subject, w)
    beams, devices = w.num_beams or 1, budget.choice.count if budget else 1
    first = _first(subject, w, class_rules)
    kinds = Counter(m for b in subject.body.blocks for m in b.mixers)
    return GenerationPlan(
        rules=class_rules,
        prompt=replace(
            first,
            batch=first.batch * beams,
            tokens=prompt,
            encoder=read,
            longest=context if first.cache == "static" else 0,
        ),
        context=context,
        new=context - prompt if subject.body.causal else 0,
        logits_kept=_logits_memo(subject, w, class_rules),
        beams=beams,
        devices=devices,
        rooms=_rooms(budget),
        device_map=w.device_map or ("auto" if devices > 1 else None),
        items={"image": _images(subject, w), "audio": 1 if w.audio_seconds else 0},
        part=budget.choice.part if budget else None,
        capability=budget.choice.part.capability if budget else None,
        torch=_torch(w.torch_version),
        outputs=subject.body.vocab or subject.body.labels,
        pixels=seen.positions * seen.patch if (seen := _seen(subject)) else 0,
        kinds=kinds,
        packages=() if w.kernels == "missing" else packages(map(type, kinds)),
        guessed=any(isinstance(m, GUESSED) for m in kinds),
    )


def _first(subject: Subject, w: "Transformers", rules: TransformersRules) -> ForwardStep:
    form = subject.choice.scheme
    attends(w.attention, rules, subject.model_type)
    return ForwardStep(
        batch=w.batch_size or 1,
        tokens=1,
        past=0,
        hidden=subject.body.hidden,
        dtype=computing(subject.choice.dtype),
        kernel=kernel(w.attention, rules.attention),
        rules=rules,
        style=memo(subject.part, ("style",), lambda: _style(subject)),
        cache=_cache(w, computing(subject.choice.dtype).name, _usual(subject)),
        packed=around(form.name) if form else None,
        kind=subject.model_type,
    )


def computing(dtype: DType) -> DType:
    """Return the dtype of activations: 8-bit or 4-bit weights are multiplied in 16."""
    return dtype if dtype.name in ("float32", "float16", "bfloat16") else BFLOAT16


def _style(subject: Subject) -> ClassStyle:
    plan = subject.part.blueprint
    _adding_up(subject)
    return style(_names(plan), language(subject), _turned(subject))


def _adding_up(subject: Subject) -> None:
    """Raise BadFileError if queries, keys and values do not add up to their projection."""
    plan = subject.part.blueprint
    mixers = (m for b in subject.body.blocks for m in b.mixers if isinstance(m, Attention))
    widths = {m.heads * m.key_dim + m.key_elements + m.value_elements for m in mixers}
    for x in plan.counted:
        joined = len(x.shape) == 2 and x.name.endswith(".weight") and role(x.name) == "qkv"
        if widths and joined and plan.part(x.name) == "language model" and not widths & {*x.shape}:
            raise BadFileError(
                sentence("head_sizes", least=min(widths), name=x.name, count=x.shape[0])
            )


def _turned(subject: Subject) -> int:
    """Return the elements per head with positions, by the class's frequencies; 0 for all."""
    widths = {m.key_dim for b in subject.body.blocks for m in b.mixers if isinstance(m, Attention)}
    plan = subject.part.blueprint
    frequencies = (b for b in plan.buffers if b.name.endswith("inv_freq"))
    width = next((2 * b.shape[0] for b in frequencies if plan.part(b.name) == "language model"), 0)
    width = width or language(subject).num("rotary_dim", default=0)
    return width if widths and width < min(widths) else 0


def _names(plan: Blueprint) -> Iterator[str]:
    """Yield the names of the language model's tensors; of all without a language model."""
    names = [x.name for x in plan.counted] + [b.name for b in plan.buffers]
    of_language = [name for name in names if plan.part(name) == "language model"]
    yield from of_language or names


def _usual(subject: Subject) -> CacheKind:
    """Return the default cache: none for a class whose config sets `use_cache` off by default
    (models/mpt/configuration_mpt.py; generation_config.json of its repositories says so, too)."""
    off = differs(subject.model_type, "no_cache")
    return "none" if off and language(subject).get("use_cache") is not True else "dynamic"


def _cache(w: "Transformers", dtype: str, usual: CacheKind) -> CacheKind:
    """Return the user's kind of cache, else the one for the user's KV cache dtype."""
    stored = w.kv_cache_dtype
    if w.cache_implementation is None and stored is not None:
        if stored not in ("auto", dtype) and stored not in STORED:
            raise ContradictionError(
                sentence("cache_stored", stored=stored, dtype=dtype, known=", ".join(STORED))
            )
        return STORED.get(stored, "dynamic")
    name = w.cache_implementation or usual
    for known in (*CACHES, usual):
        if name == known:
            return known
    raise UsageError(sentence("cache_implementation", name=name, known=", ".join(CACHES)))


def _lengths(subject: Subject, w: "Transformers") -> tuple[int, int, int]:
    """Return the tokens of an encoder, of the first step, and after the last one. If only the total
    is known, the prompt is all but one token; an encoder reads as many as the decoder may
    generate."""
    context = max(1, subject.context)
    if not subject.body.causal:
        seen = _seen(subject)
        length = seen.positions if seen else context
        return 0, length, length
    apart = w.prompt_len is not None or w.max_new_tokens is not None
    prompt = max(1, context - (w.max_new_tokens or 0)) if apart else max(1, context - 1)
    crossed = _crossed(subject)
    if crossed is None or subject.body.encoder is None:
        return 0, prompt, max(context, prompt)
    written = max(1, w.max_new_tokens or 1) if apart else context
    return crossed.length or (prompt if apart else context), 1, max(2, written)


def _seen(subject: Subject) -> Tower | None:
    """Return the encoder of the image or sound that a class without text reads."""
    alone = not subject.body.causal and not reads_text(subject.part)
    return next(iter(subject.body.towers), None) if alone else None


def _crossed(subject: Subject) -> CrossAttention | None:
    mixers = (m for b in subject.body.blocks for m in b.mixers)
    return next((m for m in mixers if isinstance(m, CrossAttention)), None)


def language(subject: Subject) -> Config:
    """Return the language model's config, with its class's defaults; empty for headers alone."""
    whole = subject.config
    if whole is None:
        return Config({})
    text = subject.text
    return whole if text is None else Config(text, model_type=subject.model_type)


def _logits_memo(subject: Subject, w: "Transformers", rules: TransformersRules) -> int:
    if w.logits_to_keep is not None:
        return w.logits_to_keep
    return 0 if rules.whole_logits or not subject.body.causal else 1


def _images(subject: Subject, w: "Transformers") -> int:
    """Return the images per request; a class with an encoder but no decoder (CLIP) needs one."""
    if w.images is not None:
        return w.images
    pair = not subject.body.causal and reads_text(subject.part)
    seen = pair and any(t.kind == "image" for t in subject.body.towers)
    return 1 if w.image_size is not None or seen else 0


def _torch(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    number = release(text)
    if number is None:
        raise UsageError(sentence("torch_version", text=text))
    return number
