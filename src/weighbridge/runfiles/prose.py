"""Settings that people write in words: `max_model_len=32768`, "32K context", "in AWQ", 上下文 32K.

A setting is taken where a text has one value for it. Where it has several the answer is about
none of them, and that is told. Fences, quoted lines and lines of logs are no words of the writer.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice

from weighbridge.engines.format_names import meant
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.arguments import find
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.errors import UsageError
from weighbridge.records import NamedTuple
from weighbridge.runfiles.claims import MOST_PLACES, MOST_SENTENCE, Way, claims, counted, way
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.fences import FENCE
from weighbridge.runfiles.named import MOST_TEXT, Piece
from weighbridge.runfiles.record import Understood, Value
from weighbridge.runfiles.vocabulary import (
    BARE,
    CACHES,
    DENIED,
    ENGINES_OF,
    LORA_TRAINING,
    OF_A_CACHE,
    OTHER_TOKENS,
    QLORA,
    SHARE,
    SHARES,
    SIZES,
    TAKES,
    WORDS,
)
from weighbridge.units import KIB

QUOTED = re.compile(
    r"(?m)^[ \t]*>.*$|^\(\w+ pid=.*$"
    r"|^.*\b(?:INFO|WARNING|ERROR|DEBUG|Traceback|llama_\w+:|time=\d).*$"
)
FORMAT = re.compile(
    r"(?i)(?<![a-z0-9_/.-])(AWQ|GPTQ|FP8|NF4|Q[2-8](?:_K(?:_[SML])?|_0)?|[48][- ]?bit|INT[48])"
    r"(?![a-z0-9_/-])(?![ -]*(?:kv|cache|optim|adam|page))"
)
OF_CACHE = re.compile(
    r"(?i)(?:kv[ _-]?cache|cache[ _-]dtype|optimi[sz]er|adamw?)[^\w\n]{0,3}\w{0,4} ?$"
)
PACKED = re.compile(r"(?i)awq|gptq|fp[48]|bnb|(?<![a-z])q\d|int\d|\dbit|nf4|gguf|mlx")
FLAG = re.compile(
    r"(?<![\w/.$-])(?P<name>--?[a-zA-Z][\w-]*|[a-z]+(?:[-_][a-z]+)+|TP)"
    r"(?:(?P<is>[ \t]*[=:：][ \t]*|[ \t]*(?:为|是|设为|设置为)[ \t]*)"
    r"|[ \t]+(?:(?:is|of|to|at)[ \t]+)?)"
    r"[`\"']?(?P<value>[A-Za-z0-9_.]*[A-Za-z0-9])(?![\w/])"
)
SHORT = {"TP": "--tensor-parallel-size"}
CLAUSES = r"[\n;。；，、]|[.,](?=\s)"
OF_A_PROGRAM = re.compile(r"(?i)\bdefaults?\b|默认|\brecommend|推荐|\bmax(?:imum)? of the model")
ASIDE = "the text asks about {name} {values}, or names it of another run: that is not counted"
SEVERAL = "the text has several values for {name} ({values}): none of them is taken"
# mlx-lm's cache grows with what is in it; servers and llama.cpp reserve it at once
LIMIT = "the context that the text names is a limit: with MLX the cache grows as it is filled"


class SpokenSettings(NamedTuple):
    """What a text says in words: settings, where they stand, and what is not clear."""

    settings: Mapping[str, Value]
    understood: tuple[Understood, ...]
    notes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()  # characters of the text that were read


class SpokenValue(NamedTuple):
    """One value of a setting as the text has it: the words for it, its place, and what the writer
    does with it."""

    key: str
    value: Value
    piece: Piece
    way: Way = "said"
    span: tuple[int, int] = (0, 0)


def spoken(
    document: Document, task: str, engine: str, model: str, without: tuple[str, ...] = ()
) -> SpokenSettings:
    """Return the settings that a text says in words, each where it has one value for it, but those
    of `without`; no format where the name of the `model` has one."""
    text = own_words(document.text[:MOST_TEXT])
    found: dict[str, list[SpokenValue]] = {}
    for setting, one in _in_words(text, task, engine):
        found.setdefault(setting, []).append(one)
    if task == "infer":
        formats = () if PACKED.search(model) else _formats(text, engine)
        for setting, one in (*formats, *_flags(text, engine), *_of_engine(text, engine)):
            found.setdefault(setting, []).append(one)
    length = "context" if task == "infer" else "seq_len"
    if length not in found:
        found[length] = list(_lengths(text, length))
    found = {name: values for name, values in found.items() if values and name not in without}
    limits: tuple[str, ...] = ()
    if "mlx" in model.lower() and found.pop("context", []):
        limits = (LIMIT,)
    said = decided(found, "{} (in words)")
    return said._replace(notes=(*limits, *said.notes))


def decided(found: Mapping[str, list[SpokenValue]], called: str = "{}") -> SpokenSettings:
    """Return the settings that have one value: what is said counts before what is asked about, and
    what is denied, or asked about as another way, never does. What is left out is noted."""
    settings: dict[str, Value] = {}
    understood: list[Understood] = []
    notes: list[str] = []
    for setting, values in found.items():
        name = setting.replace("_", " ")
        from_ = counted(one.way for one in values)
        taken: dict[str, SpokenValue] = {}
        for one in values:
            if one.way == from_:
                taken.setdefault(str(one.value), one)
        left = _aside(values, taken)
        if len(taken) > 1 and from_ != "another":
            notes.append(SEVERAL.format(name=name, values=", ".join([*taken][:6])))
        elif left:
            notes.append(ASIDE.format(name=name, values=", ".join(left[:6])))
        if len(taken) != 1 or from_ == "another":
            continue
        first = next(iter(taken.values()))
        settings[setting] = first.value
        understood.append(
            Understood(
                key=called.format(first.key),
                value=first.value,
                setting=setting,
                line=first.piece.line,
            )
        )
    spans = tuple(one.span for values in found.values() for one in values)
    return SpokenSettings(settings, tuple(understood), tuple(notes), spans)


def _aside(values: list[SpokenValue], taken: Mapping[str, SpokenValue]) -> list[str]:
    """Return the values that a text asks about and that are not the ones taken."""
    asked = [one for one in values if one.way in ("asked", "another")]
    whole = counted(one.way for one in values) == "another"
    return [*dict.fromkeys(str(one.value) for one in asked if whole or str(one.value) not in taken)]


def own_words(text: str) -> str:
    """Return a text without what is between fences, quoted or of a log, at the same lines."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return QUOTED.sub(blank, FENCE.sub(blank, text))


