"""The run that a text tells of without a command: what is said of it, and what stands for the rest.

A training is that of the framework that the text names, by the reader of its files; a model of
which a size alone is said is a usual one of that size. Two ways that are asked about are two runs.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.accelerators.names import find
from weighbridge.engines.format_names import meant
from weighbridge.records import NamedTuple
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.leftover import not_taken
from weighbridge.runfiles.named import MOST_TEXT, Piece, piece_of, unknown_model
from weighbridge.runfiles.prose import SpokenSettings, memory, methods, spoken, trained
from weighbridge.runfiles.recipes import named_in, recipe
from weighbridge.runfiles.recipes import spans as of_frameworks
from weighbridge.runfiles.record import PlannedRun, Understood, Value
from weighbridge.runfiles.vocabulary import RAM

REQUESTS = re.compile(r"(?i)\b(\d{1,4}) ?(?:(?:req|request)s?\b|concurrent|users\b|sessions\b)")
LENGTH = re.compile(r"(?i)\b(\d{3,6})(?: tokens\b| *= *[\d.]+ *[GM]i?B)")
SIZE_WHY = (
    "the text names a size alone: a usual model of it stands for it (assumed); --model says it"
)
MOST_COUNTS = 6  # numbers of requests that are answered
SIZE_ALONE = re.compile(
    r"(?i)(?<![a-z\d.-])(?:llama-?(\d{1,2})b|(\d{1,2}) ?b[ ]{1,3}(?:llm|model)s?)(?![a-z\d])"
)
# Of a training on several cards that a text tells of in words
USUAL: tuple[tuple[str, Value, str], ...] = (
    ("shard", "fsdp2", "the text does not say how the cards share the model (assumed)"),
    ("checkpointing", "full", "as most train who have to look at memory (assumed)"),
)
STAND_INS = {  # models that are most asked about of their size
    "7": "qwen2.5-7b",
    "8": "llama-3.1-8b",
    "14": "qwen3-14b",
    "32": "qwen3-32b",
    "70": "llama-3.1-70b",
    "72": "qwen2.5-72b",
}
ENGINES = (
    ("vllm", r"(?i)(?<![a-z])vllm(?![a-z])|max[-_]model[-_]len|gpu[-_]memory[-_]utilization"),
    ("sglang", r"(?i)(?<![a-z])sglang(?![a-z])|mem-fraction-static"),
    ("ollama", r"(?i)(?<![a-z])ollama(?![a-z])"),
    ("llama.cpp", r"(?i)(?<![a-z])llama[.]?cpp(?![a-z])|llama-server"),
    ("mlx", r"(?i)(?<![a-z])mlx(?:[-_]lm)?(?![a-z_])(?!-?community)"),
)
TRAINS = re.compile(r"(?i)fine-?tun|微调|训练|\btrain|\bSFT\b|\bQ?LoRA\b|zero-?[23]\b")
PROSE = "taken from prose: what it does not say is the default"
UNKNOWN = "the text names {name}, which the catalogue has not: --model ORG/NAME says where it is"
SEVERAL_PROGRAMS = "the text names several programs of training ({names}): none of them is taken"
Defaults = tuple[tuple[str, Value, str], ...]


class ToldRun(NamedTuple):
    """What a text says of its run: settings, where they stand, notes; `spans` that were read."""

    settings: Mapping[str, Value]
    understood: tuple[Understood, ...]
    notes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def in_words(document: Document, named: list[Piece], cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run that a text tells of without a command, or two where it asks about two ways."""
    text = document.text[:MOST_TEXT]
    task = "train" if TRAINS.search(text) else "infer"
    counts = _requests(text) if task == "infer" else []
    told = _told(document, task, named, cards, several=bool(counts))
    model, alike, taken = _model(document, named, told.understood)
    ways: list[tuple[str, dict[str, Value]]] = [("", {})]
    if task == "train":
        ways = [(called, {"method": method}) for called, method in methods(text)] or ways
    elif "engine" in told.settings:
        ways = [(f"{n} requests at once", at) for n, at in counts] or ways
    left = not_taken(text, told.settings, told.spans)
    strange = "" if model else unknown_model(document)
    unknown = UNKNOWN.format(name=strange) if strange else ""
    for name, own_way in ways:
        settings = {**told.settings, **own_way}
        usual, defaults = _usual(text, settings) if task == "train" else ({}, ())
        yield PlannedRun(
            task=task,
            model=model,
            name=name,
            settings={**usual, **settings},
            understood=tuple(one for one in taken if one.setting not in own_way),
            defaults=(*alike, *defaults),
            notes=tuple(filter(None, (PROSE, *told.notes, left, unknown))),
        )


