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
from weighbridge.runfiles.claims import MOST_PLACES, Way, claims, counted, way
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.fences import FENCE
from weighbridge.runfiles.named import MOST_TEXT, Piece
from weighbridge.runfiles.record import Understood, Value
from weighbridge.units import KIB

QUOTED = re.compile(
    r"(?m)^[ \t]*>.*$|^\(\w+ pid=.*$"
    r"|^.*\b(?:INFO|WARNING|ERROR|DEBUG|Traceback|llama_\w+:|time=\d).*$"
)
IS = r"[ \t]*(?:[=:：]|is|of|to|at|为|是|到|要|用|设为|设置为|长度)?[ \t]*"
LENGTH = r"(?P<value>\d{3,7}|\d{1,3}(?:,\d{3})+|\d{1,4} ?[kK])(?![a-zA-Z0-9]|[.,]\d| ?[GMT]i?B)"
NAMED_CONTEXT = (
    r"(?i:\bcontext(?:[ _-](?:length|window|size|len))?|\bctx(?:[ _-]size)?|\bn(?:um)?_ctx"
    r"|上下文(?:长度|窗口|大小)?)"
)
OF_CONTEXT = r"(?:[ -]tokens?)?(?: of)?[ -]?(?:context|ctx|的?上下文)"
CONTEXT = (f"{NAMED_CONTEXT}{IS}{LENGTH}", rf"(?<![\w.-]){LENGTH}{OF_CONTEXT}")
NAMED_SEQUENCE = (
    r"(?i:\b(?:max[ _-])?seq(?:uence)?[ _-]?len(?:gth)?s?|\bcutoff[ _-]len|\bmax[ _]length"
    r"|\bcontext(?: length)?|序列长度|最大长度|上下文(?:长度)?)"
)
SEQUENCE = (f"{NAMED_SEQUENCE}{IS}{LENGTH}",)
STEPS = (rf"(?i:\bgrad(?:ient)?[ _]acc(?:umulation|um)?(?:[ _]steps)?){IS}(?P<value>\d{{1,4}})\b",)
RANK = (rf"(?i:\blora[ _-]?(?:rank|r)|\brank){IS}(?P<value>\d{{1,4}})\b(?!\.\d|%)",)
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "infer": {"context": CONTEXT},
    "train": {"seq_len": SEQUENCE, "gradient_accumulation": STEPS, "lora_r": RANK},
}
# Of training: a setting, what says it, its value; and where that is denied
CHECKPOINTING = (
    r"(?i)(?<![a-z])(?:grad(?:ient)?s?|activations?)[ _-]?checkpoint(?:ing|s)?(?![a-z])"
    r"|(?:梯度|激活)检查点|激活重计算"
)
QLORA = r"(?i)(?<![a-z])QLoRA(?![a-z])"
LORA_TRAINING = r"(?i)(?<![a-z])LoRA[ -](?:fine-?tun|train|SFT|微调|训练)"
TAKES: tuple[tuple[str, str, str], ...] = (
    ("method", QLORA, "qlora"),
    ("method", r"(?i)(?<![a-z])LoRA(?![a-z])", "lora"),
    ("method", r"(?i)全参数?|全量微调|full[- ](?:parameter|fine|ft\b)", "full"),
    ("shard", r"(?i)zero-?3", "zero3"),
    ("shard", r"(?i)zero-?2", "zero2"),
    ("offload", r"(?i)zero-?3-?offload|offload_param", "params"),
    ("checkpointing", CHECKPOINTING, "full"),
)
DENIED = {"checkpointing": "none"}
LLAMA_FACTORY = re.compile(r"(?i)llama-?factory")  # whose default is to compute activations again
RAM = r"(?i)(\d{2,5} ?G)B? (?:CPU memory|RAM|of RAM)|内存[是为:： ]{1,3}(\d{2,5} ?G)B?"
SIZES: Mapping[str, str] = {
    "batch_size": r"(?i)(?:batch[_ ]size|bsz)\s*(?:[=:为]|is|of)?\s*(\d{1,4})\b",
    "seq_len": r"(?i)(?:max_seq_length|seq_len|cutoff_len|context_len)\s*[=:<]\s*(\d[\d,]{1,8})",
    "ram": RAM,
}
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


class SpokenValue(NamedTuple):
    """One value of a setting as the text has it: the words for it, its place, and what the writer
    does with it."""

    key: str
    value: Value
    piece: Piece
    way: Way = "said"


def spoken(document: Document, task: str, engine: str, model: str) -> SpokenSettings:
    """Return the settings that a text says in words, each where it has one value for it; no format
    where the name of the `model` has one."""
    text = own_words(document.text[:MOST_TEXT])
    found: dict[str, list[SpokenValue]] = {}
    for setting, one in _in_words(text, task):
        found.setdefault(setting, []).append(one)
    if task == "infer":
        formats = () if PACKED.search(model) else _formats(text, engine)
        for setting, one in (*formats, *_flags(text, engine)):
            found.setdefault(setting, []).append(one)
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
    return SpokenSettings(settings, tuple(understood), tuple(notes))


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


def _in_words(text: str, task: str) -> Iterator[tuple[str, SpokenValue]]:
    for setting, patterns in WORDS[task].items():
        for pattern in patterns:
            for match in islice(filter(_is_asked, re.finditer(pattern, text)), MOST_PLACES):
                said = match["value"]
                value, piece = _number(said), _at(text, match, said)
                yield setting, SpokenValue(setting.replace("_", " "), value, piece, way(match))


def _is_asked(match: re.Match[str]) -> bool:
    """Tell whether a value is of the writer's run: not one that a program is said to take by
    itself."""
    before = re.split(r"[\n;。；]|\. ", match.string[: match.start()])[-1]
    after = re.split(r"[\n.,;。；，]", match.string[match.end() :], maxsplit=1)[0]
    return not OF_A_PROGRAM.search(f"{before} {match[0]} {after}")


def _number(text: str) -> int:
    """Return the tokens of "4,096", "32K" (32,768) or "100k" (102,400)."""
    digits = int(re.sub(r"\D", "", text))
    return digits * KIB if text[-1] in "kK" else digits


def _formats(text: str, engine: str) -> Iterator[tuple[str, SpokenValue]]:
    """Yield formats of weights: not those of a cache or of an optimizer."""
    for match in islice(filter(_is_asked, FORMAT.finditer(text)), MOST_PLACES):
        form = meant(match[1], engine or "transformers").replace("FP8", "fp8")
        if not OF_CACHE.search(text[max(match.start() - 20, 0) : match.start()]):
            piece = _at(text, match, match[1])
            yield "quantization", SpokenValue("the format", form, piece, way(match))


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
            yield setting, SpokenValue(match["name"], value, piece, way(match))


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
            one = SpokenValue(setting, size, _at(text, claim.match, said), claim.way)
            found.setdefault(setting, []).append(one)
    factory = LLAMA_FACTORY.search(text)
    if factory and "checkpointing" not in found:
        piece = _at(text, factory, "full")
        found["checkpointing"] = [SpokenValue(factory[0], "full", piece)]
    return decided({name: values for name, values in found.items() if values})


def _taken(text: str, setting: str, pattern: str, value: str) -> Iterator[SpokenValue]:
    """Yield the places that say a setting; what is denied is its own value, or none."""
    for claim in claims(pattern, text):
        denied = claim.way == "denied" and setting in DENIED
        said = DENIED[setting] if denied else value
        piece = _at(text, claim.match, said)
        yield SpokenValue(claim.match[0], said, piece, "said" if denied else claim.way)


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
