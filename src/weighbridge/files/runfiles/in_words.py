"""Names in the words around a text's machine parts: a model, cards with their number, an engine or
a trainer. Nothing else of a sentence is taken, so that no run is made of what somebody only wonders
about; and what rests on words alone gets no sure verdict (weighing.py).

A text without a command, a config, a script or a log is answered where it names an engine, whose
own defaults then stand for the rest; else it is told what to paste, or to type.
"""

import re
import shlex
from collections.abc import Iterator, Mapping

from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import Sentence, clauses, sentence
from weighbridge.engines.table import record, title
from weighbridge.files.programs import Program, told_by
from weighbridge.files.runfiles import picture_words
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import (
    MOST_TEXT,
    Piece,
    piece_of,
    unknown_model,
    unknown_pipeline,
)
from weighbridge.files.runfiles.record import PlannedRun, Understood, Value
from weighbridge.models.catalogue import everyday, pipelines
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.workload import TABLES
from weighbridge.workload.train import LEARNERS, LEARNS, PREFERENCES

# settings that decide a server's memory and that prose leaves open
OF_A_SERVER = ("words.context", "words.requests")
COMFYUI = "comfyui"
USUAL = "trainer"  # the framework for programs that start it


class NamedProgram(NamedTuple):
    """An engine or trainer named in a text, and the release next to its name; "" without one."""

    program: Program
    piece: Piece
    release: str = ""


def programs(document: Document) -> list[NamedProgram]:
    """Return the engines and trainers named in a text, each once. Two of one task are both
    returned, as it is unknown which one runs."""
    text = document.text[:MOST_TEXT]
    return [
        NamedProgram(
            program, piece_of(document, match, title(program.title)), _release(program.name, text)
        )
        for program in told_by("words")
        if (match := re.search(program.words, text))
    ]


def _release(engine: str, text: str) -> str:
    match = re.search(release(engine), text)
    return match[1] if match else ""


def release(engine: str) -> str:
    """Return a pattern for an engine's release next to its name: vllm-0.15.2, vLLM: 0.9.2."""
    name = re.escape(engine)
    return rf"(?i)\b{name}(?:==|[-: ]{{1,2}})(?:version )?v?(\d{{1,2}}\.\d{{1,3}}(?:\.\d{{1,3}})?)"