def _told(
    document: Document, task: str, named: list[Piece], cards: Piece | None, *, several: bool
) -> ToldRun:
    """Return what a text says of its run. `several` numbers of requests are each a run."""
    taken = [of_piece("the model", each, "model") for each in named[:1]]
    settings: dict[str, Value] = {}
    if cards is not None:
        settings["gpu"] = cards.value
        taken.append(of_piece("the card", cards, "gpu"))
    own = (
        trained(document)
        if task == "train"
        else SpokenSettings(dict(_served(document, taken)), (), ())
    )
    settings |= own.settings
    engine = str(settings.get("engine") or "")
    without = ("batch_size", "context") if several else tuple(settings)
    said = spoken(document, task, engine, named[0].value if named else "", without)
    new = {name: value for name, value in said.settings.items() if name not in settings}
    more = tuple(one for one in said.understood if one.setting in new)
    programs = named_in(document.text[:MOST_TEXT]) if task == "train" else ()
    unsure = (SEVERAL_PROGRAMS.format(names=", ".join(programs)),) if len(programs) > 1 else ()
    return ToldRun(
        settings={**settings, **new},
        understood=(*taken, *own.understood, *more),
        notes=(*own.notes, *said.notes, *unsure),
        spans=(*own.spans, *said.spans, *of_frameworks(document.text[:MOST_TEXT])),
    )


def _usual(text: str, settings: Mapping[str, Value]) -> tuple[dict[str, Value], Defaults]:
    """Return what stands for what a training does not say: the recipe of the framework that is
    named, and how several cards are used to train all of a model."""
    own = recipe(text, settings)
    usual = dict(own.settings) if own is not None else {}
    defaults = tuple(one for one in own.defaults if one[0] not in settings) if own else ()
    gpu = str(settings.get("gpu") or "")
    method = settings.get("method", usual.get("method", "full"))
    if gpu and find(gpu).count > 1 and method == "full":
        more = tuple(one for one in USUAL if one[0] not in {**usual, **settings})
        usual |= {name: value for name, value, _ in more}
        defaults = (*defaults, *more)
    return usual, defaults


def _requests(text: str) -> list[tuple[int, dict[str, Value]]]:
    """Return the numbers of requests that are asked about, each with its settings; none where the
    text names no two numbers and no length."""
    counts = dict.fromkeys(int(match[1]) for match in REQUESTS.finditer(text))
    length = LENGTH.search(text)
    if len(counts) < 2 or len(counts) > MOST_COUNTS or length is None:
        return []
    return [(count, {"batch_size": count, "context": int(length[1])}) for count in counts]


def _model(
    document: Document, named: list[Piece], taken: tuple[Understood, ...]
) -> tuple[str, Defaults, tuple[Understood, ...]]:
    """Return the model of a text, what is assumed of it and what was understood: a usual one of the
    size that it names, where it names a size alone; "" where it names none."""
    if named:
        return named[0].value, (), taken
    match = SIZE_ALONE.search(document.text[:MOST_TEXT])
    stand_in = STAND_INS.get(match[1] or match[2]) if match else None
    if match is None or stand_in is None:
        return "", (), taken
    size = of_piece("the size of the model", piece_of(document, match, match[0]), "model")
    return stand_in, (("model", stand_in, SIZE_WHY),), (*taken, size)


def _served(document: Document, taken: list[Understood]) -> Iterator[tuple[str, Value]]:
    """Yield what a text says of serving: the engine, a format of GGUF, the memory of the host."""
    text = document.text[:MOST_TEXT]
    engine = next((name for name, pattern in ENGINES if re.search(pattern, text)), "")
    if engine == "ollama" and re.search(r"(?i)mlx", text):  # of Ollama's engines another
        engine = ""
    packed = re.search(r"\bQ[2-8](?:_K(?:_[SML])?|_0)?\b(?![ -]*(?:kv|KV|cache))", text)
    if packed and not engine:
        engine = "llama.cpp"
        yield "quantization", meant(packed[0], engine)
        taken.append(of_piece("the format", piece_of(document, packed, packed[0]), "quantization"))
    if engine:
        yield "engine", engine
        version = re.search(release(engine), text)
        if version:
            yield "engine_version", version[1]
            taken.append(
                of_piece(engine, piece_of(document, version, version[1]), "engine_version")
            )
    host = re.search(RAM, text)
    if host:
        yield "ram", memory(host[1] or host[2])
        taken.append(of_piece("ram", piece_of(document, host, host[1] or host[2]), "ram"))


def release(engine: str) -> str:
    """Return the pattern of an engine's release in words: vllm-0.15.2, vLLM v0.9.2."""
    name = re.escape(engine)
    return rf"(?i)\b{name}[- ](?:version )?v?(\d{{1,2}}\.\d{{1,3}}(?:\.\d{{1,3}})?)"


def of_piece(key: str, piece: Piece, setting: str) -> Understood:
    """Return a piece of a text as what was understood of a run."""
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)