def _at(text: str, match: re.Match[str], said: str) -> Piece:
    return Piece(said, text.count("\n", 0, match.start()) + 1)


def _in_words(text: str, task: str, engine: str) -> Iterator[tuple[str, SpokenValue]]:
    for setting, patterns in WORDS[task].items():
        if engine not in ENGINES_OF.get(setting, (engine,)):
            continue
        for pattern in patterns:
            for match in islice(filter(_is_asked, re.finditer(pattern, text)), MOST_PLACES):
                value = tokens(match["value"])
                yield setting, _value(text, match, setting.replace("_", " "), value)


def _lengths(text: str, setting: str) -> Iterator[SpokenValue]:
    """Yield lengths that have no name: "at 2048 tokens", "16k"."""
    for pattern in BARE:
        for match in islice(filter(_is_asked, re.finditer(pattern, text)), MOST_PLACES):
            if not re.search(OTHER_TOKENS, clause(match)):
                yield _value(text, match, setting.replace("_", " "), tokens(match["value"]))


def clause(match: re.Match[str]) -> str:
    """Return the clause of a text that a match stands in."""
    start, end = match.span()
    before = re.split(CLAUSES, match.string[max(start - MOST_SENTENCE, 0) : start])[-1]
    after = re.split(CLAUSES, match.string[end : end + MOST_SENTENCE], maxsplit=1)[0]
    return f"{before}{match[0]}{after}"


def _value(text: str, match: re.Match[str], key: str, value: Value) -> SpokenValue:
    """Return what a match of the words of a setting says, where its group `value` is."""
    return SpokenValue(key, value, _at(text, match, match["value"]), way(match), match.span())


def _of_engine(text: str, engine: str) -> Iterator[tuple[str, SpokenValue]]:
    """Yield what an engine has a setting of its own for: the format of its cache, its share of a
    card."""
    for pattern in OF_A_CACHE if engine in CACHES else ():
        for match in islice(filter(_is_asked, re.finditer(pattern, text)), MOST_PLACES):
            form = re.sub(r"[ -]|(?<=fp8)_", "", match["value"].lower())
            if form in CACHES[engine]:
                value = _value(text, match, "kv cache", CACHES[engine][form])
                yield "kv_cache_dtype", value
    for match in islice(filter(_is_asked, re.finditer(SHARE, text)), MOST_PLACES):
        if engine in SHARES:
            setting = SHARES[engine]
            yield setting, _value(text, match, setting.replace("_", " "), float(match["value"]))


