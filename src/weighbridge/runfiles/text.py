"""A text that people write about a run: a question with a command, a log or an error in it.

The pieces are picked out of the prose: files in fences, launch lines, the model, the cards, and how
something is trained. What decides and is not in the text is asked for, never made up; and what is
of a program that we do not answer for is refused by its name.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.accelerators.names import find
from weighbridge.catalogue import everyday
from weighbridge.engines.format_names import meant
from weighbridge.errors import UsageError
from weighbridge.records import replace
from weighbridge.runfiles import fences
from weighbridge.runfiles.document import Document
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
    several_cards,
)
from weighbridge.runfiles.prose import (
    RAM,
    SIZES,
    SpokenSettings,
    memory,
    methods,
    spoken,
    trained,
)
from weighbridge.runfiles.record import PlannedRun, Understood, Value
from weighbridge.runfiles.serving import start_logs
from weighbridge.runfiles.serving.lines import of_text
from weighbridge.runfiles.training.arrays import SET

KIND = Kind(
    name="text",
    title="issue, mail or log",
    syntaxes=("text",),
    source="41 public questions of 2025 and 2026",
)
PROGRAM = (
    r"(?:docker run|vllm serve|python[\d.]* -m (?:vllm|sglang)\.\S+|(?:\S{0,200}/)?llama-server)"
)
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
    ("vllm", r"(?i)(?<![a-z])vllm(?![a-z])|max[-_]model[-_]len|gpu[-_]memory[-_]utilization"),
    ("sglang", r"(?i)(?<![a-z])sglang(?![a-z])|mem-fraction-static"),
    ("ollama", r"(?i)(?<![a-z])ollama(?![a-z])"),
    ("llama.cpp", r"(?i)(?<![a-z])llama[.]?cpp(?![a-z])|llama-server"),
)
LM_STUDIO = re.compile(r"\blms load (\S{1,200})(?:[^\n`]{0,400}?--context-length[ =](\d{1,9}))?")
MEMORY = re.compile(r"(?i)\bGPU|memory|\bV?RAM\b|\bOOM|显存|内存|out of memory")
RPC = re.compile(r"llama-server[^\n]{0,400}? --rpc[ =]([\w.:,-]{3,300})[^\n`]{0,400}")
GGUF_TYPE = re.compile(r"\b[\w.-]{2,60}/[\w.-]{2,90}-GGUF:[A-Z0-9_-]{2,20}\b")
REQUESTS = re.compile(r"(?i)\b(\d{1,4}) ?(?:(?:req|request)s?\b|concurrent|users\b|sessions\b)")
LENGTH = re.compile(r"(?i)\b(\d{3,6})(?: tokens\b| *= *[\d.]+ *[GM]i?B)")
MOST_RUNS = 12  # of one text that are weighed
MORE = "the text starts more than {most} runs: those behind are not weighed"
MOST_COUNTS = 6  # numbers of requests that are answered
CARDS = "the text names several cards or sizes of one ({cards}): none is taken; --gpu says which"
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


def tells(document: Document) -> bool:
    """Tell whether a text is about memory, a model or a program that we know of, or is its log."""
    text = document.text[:MOST_TEXT]
    return bool(
        MEMORY.search(text)
        or LAUNCH.search(text)
        or _other(text)
        or models(document)
        or card(document)
        or start_logs.starts(document)
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs of a text: those of its files and its commands, else the one that it tells of
    in words."""
    text = document.text[:MOST_TEXT]
    named, cards, several = models(document), card(document), several_cards(document)
    other = _other(text)
    if other:
        yield _refused(other, named, cards)
        return
    files = fences.read(text, document.name)
    found = (
        list(_of_rpc(document, cards))
        or [*files.runs, *_of_commands(files.prose), *_of_lists(document)]
        or list(start_logs.runs(document))
    )
    if found:
        prose = replace(document, text=files.prose)
        unlike = _unlike(found)
        more = (MORE.format(most=MOST_RUNS),) if len(unlike) > MOST_RUNS else ()
        for run in unlike[:MOST_RUNS]:
            whole = _completed(run, named, cards, prose)
            yield _told_of(whole, cards, several, (*files.notes, *more))
        return
    for run in _in_words(document, named, cards):
        yield _told_of(run, cards, several, files.notes)