def in_words(document: Document, models: list[Piece], cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run that a text's names describe: a server with its engine's defaults. Trainings,
    and texts without a program, need more than names."""
    pictured = None if models else picture_words.pipeline(document)
    if pictured is None:
        yield _of_a_model(document, models, cards)
    else:
        yield _pictured(document, pictured, cards)


def _of_a_model(document: Document, models: list[Piece], cards: Piece | None) -> PlannedRun:
    """Return the run of the text's model and program."""
    model = models[0] if models else None
    name = model.value if model is not None else ""
    considered = _programs_that_may_run(programs(document), name)
    one = considered[0] if len(considered) == 1 else None
    taken = taken_of(model, cards)
    run = PlannedRun(
        task=considered[0].program.task if considered else "infer",
        model=name,
        understood=taken,
        words=tuple(one.setting for one in taken),
        open=True,
    )
    ask = _ask(run, one and one.program, cards, _method(document, run.task))
    strange = "" if name else unknown_model(document) or unknown_pipeline(document)
    unknown = (sentence("text.unknown_model", name=strange),) if strange else ()
    if one is not None and one.program.task != "train":
        return replace(_served(run, one, cards), notes=(ask, *unknown))
    return replace(run, refused=clauses(*unknown, _too_little(considered), ask))


def _pictured(document: Document, named: Piece, cards: Piece | None) -> PlannedRun:
    """Return the run of the text's pipeline, with default sizes for missing ones, or the command
    that asks about its training."""
    text = document.text[:MOST_TEXT]
    entry = pipelines.find(named.value)
    file = named.value.lower().endswith(pipelines.ENDS)
    video = entry is not None and entry.recipe.get("kind") == "video"
    trainer = picture_words.trainer(document)
    trained = trainer is not None or picture_words.TRAINS.search(text) is not None
    task = "train_image" if trained else "image"
    pieces = picture_words.settings(document)
    if trained:
        pieces |= {"framework": trainer} if trainer is not None else {}
        pieces |= _of_training(document)
    pieces |= {"gpu": cards} if cards is not None else {}
    settings = _settings(pieces, task, video=video, packed=file)
    if picture_words.COMFY.search(text) and not trained:
        settings["engine"] = COMFYUI
    taken = (
        of_piece(sentence("line.model"), named, "model"),
        *_settings_from_words(pieces, settings),
    )
    run = PlannedRun(
        task=task,
        model=named.value,
        settings=settings,
        understood=taken,
        words=tuple(dict.fromkeys(one.setting for one in taken)),
        missing=tuple(_missing(task, settings, video=video)),
        open=True,
    )
    asks = "train-image" if trained else "video" if video else "image"
    ask = to_type(asks, named.value, settings)
    if trained and "method" not in settings:
        return replace(run, refused=clauses(sentence("words.trained"), ask))
    ended = picture_words.ran(document)
    return replace(run, notes=(ended, ask) if ended else (ask,))


def _of_training(document: Document) -> dict[str, Piece]:
    """Return the training method in the words, by setting; for QLoRA with the base's format."""
    method = picture_words.method(document)
    if method is None or method.value != "qlora":
        return {} if method is None else {"method": method}
    return {"method": method._replace(value="lora"), "quantization": method._replace(value="nf4")}


def _settings(
    pieces: Mapping[str, Piece], task: str, *, video: bool, packed: bool
) -> dict[str, Value]:
    """Return the pieces as a task's settings. A `packed` file has its format in its name, and an
    image has no length."""
    forms = [pieces[name].value for name in ("quantization", "of_text") if name in pieces]
    left = {"of_text"} | (set() if video else {"frames", "seconds"})
    left |= {"quantization"} if packed else set()
    left |= {"seconds"} if "frames" in pieces else set()
    known = TABLES[task]
    settings: dict[str, Value] = {
        name: known[name].value(piece.value)
        for name, piece in pieces.items()
        if name not in left and name in known
    }
    if forms and not packed:
        settings["quantization"] = "+".join(forms)
    if "size" in settings:
        settings["size"] = pieces["size"].value
    return settings


def _settings_from_words(
    pieces: Mapping[str, Piece], settings: Mapping[str, Value]
) -> Iterator[Understood]:
    """Yield the settings that were read from words, for the screen."""
    for name, piece in pieces.items():
        setting = "quantization" if name == "of_text" else name
        if setting in settings:
            key = "line.card" if name == "gpu" else f"words.key.{setting}"
            yield of_piece(sentence(key), piece, setting)


def _missing(task: str, settings: Mapping[str, Value], *, video: bool) -> Iterator[str]:
    """Yield the settings that decide a pipeline's memory and are not in the words."""
    if "size" not in settings:
        yield sentence("words.size")
    if video and settings.keys().isdisjoint(("frames", "seconds")):
        yield sentence("words.frames")
    if task == "train_image" and "batch_size" not in settings:
        yield sentence("words.key.batch_size")


def _too_little(programs: list[NamedProgram]) -> str:
    """Return why the names describe no run: no program, several, or a trainer."""
    if len(programs) == 1:
        return sentence("words.training", trainer=programs[0].program.title)
    names = ", ".join(each.program.name for each in programs)
    return sentence("words.several", names=names) if programs else sentence("words.nothing")


def _programs_that_may_run(named: list[NamedProgram], model: str) -> list[NamedProgram]:
    """Return the programs that may run: trainers if any, else engines that load the model's
    format."""
    trainers = [each for each in named if each.program.task == "train"]
    return trainers or _of_its_name(named, model) or named


def _of_its_name(programs: list[NamedProgram], model: str) -> list[NamedProgram]:
    """Return the engines that load the format in the model's name."""
    form = meaning.quantization if (meaning := everyday.meaning(model)) is not None else ""
    if form.startswith("mlx"):
        return [each for each in programs if record(each.program.name).metal]
    if everyday.GGUF.match(form.lower()):
        return [each for each in programs if record(each.program.name).reads == "gguf"]
    return []


def _served(run: PlannedRun, engine: NamedProgram, cards: Piece | None) -> PlannedRun:
    """Return the run of a text's server with its engine's defaults."""
    settings: dict[str, Value] = {"engine": engine.program.name}
    settings |= {"engine_version": engine.release} if engine.release else {}
    settings |= {"gpu": cards.value} if cards is not None else {}
    return replace(
        run,
        settings=settings,
        understood=(*run.understood, of_piece("the engine", engine.piece, "engine")),
        words=(*run.words, "engine"),
        missing=tuple(map(sentence, OF_A_SERVER)),
    )


def _method(document: Document, task: str) -> dict[str, Value]:
    """Return the training method that a text names, as a setting; {} without one."""
    text = document.text[:MOST_TEXT]
    trains = task == "train" or picture_words.TRAINS.search(text) is not None
    method = picture_words.method(document) if trains else None
    known = TABLES["train"]["method"].choices
    return {"method": method.value} if method is not None and method.value in known else {}


def _ask(
    run: PlannedRun, program: Program | None, cards: Piece | None, method: dict[str, Value]
) -> str:
    """Return the weighbridge command for the text's question, with placeholders for missing
    settings."""
    more = {**method, **({"gpu": cards.value} if cards is not None else {})}
    if program is None:
        return to_type("train" if method else "fit", run.model, more)
    return to_type(program.task, run.model, {**named_by(program), **more})


def named_by(program: Program) -> dict[str, Value]:
    """Return the setting that names a program: an engine, or a trainer's framework."""
    if program.task != "train":
        return {"engine": program.name}
    framework = program.name.lower()
    return {"framework": framework if framework in (*FRAMEWORKS, *LEARNERS) else USUAL}


def taken_of(model: Piece | None, cards: Piece | None) -> tuple[Understood, ...]:
    """Return the text's model and cards as understood keys, if it names them."""
    pieces = (("line.model", model, "model"), ("line.card", cards, "gpu"))
    return tuple(
        of_piece(sentence(key), piece, name) for key, piece, name in pieces if piece is not None
    )


def of_piece(key: str, piece: Piece, setting: str) -> Understood:
    """Return a piece of a text as an understood key."""
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)