def _is_asked(match: re.Match[str]) -> bool:
    """Tell whether a value is of the writer's run: not one that a program is said to take by
    itself."""
    start, end = match.span()
    before = re.split(r"[\n;。；]|\. ", match.string[max(start - MOST_SENTENCE, 0) : start])[-1]
    after = re.split(r"[\n.,;。；，]", match.string[end : end + MOST_SENTENCE], maxsplit=1)[0]
    return not OF_A_PROGRAM.search(f"{before} {match[0]} {after}")


def tokens(text: str) -> int:
    """Return the tokens of "4,096", "32K" (32,768) or "100k" (102,400)."""
    digits = int(re.sub(r"\D", "", text))
    return digits * KIB if text[-1] in "kK" else digits


def _formats(text: str, engine: str) -> Iterator[tuple[str, SpokenValue]]:
    """Yield formats of weights: not those of a cache or of an optimizer."""
    for match in islice(filter(_is_asked, FORMAT.finditer(text)), MOST_PLACES):
        form = meant(match[1], engine or "transformers").replace("FP8", "fp8")
        if not OF_CACHE.search(text[max(match.start() - 20, 0) : match.start()]):
            piece = _at(text, match, match[1])
            found = SpokenValue("the format", form, piece, way(match), match.span())
            yield "quantization", found


def _flags(text: str, engine: str) -> Iterator[tuple[str, SpokenValue]]:
    """Yield the settings of flags that stand in words, as the engine itself reads them."""
    if engine not in ENGINES or not ENGINES[engine].programs:
        return
    owned = ENGINES[engine]
    program = next(f"{name} {' '.join(sub[:1])}" for name, sub in owned.programs.items())
    for match in islice(filter(_is_asked, FLAG.finditer(text)), MOST_PLACES):
        name = SHORT.get(match["name"], match["name"])
        name = name if name.startswith("-") else f"--{name.replace('_', '-')}"
        flag = find(name, dialect(owned))
        if not match["name"].startswith("-") and not (match["is"] or match["value"][0].isdigit()):
            continue
        if flag is None or flag.effect not in "=@" or flag.takes != "value":
            continue
        try:
            launch = parse(f"{program} {_model(engine)} {name} {match['value']}")
        except UsageError:
            continue
        piece = _at(text, match, match["value"])
        for setting, value in launch.settings.items():
            found = SpokenValue(match["name"], value, piece, way(match), match.span())
            yield setting, found


def _model(engine: str) -> str:
    """Return the words by which a launch line names a model."""
    return {"vllm": "a/b", "sglang": "--model-path a/b"}.get(engine, "-m a.gguf")


# Training


def trained(document: Document) -> SpokenSettings:
    """Return what a text says of a training: what is trained, how it is shared out, sizes."""
    text = document.text[:MOST_TEXT]
    found: dict[str, list[SpokenValue]] = {}
    for setting, pattern, value in TAKES:
        for one in _taken(text, setting, pattern, value):
            found.setdefault(setting, []).append(one)
    found["method"] = _whole(found.get("method", []))
    for setting, pattern in SIZES.items():
        for claim in claims(pattern, text):
            said = (claim.match[1] or claim.match[2]).replace(",", "")
            size = memory(said) if setting == "ram" else int(said)
            piece = _at(text, claim.match, said)
            one = SpokenValue(setting, size, piece, claim.way, claim.match.span())
            found.setdefault(setting, []).append(one)
    return decided({name: values for name, values in found.items() if values})


def _taken(text: str, setting: str, pattern: str, value: str) -> Iterator[SpokenValue]:
    """Yield the places that say a setting; what is denied is its own value, or none."""
    for claim in claims(pattern, text):
        denied = claim.way == "denied" and setting in DENIED
        said = DENIED[setting] if denied else value
        piece = _at(text, claim.match, said)
        way_ = "said" if denied else claim.way
        yield SpokenValue(claim.match[0], said, piece, way_, claim.match.span())


def methods(text: str) -> list[tuple[str, str]]:
    """Return the methods of a text, each with its name, where it tells of a training with LoRA and
    of one with QLoRA apart; else none."""
    text = own_words(text[:MOST_TEXT])
    apart = any(claim.way != "denied" for claim in claims(LORA_TRAINING, text))
    both = apart and any(claim.way != "denied" for claim in claims(QLORA, text))
    return [("LoRA", "lora"), ("QLoRA", "qlora")] if both else []


def _whole(values: list[SpokenValue]) -> list[SpokenValue]:
    """Return the methods of a text without LoRA where QLoRA is said as well, which is a kind of
    it."""
    if any(one.value == "qlora" and one.way == "said" for one in values):
        return [one for one in values if one.value != "lora" or one.way != "said"]
    return values


def memory(text: str) -> str:
    """Return "64 G" as a setting takes it."""
    return f"{text.replace(' ', '')}B"
