"""A text that people write about a run: a question with a command, a log or an error in it.

The pieces are picked out of the prose: files in fences, launch lines, the model, the cards, and how
something is trained. What decides and is not in the text is asked for, never made up; and what is
of a program that we do not answer for is refused by its name.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.catalogue import everyday
from weighbridge.engines.format_names import meant
from weighbridge.errors import UsageError, WeighbridgeError
from weighbridge.records import NamedTuple, replace
from weighbridge.runfiles.document import Document, documents
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.record import PlannedRun, Understood, Value
from weighbridge.runfiles.serving import compose, kubernetes
from weighbridge.runfiles.serving.lines import of_text

KIND = Kind(
    name="text",
    title="issue, mail or log",
    syntaxes=("text",),
    source="41 public questions of 2025 and 2026",
)
FENCE = re.compile(r"```(\w*)[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
PROGRAM = r"(?:docker run|vllm serve|python[\d.]* -m (?:vllm|sglang)\.\S+|(?:\S*/)?llama-server)"
LAUNCH = re.compile(
    rf"(?:\b[A-Z][A-Z0-9_]{{1,40}}=\S{{1,200}}\s{{1,9}}){{0,12}}\b{PROGRAM}\b(?:\\\n|[^\n`])*|\./llama-server[^\n`]*"
)
GLUED = re.compile(r"(?<=\d)(?=--[a-z])")  # a blank that somebody forgot
# Programs that are understood and not answered for: what tells them, what they are, their task
OTHERS: tuple[tuple[str, str, str], ...] = (
    (r"openrlhf", "OpenRLHF", "train"),
    (r"\bverl\b|verl\.trainer|actor_rollout", "verl", "train"),
    (r"megatron (?:rlhf|sft|pt)\b", "ms-swift with Megatron", "train"),
    (r"(?i)\bGRPO\b", "GRPO", "train"),
    (r"(?i)\bDPO\b", "DPO", "train"),
    (r"(?i)torchtitan", "a config of torchtitan that is not in the text", "train"),
    (r"(?i)cosmos_predict|WanVideo|ComfyUI|video model", "a model of videos", "train"),
    (r"trtllm-serve|TRT-LLM|tensorrt-llm", "TensorRT-LLM", "infer"),
    (r"(?i)lmdeploy", "LMDeploy", "infer"),
    (r"\bmtplx\b", "MTPLX", "infer"),
    (r"--kt-(?:method|weight)", "SGLang with ktransformers (--kt-*)", "infer"),
    (r"(?i)global_segment_size|mooncake", "Mooncake's store in host memory", "infer"),
    (r"llama-server[^\n]*--rpc", "llama.cpp over several machines (--rpc)", "infer"),
)
TRAINS = re.compile(r"(?i)fine-?tun|微调|训练|\btrain|\bSFT\b|\bQ?LoRA\b|zero-?[23]\b")
ENGINES = (("vllm", r"(?i)\bvllm\b"), ("sglang", r"(?i)\bsglang\b|mem-fraction-static"))
LM_STUDIO = re.compile(r"\blms load (\S+)(?:[^\n`]*--context-length[ =](\d+))?")
OLLAMA = re.compile(  # a line of `ollama ps`
    r"(?m)^[ \t]*(?P<name>[\w./-]+:[\w.-]+)[ \t]+[0-9a-f]{12}[ \t]+(?P<size>[\d.]+ [GM]B)[ \t]+"
    r"\d+%[^\n]*?[ \t](?P<context>\d{3,8})[ \t]"
)
TAG = re.compile(r"`([a-z][a-z0-9.-]*:\d[\w.-]*)`")  # a model of Ollama
PLAIN = re.compile(r"(?i)(?:qwen|llama|gemma|mistral|phi|deepseek)[\d. -]*")  # a family alone
MEMORY = re.compile(r"(?i)\bGPU|memory|\bV?RAM\b|\bOOM|显存|内存|out of memory")
HOSTED = re.compile(r"(?<![\w.-])(?=([A-Za-z0-9][\w.-]{1,40}/[A-Za-z][\w.-]{2,90}))")
NAMED = re.compile(
    r"(?<![\w/.])(?=([A-Za-z]{2,24}(?:[ -]?[\d.]{1,8})?(?:[- ][A-Za-z0-9.]{1,24}){0,6}))"
)
CARD = re.compile(
    r"(?i)(?:(?P<before>\d{1,3}) ?[x\u00d7*] ?|(?P<count>\d{1,3})(?:卡| ))?"
    r"(?:NVIDIA |GeForce |AMD |Apple )*"
    r"(?P<name>(?:RTX ?)?A6000|RTX ?\d{4}(?: Ti)?(?: D)?|[345]0[5-9]0(?: ?Ti)?|H100(?: NVL)?"
    r"|H20\b|H200|"
    r"B200|A100|A800|L40S?|L4\b|V100|MI\d{2,3}X?|M[1-4] (?:Pro|Max|Ultra))s?"
    r"(?P<size>[ (-]*\d{2,3} ?(?:GB?\b|G\b))?"
)
TAKES: tuple[tuple[str, str, str], ...] = (  # of training: a setting, what says it, its value
    ("method", r"(?i)\bQLoRA\b", "qlora"),
    ("method", r"(?i)\bLoRA\b", "lora"),
    ("method", r"(?i)全参数?|full[- ](?:parameter|fine)", "full"),
    ("shard", r"(?i)zero-?3", "zero3"),
    ("shard", r"(?i)zero-?2", "zero2"),
    ("offload", r"(?i)zero-?3-?offload|offload_param", "params"),
    ("checkpointing", r"(?i)llama-?factory", "full"),  # its default
)
SIZES: Mapping[str, str] = {
    "batch_size": r"(?i)(?:batch[_ ]size|bsz)\s*(?:[=:为]|is|of)?\s*(\d{1,4})\b",
    "seq_len": r"(?i)(?:max_seq_length|seq_len|cutoff_len|context_len)\s*[=:<]\s*(\d[\d,]{1,8})",
    "ram": r"(?i)(\d{2,5} ?G)B? (?:CPU memory|RAM|of RAM)",
}
MOST_TEXT = 60_000  # characters of a text that are looked at: an issue may have 65,536
LONG_NAME = 7  # characters of a name without a size: glm-5.2


class Piece(NamedTuple):
    """Something that was found in a text, and the line where it stands."""

    value: str
    line: int


def tells(document: Document) -> bool:
    """Tell whether a text is about memory, a model or a program that we know of."""
    text = document.text[:MOST_TEXT]
    return bool(MEMORY.search(text) or LAUNCH.search(text) or _other(text) or models(document))


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs of a text: those of its files and its commands, else the one that it tells of
    in words."""
    text = document.text[:MOST_TEXT]
    named, cards = models(document), card(document)
    other = _other(text)
    found = [] if other else [*_of_fences(document), *_of_commands(text), *_of_lists(document)]
    if found:
        for run in found:
            yield _completed(run, named, cards)
        return
    if other:
        yield _refused(other, named, cards)
        return
    yield from _in_words(document, named, cards)


