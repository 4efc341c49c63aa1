"""A text that people write about a run: a question with a command, a log or an error in it.

Its machine parts decide, wherever they stand: files, launch lines, logs. Of the words around them
a model, a card with its number and a program's name are taken (in_words.py), and nothing else. What
is of a program that we do not answer for is refused by its name.
"""

import re
import shlex
from collections.abc import Iterator

from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.format_names import meant
from weighbridge.files.programs import Program, told_by
from weighbridge.files.runfiles import fences
from weighbridge.files.runfiles.apart import apart
from weighbridge.files.runfiles.cards import card, ggml_memory, several_cards
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.in_words import (
    CARD,
    in_words,
    of_piece,
    release,
    taken_of,
    to_type,
)
from weighbridge.files.runfiles.named import (
    MOST_TEXT,
    OLLAMA,
    Piece,
    known,
    models,
    piece_of,
    positions,
)
from weighbridge.files.runfiles.picture_words import method, pipeline
from weighbridge.files.runfiles.pieces import cut_short
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.serving import start_logs
from weighbridge.files.runfiles.serving.lines import NAMELESS, of_text
from weighbridge.files.runfiles.serving.start_logs import beginning
from weighbridge.files.runfiles.slurm import times
from weighbridge.files.runfiles.training.arrays import SET
from weighbridge.files.runfiles.training.ranks import ranks_of
from weighbridge.files.runfiles.training.unanswered import learner, model_in
from weighbridge.models.catalogue import everyday
from weighbridge.workload.train import LEARNS

PROGRAM = "|".join(("docker run", *(program.line for program in told_by("line"))))
LAUNCH = re.compile(
    rf"(?:\b[A-Z][A-Z0-9_]{{1,40}}=\S{{1,200}}\s{{1,9}}){{0,12}}\b(?:{PROGRAM})\b(?:\\\n|[^\n`])*|\./llama-server[^\n`]*"
)
GLUED = re.compile(r"(?<=\d)(?=--[a-z])")  # a missing blank
GLUED_FLAG = re.compile(r"(?<=\d)(--[a-z][\w-]+)")
UNIT = re.compile(r"(?m)^(?:ExecStart|command)[ \t]*=[ \t]*(?=\S)")  # systemd and supervisord
BLANK = re.compile(r"([ =])<([A-Za-z]\w{0,30})(?:[ -]\w{1,20}){0,3}>(?=[ \n`])")  # <model>
# A GGUF type in a file's name, in any spelling: q5kxl, Q5_K_XL
SPELLED = re.compile(r"(?i)[-_.](i?q\d)_?(k|nl|xs|xxs|[01sm])?_?(xl|[lms])?(?=[-_.]|$)")
LM_STUDIO = re.compile(r"\blms load (\S{1,200})(?:[^\n`]{0,400}?--context-length[ =](\d{1,9}))?")
MEMORY = re.compile(r"(?i)\bGPU|memory|\bV?RAM\b|\bOOM|显存|内存|out of memory")
RPC = re.compile(r"llama-server[^\n]{0,400}? --rpc[ =]([\w.:,-]{3,300})[^\n`]{0,400}")
GGUF_TYPE = re.compile(r"\b[\w.-]{2,60}/[\w.-]{2,90}-GGUF:[A-Z0-9_-]{2,20}\b")
CALLED = {"model": "the model", "gpu": "the card", "engine_version": "the release"}
MOST_RUNS = 12  # runs of one text with an estimate
CONFIG = re.compile(r"[\w./-]{1,200}\.toml\b")  # a config that the text passes to a program


