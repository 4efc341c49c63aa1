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
from weighbridge.records import replace
from weighbridge.runfiles.document import Document, documents
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.named import (
    MOST_TEXT,
    OLLAMA,
    Piece,
    card,
    ggml_memory,
    known,
    models,
    piece_of,
    positions,
)
from weighbridge.runfiles.record import PlannedRun, Understood, Value
from weighbridge.runfiles.serving import compose, kubernetes, start_logs
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
    (r"(?i)(?<![a-z])GRPO(?![a-z])", "GRPO", "train"),
    (r"(?i)(?<![a-z])DPO(?![a-z])", "DPO", "train"),
    (r"(?i)torchtitan", "a config of torchtitan that is not in the text", "train"),
    (r"(?i)cosmos_predict|WanVideo|ComfyUI|video model", "a model of videos", "train"),
    (r"trtllm-serve|TRT-LLM|tensorrt-llm", "TensorRT-LLM", "infer"),
    (r"(?i)lmdeploy", "LMDeploy", "infer"),
    (r"\bmtplx\b", "MTPLX", "infer"),
    (r"--kt-(?:method|weight)", "SGLang with ktransformers (--kt-*)", "infer"),
    (r"(?i)global_segment_size|mooncake", "Mooncake's store in host memory", "infer"),
)
TRAINS = re.compile(r"(?i)fine-?tun|微调|训练|\btrain|\bSFT\b|\bQ?LoRA\b|zero-?[23]\b")
ENGINES = (
    ("vllm", r"(?i)(?<![a-z])vllm(?![a-z])"),
    ("sglang", r"(?i)(?<![a-z])sglang(?![a-z])|mem-fraction-static"),
)
LM_STUDIO = re.compile(r"\blms load (\S+)(?:[^\n`]*--context-length[ =](\d+))?")
MEMORY = re.compile(r"(?i)\bGPU|memory|\bV?RAM\b|\bOOM|显存|内存|out of memory")
TAKES: tuple[tuple[str, str, str], ...] = (  # of training: a setting, what says it, its value
    ("method", r"(?i)(?<![a-z])QLoRA(?![a-z])", "qlora"),
    ("method", r"(?i)(?<![a-z])LoRA(?![a-z])", "lora"),
    ("method", r"(?i)全参数?|full[- ](?:parameter|fine)", "full"),
    ("shard", r"(?i)zero-?3", "zero3"),
    ("shard", r"(?i)zero-?2", "zero2"),
    ("offload", r"(?i)zero-?3-?offload|offload_param", "params"),
    ("checkpointing", r"(?i)llama-?factory", "full"),  # its default
)
RPC = re.compile(r"llama-server[^\n]{0,400}? --rpc[ =]([\w.:,-]{3,300})[^\n`]{0,400}")
GGUF_TYPE = re.compile(r"\b[\w.-]{2,60}/[\w.-]{2,90}-GGUF:[A-Z0-9_-]{2,20}\b")
SIZES: Mapping[str, str] = {
    "batch_size": r"(?i)(?:batch[_ ]size|bsz)\s*(?:[=:为]|is|of)?\s*(\d{1,4})\b",
    "seq_len": r"(?i)(?:max_seq_length|seq_len|cutoff_len|context_len)\s*[=:<]\s*(\d[\d,]{1,8})",
    "ram": r"(?i)(\d{2,5} ?G)B? (?:CPU memory|RAM|of RAM)|内存[是为:： ]{1,3}(\d{2,5} ?G)B?",
}
REQUESTS = re.compile(r"(?i)\b(\d{1,4}) ?(?:(?:req|request)s?\b|concurrent|users\b|sessions\b)")
LENGTH = re.compile(r"(?i)\b(\d{3,6})(?: tokens\b| *= *[\d.]+ *[GM]i?B)")
MOST_COUNTS = 6  # numbers of requests that are answered
SIZE_ALONE = re.compile(
    r"(?i)(?<![a-z\d.-])(?:llama-?(\d{1,2})b|(\d{1,2}) ?b[ ]{1,3}(?:llm|model)s?)(?![a-z\d])"
)
STAND_INS = {  # models that are most asked about of their size
    "7": "qwen2.5-7b",
    "8": "llama-3.1-8b",
    "14": "qwen3-14b",
    "32": "qwen3-32b",
    "70": "llama-3.1-70b",
    "72": "qwen2.5-72b",
}


