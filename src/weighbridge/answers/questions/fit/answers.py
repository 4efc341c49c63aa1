"""Answers to the five questions, asked of one model that was read once."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from weighbridge.answers.questions.fit.request import (
    DEVICE,
    MAX,
    OPENS,
    PLAIN,
    FitRequest,
    takers,
    workload,
)
from weighbridge.base.errors import (
    BadFileError,
    ReleaseError,
    UnsupportedError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import Hears, go_on, kept_so_far, stopped
from weighbridge.engines.table import record
from weighbridge.engines.weight_formats import by_default
from weighbridge.memory.report import Report
from weighbridge.memory.report.fit import Accelerator, Fit, Question, question_of
from weighbridge.memory.report.plan import MADE, Plan, Rung, chosen
from weighbridge.memory.report.verdict import under_words
from weighbridge.workload import FIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from weighbridge.answers.estimate.limits import Setting
    from weighbridge.models.checkpoint.model import Model
    from weighbridge.workload import Infer, Load, Train

DEVICES = frozenset(DEVICE)  # what verdicts are about: remedies may name others
REFUSED = (UnsupportedError, BadFileError, UsageError)
STOPPED = "stopped before it was answered"
FILES = "GGUF files are not trained: name the repository that they were made from"


class Asker(Protocol):
    """An object that answers the three questions about one model; a prepared model does."""

    def model(self, *, base_model: bool = False) -> "Model":
        """Return the model that the questions are about."""

    def load(self, workload: "Load", **options: Any) -> Report:
        """Return the report of loading."""

    def infer(self, workload: "Infer", **options: Any) -> Report:
        """Return the report of serving."""

    def briefly(self, workload: "Infer", *limits: "Setting") -> Report:
        """Return the report of serving with its verdict, and how far `limits` can go."""

    def train(self, workload: "Train", **options: Any) -> Report:
        """Return the report of training."""

    def least(self, workload: "Train") -> Report:
        """Return a lower bound of the report of training, sooner."""


class QuestionOutcome(NamedTuple):
    """A question, and the error if it has no report."""

    question: Question
    error: WeighbridgeError | None = None


def fit(
    asker: Asker,
    request: FitRequest,
    sized: "Callable[[str], Asker]",
    hears: Hears | None = None,
) -> Fit:
    """Return verdicts on every question, and what was solved for. `sized` opens the model of a bare
    size; `hears` receives the answer so far after each question.

    Raises if the question that the exit code is about was asked wrongly, or if none has an answer.
    """
    if request.smallest is not None:
        from weighbridge.answers.questions.fit.hardware import smallest

        chosen = smallest(asker, request)
        gpu = chosen.settings["gpu"]
        named = replace(request, settings={**request.settings, "gpu": gpu}, extra=chosen.settings)
        return replace(_answered(asker, named), solved=chosen.solved)
    answer = _answered(asker, request, hears)
    if request.most is None:
        return answer
    from weighbridge.answers.questions.fit.search import solved

    setting = MAX[request.most][0]
    plan = answer.plan.settings if answer.plan.here else {}
    planned = request.planned({name: value for name, value in plan.items() if name != setting})
    solution = solved(asker, planned, answer, sized)
    if not solution.value or setting not in FIT:
        return replace(answer, solved=solution)
    asked = replace(request, settings={**request.settings, setting: solution.value})
    again = _answered(asker, asked, hears)
    if again.report is None:
        return replace(again, solved=solution)
    peak, launch = again.report.peak.expected, again.report.derived.get("launch")
    return replace(again, solved=replace(solution, peak_bytes=peak, launch=launch))


def _answered(asker: Asker, request: FitRequest, hears: Hears | None = None) -> Fit:
    outcomes: list[QuestionOutcome] = []
    ladder: tuple[Rung, ...] = ()
    part = _parts(asker, request, hears)
    for name in request.names:
        outcomes.append(_unless_stopped(asker, request, name))
        if name == "infer":  # before training, which takes longer
            ladder = _ladder(asker, request, outcomes[-1].question)
        part([outcome.question for outcome in outcomes], ladder)
    wrong = _wrong(outcomes, request, inference(asker, request))
    if wrong is not None:
        raise wrong
    fit = _joined(request, [outcome.question for outcome in outcomes], ladder)
    if fit is None:
        errors = (outcome.error for outcome in outcomes if outcome.error is not None)
        raise next(errors, KeyboardInterrupt())
    return replace(fit, way=_way(asker, request, fit.asked))


def _parts(
    asker: Asker, request: FitRequest, hears: Hears | None
) -> "Callable[[list[Question], tuple[Rung, ...]], None]":
    """Return a function that reports the questions answered so far, and the others without
    remedies. It reports nothing before the plan is known, so that no part takes back another."""
    if hears is None or not request.helped or request.solves:
        return lambda questions, ladder: None
    plain = replace(request, helped=False)
    others = [_told(asker, plain, name).question for name in request.names]

    def part(questions: list[Question], ladder: tuple[Rung, ...]) -> None:
        fit = _joined(request, [*questions, *others[len(questions) :]], ladder)
        planned = request.about != "infer" or any(q.name == "infer" for q in questions)
        if fit is not None and planned and len(questions) < len(others):
            hears(fit)

    return part


def _joined(request: FitRequest, questions: list[Question], ladder: tuple[Rung, ...]) -> Fit | None:
    """Return the answer made of these questions; None if none of them has a report."""
    first = next((question.report for question in questions if question.report is not None), None)
    if first is None:
        return None
    plan = chosen(ladder)
    rung = plan.rung
    if rung is not None and plan.here:  # how far it goes is told of the answer alone
        questions = [
            replace(q, longest=rung.longest) if q.name == "infer" else q for q in questions
        ]
    warnings = dict.fromkeys(line for question in questions for line in _warnings(question, plan))
    if words := request.settings.get(OPENS):
        questions = [
            replace(q, report=under_words(q.report, words)) if q.report else q for q in questions
        ]
    return Fit(
        model=first.model,
        accelerator=accelerator(questions),
        questions=tuple(questions),
        about=request.about,
        workload=request.settings,
        ladder=ladder,
        warnings=tuple(warnings),
    )


def _way(asker: Asker, request: FitRequest, asked: Question) -> Rung | None:
    """Return the training that was asked about with the first change that fits. It trains the same
    on the same cards; None if it fits as it is, or nothing does."""
    remedy = asked.help if asked.task == "train" and asked.fits != "yes" else None
    if remedy is None or request.solves or not MADE.isdisjoint(remedy.change) or stopped():
        return None
    changed = replace(request, settings={**request.settings, **remedy.change})
    report = judged(asker, workload(asked.name, changed, inference(asker, request)))
    rung = Rung(change=remedy.change, report=report)
    return rung if rung.fits == "yes" else None


def _ladder(asker: Asker, request: FitRequest, infer: Question) -> tuple[Rung, ...]:
    """Return the formats to run the model in, as rungs; none unless changes are searched for."""
    if infer.report is None or not request.chooses or stopped():
        return ()
    from weighbridge.answers.questions.fit.ladder import ladder

    with kept_so_far():
        return ladder(asker, request, infer)
    return ()


def _wrong(
    outcomes: list[QuestionOutcome], request: FitRequest, engine: str
) -> WeighbridgeError | None:
    """Return the error of a value that every question with its setting refuses: the value itself is
    wrong then, whatever the exit code is about. If one question takes the value, the error is only
    the reason of the others."""
    errors = {
        outcome.question.name: outcome.error
        for outcome in outcomes
        if outcome.question.report or outcome.error
    }
    open_ = [
        name for name in request.settings if not FIT[name].choices
    ]  # any text may be their value
    for error in errors.values():
        for name in open_ if type(error) is UsageError else ():
            taking = takers(name, request, engine) & errors.keys()
            if _is_about(error, name, request) and all(
                _is_about(errors[other], name, request) for other in taking
            ):
                return error
    return None


def _is_about(error: WeighbridgeError | None, name: str, request: FitRequest) -> bool:
    """Return whether an error names a setting first, or its value."""
    if error is None or type(error) is not UsageError:
        return False
    value = error.values.get(VALUES.get(error.key, ""))
    flag = f"--{name.replace('_', '-')}"
    return error.flag == flag or (value is not None and value == request.settings[name])


VALUES = {"memory_value": "value", "format": "name", "format_near": "name"}  # what they are about


def inference(asker: Asker, request: FitRequest) -> str:
    """Return the engine for inference: the one that the user set, or one that reads the model on
    that card."""
    if request.inference is not None:
        return request.inference
    from weighbridge.machines.accelerators.budget import budget

    form, gpu = request.settings.get("quantization"), request.settings.get("gpu")
    room = None if gpu is None else budget(str(gpu), None, None)
    card = None if room is None else room.choice.part
    return by_default(asker.model().parts[0], form, card).name


def answered(asker: Asker, task_workload: Any, **options: Any) -> Report:
    """Return the report of a workload of any kind, without remedies unless `options` say so."""
    choices: Mapping[str, Any] = {"remedies": False, **options}
    task = type(task_workload).__name__
    if task == "Load":
        return asker.load(task_workload, **choices)
    return (
        asker.infer(task_workload, **choices)
        if task == "Infer"
        else asker.train(task_workload, **choices)
    )


def judged(asker: Asker, task_workload: Any) -> Report:
    """Return the report of a workload with its verdict, without any search."""
    go_on()
    if type(task_workload).__name__ == "Infer":
        return asker.briefly(task_workload)
    return answered(asker, task_workload)


def _unless_stopped(asker: Asker, request: FitRequest, name: str) -> QuestionOutcome:
    """Answer a question, unless a search was stopped before."""
    with kept_so_far():
        if not stopped():
            return _told(asker, request, name)
    return QuestionOutcome(Question(name=name, reason=STOPPED))


def _told(asker: Asker, request: FitRequest, name: str) -> QuestionOutcome:
    engine = inference(asker, request)
    files = asker.model().parts[0].library == "gguf"
    serves = None if request.inference is None else record(request.inference)
    if question_of(name)[0] == "train" and (files or (serves and serves.trains)):
        trainless = serves and serves.trains and sentence(serves.trains, engine=serves.title)
        return QuestionOutcome(Question(name=name, reason=trainless or FILES))
    try:
        task_workload = workload(name, request, engine)
        helped = request.helped and (name == request.about or not request.solves)
        pinned = (request.pinned | _release_kept(asker, name, request)) - DEVICES
        report = answered(asker, task_workload, remedies=helped, pinned=pinned)
        ended = report.remedies or "search_stopped" not in report.derived
        sought = helped and bool(ended)
        question = replace(_question(asker, name, task_workload, report), sought=sought)
        return QuestionOutcome(
            _elsewhere(asker, request, task_workload, question)
            if sought and not stopped()
            else question
        )
    except REFUSED as error:
        # A refusal of this question only: the others may be about other engines
        old = isinstance(error, ReleaseError) and request.smallest is None
        wrong = name == request.about and isinstance(error, UsageError) and not old
        if wrong and _answers_plainly(asker, request, name):
            raise
        return QuestionOutcome(Question(name=name, reason=error.line), error)


def _release_kept(asker: Asker, name: str, request: FitRequest) -> frozenset[str]:
    """Return settings that remedies leave alone in questions besides the one asked: the release, if
    in older ones a run takes a minute to follow, as they train many experts one by one."""
    if name != "qlora" or name == request.about:
        return frozenset()
    from weighbridge.answers.estimate.train import followed  # a third of all modules
    from weighbridge.answers.remedies.case import UNMERGED
    from weighbridge.answers.remedies.training import MANY_APART
    from weighbridge.workload import Train

    apart = followed(asker.model(), Train(engine_version=UNMERGED))
    return frozenset(("engine_version",)) if apart > MANY_APART else frozenset()


def _question(asker: Asker, name: str, task_workload: Any, report: Report) -> Question:
    if not reads_text(asker.model()):
        return Question(name=name, report=report)
    tokens = report.setting("seq_len" if report.task == "train" else "context")
    longest = _longest(asker, task_workload, report)
    return Question(name=name, report=report, tokens=tokens, longest=longest)


def _elsewhere(
    asker: Asker, request: FitRequest, task_workload: Any, question: Question
) -> Question:
    """Add the number of large cards, if plain weights are trained and neither these nor as many
    larger ones have room."""
    if (
        question.name not in PLAIN
        or question.fits == "yes"
        or question.help
        or question.report is None
    ):
        return question
    if question.replaced is not None:
        return question
    if question.name == "lora" and question.remedies:
        return question
    from weighbridge.answers.questions.fit.elsewhere import sharded  # where no card is enough

    return replace(
        question, elsewhere=sharded(asker, task_workload, question.report, request.pinned)
    )


def reads_text(model: "Model") -> bool:
    """Return whether a length in tokens says something about a model: image classifiers have
    none."""
    configs = [part.config for part in model.parts if part.config]
    nested = [
        value for config in configs for value in config.values() if isinstance(value, Mapping)
    ]
    return (
        not configs
        or any("vocab_size" in config for config in (*configs, *nested))
        or model.rough
        or model.parts[0].library == "gguf"  # no config of the Hub: a bare size, or a GGUF file
    )


def _longest(asker: Asker, task_workload: Any, report: Report) -> int | None:
    """Return the tokens of the longest context that fits: as asked, or with the cheapest change
    that fits."""
    if report.verdict is not None and report.verdict.fits != "yes" and report.remedies:
        if report.task != "infer":
            return None
        report = asker.briefly(task_workload.but(**report.remedies[0].change), "context")
    return longest_context(report)


def longest_context(report: Report) -> int | None:
    """Return the tokens of the longest context that fits, at most what the engine sizes. None if
    nothing fits."""
    tokens: int | None = report.derived.get("largest_context") or None
    lowered = tokens is not None and tokens == report.said.get("context")
    return int(report.setting("context")) if lowered else tokens


def _answers_plainly(asker: Asker, request: FitRequest, name: str) -> bool:
    """Return whether the model has an answer to the question with only the device set: if so, the
    settings are wrong."""
    plain = {n: value for n, value in request.settings.items() if n in DEVICE}
    if plain == request.settings:
        return False
    bare = replace(request, settings=plain, inference=None)
    try:
        answered(asker, workload(name, bare, inference(asker, bare)))
    except REFUSED:
        return False
    return True


def _warnings(question: Question, plan: Plan) -> tuple[str, ...]:
    """Return the warnings of a question; for inference those of the plan, if it is for these
    cards."""
    here = question.name == "infer" and plan.here and plan.report is not None
    report = plan.report if here else question.report
    return () if report is None else report.warnings


def accelerator(questions: Iterable[Question]) -> Accelerator:
    """Return the cards that the verdicts of questions are about."""
    verdict = next(question.verdict for question in questions if question.verdict is not None)
    return Accelerator(
        name=verdict.accelerator,
        id=verdict.accelerator_id,
        count=verdict.count,
        total=verdict.visible.low,
        free=verdict.usable_bytes,
    )