def tells(document: Document) -> bool:
    """Return whether a text is about memory, a known model or program, or is a log."""
    text = document.text[:MOST_TEXT]
    return bool(
        MEMORY.search(text)
        or LAUNCH.search(text)
        or other(text)
        or models(document)
        or pipeline(document)
        or card(document)
        or start_logs.starts(document)
        or any(start_logs.runs(document))
    )


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs in a text: of its files and commands, else the one that its prose
    describes."""
    text = document.text[:MOST_TEXT]
    named, cards, several = models(document), card(document), several_cards(document)
    program = other(text)
    files = fences.read(text, document.name)
    lines = [*files.runs, *_of_lines(document, files.words)]
    runs = list(_of_rpc(document, cards)) or lines or list(start_logs.runs(document))
    notes: tuple[str, ...] = files.notes
    asked = program is None or program.alone or _serve_beside(program, lines, text)
    if runs and (asked or any(run.settings.get("method") in LEARNS for run in runs)):
        words, unlike = replace(document, text=files.words), _without_repetitions(runs)
        runs = [_completed(_of_a_file(run, document), named, cards, words) for run in unlike]
        more = (sentence("text.more_runs", most=MOST_RUNS),) if len(runs) > MOST_RUNS else ()
        notes = (*notes, *cut_short(text), *more)
    elif program is not None:
        yield _refused(program, named, cards, document)
        return
    else:
        runs = list(in_words(document, named, cards))
    for run in runs[:MOST_RUNS]:
        yield _with_notes(run, cards, several, notes)


def _of_lines(document: Document, words: str) -> Iterator[PlannedRun]:
    """Yield the runs of launch lines, and of programs' lists of loaded models, which tell more than
    the command that started them."""
    listed = list(_of_lists(document))
    shown = {run.model for run in listed}
    yield from (run for run in _of_commands(words) if run.model not in shown)
    yield from listed


def _serve_beside(program: Program, lines: list[PlannedRun], text: str) -> bool:
    """Return whether a text that names a training program only starts servers; then the question is
    about these."""
    serve = lines and all(run.task == "infer" and run.command for run in lines)
    return bool(serve and program.task == "train" and not program.starts(text))


def _without_repetitions(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs without repetitions, in order."""
    unlike: dict[str, PlannedRun] = {}
    for run in runs:
        unlike.setdefault(f"{run.task} {run.model} {run.name} {run.command} {run.settings}", run)
    return list(unlike.values())


def _with_notes(
    run: PlannedRun, cards: Piece | None, several: tuple[str, ...], notes: tuple[str, ...]
) -> PlannedRun:
    """Return a run with notes on its text, on ignored cards, and on assumptions about the
    others."""
    if several and not run.settings.keys() & {"gpu", "gpu_memory"}:
        notes = (*notes, sentence("text.several_cards", cards=", ".join(several[:6])))
    if cards is not None and cards.assumed and run.settings.get("gpu") == cards.value:
        known = _alone(run.understood, cards)
        more = ("gpu", cards.value, cards.assumed)
        run = replace(run, understood=known, defaults=(*run.defaults, more))
    return replace(run, notes=(*run.notes, *notes)) if notes else run


def _alone(understood: tuple[Understood, ...], cards: Piece) -> tuple[Understood, ...]:
    """Return the understood keys, with the card's name without its number if that is assumed."""
    name = cards.value.partition(":")[0]
    return tuple(replace(u, value=name) if u.setting == "gpu" else u for u in understood)


