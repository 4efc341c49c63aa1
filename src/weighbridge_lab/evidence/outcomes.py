"""Published outcomes, runs that ran and runs that died, beside our verdict on each.

    judged(case) -> AnsweredCase(fits, reason) or Passed(reason)

A case is asked as its source states it: a launch command as that very command, else the settings by
name, with the engine's own defaults for what is not stated. If only a card's size is known, the
cards of that size with the least and the most memory are asked (`between`); if those differ, the
answer is open. A case that our rules do not follow is passed over with its reason, unless only its
weights, or the mildest setting that the source leaves open (`least`), are too much for the card:
then it does not fit, whatever the rest.

    right     runs and fits, or died and does not fit
    wrong     a run that died fits, or one that ran does not: `because` says why, or it is a defect
    open      cannot say
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from weighbridge.answers.questions.prepared import Prepared
from weighbridge.answers.questions.question import ModelQuestion, serving
from weighbridge.base._version import __version__
from weighbridge.base.errors import NotFoundError, WeighbridgeError
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch import parse
from weighbridge.engines.table import ENGINES, engine, version
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Answer, Remedy, Verdict
from weighbridge.models.checkpoint.gather import GatherOptions, gather_config
from weighbridge.workload import LOAD, Load, Train, read
from weighbridge_lab.evidence.records import config, lines, origins

By = Literal["case", "least", "weights"]
SCHEMA = "weighbridge.outcomes/1"
FILE = "outcomes.jsonl"
OUTCOMES = ("runs", "out of memory")

EXPECTED: Mapping[str, Answer] = {"runs": "yes", "out of memory": "no"}
OVER_TRANSFORMERS = (
    "transformers",
    "trl",
    "axolotl",
    "torchtune",
    "litgpt",
    "torchtitan",
    "deepspeed",
    "megatron",
)  # frameworks whose steps we follow
FRAMEWORKS = {"transformers": "trainer"}


@frozen_record
class PublishedCase:
    """One published outcome of a run. A setting has our names; a missing one is the engine's
    default."""

    id: str
    task: str
    model: str  # of models.jsonl
    engine: str  # of training: the framework
    outcome: Literal["runs", "out of memory"]
    strength: str
    citation: Mapping[str, Any]
    version: str | None = None  # None: not printed, or newer than any rule
    command: str | None = None
    setting: Mapping[str, Any] = field(default_factory=dict)
    accelerator: str | None = None  # of our catalogue
    between: tuple[str, ...] = ()  # where only a size is printed
    memory: str | None = None  # where only that is printed
    count: int = 1
    ram: str | None = None
    complete: bool = False  # whether everything that decides is stated
    least: Mapping[str, Any] = field(default_factory=dict)
    skip: str | None = None
    because: str = ""  # why our answer differs from the outcome
    caveat: str = ""

    @property
    def cards(self) -> tuple[dict[str, Any], ...]:
        """Return the devices to ask a case about, as settings."""
        if self.memory is not None:
            return ({"gpu": None, "gpu_memory": self.memory},)
        named = (self.accelerator,) if self.accelerator else self.between
        return tuple({"gpu": f"{name}:{self.count}"} for name in named)


@dataclass(frozen=True, slots=True)
class AnsweredCase:
    """Our answer to a case. `by`: what was asked, the case itself, its mildest setting, or only its
    weights."""

    case: PublishedCase
    fits: Answer
    verdict: Verdict
    by: By = "case"

    @property
    def right(self) -> bool:
        return self.fits == EXPECTED[self.case.outcome]

    @property
    def wrong(self) -> bool:
        return not self.right and self.fits != "unknown"


@dataclass(frozen=True, slots=True)
class Passed:
    """A published case without an answer, and the reason."""

    case: PublishedCase
    reason: str
    detail: str = ""


Judged = AnsweredCase | Passed


@cache
def cases() -> tuple[PublishedCase, ...]:
    return tuple(_case(line) for line in lines(FILE))


def _case(line: dict[str, Any]) -> PublishedCase:
    return PublishedCase(**{**line, "between": tuple(line.get("between", ()))})


def chosen(engine: str | None = None) -> tuple[PublishedCase, ...]:
    """Return the cases of an engine, or all. Raises NotFoundError for an engine that no case
    has."""
    known = sorted({c.engine for c in cases()})
    if engine is not None and engine not in known:
        raise NotFoundError(sentence("outcomes.none", engine=engine, known=", ".join(known)))
    return tuple(c for c in cases() if engine in (None, c.engine))


def on_host(engine: str | None = None) -> tuple[PublishedCase, ...]:
    """Return the cases whose host memory is known, of an engine or of all."""
    return tuple(c for c in cases() if c.ram is not None and engine in (None, c.engine))


def judged(case: PublishedCase) -> Judged:
    """Return the answer to a case, or the reason why it has none."""
    reason, detail = _outside(case), ""
    if reason is None:
        try:
            return _answered(case, [_verdict(_report_of_case(case, card)) for card in case.cards])
        except WeighbridgeError as error:
            reason, detail = "refused by our rules", str(error)
    return _surely_not(case) or Passed(case, reason, detail)


def _outside(case: PublishedCase) -> str | None:
    if case.skip is not None:
        return case.skip
    if case.model not in origins():
        return "model not at hand"
    if not case.cards:
        return "the card is not named"
    if case.task == "infer":
        return _of_engine(case)
    followed = case.task == "load" or case.engine in OVER_TRANSFORMERS
    return None if followed else "not modelled: this training loop"


def _of_engine(case: PublishedCase) -> str | None:
    if case.engine not in ENGINES:
        return "not modelled: this engine"
    beyond = case.version is not None and version(engine(case.engine), case.version)[1]
    return "version outside our rules" if beyond else None


def _answered(case: PublishedCase, verdicts: Sequence[Verdict], by: By = "case") -> AnsweredCase:
    """Return the answer to a case. If its source prints only a card's size, it is the answer that
    all cards of that size share, else an open one."""
    answers = {verdict.fits for verdict in verdicts}
    fits: Answer = answers.pop() if len(answers) == 1 else "unknown"
    verdict = next((verdict for verdict in verdicts if verdict.fits == fits), verdicts[0])
    return AnsweredCase(case, fits, verdict, by)


def _surely_not(case: PublishedCase) -> AnsweredCase | None:
    """Return the answer "no" if a part of what the case needs is already too much; else None."""
    if case.model not in origins() or not case.cards:
        return None
    try:
        return _too_much(case, "least") or _too_much(case, "weights")
    except WeighbridgeError:
        return None


def _too_much(case: PublishedCase, by: By) -> AnsweredCase | None:
    if not (case.least if by == "least" else _weight_format(case)):
        return None
    verdicts = [_verdict(_report_of_case(case, card, by)) for card in case.cards]
    return (
        _answered(case, verdicts, by) if all(verdict.fits == "no" for verdict in verdicts) else None
    )


def _weight_format(case: PublishedCase) -> Mapping[str, Any]:
    """Return the weight format as a setting, if it is stated and all weights are on the devices."""
    settings = parse(case.command).settings if case.command else case.setting
    if settings.get("offload") or settings.get("cpu_offload_gb"):
        return {}
    return {name: settings[name] for name in ("dtype", "quantization") if name in settings}


def _verdict(report: Report) -> Verdict:
    assert report.verdict is not None
    return report.verdict


def remedied(answer: AnsweredCase) -> tuple[Remedy, ...]:
    """Return changes, in what the source leaves open, with which the case would fit, cheapest
    first."""
    return _report_of_case(answer.case, answer.case.cards[0], answer.by, remedies=True).remedies


def _report_of_case(
    case: PublishedCase, card: Mapping[str, Any], by: By = "case", *, remedies: bool = False
) -> Report:
    prepared = _prepared(case.model)
    if by == "weights" or case.task == "load":
        setting = _weight_format(case) if by == "weights" else case.setting
        return prepared.load(_loading(setting, card), remedies=remedies)
    if case.task == "train":
        setting = case.least if by == "least" else case.setting
        return prepared.train(_training(case, setting, card), remedies=remedies)
    return prepared.answer(_serving(case, card), remedies=remedies)


def _serving(case: PublishedCase, card: Mapping[str, Any]) -> ModelQuestion[Any]:
    beside = {"engine_version": case.version, "ram": case.ram, **card}
    setting = {} if case.command else {"engine": case.engine}
    named = {n: tuple(v) if isinstance(v, list) else v for n, v in case.setting.items()}
    return serving(None, case.command, {**setting, **named, **_stated(beside)})


def _training(case: PublishedCase, setting: Mapping[str, Any], card: Mapping[str, Any]) -> Train:
    framework = FRAMEWORKS.get(case.engine, case.engine)
    beside = {"framework": framework, "ram": case.ram, **card}
    if framework not in FRAMEWORKS.values():
        beside["framework_version"] = case.version
    named = {n: tuple(v) if isinstance(v, list) else v for n, v in setting.items()}
    workload: Train = read("train", _stated({**beside, **named}))
    return workload


def _loading(setting: Mapping[str, Any], card: Mapping[str, Any]) -> Load:
    named = {n: v for n, v in {**setting, **card}.items() if n in LOAD}
    workload: Load = read("load", _stated(named))
    return workload


def _stated(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@cache
def _prepared(name: str) -> Prepared:
    return Prepared(name, GatherOptions(), gather_config(config(origins()[name]), reference=name))


def counts(answers: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """Return the number of cases by outcome and by our answer."""
    table = {outcome: dict.fromkeys(("yes", "no", "unknown", "skipped"), 0) for outcome in OUTCOMES}
    for answer in answers:
        table[answer.case.outcome][
            answer.fits if isinstance(answer, AnsweredCase) else "skipped"
        ] += 1
    return table


def passed(answers: Iterable[Judged]) -> dict[str, int]:
    """Return the number of cases without an answer, by reason, most frequent first."""
    table: dict[str, int] = {}
    for answer in answers:
        if isinstance(answer, Passed):
            table[answer.reason] = table.get(answer.reason, 0) + 1
    return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


def wrong(answers: Iterable[Judged]) -> Iterator[AnsweredCase]:
    """Yield answers that the outcome contradicts."""
    return (answer for answer in answers if isinstance(answer, AnsweredCase) and answer.wrong)


def cited(case: PublishedCase) -> str:
    """Return a line that says where the case is published."""
    citation = case.citation
    if "page" in citation:
        return str(citation["page"]).removeprefix("https://")
    if "issue" in citation:
        return f"github.com/{citation['repo']} issue {citation['issue']}"
    place = f"{citation['path']}:{citation['line']}"
    return f"github.com/{citation['repo']} at {citation['commit'][:12]} {place}"


def to_dict(answers: Sequence[Judged]) -> dict[str, Any]:
    """Return the JSON output of `weighbridge accuracy --outcomes`: docs/accuracy.md."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "counts": counts(answers),
        "skipped": passed(answers),
        "cases": [_record(answer) for answer in answers],
    }


