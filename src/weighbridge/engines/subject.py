"""From a model and what the user said to the subject that an engine is given."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.arch.blueprint import Blueprint
from weighbridge.arch.bodies import body
from weighbridge.arch.body import Body
from weighbridge.arch.cache_layers import layers, usual
from weighbridge.arch.config import Config
from weighbridge.arch.longest import learned, longest, longest_of_gguf
from weighbridge.arch.mixers import Layer
from weighbridge.arch.roles import VOCAB, role
from weighbridge.checkpoint.model import Model, ModelPart
from weighbridge.components.weights import DIVISIONS, FormatChoice
from weighbridge.engines import quantization_flag, readable
from weighbridge.engines.engine import Engine, Version
from weighbridge.engines.format_choice import Decision, by_server, by_transformers, decide
from weighbridge.engines.interface import Subject
from weighbridge.engines.table import record
from weighbridge.errors import BadFileError, NotServedError, UnsupportedError, UsageError
from weighbridge.memo import memo
from weighbridge.settings import Infer

USUAL_CONTEXT = 4096  # tokens, where the user names none: contract of the command line
# By the bits in another format's name
NEAR = {8: "Q8_0", 6: "Q6_K", 5: "Q5_K_M", 4: "Q4_K_M, Q4_0, MXFP4_MOE", 3: "Q3_K_M", 2: "Q2_K"}
LIVE = "torch"  # the library of a module that is at hand
WORDS = "token_embedding"  # CLIP's, beside the names in arch/roles.py


def subject(model: Model, w: Infer, engine: Engine, version: Version) -> Subject:
    """Raises UnsupportedError where what the layers remember is not known."""
    part = model.parts[0]
    serves = engine.server or engine.reads == "gguf"  # language models and text encoders
    if serves and part.library == "transformers" and not reads_text(part):
        raise NotServedError(
            f"{model.reference}: {part.blueprint.cls} reads no text, and {engine.name} serves "
            "language models and text encoders alone",
            "ask --engine transformers",
        )
    budget = w.budget()
    card = None if budget is None else budget.choice.part
    by = readable.Loader(engine, version, card, model.reference)
    replaced = _replaced(part, by)
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
    computes = memo(
        part,
        ("body", w.image_size, w.audio_seconds),
        lambda: body(
            part.blueprint,
            config,
            layers,
            metadata=metadata,
            image_size=w.image_size,
            audio_seconds=w.audio_seconds,
        ),
    )
    return Subject(
        model=model,
        part=part,
        choice=decisions[part.name].choice,
        why=decisions[part.name].why,
        config=config,
        layers=layers if computes.causal else (),  # the encoder of T5 alone generates nothing
        body=computes,
        longest=end,
        context=context,
        context_from=why,
        choices={name: d.choice for name, d in decisions.items()},
        major=version[0] if engine.reads == "any" else 5,
        guessed=bool(notes),
        notes=(
            *notes,
            *filter(None, (replaced,)),
            *(unused(w, part.blueprint, computes, context) if reads_text(part) else _textless(w)),
        ),
    )


def _replaced(part: ModelPart, by: readable.Loader) -> str:
    """A warning where a class of transformers may run in the place of the engine's own. The newest
    release has every class of our tables: they are imported for others alone."""
    if by.version >= by.engine.newest:
        return ""
    from weighbridge.engines import classes

    return classes.check(part, by)


def within(part: ModelPart, end: int | None, context: int) -> None:
    """Raises UsageError for a text beyond a learned table of positions."""
    if end is not None and context > end and learned(part.blueprint, end):
        raise UsageError(
            f"{context:,} tokens: the positions of {part.blueprint.cls} are a learned table of "
            f"{end:,}, and more is an error of its index; ask for at most {end}"
        )


def reads_text(part: ModelPart) -> bool:
    """Tell whether a model has an embedding of words."""

    def found() -> bool:
        named = (p.name for p in part.blueprint.counted if p.kind == "embedding")
        return any(role(name) in VOCAB or WORDS in name for name in named)

    return memo(part, ("reads text",), found)


def _textless(w: Infer) -> Iterator[str]:
    """Yield a warning for each setting of text, of a model that reads none."""
    if w.context is not None:
        yield "--context changes nothing: this model reads no text; --batch-size counts its items"


def unused(w: Infer, plan: Blueprint, computes: Body, context: int) -> Iterator[str]:
    """Yield a warning for each setting of a request that means nothing to this model."""
    kinds = {t.kind for t in computes.towers}
    seen = w.images is not None or w.image_size is not None
    towers = {label for _, label in plan.parts}
    for given, kind, word in (
        (seen, "image", "image"),
        (w.audio_seconds is not None, "audio", "sound"),
    ):
        if given and kind not in kinds:
            why = f"what {word}s take is not in our tables" if towers else "it reads none"
            yield f"{plan.cls}: the {word} is not counted; {why}"
    if w.shared_prefix is not None and w.shared_prefix > context:
        yield f"--shared-prefix {w.shared_prefix:,} is more than a request's {context:,} tokens"


def decision(part: ModelPart, w: Infer, by: readable.Loader) -> Decision:
    """llama.cpp loads GGUF alone: a model that is none is taken as converted."""
    engine = by.engine
    default = by_transformers(by.version[0]) if engine.reads == "any" else by_server
    floats(w, engine)
    if w.engine_defaults and part.packed:  # a launch command only names what the files are in
        w = w.but(quantization=None)
    asked_format = w.quantization
    w = w.but(quantization=quantization_flag.read(engine, asked_format, packed=part.packed))
    files = engine.reads == "gguf" and part.library != "gguf"
    if files and engine.usual and not (w.quantization or w.dtype or kept_packed(part)):
        decision = decide(part, w.but(quantization=engine.usual), default)
        return _made(downloaded(decision), engine)
    decision = decide(part, w, default)
    if files and w.quantization:
        typed(decision, w.quantization, packed=part.packed)
    readable.check(part, decision.choice, w.quantization and asked_format, by)
    return _made(converted(decision, packed=part.packed), engine) if files else decision


def _made(decision: Decision, engine: Engine) -> Decision:
    """The same format by the engine's own quantizer."""
    form = decision.choice.scheme
    if engine.quantizer is None or form is None or record(form.engine).reads != "gguf":
        return decision
    return decision._replace(choice=replace(decision.choice, scheme=engine.quantizer(form)))


