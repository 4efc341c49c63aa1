"""The five questions, asked of one model that was read once."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
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
from weighbridge.fitting.request import DEVICE, PLAIN, FitRequest, takers, workload
from weighbridge.memory import Bytes, Device, Phase
from weighbridge.report import Report
from weighbridge.report.fit import NAMES, Accelerator, Fit, Question
from weighbridge.report.verdict import Remedy
from weighbridge.settings import FIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from weighbridge.checkpoint.model import Model
    from weighbridge.estimate.limits import Setting
    from weighbridge.settings import Infer, Load, Train

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
        from weighbridge.fitting.hardware import smallest

        chosen = smallest(asker, a)
        gpu = chosen.settings["gpu"]
        named = replace(a, settings={**a.settings, "gpu": gpu}, extra=chosen.settings)
        return replace(_answered(asker, named), solved=chosen.solved)
    found = _answered(asker, a)
    if a.most is None:
        return found
    from weighbridge.fitting.search import solved

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
        report = asker.briefly(w.but(**report.remedies[0].change), "context")
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


# ---- How many large cards training takes that share everything out, where one card has no room.
# What ranks share is divided by their number, the rest is not: that gives a first number, which is
# asked like any other question, and the answer gives the next one.

CARD = "h100-sxm"  # what most clusters are made of (assumed)
MOST = 1024  # cards
TRIES = 3  # numbers that are asked
FILLED = 0.8  # of a card, by what is shared (assumed: a first guess)
SHARED = frozenset(
    ("weights", "gradients", "optimizer_states", "master_weights", "adapters", "temporaries")
)
SETTINGS: Mapping[str, str] = {"shard": "fsdp2", "checkpointing": "full"}


def sharded(asker: Asker, w: "Train", report: Report, pinned: frozenset[str]) -> Remedy | None:
    """The fewest such cards that were found to be enough; None where nobody can say."""
    if not pinned.isdisjoint(("shard", "gpu_memory")) or w.gpu is None:
        return None
    from weighbridge.accelerators.budget import budget

    found = budget(CARD, None, w.headroom)
    assert found is not None
    room, best = found.usable.low, None
    number: int | None = _guess(report, room)
    for _ in range(TRIES):
        if number is None or not 1 <= number <= MOST or (best and number >= best[0]):
            break
        asked = _asked(asker, w, number, pinned)
        if asked is None or asked.verdict is None:
            return None
        fits = asked.verdict.fits == "yes"
        best = (number, asked) if fits else best
        then = _enough(asked, room, number)
        number = then if fits or then is None else max(number + 1, then)
    return None if best is None else _remedy(w, *best, pinned)


def _change(number: int, pinned: frozenset[str]) -> dict[str, Any]:
    own = {n: v for n, v in SETTINGS.items() if n not in pinned and (number > 1 or n != "shard")}
    return {"gpu": f"{CARD}:{number}" if number > 1 else CARD, **own}


def _asked(asker: Asker, w: "Train", number: int, pinned: frozenset[str]) -> Report | None:
    try:
        changed = w.but(**_change(number, pinned))
        return asker.train(changed, remedies=False)
    except WeighbridgeError:
        return None


def _guess(report: Report, room: int) -> int:
    """A first number, by what is shared alone."""
    shared = max(_sums(p)[0] for p in _fullest(report).phases)
    return max(1, round(shared / (FILLED * room)))


def _enough(report: Report, room: int, ranks: int) -> int | None:
    """How many ranks would have room, by what the fullest device holds of so many; None where what
    is not shared is too much."""
    sums = [_sums(phase) for phase in _fullest(report).phases]
    if any(rest >= room for _, rest in sums):
        return None
    return max(ceil(ranks * shared / (room - rest)) for shared, rest in sums)


def _fullest(report: Report) -> Device:
    gpus = (d for d in report.devices if d.kind == "gpu")
    return max(gpus, key=lambda d: d.peak("driver").expected)


def _sums(phase: Phase) -> tuple[int, int]:
    """Bytes that ranks share out, and all others, at most."""
    shared = sum(c.bytes.high for c in phase.components if c.name in SHARED)
    return shared, phase.at("driver").high - shared


def _remedy(w: "Train", number: int, report: Report, pinned: frozenset[str]) -> Remedy:
    from weighbridge.remedies.prices import hardware
    from weighbridge.remedies.written import flags

    v, change = report.verdict, _change(number, pinned)
    assert v is not None
    bought = hardware(1, number, f"{v.times}{v.accelerator}")
    return Remedy(
        change=change,
        peak_bytes=v.per_device.expected,
        fits=v.fits,
        cost=bought.words,
        flags=flags(change, ""),
        source=bought.source,
        margin_bytes=v.margin_bytes,
        per_device=Bytes(*v.per_device),
        price=bought.price,
        kind="more devices",
    )