def _record(answer: Judged) -> dict[str, Any]:
    """Return one case and our verdict on it as JSON."""
    case = answer.case
    facts = {
        "id": case.id,
        "task": case.task,
        "model": case.model,
        "engine": case.engine,
        "engine_version": case.version,
        "command": case.command,
        "setting": dict(case.setting),
        "accelerators": [case.accelerator] if case.accelerator else list(case.between),
        "gpu_memory": case.memory,
        "count": case.count,
        "ram": case.ram,
        "outcome": case.outcome,
        "strength": case.strength,
        "complete": case.complete,
        "caveat": case.caveat,
        "citation": dict(case.citation),
    }
    return {**facts, **(_passed(answer) if isinstance(answer, Passed) else _verdict_dict(answer))}


def _passed(answer: Passed) -> dict[str, Any]:
    return {"fits": None, "skipped": answer.reason, "detail": answer.detail}


def _verdict_dict(answer: AnsweredCase) -> dict[str, Any]:
    verdict = answer.verdict
    return {
        "fits": answer.fits,
        "by": answer.by,
        "reason": verdict.reason,
        "share_that_fits": verdict.share_that_fits,
        "tipped_by": verdict.tipped_by,
        "needed": verdict.per_device._asdict(),
        "usable": verdict.usable._asdict(),
        "because": answer.case.because if answer.wrong else "",
        "skipped": None,
    }