def tells(document: Document) -> bool:
    """Tell whether a text is about memory, a model or a program that we know of, or is its log."""
    text = document.text[:MOST_TEXT]
    return bool(
        MEMORY.search(text)
        or LAUNCH.search(text)
        or _other(text)
        or models(document)
        or start_logs.starts(document)
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs of a text: those of its files and its commands, else the one that it tells of
    in words."""
    text = document.text[:MOST_TEXT]
    named, cards = models(document), card(document)
    other = _other(text)
    if other:
        yield _refused(other, named, cards)
        return
    found = (
        list(_of_rpc(document, cards))
        or [*_of_fences(document), *_of_commands(text), *_of_lists(document)]
        or list(start_logs.runs(document))
    )
    if found:
        for run in found:
            yield _completed(run, named, cards)
        return
    yield from _in_words(document, named, cards)


def _other(text: str) -> tuple[str, str, str] | None:
    return next((each for each in OTHERS if re.search(each[0], text)), None)


def _of_rpc(document: Document, cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run of a llama-server that uses cards of other machines: one card more for each
    that `--rpc` names."""
    text = document.text[:MOST_TEXT]
    line, file = RPC.search(text), GGUF_TYPE.search(text)
    if line is None or file is None:
        return
    size = ggml_memory(document)
    settings: dict[str, Value] = {"engine": "llama.cpp"}
    if cards is not None:
        kind = cards.value.partition(":")[0]
        settings["gpu"] = f"{kind}:{1 + len(line[1].split(','))}"
        settings |= {"gpu_memory": f"{size}MiB"} if size else {}
    context = re.search(r" (?:-c|--ctx-size)[ =](\d{3,8})\b", line[0])
    if context is not None:
        settings["context"] = int(context[1])
    elif trained := positions(file[0]):
        settings["context"] = trained  # what llama-server takes where nobody says it
    taken = [_taken("the model", piece_of(document, file, file[0]), "model")]
    taken += [_taken("the card", cards, "gpu")] if cards is not None else []
    yield PlannedRun(
        task="infer",
        model=file[0],
        settings=settings,
        understood=(*taken, _taken("--rpc", piece_of(document, line, line[1]), "gpu")),
        notes=("cards of other machines (--rpc) are counted like cards of this one",),
    )


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
        piece = piece_of(document, match, match["name"])
        if known(match["name"].partition(":")[0]) or everyday.meaning(match["name"]):
            yield PlannedRun(
                task="infer",
                model=match["name"],
                settings={"engine": "ollama", "context": int(match["context"])},
                understood=(_taken("ollama ps", piece, "model"),),
                notes=(f"`ollama ps` showed {match['size']} {match['unit']} for {match['name']}",),
            )
    for match in LM_STUDIO.finditer(document.text):
        context = {"context": int(match[2])} if match[2] else {}
        yield PlannedRun(
            task="infer",
            model=match[1],
            settings={"engine": "llama.cpp", "quantization": "Q4_K_M", **context},
            understood=(_taken("lms load", piece_of(document, match, match[1]), "model"),),
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
    model, defaults = _alike(document, taken) if not named else (named[0].value, ())
    for requests in _requests(text) if task == "infer" and "engine" in settings else ({},):
        yield PlannedRun(
            task=task,
            model=model,
            name=f"{requests['batch_size']} requests at once" if requests else "",
            settings={**settings, **requests},
            understood=tuple(taken),
            defaults=defaults,
            notes=("taken from prose: what it does not say is the default",),
        )


def _requests(text: str) -> list[dict[str, Value]]:
    """Return the settings for each number of requests that is asked about; one without any where
    the text names no two numbers and no length."""
    counts = dict.fromkeys(int(match[1]) for match in REQUESTS.finditer(text))
    length = LENGTH.search(text)
    if len(counts) < 2 or len(counts) > MOST_COUNTS or length is None:
        return [{}]
    return [{"batch_size": count, "context": int(length[1])} for count in counts]


def _alike(
    document: Document, taken: list[Understood]
) -> tuple[str, tuple[tuple[str, Value, str], ...]]:
    """Return a model of the size that a text names, where it names a size alone; "" otherwise."""
    match = SIZE_ALONE.search(document.text[:MOST_TEXT])
    stand_in = STAND_INS.get(match[1] or match[2]) if match else None
    if match is None or stand_in is None:
        return "", ()
    taken.append(_taken("the size of the model", piece_of(document, match, match[0]), "model"))
    why = (
        "the text names a size alone: a usual model of it stands for it (assumed); --model says it"
    )
    return stand_in, (("model", stand_in, why),)


def _served(document: Document, taken: list[Understood]) -> Iterator[tuple[str, Value]]:
    """Yield what a text says of serving: the engine, a format of GGUF, the memory of the host."""
    text = document.text
    engine = next((name for name, pattern in ENGINES if re.search(pattern, text)), "")
    packed = re.search(r"\bQ[2-8](?:_K(?:_[SML])?|_0)?\b", text)
    if packed and not engine:
        engine = "llama.cpp"
        yield "quantization", meant(packed[0], engine)
        taken.append(_taken("the format", piece_of(document, packed, packed[0]), "quantization"))
    if engine:
        yield "engine", engine
        version = re.search(
            rf"(?i)\b{re.escape(engine)}[- ]v?(\d{{1,2}}\.\d{{1,3}}(?:\.\d{{1,3}})?)", text
        )
        if version:
            yield "engine_version", version[1]
            taken.append(_taken(engine, piece_of(document, version, version[1]), "engine_version"))
    host = re.search(SIZES["ram"], text)
    if host:
        yield "ram", _memory(host[1] or host[2])
        taken.append(_taken("ram", piece_of(document, host, host[1] or host[2]), "ram"))


def _memory(text: str) -> str:
    return f"{text.replace(' ', '')}B"


def _trained(document: Document, taken: list[Understood]) -> Iterator[tuple[str, Value]]:
    said: dict[str, Value] = {}
    for setting, pattern, value in TAKES:
        match = re.search(pattern, document.text)
        if match and setting not in said:
            said[setting] = value
            taken.append(_taken(match[0], piece_of(document, match, value), setting))
    for setting, pattern in SIZES.items():
        match = re.search(pattern, document.text)
        if match:
            text = (match[1] or match[2]).replace(",", "")
            said[setting] = _memory(text) if setting == "ram" else int(text)
            taken.append(_taken(setting, piece_of(document, match, text), setting))
    yield from said.items()


def _taken(key: str, piece: Piece, setting: str) -> Understood:
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)