# The command for the text's question: with its settings, and a placeholder in capitals for each
# setting that decides and that the text leaves open

# task -> setting that decides memory -> its placeholder
DECIDES: Mapping[str, Mapping[str, str]] = {
    "train": {"method": "full|lora|qlora", "seq_len": "N", "batch_size": "N"},
    "learn": {"method": "|".join(LEARNS), "batch_size": "N"},
    "infer": {"context": "N", "batch_size": "N"},
    "fit": {},
    "image": {"size": "1024x1024"},
    "video": {"size": "720p", "frames": "N"},
    "train-image": {"method": "lora|full", "size": "1024x1024", "batch_size": "N"},
}
ROLLED = ("prompt_len", "max_new_tokens")  # lengths of a run that generates its own answers
MODEL, CARD = "MODEL", "NAME"
SHARDS = "ddp|zero2|zero3|fsdp2"
LEADING = ("engine", "framework", "method")


def command(task: str, model: str, settings: Mapping[str, Value]) -> str:
    """Return the weighbridge command for a model and settings, the card last."""
    decides = _decides(task, settings)
    typed = "train" if task == "learn" else task
    words = ["weighbridge", typed, shlex.quote(model) if model else MODEL]
    for name in dict.fromkeys((*LEADING, *decides, *settings)):
        if name != "gpu" and (name in settings or name in decides):
            words += _typed(name, settings.get(name), decides.get(name, ""))
    gpu = settings.get("gpu")
    card = () if not gpu and "gpu_memory" in settings else ("--gpu", shlex.quote(str(gpu or CARD)))
    return " ".join((*words, *card))


def _decides(task: str, settings: Mapping[str, Value]) -> Mapping[str, str]:
    """Return the settings that decide memory; for training on several cards also the sharding."""
    if task == "learn":
        lengths = ("seq_len",) if settings.get("method") in PREFERENCES else ROLLED
        return {**DECIDES[task], **dict.fromkeys(lengths, "N")}
    shared = task == "train" and ":" in str(settings.get("gpu") or "")
    decides = {**DECIDES[task], **({"shard": SHARDS} if shared else {})}
    return {n: v for n, v in decides.items() if n != "frames" or "seconds" not in settings}


def _typed(name: str, value: Value, instead: str) -> Iterator[str]:
    yield f"--{name.replace('_', '-')}"
    if value is not True:
        typed = f"{value:g}" if isinstance(value, float) else str(value)
        yield instead if value is None else shlex.quote(typed)


def lacking(task: str, model: str, settings: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the flags and words of the command that the text does not state."""
    flags = (f"--{n.replace('_', '-')}" for n in _decides(task, settings) if n not in settings)
    card = settings.get("gpu") or settings.get("gpu_memory")
    return (*(() if model else (MODEL,)), *flags, *(() if card else ("--gpu",)))


def to_type(task: str, model: str, settings: Mapping[str, Value]) -> Sentence:
    """Return a sentence with the exact command, and with the settings that `settings` lacks."""
    line, lacks = command(task, model, settings), lacking(task, model, settings)
    if not lacks:
        return sentence("to_type", command=line)
    return sentence("to_type.lacking", command=line, lacking=", ".join(lacks))
