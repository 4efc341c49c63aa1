"""Names in the words around a text's machine parts: a model, cards with their number, an engine or
a trainer. Nothing else of a sentence is taken, so that no run is made of what somebody only wonders
about; and what rests on words alone gets no sure verdict (weighing.py).

A text without a command, a config, a script or a log is answered where it names an engine, whose
own defaults then stand for the rest; else it is told what to paste, or to type.
"""

import re
import shlex
from collections.abc import Iterator

from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.table import title
from weighbridge.files.programs import Program, told_by
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import MOST_TEXT, Piece, piece_of, unknown_model
from weighbridge.files.runfiles.record import PlannedRun, Understood, Value
from weighbridge.training.frameworks import FRAMEWORKS

OF_A_SERVER = ("words.context", "words.requests")  # what decides, and words do not say
USUAL = "trainer"  # the framework of programs that start it
METHOD = " --method full|lora|qlora --seq-len N --batch-size N"


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
    named = programs(document)
    own = [each for each in named if each.program.task == "train"] or named
    one = own[0] if len(own) == 1 else None
    taken = taken_of(models[0] if models else None, cards)
    run = PlannedRun(
        task=own[0].program.task if own else "infer",
        model=models[0].value if models else "",
        understood=taken,
        words=tuple(one.setting for one in taken),
        open=True,
    )
    ask = _ask(run, one and one.program, cards)
    if one is None:
        names = ", ".join(each.program.name for each in own)
        why = sentence("words.several", names=names) if own else sentence("words.nothing")
        yield replace(run, refused=clauses(why, ask))
    elif one.program.task == "train":
        why = sentence("words.training", trainer=one.program.title)
        yield replace(run, refused=clauses(why, ask))
    else:
        yield _served(document, run, one, cards, ask)


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
        understood=(*run.understood, of_piece(sentence("words.engine"), engine.piece, "engine")),
        notes=(ask, sentence("words.unknown", name=strange)) if strange else (ask,),
        words=(*run.words, "engine"),
        missing=tuple(map(sentence, OF_A_SERVER)),
    )


def _ask(run: PlannedRun, program: Program | None, cards: Piece | None) -> str:
    """Return the command that asks what a text means, with a word for what it does not say."""
    return sentence(
        "words.type",
        task=run.task if program else "fit",
        model=shlex.quote(run.model) if run.model else "MODEL",
        program=_flags(program) if program else "",
        gpu=shlex.quote(cards.value) if cards is not None else "NAME",
    )


def _flags(program: Program) -> str:
    """Return the flags that name a program: of LLaMA-Factory the framework that it starts."""
    if program.task != "train":
        return f" --engine {program.name}"
    return f" --framework {program.name if program.name in FRAMEWORKS else USUAL}{METHOD}"


def taken_of(model: Piece | None, cards: Piece | None) -> tuple[Understood, ...]:
    """Return what a text names of its run: the model and the cards, where they are there."""
    pieces = (("line.model", model, "model"), ("line.card", cards, "gpu"))
    return tuple(
        of_piece(sentence(key), piece, name) for key, piece, name in pieces if piece is not None
    )


def of_piece(key: str, piece: Piece, setting: str) -> Understood:
    """Return a piece of a text as what was understood of a run."""
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)
