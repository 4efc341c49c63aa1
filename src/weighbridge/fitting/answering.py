"""The five questions, asked of one model that was read once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from weighbridge.engines.readable import by_default
from weighbridge.engines.table import record
from weighbridge.errors import (
    BadFileError,
    ReleaseError,
    UnsupportedError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.fitting.asking import DEVICE, PLAIN, FitRequest, takers, workload
from weighbridge.report import Report
from weighbridge.report.fit import NAMES, Accelerator, Fit, Question
from weighbridge.settings import FIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from weighbridge.checkpoint.model import Model
    from weighbridge.estimate.infer import Setting
    from weighbridge.workload import Infer, Load, Train

DEVICES = frozenset(DEVICE)  # what verdicts are about: remedies may name others
REFUSED = (UnsupportedError, BadFileError, UsageError)
FILES = "GGUF files are not trained: name the repository that they were made from"


class Asker(Protocol):
    """Answers the three questions about one model; a prepared model does."""

    def model(self, *, base_model: bool = False) -> "Model":
        """The model that the questions are about."""

    def load(self, workload: "Load", **options: Any) -> Report:
        """What loading takes."""

    def infer(self, workload: "Infer", **options: Any) -> Report:
        """What serving takes."""

    def briefly(self, workload: "Infer", *limits: "Setting") -> Report:
        """What serving takes, and its verdict; how far these settings can go."""

    def train(self, workload: "Train", **options: Any) -> Report:
        """What training takes."""


class QuestionOutcome(NamedTuple):
    """A question, and the error in the place of its report."""

    question: Question
    error: WeighbridgeError | None = None


def fit(asker: Asker, a: FitRequest, sized: "Callable[[str], Asker]") -> Fit:
    """Verdicts on every question, and what was solved for. `sized` opens the model of a bare size.

    Raises where the one that the exit code is about was asked
    wrongly, or where none has an answer."""
    if a.smallest is not None:
        from weighbridge.fitting.choosing import smallest

        chosen = smallest(asker, a)
        gpu = chosen.settings["gpu"]
        named = replace(a, settings={**a.settings, "gpu": gpu}, extra=chosen.settings)
        return replace(_answered(asker, named), solved=chosen.solved)
    found = _answered(asker, a)
    if a.most is None:
        return found
    from weighbridge.fitting.solving import solved

    return replace(found, solved=solved(asker, a, found, sized))


def _answered(asker: Asker, a: FitRequest) -> Fit:
    told = [_told(asker, a, name) for name in NAMES]
    wrong = _wrong(told, a, inference(asker, a))
    if wrong is not None:
        raise wrong
    questions = tuple(t.question for t in told)
    first = next((q.report for q in questions if q.report is not None), None)
    if first is None:
        raise next(t.error for t in told if t.error is not None)
    return Fit(
        model=first.model,
        accelerator=_accelerator(questions),
        questions=questions,
        about=a.about,
        workload=a.settings,
        warnings=tuple(dict.fromkeys(line for q in questions for line in _warnings(q))),
    )


def _wrong(told: list[QuestionOutcome], a: FitRequest, engine: str) -> WeighbridgeError | None:
    """The error of a value that every question refuses which takes its setting: the value is wrong
    then, whatever the exit code is about. Where one of them takes it, it is a reason of others."""
    errors = {t.question.name: t.error for t in told if t.question.report or t.error}
    open_ = [name for name in a.settings if not FIT[name].choices]  # any text may be their value
    for error in errors.values():
        for name in open_ if type(error) is UsageError else ():
            asked = takers(name, a, engine) & errors.keys()
            if _is_about(error, name, a) and all(_is_about(errors[n], name, a) for n in asked):
                return error
    return None


def _is_about(error: WeighbridgeError | None, name: str, a: FitRequest) -> bool:
    """Whether an error names a setting first, or its value."""
    named = (f"--{name.replace('_', '-')} ", f"{a.settings[name]!r} is not a ")
    return type(error) is UsageError and str(error).startswith(named)


def inference(asker: Asker, a: FitRequest) -> str:
    """The engine that inference is asked of: the one that was named, or one that reads the model on
    that card."""
    if a.inference is not None:
        return a.inference
    from weighbridge.accelerators.budget import budget

    asked, gpu = a.settings.get("quantization"), a.settings.get("gpu")
    found = None if gpu is None else budget(str(gpu), None, None)
    card = None if found is None else found.choice.part
    return by_default(asker.model().parts[0], asked, card).name


def answered(asker: Asker, w: Any, **options: Any) -> Report:
    """The report of a workload of any kind; without remedies where none are asked for."""
    told: Mapping[str, Any] = {"remedies": False, **options}
    task = type(w).__name__
    if task == "Load":
        return asker.load(w, **told)
    return asker.infer(w, **told) if task == "Infer" else asker.train(w, **told)


def judged(asker: Asker, w: Any) -> Report:
    """The report of a workload with its verdict, and nothing that is searched for."""
    if type(w).__name__ == "Infer":
        return asker.briefly(w)
    return answered(asker, w)


def _told(asker: Asker, a: FitRequest, name: str) -> QuestionOutcome:
    engine = inference(asker, a)
    files = asker.model().parts[0].library == "gguf"
    trains = record(a.inference).trains if a.inference is not None else "yes"
    if NAMES[name][0] == "train" and (files or trains != "yes"):
        return QuestionOutcome(Question(name=name, reason=FILES if trains == "yes" else trains))
    try:
        w = workload(name, a, engine)
        helped = a.helped and (name == a.about or not a.solves)
        report = answered(asker, w, remedies=helped, pinned=a.pinned - DEVICES)
        found = replace(_question(asker, name, w, report), sought=helped)
        return QuestionOutcome(_elsewhere(asker, a, w, found) if helped else found)
    except REFUSED as error:
        # A row by itself, of which the other questions are not: they may be of other engines
        old = isinstance(error, ReleaseError) and a.smallest is None
        wrong = name == a.about and isinstance(error, UsageError) and not old
        if wrong and _answers_plainly(asker, a, name):
            raise
        return QuestionOutcome(Question(name=name, reason=str(error)), error)


def _question(asker: Asker, name: str, w: Any, report: Report) -> Question:
    if not reads_text(asker.model()):
        return Question(name=name, report=report)
    tokens = report.setting("seq_len" if report.task == "train" else "context")
    longest = _longest(asker, w, report)
    return Question(name=name, report=report, tokens=tokens, longest=longest)


def _elsewhere(asker: Asker, a: FitRequest, w: Any, q: Question) -> Question:
    """Add the number of large cards, where plain weights are trained and neither these nor as many
    larger ones have room."""
    if q.name not in PLAIN or q.fits == "yes" or q.helped or q.report is None:
        return q
    if q.replaced is not None:
        return q
    if q.name == "lora" and q.remedies:
        return q
    from weighbridge.fitting.sharded import sharded

    return replace(q, elsewhere=sharded(asker, w, q.report, a.pinned))


def reads_text(model: "Model") -> bool:
    """Whether a length in tokens says something about it: classifiers of images have none."""
    configs = [part.config for part in model.parts if part.config]
    nested = [v for c in configs for v in c.values() if isinstance(v, Mapping)]
    return not configs or any("vocab_size" in c for c in (*configs, *nested)) or _told_apart(model)


def _told_apart(model: "Model") -> bool:
    """Models whose config is not one of the Hub's."""
    return model.rough or model.parts[0].library == "gguf"