def typed(decision: Decision, name: str, *, packed: bool) -> None:
    """Raises UsageError for a format that is asked for and that GGUF has no type for."""
    form = decision.choice.scheme
    kept_packed = packed and form is not None and form.name == "mxfp4"
    if form is not None and record(form.engine).reads != "gguf" and not kept_packed:
        raise UsageError(not_of_gguf(name))


def writes(part: ModelPart) -> bool:
    """Tell whether it is a class that writes text."""
    return part.blueprint.cls.endswith(("ForCausalLM", "ForConditionalGeneration"))


def kept_packed(part: ModelPart) -> bool:
    """Tell whether an engine whose models are downloaded in a usual format has this one in its own:
    a model that writes no text, MXFP4, and a packed checkpoint of which files are at hand."""
    if not writes(part):
        return True
    if not part.packed:
        return False
    return bool(part.stored) or readable.declared_name(part) == "mxfp4"


def downloaded(decision: Decision) -> Decision:
    """The format that nobody named."""
    return decision._replace(why="as it is usually downloaded")


def floats(w: Infer, engine: Engine) -> None:
    """Raises UsageError for a --dtype that a server has not: its packed weights are a format."""
    plain = DIVISIONS.get(w.dtype or "")
    if engine.online and plain is not None and plain.nbytes < 2:
        raise UsageError(
            f"--dtype {w.dtype}: {engine.name} takes float16, bfloat16 and float32; packed weights "
            "are a format: --quantization fp8, or awq-4bit-g128, gptq-4bit-g128, w8a16"
        )


def converted(decision: Decision, *, packed: bool) -> Decision:
    """Return the format that the converter writes: 16 bits, but for experts that come in MXFP4,
    which it keeps."""
    form, dtype = decision.choice.scheme, decision.choice.dtype
    if form is not None and record(form.engine).reads == "gguf":
        return decision
    kept_mxfp4 = packed and form is not None and form.name == "mxfp4"
    from weighbridge.quantization.schemes import scheme

    kind = {"float16": "F16", "float32": "F32"}.get(dtype.name, "BF16")
    why = f"as converted to GGUF, {decision.why}"
    if kept_mxfp4:
        kind, why = "MXFP4_MOE", "as converted to GGUF, experts in mxfp4 as the config declares"
    elif form is not None:
        why = f"as converted to GGUF from {form.name}"
    return Decision(FormatChoice(dtype=dtype, scheme=scheme(kind)), why)


def not_of_gguf(name: str) -> str:
    bits = next((bits for bits in NEAR if str(bits) in name), 4)
    return (
        f"--quantization {name}: llama.cpp loads GGUF alone, which has no such type; near are "
        f"{NEAR[bits]}"
    )


def of_part(part: ModelPart) -> Config | None:
    if part.library != "transformers" or not part.config.get("model_type"):
        return None
    return Config(part.config, cls=part.blueprint.cls)


def remembered(
    config: Config | None, metadata: Mapping[str, Any] | None, part: ModelPart
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """(layers, what to say). A model type that is not in our tables is read as usual attention,
    and said; headers alone tell nothing."""
    if metadata:
        from weighbridge.arch.gguf_layers import layers_of_gguf

        return layers_of_gguf(metadata), ()
    if part.library == "size":
        return (), ()
    if config is None and part.library == LIVE:
        raise UnsupportedError(
            f"{part.blueprint.cls}: a live module is run to be weighed: its own step under "
            "weighbridge.FakeGPU(...), or its script with `weighbridge trace`; a config or a "
            "reference is answered by rule"
        )
    if config is None:
        raise UnsupportedError(
            f"{part.blueprint.cls}: what its layers remember is not known without its config.json; "
            "give the folder or the config, or ask `weighbridge load` for the weights"
        )
    try:
        return layers(config), ()
    except UnsupportedError as error:
        try:
            layers_of = usual(config)
        except BadFileError:
            raise error from None
        return layers_of, (f"{error}; taken as usual attention, every token kept",)


def asked(w: Infer, end: int | None, engine: Engine) -> tuple[int, str]:
    """(tokens of one request, why). Never the model's maximum in silence."""
    both = w.prompt_len is not None and w.max_new_tokens is not None
    tokens = (w.prompt_len or 0) + (w.max_new_tokens or 0)
    if w.context is not None and (tokens > w.context or (both and tokens != w.context)):
        raise UsageError(
            f"--context {w.context:,} is not what --prompt-len and --max-new-tokens make, "
            f"{tokens:,}; leave one of them out"
        )
    if both:
        return tokens, "prompt and new tokens"
    if w.context is None and w.prompt_len is not None:
        return tokens, "the prompt alone"
    if w.context is not None:
        return w.context, "as you asked"
    if w.engine_defaults and end is not None:
        return engine.context(w, end)
    usual = max(USUAL_CONTEXT, tokens)
    if end is not None and end < usual:
        return max(end, tokens), "the model's maximum"
    return usual, "the usual default"