def _of_rpc(document: Document, cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run of a llama-server that uses other machines' cards: one more card per address in
    `--rpc`."""
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
        settings["context"] = trained  # llama-server's default
    taken = taken_of(piece_of(document, file, file[0]), cards)
    yield PlannedRun(
        task="infer",
        model=file[0],
        settings=settings,
        understood=(*taken, of_piece("--rpc", piece_of(document, line, line[1]), "gpu")),
        notes=("cards of other machines (--rpc) are counted like cards of this one",),
    )


def _of_commands(text: str) -> Iterator[PlannedRun]:
    """Yield the run of each launch line in prose, without repetitions."""
    seen = set()
    text = fences.FENCE.sub(lambda m: f"\n{m['text']}\n", text)
    text = UNIT.sub("", BLANK.sub(r"\1$\2", text))
    for match in LAUNCH.finditer(text):
        whole, _ = apart(_without_end(match[0].strip()))
        line = GLUED.sub(" ", whole)
        glued = tuple(sentence("text.glued", flag=each) for each in GLUED_FLAG.findall(whole))
        for run in of_text(f"{_set_before(text[: match.start()], line)}{line}"):
            key = (run.model, run.command)
            if key not in seen and not _only_names_program(run):
                seen.add(key)
                yield replace(run, notes=(*run.notes, *glued))


def _of_a_file(run: PlannedRun, document: Document) -> PlannedRun:
    """Return the run of a GGUF file, with the catalogue model that begins the file's name, in the
    type that the name states."""
    stem = run.model.removesuffix(".gguf")
    if stem == run.model or "/" in stem or everyday.has(stem):
        return run
    name, form = beginning(stem), SPELLED.search(stem)
    if not name or form is None:
        return run
    mix = "_".join(filter(None, form.groups())).upper()  # a publisher's own is known by its name
    line = document.line_of(max(document.text.find(run.model), 0))
    why = sentence("gguf.beginning", name=name)
    absent = Unread(key=run.model, line=line, why=why, lowers=True, raises=True, missing=run.model)
    settings = {**run.settings, "quantization": meant(mix, "llama.cpp")}
    return replace(run, model=f"{name}-GGUF:{mix}", settings=settings, unread=(*run.unread, absent))


def _set_before(text: str, line: str) -> str:
    """Return the lines before a launch that set its variables, and the variables in these."""
    if "$" not in line:
        return ""
    lines: list[str] = []
    for match in reversed(list(SET.finditer(text))):
        if re.search(rf"\$\{{?{match['name']}\b", "\n".join((*lines, line))):
            lines.insert(0, match[0].strip())
    return "".join(f"{one}\n" for one in lines)


def _without_end(line: str) -> str:
    """Return a line without trailing quotes that belong to the prose around it."""
    while line[-1:] in ("\\", "`") or (line[-1:] in ("'", '"') and line.count(line[-1]) % 2):
        line = line[:-1].strip()
    return line


def _of_lists(document: Document) -> Iterator[PlannedRun]:
    """Yield the runs in the output of `ollama ps` and in commands of LM Studio."""
    for match in OLLAMA.finditer(document.text[:MOST_TEXT]):
        piece = piece_of(document, match, match["name"])
        if known(match["name"].partition(":")[0]) or everyday.meaning(match["name"]):
            yield PlannedRun(
                task="infer",
                model=match["name"],
                settings={"engine": "ollama", "context": int(match["context"])},
                understood=(of_piece("ollama ps", piece, "model"),),
                unread=tuple(_on_the_host(match["cpu"], piece)),
                notes=(f"`ollama ps` showed {match['size']} {match['unit']} for {match['name']}",),
            )
    for match in LM_STUDIO.finditer(document.text[:MOST_TEXT]):
        context = {"context": int(match[2])} if match[2] else {}
        yield PlannedRun(
            task="infer",
            model=match[1],
            settings={"engine": "llama.cpp", "quantization": "Q4_K_M", **context},
            understood=(of_piece("lms load", piece_of(document, match, match[1]), "model"),),
            defaults=(("quantization", "Q4_K_M", sentence("text.lm_studio")),),
        )


def _on_the_host(share: str | None, piece: Piece) -> Iterator[Unread]:
    """Yield a note that a part of the model runs on the CPU; nothing if `share` is None."""
    if share is not None:
        why = sentence("ollama.on_cpu", share=share)
        yield Unread(key="ollama ps", line=piece.line, why=why, raises=True)


def _only_names_program(run: PlannedRun) -> bool:
    """Return whether a line only names a program without launching it."""
    if run.command.endswith((":", "：")):
        return True
    return bool(run.refused) and "names no model" in run.refused and len(run.command.split()) < 5


def _completed(
    run: PlannedRun, named: list[Piece], cards: Piece | None, words: Document
) -> PlannedRun:
    """Return a run, completed with what only the prose states."""
    pieces = dict(_around(run, named, cards, words))
    model = pieces.get("model")
    settings = {setting: p.value for setting, p in pieces.items() if setting != "model"}
    if "gpu" in settings:
        settings["gpu"] = _with_command_count(settings["gpu"], run)
    alone = (s for s, p in pieces.items() if s != "engine_version" and not p.listed)
    return replace(
        run,
        model=run.model if model is None else model.value,
        settings={**run.settings, **settings},
        understood=(*run.understood, *(of_piece(CALLED[s], p, s) for s, p in pieces.items())),
        unread=tuple(u for u in run.unread if model is None or u.why != NAMELESS),
        words=(*run.words, *alone),
    )


def _around(
    run: PlannedRun, named: list[Piece], cards: Piece | None, words: Document
) -> Iterator[tuple[str, Piece]]:
    """Yield (setting, piece): the model, the card and the engine's release that only the prose
    states."""
    if not run.model and len(named) == 1:
        yield "model", named[0]
    if cards is not None and "gpu" not in run.settings:
        yield "gpu", cards
    version = _version(run, words)
    if version is not None:
        yield "engine_version", version


def _version(run: PlannedRun, words: Document) -> Piece | None:
    """Return the release of the command's engine in the text; None if the command states it, or for
    several releases."""
    from weighbridge.engines.launch import parse

    try:
        launch = parse(run.command) if run.command else None
    except UsageError:
        return None
    if launch is None or "engine_version" in {*run.settings, *launch.settings}:
        return None
    releases = {m[1]: m for m in re.finditer(release(launch.engine), words.text[:MOST_TEXT])}
    matches = [piece_of(words, match, version) for version, match in releases.items()]
    return matches[0] if len(matches) == 1 else None


def _with_command_count(cards: str, run: PlannedRun) -> str:
    """Return the text's cards, with the command's number of cards if only the command has one."""
    if run.engine_cards and run.cards:  # the text's count includes the engine's
        return times(cards.partition(":")[0], run.cards)
    return cards if ":" in cards or "+" in cards else times(cards, _number_of_cards(run))


def _number_of_cards(run: PlannedRun) -> int:
    """Return a run's number of cards by its command or its ranks, 1 if neither states it."""
    from weighbridge.engines.launch import parse

    if run.task == "train":
        return run.cards or ranks_of(run) or 1
    try:
        return parse(run.command).devices or 1
    except UsageError:
        return 1


def other(text: str) -> Program | None:
    """Return the program of the text that weighbridge has no answers for; None without one."""
    return next((each for each in told_by("refused") if re.search(each.refused, text)), None)


def _refused(
    program: Program, named: list[Piece], cards: Piece | None, document: Document
) -> PlannedRun:
    """Return the run of an unsupported program, with a command for the nearest supported
    program."""
    model = next(iter(named), None)
    name = model.value if model is not None else model_in(document.text[:MOST_TEXT])
    about = "text.no_run" if program.learns else "text.not_answered"
    why = clauses(sentence(about, name=program.title), *_instead(program, name, cards, document))
    taken = taken_of(model, cards)
    return PlannedRun(task=program.task, model=name, understood=taken, refused=why)


def _instead(
    program: Program, model: str, cards: Piece | None, document: Document
) -> Iterator[str]:
    """Yield suggestions to use instead of an unsupported program."""
    text = document.text[:MOST_TEXT]
    gpu: dict[str, Value] = {"gpu": cards.value} if cards is not None else {}
    config = CONFIG.search(text)
    if program.learns:
        tuner = method(document)
        settings = learner(text, program.learns, "" if tuner is None else tuner.value)
        count = settings.pop("cards")
        if cards is not None and count > 1:
            gpu = {"gpu": times(cards.value.partition(":")[0], count)}
        yield to_type("learn", model, {**settings, **gpu})
    elif program.near:
        yield sentence("text.nearest", command=program.near)
    elif program.configs and config is not None:
        line = " ".join(("weighbridge", config[0], "--gpu", shlex.quote(gpu.get("gpu", CARD))))
        yield sentence("to_type", command=line)


KIND = Kind(
    name="text",
    title=sentence("title.text"),
    syntaxes=("text",),
    source="41 public questions of 2025 and 2026",
    tells=tells,
    read=read,
)
