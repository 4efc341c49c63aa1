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
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import MOST_TEXT, Piece, piece_of, unknown_model
from weighbridge.files.runfiles.record import PlannedRun, Understood, Value

ENGINES: Mapping[str, str] = {
    "vllm": r"(?i)(?<![a-z])vllm(?![a-z])|max[-_]model[-_]len|gpu[-_]memory[-_]utilization",
    "sglang": r"(?i)(?<![a-z])sglang(?![a-z])|mem-fraction-static",
    "ollama": r"(?i)(?<![a-z])ollama(?![a-z])",
    "llama.cpp": r"(?i)(?<![a-z])llama[.]?cpp(?![a-z])|llama-server",
    "mlx": r"(?i)(?<![a-z])mlx(?:[-_]lm)?(?![a-z_])(?!-?community)",
}
TRAINERS: Mapping[str, str] = {
    "llama-factory": r"(?i)(?<![a-z])llama-?factory(?![a-z])",
    "axolotl": r"(?i)(?<![a-z])axolotl(?![a-z])",
    "unsloth": r"(?i)(?<![a-z])unsloth(?![a-z/:_.])",
    "torchtune": r"(?i)(?<![a-z])torch-?tune(?![a-z])",
    "trl": r"(?<![A-Za-z])(?:TRL|trl|SFTTrainer)(?![A-Za-z])",
    "trainer": r"(?i)(?:HF|Hugging ?Face|transformers)(?:'s)? Trainer(?![a-z])",
}
OF_A_SERVER = ("context", "requests at once")  # what decides, and words do not say
OF_A_TRAINING = (
    "the words name {trainer}, and no method, length or batch is taken from words: paste its "
    "config, its script or its command"
)
TITLES = {"llama-factory": "LLaMA-Factory", "trl": "TRL", "trainer": "the Trainer"}
NOTHING = (
    "no command, config, script or log is in the text, and its words name no engine and no trainer"
)
SEVERAL = "the words name several programs ({names}): none of them is taken"
UNKNOWN = "the text names {name}, which the catalogue has not: --model ORG/NAME says where it is"
TYPE = "to ask for sure, type: weighbridge {task} {model}{program} --gpu {gpu}"
METHOD = " --method full|lora|qlora --seq-len N --batch-size N"


class NamedProgram(NamedTuple):
    """An engine or a trainer that a text names, and the release beside the name; "" of none."""

    task: str
    name: str
    piece: Piece
    release: str = ""


def programs(document: Document) -> list[NamedProgram]:
    """Return the engines and trainers that a text names, each once. Two of one task are both
    there: which one runs is not known then."""
    text = document.text[:MOST_TEXT]
    tables = (("train", TRAINERS), ("infer", ENGINES))
    return [
        NamedProgram(task, name, piece_of(document, match, match[0]), _release(name, text))
        for task, table in tables
        for name, pattern in table.items()
        if (match := re.search(pattern, text))
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
    own = [each for each in named if each.task == "train"] or named
    program = own[0] if len(own) == 1 else None
    taken = taken_of(models[0] if models else None, cards)
    run = PlannedRun(
        task=own[0].task if own else "infer",
        model=models[0].value if models else "",
        understood=taken,
        words=tuple(one.setting for one in taken),
        open=True,
    )
    ask = _ask(run, program, cards)
    if program is None:
        why = SEVERAL.format(names=", ".join(each.name for each in own)) if own else NOTHING
        yield replace(run, refused=f"{why}; {ask}")
    elif program.task == "train":
        title = TITLES.get(program.name, program.name)
        yield replace(run, refused=f"{OF_A_TRAINING.format(trainer=title)}; {ask}")
    else:
        yield _served(document, run, program, cards, ask)


def _served(
    document: Document, run: PlannedRun, engine: NamedProgram, cards: Piece | None, ask: str
) -> PlannedRun:
    """Return the run of a server that a text names, by the defaults of its engine."""
    settings: dict[str, Value] = {"engine": engine.name}
    settings |= {"engine_version": engine.release} if engine.release else {}
    settings |= {"gpu": cards.value} if cards is not None else {}
    strange = "" if run.model else unknown_model(document)
    return replace(
        run,
        settings=settings,
        understood=(*run.understood, of_piece("the engine", engine.piece, "engine")),
        notes=(ask, UNKNOWN.format(name=strange)) if strange else (ask,),
        words=(*run.words, "engine"),
        missing=OF_A_SERVER,
    )


def _ask(run: PlannedRun, program: NamedProgram | None, cards: Piece | None) -> str:
    """Return the command that asks what a text means, with a word for what it does not say."""
    training = program is not None and program.task == "train"
    flag = "framework" if training else "engine"
    return TYPE.format(
        task=run.task if program else "fit",
        model=shlex.quote(run.model) if run.model else "MODEL",
        program=f" --{flag} {program.name}{METHOD if training else ''}" if program else "",
        gpu=shlex.quote(cards.value) if cards is not None else "NAME",
    )


def taken_of(model: Piece | None, cards: Piece | None) -> tuple[Understood, ...]:
    """Return what a text names of its run: the model and the cards, where they are there."""
    pieces = (("the model", model, "model"), ("the card", cards, "gpu"))
    return tuple(of_piece(key, piece, name) for key, piece, name in pieces if piece is not None)


def of_piece(key: str, piece: Piece, setting: str) -> Understood:
    """Return a piece of a text as what was understood of a run."""
    return Understood(key=key, value=piece.value, setting=setting, line=piece.line)