def _other(text: str) -> tuple[str, str, str] | None:
    return next((each for each in OTHERS if re.search(each[0], text)), None)


def _of_fences(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs of files that stand between fences."""
    for match in FENCE.finditer(document.text[:MOST_TEXT]):
        try:
            pieces = documents(match[2], "yaml", document.name)
        except WeighbridgeError:
            continue
        for piece in pieces:
            for kind in (compose, kubernetes):
                if kind.tells(piece):
                    yield from kind.read(piece)


def _of_commands(text: str) -> Iterator[PlannedRun]:
    """Yield the run of each launch line in prose, once."""
    seen = set()
    for match in LAUNCH.finditer(FENCE.sub(lambda m: f"\n{m[2]}\n", text)):
        line = GLUED.sub(" ", match[0].strip().rstrip("\\\"'`").strip())
        for run in of_text(line):
            key = (run.model, run.command)
            if key not in seen and not _shows(run):
                seen.add(key)
                yield run


def _of_lists(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs that programs list or load by lines of their own: Ollama and LM Studio."""
    for match in OLLAMA.finditer(document.text):
        piece = _piece(document, match, match["name"])
        if _known(match["name"].partition(":")[0]) or everyday.meaning(match["name"]):
            yield PlannedRun(
                task="infer",
                model=match["name"],
                settings={"engine": "ollama", "context": int(match["context"])},
                understood=(_taken("ollama ps", piece, "model"),),
                notes=(f"`ollama ps` showed {match['size']} for {match['name']}",),
            )
    for match in LM_STUDIO.finditer(document.text):
        context = {"context": int(match[2])} if match[2] else {}
        yield PlannedRun(
            task="infer",
            model=match[1],
            settings={"engine": "llama.cpp", "quantization": "Q4_K_M", **context},
            understood=(_taken("lms load", _piece(document, match, match[1]), "model"),),
            defaults=(("quantization", "Q4_K_M", "what LM Studio usually downloads (assumed)"),),
        )


def _shows(run: PlannedRun) -> bool:
    """Tell whether a line only names a program: nothing follows it, or what does is no launch."""
    return bool(run.refused) and "names no model" in run.refused and len(run.command.split()) < 5


def _completed(run: PlannedRun, named: list[Piece], cards: Piece | None) -> PlannedRun:
    """Return a run with the model and the card of the text around it, where it has none."""
    taken = list(run.understood)
    settings = dict(run.settings)
    model = run.model
    if not model and len(named) == 1:
        model = named[0].value
        taken.append(_taken("the model", named[0], "model"))
    if cards is not None and "gpu" not in settings:
        settings["gpu"] = _enough(cards.value, run)
        taken.append(_taken("the card", cards, "gpu"))
    return replace(run, model=model, settings=settings, understood=tuple(taken))


def _enough(cards: str, run: PlannedRun) -> str:
    """Return the cards of a text, as many as a command uses where it says that and the text does
    not."""
    from weighbridge.engines.launch import parse

    if ":" in cards:
        return cards
    try:
        count = parse(run.command).devices or 1
    except UsageError:
        return cards
    return f"{cards}:{count}" if count > 1 else cards


def _refused(other: tuple[str, str, str], named: list[Piece], cards: Piece | None) -> PlannedRun:
    taken = [_taken("the model", each, "model") for each in named[:1]]
    taken += [_taken("the card", cards, "gpu")] if cards is not None else []
    return PlannedRun(
        task=other[2],
        model=named[0].value if named else "",
        understood=tuple(taken),
        refused=f"the text is about {other[1]}, which is read and not answered yet",
    )


def _in_words(document: Document, named: list[Piece], cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run that a text tells of without a command."""
    text = document.text[:MOST_TEXT]
    task = "train" if TRAINS.search(text) else "infer"
    taken = [_taken("the model", each, "model") for each in named[:1]]
    settings: dict[str, Value] = {}
    if cards is not None:
        settings["gpu"] = cards.value
        taken.append(_taken("the card", cards, "gpu"))
    if task == "train":
        settings |= dict(_trained(document, taken))
    else:
        settings |= dict(_served(document, taken))
    yield PlannedRun(
        task=task,
        model=named[0].value if named else "",
        settings=settings,
        understood=tuple(taken),
        notes=("taken from prose: what it does not say is the default",),
    )


def _served(document: Document, taken: list[Understood]) -> Iterator[tuple[str, Value]]:
    """Yield what a text says of serving: the engine, a format of GGUF, the memory of the host."""
    text = document.text
    engine = next((name for name, pattern in ENGINES if re.search(pattern, text)), "")
    packed = re.search(r"\bQ[2-8](?:_K(?:_[SML])?|_0)?\b", text)
    if packed and not engine:
        engine = "llama.cpp"
        yield "quantization", meant(packed[0], engine)
        taken.append(_taken("the format", _piece(document, packed, packed[0]), "quantization"))
    if engine:
        yield "engine", engine
    host = re.search(SIZES["ram"], text)
    if host:
        yield "ram", _memory(host[1])
        taken.append(_taken("ram", _piece(document, host, host[1]), "ram"))


def _memory(text: str) -> str:
    return f"{text.replace(' ', '')}B"


def _trained(document: Document, taken: list[Understood]) -> Iterator[tuple[str, Value]]:
    said: dict[str, Value] = {}
    for setting, pattern, value in TAKES:
        match = re.search(pattern, document.text)
        if match and setting not in said:
            said[setting] = value
            taken.append(_taken(match[0], _piece(document, match, value), setting))
    for setting, pattern in SIZES.items():
        match = re.search(pattern, document.text)
        if match:
            text = match[1].replace(",", "")
            said[setting] = _memory(text) if setting == "ram" else int(text)
            taken.append(_taken(setting, _piece(document, match, text), setting))
    yield from said.items()


def _taken(key: str, piece: Piece, setting: str) -> Understood:
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)


def _piece(document: Document, match: "re.Match[str]", value: str) -> Piece:
    return Piece(value, document.line_of(match.start()))


# Models and cards in prose


def models(document: Document) -> list[Piece]:
    """Return the models that a text names, each once, in the order of its lines: a title leads."""
    text = document.text[:MOST_TEXT]
    found: dict[str, Piece] = {}
    for match in HOSTED.finditer(text):
        last = match[1].rpartition("/")[2].rstrip(".")
        at = match.start()
        path = text[max(at - 1, 0) : at] in ("/", ":", "@") or "://" in text[max(at - 60, 0) : at]
        known = _known(last)
        if known and known not in found:
            found[known] = _piece(document, match, last if path else match[1].rstrip("."))
    for match in NAMED.finditer(text):
        for name in _beginnings(match[1]):
            known = _known(name)
            if known:
                found.setdefault(known, _piece(document, match, name))
                break
    for match in TAG.finditer(text):
        if everyday.meaning(match[1]) is not None:
            found.setdefault(match[1], _piece(document, match, match[1]))
    return sorted(found.values(), key=lambda piece: piece.line)


def _beginnings(phrase: str) -> Iterator[str]:
    """Yield the beginnings of a phrase, the longest first: a name may have blanks in it."""
    words = re.split(r"(?<=[ ])", re.sub(r"(\d) ([bB])\b", r"\1\2", phrase))
    for count in range(min(len(words), 4), 0, -1):
        yield "".join(words[:count]).strip(" .,-")


def _known(name: str) -> str:
    """Return the entry of the catalogue that a name means; "" where it is none, or only a word."""
    digits = re.search(r"\d", name) and re.search(r"[A-Za-z]{2}", name)
    sized = re.search(r"(?i)\d[\d.]*b(?:\b|[-_])", name) or len(name) >= LONG_NAME
    if not digits or not sized or PLAIN.fullmatch(name):
        return ""
    meaning = everyday.meaning(name)
    return meaning.entry.name if meaning is not None else ""


def card(document: Document) -> Piece | None:
    """Return the cards of a text where all that it names are of one kind, with their number where
    it says that; else None."""
    from weighbridge.accelerators.names import find

    kinds: dict[str, tuple[int, Piece]] = {}
    for match in CARD.finditer(document.text[:MOST_TEXT]):
        size = re.sub(r"[^0-9]", "", match["size"] or "")
        count = int(match["before"] or match["count"] or 1)
        for name in ((f"{match['name']} {size}GB",) if size else ()) + (match["name"],):
            try:
                part = find(name).part
            except UsageError:
                continue
            most = max(count, kinds.get(part.id, (0, None))[0])
            kinds[part.id] = (most, _piece(document, match, name))
            break
    kinds = _without_shorter(kinds)
    if len(kinds) != 1:
        return None
    count, piece = next(iter(kinds.values()))
    return Piece(f"{piece.value}:{count}" if count > 1 else piece.value, piece.line)


def _without_shorter(kinds: Mapping[str, tuple[int, Piece]]) -> dict[str, tuple[int, Piece]]:
    """Leave out a name that is the beginning of another: `H100` beside `H100 NVL`."""
    names = [piece.value for _, piece in kinds.values()]
    kept = {
        key: (count, piece)
        for key, (count, piece) in kinds.items()
        if not any(n != piece.value and n.startswith(piece.value) for n in names)
    }
    most = max((count for count, _ in kinds.values()), default=1)
    return {key: (max(count, most if len(kept) == 1 else 1), p) for key, (count, p) in kept.items()}
