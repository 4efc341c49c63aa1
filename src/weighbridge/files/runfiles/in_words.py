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
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import MOST_TEXT, Piece, piece_of, pipeline, unknown_model
from weighbridge.files.runfiles.record import PlannedRun, Understood, Value
from weighbridge.models.catalogue import everyday
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.workload.train import LEARNS, PREFERENCES

# What decides of a server, and words do not say
OF_A_SERVER = ("words.context", "words.requests")
OF_PICTURES = ("words.size", "words.frames")  # of a pipeline
TRAINED = re.compile(r"(?i)\b(?:train|fine-?tun|dreambooth)|训练|微调")
COMFY, COMFYUI = re.compile(r"(?i)comfy"), "comfyui"
USUAL = "trainer"  # the framework of programs that start it


class NamedProgram(NamedTuple):
    """An engine or a trainer that a text names, and the release beside the name; "" of none."""

    program: Program
    piece: Piece
    release: str = ""


def programs(document: Document) -> list[NamedProgram]:
    """Return the engines and trainers that a text names, each once. Two of one task are both
    there: which one runs is not known then."""
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
    """Return the pattern of an engine's release beside its name: vllm-0.15.2, vLLM: 0.9.2."""
    name = re.escape(engine)
    return rf"(?i)\b{name}(?:==|[-: ]{{1,2}})(?:version )?v?(\d{{1,2}}\.\d{{1,3}}(?:\.\d{{1,3}})?)"


def in_words(document: Document, models: list[Piece], cards: Piece | None) -> Iterator[PlannedRun]:
    """Yield the run that the names of a text make by themselves: a server by its engine's defaults.
    Of a training they decide too little, and of a text without a program nothing."""
    pictured = None if models else pipeline(document)
    if pictured is None:
        yield _of_a_model(document, models, cards)
    else:
        yield _pictured(document, pictured, cards)


def _of_a_model(document: Document, models: list[Piece], cards: Piece | None) -> PlannedRun:
    """Return the run of the model that a text names, and of its program."""
    model = models[0] if models else None
    name = model.value if model is not None else ""
    considered = _considered(programs(document), name)
    one = considered[0] if len(considered) == 1 else None
    taken = taken_of(model, cards)
    run = PlannedRun(
        task=considered[0].program.task if considered else "infer",
        model=name,
        understood=taken,
        words=tuple(one.setting for one in taken),
        open=True,
    )
    ask = _ask(run, one and one.program, cards)
    if one is not None and one.program.task != "train":
        return _served(document, run, one, cards, ask)
    return replace(run, refused=clauses(_too_little(considered), ask))


def _pictured(document: Document, named: Piece, cards: Piece | None) -> PlannedRun:
    """Return the run of a pipeline that a text names, at its own size, or the command that asks
    what training it takes."""
    taken, text = taken_of(named, cards), document.text[:MOST_TEXT]
    gpu: dict[str, Value] = {"gpu": cards.value} if cards is not None else {}
    trained = TRAINED.search(text) is not None
    task = "train-image" if trained else "image"
    run = PlannedRun(
        task="picture_training" if trained else "picture",
        model=named.value,
        settings={**gpu, **({"engine": COMFYUI} if COMFY.search(text) and not trained else {})},
        understood=taken,
        words=tuple(one.setting for one in taken),
        missing=tuple(map(sentence, OF_PICTURES)),
        open=True,
    )
    ask = to_type(task, named.value, gpu)
    if trained:
        return replace(run, refused=clauses(sentence("words.trained"), ask))
    return replace(run, notes=(ask,))


def _too_little(programs: list[NamedProgram]) -> str:
    """Say why names make no run: none of a program, several, or one that trains."""
    if len(programs) == 1:
        return sentence("words.training", trainer=programs[0].program.title)
    names = ", ".join(each.program.name for each in programs)
    return sentence("words.several", names=names) if programs else sentence("words.nothing")


def _considered(named: list[NamedProgram], model: str) -> list[NamedProgram]:
    """Return the programs that a run may be of: trainers, where one is named, and of several
    engines those that the model's name tells."""
    trainers = [each for each in named if each.program.task == "train"]
    return trainers or _of_its_name(named, model) or named


def _of_its_name(programs: list[NamedProgram], model: str) -> list[NamedProgram]:
    """Return the engines among several that load what the name of a model says it is stored in."""
    form = meaning.quantization if (meaning := everyday.meaning(model)) is not None else ""
    if form.startswith("mlx"):
        return [each for each in programs if record(each.program.name).metal]
    if everyday.GGUF.match(form.lower()):
        return [each for each in programs if record(each.program.name).reads == "gguf"]
    return []