def _unlike(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Return runs that ask for different things, each once, in their order."""
    kept: dict[str, PlannedRun] = {}
    for run in runs:
        kept.setdefault(f"{run.task} {run.model} {run.name} {run.command} {run.settings}", run)
    return list(kept.values())


def _told_of(
    run: PlannedRun, cards: Piece | None, several: tuple[str, ...], notes: tuple[str, ...]
) -> PlannedRun:
    """Return a run with notes about its text, the cards among them that are not taken, and with
    what is assumed of those that are."""
    if several and not run.settings.keys() & {"gpu", "gpu_memory"}:
        notes = (*notes, CARDS.format(cards=", ".join(several[:6])))
    if cards is not None and cards.assumed and run.settings.get("gpu") == cards.value:
        known = _alone(run.understood, cards)
        more = ("gpu", cards.value, cards.assumed)
        run = replace(run, understood=known, defaults=(*run.defaults, more))
    return replace(run, notes=(*run.notes, *notes)) if notes else run


def _alone(understood: tuple[Understood, ...], cards: Piece) -> tuple[Understood, ...]:
    """Return what was understood with the card's name alone where its number is assumed."""
    name = cards.value.partition(":")[0]
    return tuple(replace(u, value=name) if u.setting == "gpu" else u for u in understood)


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
        settings |= _own_memory(kind)
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


def _own_memory(card: str) -> dict[str, Value]:
    """Return the memory of the machine where that is the card's as well."""
    try:
        part = find(card).part
    except UsageError:
        return {}
    return {"ram": f"{part.marketed_gb}GiB"} if part.shares_host else {}


def _of_commands(text: str) -> Iterator[PlannedRun]:
    """Yield the run of each launch line in prose, once."""
    seen = set()
    text = fences.FENCE.sub(lambda m: f"\n{m['text']}\n", text)
    for match in LAUNCH.finditer(text):
        line = GLUED.sub(" ", _without_end(match[0].strip()))
        for run in of_text(f"{_set_before(text[: match.start()], line)}{line}"):
            key = (run.model, run.command)
            if key not in seen and not _shows(run):
                seen.add(key)
                yield run


def _set_before(text: str, line: str) -> str:
    """Return the lines above a launch that set what it uses, and what these use."""
    if "$" not in line:
        return ""
    found: list[str] = []
    for match in reversed(list(SET.finditer(text))):
        if re.search(rf"\$\{{?{match['name']}\b", "\n".join((*found, line))):
            found.insert(0, match[0].strip())
    return "".join(f"{one}\n" for one in found)


def _without_end(line: str) -> str:
    """Return a line without quotes of the prose around it: those that close nothing."""
    while line[-1:] in ("\\", "`") or (line[-1:] in ("'", '"') and line.count(line[-1]) % 2):
        line = line[:-1].strip()
    return line


def _of_lists(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs that programs list or load by lines of their own: Ollama and LM Studio."""
    for match in OLLAMA.finditer(document.text[:MOST_TEXT]):
        piece = piece_of(document, match, match["name"])
        if known(match["name"].partition(":")[0]) or everyday.meaning(match["name"]):
            yield PlannedRun(
                task="infer",
                model=match["name"],
                settings={"engine": "ollama", "context": int(match["context"])},
                understood=(_taken("ollama ps", piece, "model"),),
                notes=(f"`ollama ps` showed {match['size']} {match['unit']} for {match['name']}",),
            )
    for match in LM_STUDIO.finditer(document.text[:MOST_TEXT]):
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


def _completed(
    run: PlannedRun, named: list[Piece], cards: Piece | None, prose: Document
) -> PlannedRun:
    """Return a run with the model and the card of the text around it, where it has none, and of a
    training what its file leaves to a default."""
    run = _filled(run, prose) if run.task == "train" else run
    taken = list(run.understood)
    settings = dict(run.settings)
    model = run.model
    if not model and len(named) == 1:
        model = named[0].value
        taken.append(_taken("the model", named[0], "model"))
    if cards is not None and "gpu" not in settings:
        settings["gpu"] = _enough(cards.value, run)
        taken.append(_taken("the card", cards, "gpu"))
    version = _version(run, prose)
    if version is not None:
        settings["engine_version"] = version.value
        taken.append(_taken("the release", version, "engine_version"))
    return replace(run, model=model, settings=settings, understood=tuple(taken))


def _version(run: PlannedRun, prose: Document) -> Piece | None:
    """Return the release of a command's engine that a text names; None where the command itself
    says one, or the text names several."""
    from weighbridge.engines.launch import parse

    try:
        launch = parse(run.command) if run.command else None
    except UsageError:
        return None
    said = {*run.settings, *(launch.settings if launch is not None else ())}
    if launch is None or "engine_version" in said:
        return None
    found = {m[1]: m for m in re.finditer(_release(launch.engine), prose.text[:MOST_TEXT])}
    (match, *more) = found.values() or (None,)
    return None if match is None or more else piece_of(prose, match, match[1])


def _release(engine: str) -> str:
    """Return the pattern of an engine's release in words: vllm-0.15.2, vLLM v0.9.2."""
    name = re.escape(engine)
    return rf"(?i)\b{name}[- ](?:version )?v?(\d{{1,2}}\.\d{{1,3}}(?:\.\d{{1,3}})?)"


def _filled(run: PlannedRun, prose: Document) -> PlannedRun:
    """Return a training with what the prose says in place of the defaults of its program."""
    words, own = spoken(prose, "train", "", run.model), trained(prose)
    said = {**words.settings, **own.settings}
    taken = (*own.understood, *words.understood)
    open_ = {name for name, _, _ in run.defaults} | (set(SIZES) - run.settings.keys())
    if not run.settings.keys() & {"method", "batch_size"}:  # a part of a run
        open_ |= said.keys() - run.settings.keys()
    return replace(
        run,
        settings={**run.settings, **{n: v for n, v in said.items() if n in open_}},
        understood=(*run.understood, *(one for one in taken if one.setting in open_)),
        defaults=tuple(one for one in run.defaults if one[0] not in said),
    )


def _enough(cards: str, run: PlannedRun) -> str:
    """Return the cards of a text, as many as a command uses where it says that and the text does
    not."""
    from weighbridge.engines.launch import parse

    if ":" in cards or "+" in cards:
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
    own = (
        trained(document)
        if task == "train"
        else SpokenSettings(dict(_served(document, taken)), (), ())
    )
    settings |= own.settings
    taken += own.understood
    named_as = named[0].value if named else ""
    said = spoken(document, task, str(settings.get("engine") or ""), named_as)
    new = {name: value for name, value in said.settings.items() if name not in settings}
    settings |= new
    taken += [one for one in said.understood if one.setting in new]
    model, defaults = _alike(document, taken) if not named else (named[0].value, ())
    usual = _usual(settings) if task == "train" else ()
    settings |= {name: value for name, value, _ in usual}
    defaults = (*defaults, *usual)
    ways: list[tuple[str, dict[str, Value]]] = [("", {})]
    if task == "train":
        ways = [(called, {"method": method}) for called, method in methods(text)] or ways
    elif "engine" in settings:
        ways = [(f"{n} requests at once", at) for n, at in _requests(text)] or ways
    for name, own_way in ways:
        yield PlannedRun(
            task=task,
            model=model,
            name=name,
            settings={**settings, **own_way},
            understood=tuple(one for one in taken if one.setting not in own_way),
            defaults=defaults,
            notes=(
                "taken from prose: what it does not say is the default",
                *own.notes,
                *said.notes,
            ),
        )


def _usual(settings: Mapping[str, Value]) -> tuple[tuple[str, Value, str], ...]:
    """Return how several cards are used to train all of a model, where a text in words does not
    say."""
    _, named, count = str(settings.get("gpu") or "").rpartition(":")
    if not named or not count.isdecimal() or int(count) < 2:
        return ()
    if settings.get("method", "full") != "full":
        return ()
    return tuple(one for one in USUAL if one[0] not in settings)


def _requests(text: str) -> list[tuple[int, dict[str, Value]]]:
    """Return the numbers of requests that are asked about, each with its settings; none where the
    text names no two numbers and no length."""
    counts = dict.fromkeys(int(match[1]) for match in REQUESTS.finditer(text))
    length = LENGTH.search(text)
    if len(counts) < 2 or len(counts) > MOST_COUNTS or length is None:
        return []
    return [(count, {"batch_size": count, "context": int(length[1])}) for count in counts]


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
    text = document.text[:MOST_TEXT]
    engine = next((name for name, pattern in ENGINES if re.search(pattern, text)), "")
    if engine == "ollama" and re.search(r"(?i)mlx", text):  # of Ollama's engines another
        engine = ""
    packed = re.search(r"\bQ[2-8](?:_K(?:_[SML])?|_0)?\b", text)
    if packed and not engine:
        engine = "llama.cpp"
        yield "quantization", meant(packed[0], engine)
        taken.append(_taken("the format", piece_of(document, packed, packed[0]), "quantization"))
    if engine:
        yield "engine", engine
        version = re.search(_release(engine), text)
        if version:
            yield "engine_version", version[1]
            taken.append(_taken(engine, piece_of(document, version, version[1]), "engine_version"))
    host = re.search(RAM, text)
    if host:
        yield "ram", memory(host[1] or host[2])
        taken.append(_taken("ram", piece_of(document, host, host[1] or host[2]), "ram"))


def _taken(key: str, piece: Piece, setting: str) -> Understood:
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)