def _longest(asker: Asker, w: Any, report: Report) -> int | None:
    """Tokens of the longest context that fits: as asked, or with the cheapest change that fits."""
    if report.verdict is not None and report.verdict.fits != "yes" and report.remedies:
        if report.task != "infer":
            return None
        report = asker.briefly(replace(w, **report.remedies[0].change), "context")
    found = report.derived.get("largest_context")
    return found or None


def _answers_plainly(asker: Asker, a: FitRequest, name: str) -> bool:
    """Whether the model has an answer to the question with no setting but the device: then it is
    the settings that are wrong."""
    plain = {n: v for n, v in a.settings.items() if n in DEVICE}
    if plain == a.settings:
        return False
    bare = replace(a, settings=plain, inference=None)
    try:
        answered(asker, workload(name, bare, inference(asker, bare)))
    except REFUSED:
        return False
    return True


def _warnings(q: Question) -> tuple[str, ...]:
    return () if q.report is None else q.report.warnings


def _accelerator(questions: tuple[Question, ...]) -> Accelerator:
    found = next(q.verdict for q in questions if q.verdict is not None)
    return Accelerator(
        name=found.accelerator,
        id=found.accelerator_id,
        count=found.count,
        total=found.visible.low,
        free=found.usable_bytes,
    )