def _served(
    document: Document, run: PlannedRun, engine: NamedProgram, cards: Piece | None, ask: str
) -> PlannedRun:
    """Return the run of a server that a text names, by the defaults of its engine."""
    settings: dict[str, Value] = {"engine": engine.program.name}
    settings |= {"engine_version": engine.release} if engine.release else {}
    settings |= {"gpu": cards.value} if cards is not None else {}
    strange = "" if run.model else unknown_model(document)
    return replace(
        run,
        settings=settings,
        understood=(*run.understood, of_piece("the engine", engine.piece, "engine")),
        notes=(ask, sentence("text.unknown_model", name=strange)) if strange else (ask,),
        words=(*run.words, "engine"),
        missing=tuple(map(sentence, OF_A_SERVER)),
    )


def _ask(run: PlannedRun, program: Program | None, cards: Piece | None) -> str:
    """Return the command that asks what a text means, with a word for what it does not say."""
    gpu: dict[str, Value] = {"gpu": cards.value} if cards is not None else {}
    if program is None:
        return to_type("fit", run.model, gpu)
    return to_type(program.task, run.model, {**_named(program), **gpu})


def _named(program: Program) -> dict[str, Value]:
    """Return the setting that names a program: of LLaMA-Factory the framework that it starts."""
    if program.task != "train":
        return {"engine": program.name}
    return {"framework": program.name if program.name in FRAMEWORKS else USUAL}


def taken_of(model: Piece | None, cards: Piece | None) -> tuple[Understood, ...]:
    """Return what a text names of its run: the model and the cards, where they are there."""
    pieces = (("line.model", model, "model"), ("line.card", cards, "gpu"))
    return tuple(
        of_piece(sentence(key), piece, name) for key, piece, name in pieces if piece is not None
    )


def of_piece(key: str, piece: Piece, setting: str) -> Understood:
    """Return a piece of a text as what was understood of a run."""
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)


# The command that asks what a text means: with all that the text says, and with a word in capitals
# for each setting that decides and that it does not say

# What decides of a task, and the word in place of its value
DECIDES: Mapping[str, Mapping[str, str]] = {
    "train": {"method": "full|lora|qlora", "seq_len": "N", "batch_size": "N"},
    "learn": {"method": "|".join(LEARNS), "batch_size": "N"},
    "infer": {"context": "N", "batch_size": "N"},
    "fit": {},
    "image": {"size": "1024x1024"},
    "train-image": {"method": "lora|full", "size": "1024x1024", "batch_size": "N"},
}
ROLLED = ("prompt_len", "max_new_tokens")  # lengths of a run that writes its own answers
MODEL, CARD = "MODEL", "NAME"
SHARDS = "ddp|zero2|zero3|fsdp2"
LEADING = ("engine", "framework", "method")


def command(task: str, model: str, settings: Mapping[str, Value]) -> str:
    """Return the line that asks about a model with settings of ours, the card last."""
    decides = _decides(task, settings)
    typed = "train" if task == "learn" else task
    words = ["weighbridge", typed, shlex.quote(model) if model else MODEL]
    for name in dict.fromkeys((*LEADING, *decides, *settings)):
        if name != "gpu" and (name in settings or name in decides):
            words += _typed(name, settings.get(name), decides.get(name, ""))
    gpu = settings.get("gpu")
    return " ".join((*words, "--gpu", shlex.quote(str(gpu)) if gpu else CARD))


def _decides(task: str, settings: Mapping[str, Value]) -> Mapping[str, str]:
    """Return what decides: of a training on several cards also how they share the model."""
    if task == "learn":
        lengths = ("seq_len",) if settings.get("method") in PREFERENCES else ROLLED
        return {**DECIDES[task], **dict.fromkeys(lengths, "N")}
    shared = task == "train" and ":" in str(settings.get("gpu") or "")
    return {**DECIDES[task], **({"shard": SHARDS} if shared else {})}


def _typed(name: str, value: Value, instead: str) -> Iterator[str]:
    yield f"--{name.replace('_', '-')}"
    if value is not True:
        yield instead if value is None else shlex.quote(str(value))


def lacking(task: str, model: str, settings: Mapping[str, Value]) -> tuple[str, ...]:
    """Return what of a line the text does not say, as flags and words of that line."""
    flags = (f"--{n.replace('_', '-')}" for n in _decides(task, settings) if n not in settings)
    return (*(() if model else (MODEL,)), *flags, *(() if settings.get("gpu") else ("--gpu",)))


def to_type(task: str, model: str, settings: Mapping[str, Value]) -> Sentence:
    """Say which command asks for sure, and what the text does not say of it."""
    line, lacks = command(task, model, settings), lacking(task, model, settings)
    if not lacks:
        return sentence("to_type", command=line)
    return sentence("to_type.lacking", command=line, lacking=", ".join(lacks))
