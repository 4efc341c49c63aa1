"""Published outcomes, runs that ran and runs that died, beside our verdict on each.

    judged(case) -> AnsweredCase(fits, reason) or Passed(reason)

A case is asked as its source states it: a launch command as that very command, else the settings
by name, with the engine's own defaults for what is not stated. A card that is known by its size
alone is asked as the ones of that size with the least and the most memory (`between`); where those
differ the answer is open. What our rules do not follow is passed over with its reason, unless the
weights alone, or the mildest setting that the source leaves open (`least`), are too much for the
card: then it does not fit, whatever the rest.

    right     runs and fits, or died and does not fit
    wrong     a run that died fits, or one that ran does not: `because` says why, or it is a defect
    open      cannot say
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from weighbridge._version import __version__
from weighbridge.checkpoint.gather import GatherOptions, gather_config
from weighbridge.engines.table import ENGINES, engine, version
from weighbridge.errors import NotFoundError, WeighbridgeError
from weighbridge.lab.evidence.records import config, lines, origins
from weighbridge.launch import parse
from weighbridge.questions.prepared import Prepared
from weighbridge.questions.question import Question, serving
from weighbridge.report import Report
from weighbridge.report.verdict import Answer, Remedy, Verdict
from weighbridge.settings import LOAD, Load, Train, read

By = Literal["case", "least", "weights"]
SCHEMA = "weighbridge.outcomes/1"
FILE = "outcomes.jsonl"
OUTCOMES = ("runs", "out of memory")
STRENGTHS = ("measured", "stated", "reported")  # by a source, its maintainers, a user
EXPECTED: Mapping[str, Answer] = {"runs": "yes", "out of memory": "no"}
OVER_TRANSFORMERS = (
    "transformers",
    "trl",
    "axolotl",
    "torchtune",
    "litgpt",
)  # steps that we follow
FRAMEWORKS = {"transformers": "trainer"}
# Why a case is not answered: the closed list, in the words of the answer
REASONS = (
    "version outside our rules",
    "setting incomplete",
    "model not at hand",
    "the card is not named",
    "cards of two kinds",
    "sources contradict each other",
    "a fork whose rules are its own",
    "a platform whose rules are its own",
    "not modelled: this engine",
    "not modelled: this training loop",
    "not modelled: packed weights in shares",
    "not modelled: layers of this class",
    "not modelled: experts converted to linears",
    "not modelled: a cache of its own code",
    "not modelled: layers of a model dealt out while it is trained",
    "refused by our rules",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCase:
    """One published outcome. A setting has our names; what it lacks is the engine's default."""

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
    complete: bool = False  # whether all that decides is stated
    least: Mapping[str, Any] = field(default_factory=dict)
    skip: str | None = None
    because: str = ""  # why we answer otherwise than it went
    caveat: str = ""

    @property
    def cards(self) -> tuple[dict[str, Any], ...]:
        """The devices that it is asked on, as settings."""
        if self.memory is not None:
            return ({"gpu": None, "gpu_memory": self.memory},)
        named = (self.accelerator,) if self.accelerator else self.between
        return tuple({"gpu": f"{name}:{self.count}"} for name in named)


@dataclass(frozen=True, slots=True)
class AnsweredCase:
    """`by` says what was asked: the case itself, its mildest setting, or its weights alone."""

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
    """A case that is not answered."""

    case: PublishedCase
    reason: str  # one of REASONS
    detail: str = ""


Judged = AnsweredCase | Passed


@cache
def cases() -> tuple[PublishedCase, ...]:
    return tuple(_case(line) for line in lines(FILE))


def _case(line: dict[str, Any]) -> PublishedCase:
    return PublishedCase(**{**line, "between": tuple(line.get("between", ()))})


def chosen(engine: str | None = None) -> tuple[PublishedCase, ...]:
    """Raises NotFoundError for an engine that no case has."""
    known = sorted({c.engine for c in cases()})
    if engine is not None and engine not in known:
        raise NotFoundError(
            f"--engine {engine!r} has no outcomes; those with some: {', '.join(known)}"
        )
    return tuple(c for c in cases() if engine in (None, c.engine))


def judged(case: PublishedCase) -> Judged:
    """What we say of it."""
    reason, detail = _outside(case), ""
    if reason is None:
        try:
            return _answered(case, [_verdict(_asked(case, card)) for card in case.cards])
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


def _answered(case: PublishedCase, found: Sequence[Verdict], by: By = "case") -> AnsweredCase:
    """Judge a case of which only a card's size is printed: the answer that all cards of that size
    have, else an open one."""
    answers = {v.fits for v in found}
    fits: Answer = answers.pop() if len(answers) == 1 else "unknown"
    verdict = next((v for v in found if v.fits == fits), found[0])
    return AnsweredCase(case, fits, verdict, by)


def _surely_not(case: PublishedCase) -> AnsweredCase | None:
    """Whether less than the case asks is too much already."""
    if case.model not in origins() or not case.cards:
        return None
    try:
        return _too_much(case, "least") or _too_much(case, "weights")
    except WeighbridgeError:
        return None


def _too_much(case: PublishedCase, by: By) -> AnsweredCase | None:
    if not (case.least if by == "least" else _held_as(case)):
        return None
    found = [_verdict(_asked(case, card, by)) for card in case.cards]
    return _answered(case, found, by) if all(v.fits == "no" for v in found) else None


def _held_as(case: PublishedCase) -> Mapping[str, Any]:
    """The format of the weights, where it is stated and all of them are on the devices."""
    said = parse(case.command).settings if case.command else case.setting
    if said.get("offload") or said.get("cpu_offload_gb"):
        return {}
    return {name: said[name] for name in ("dtype", "quantization") if name in said}


def _verdict(report: Report) -> Verdict:
    assert report.verdict is not None
    return report.verdict


def remedied(j: AnsweredCase) -> tuple[Remedy, ...]:
    """Changes after which it would fit, of what its source leaves open; the cheapest first."""
    return _asked(j.case, j.case.cards[0], j.by, remedies=True).remedies


def _asked(
    case: PublishedCase, card: Mapping[str, Any], by: By = "case", *, remedies: bool = False
) -> Report:
    own = _prepared(case.model)
    if by == "weights" or case.task == "load":
        setting = _held_as(case) if by == "weights" else case.setting
        return own.load(_loading(setting, card), remedies=remedies)
    if case.task == "train":
        setting = case.least if by == "least" else case.setting
        return own.train(_training(case, setting, card), remedies=remedies)
    return own.answer(_serving(case, card), remedies=remedies)


def _serving(case: PublishedCase, card: Mapping[str, Any]) -> Question[Any]:
    beside = {"engine_version": case.version, "ram": case.ram, **card}
    setting = {} if case.command else {"engine": case.engine}
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in case.setting.items()}
    return serving(None, case.command, {**setting, **given, **_told(beside)})


def _training(case: PublishedCase, setting: Mapping[str, Any], card: Mapping[str, Any]) -> Train:
    framework = FRAMEWORKS.get(case.engine, case.engine)
    own = {"framework": framework, "ram": case.ram, **card}
    if framework not in FRAMEWORKS.values():
        own["framework_version"] = case.version
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in setting.items()}
    found: Train = read("train", _told({**own, **given}))
    return found


def _loading(setting: Mapping[str, Any], card: Mapping[str, Any]) -> Load:
    named = {n: v for n, v in {**setting, **card}.items() if n in LOAD}
    found: Load = read("load", _told(named))
    return found


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@cache
def _prepared(name: str) -> Prepared:
    return Prepared(name, GatherOptions(), gather_config(config(origins()[name]), reference=name))


def counts(found: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """Cases by how they went and what we say."""
    table = {outcome: dict.fromkeys(("yes", "no", "unknown", "skipped"), 0) for outcome in OUTCOMES}
    for j in found:
        table[j.case.outcome][j.fits if isinstance(j, AnsweredCase) else "skipped"] += 1
    return table


def passed(found: Iterable[Judged]) -> dict[str, int]:
    """Cases that are not answered, by reason, the most frequent first."""
    table: dict[str, int] = {}
    for j in found:
        if isinstance(j, Passed):
            table[j.reason] = table.get(j.reason, 0) + 1
    return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


def wrong(found: Iterable[Judged]) -> Iterator[AnsweredCase]:
    """Answers that the outcome contradicts."""
    return (j for j in found if isinstance(j, AnsweredCase) and j.wrong)


def cited(case: PublishedCase) -> str:
    """Return one line that says where the case is stated."""
    c = case.citation
    if "page" in c:
        return str(c["page"]).removeprefix("https://")
    if "issue" in c:
        return f"github.com/{c['repo']} issue {c['issue']}"
    return f"github.com/{c['repo']} at {c['commit'][:12]} {c['path']}:{c['line']}"


def to_dict(found: Sequence[Judged]) -> dict[str, Any]:
    """The JSON of `weighbridge accuracy --outcomes`: docs/accuracy.md."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "counts": counts(found),
        "skipped": passed(found),
        "cases": [_record(j) for j in found],
    }


def _record(j: Judged) -> dict[str, Any]:
    """One case beside our verdict on it."""
    c = j.case
    facts = {
        "id": c.id,
        "task": c.task,
        "model": c.model,
        "engine": c.engine,
        "engine_version": c.version,
        "command": c.command,
        "setting": dict(c.setting),
        "accelerators": [c.accelerator] if c.accelerator else list(c.between),
        "gpu_memory": c.memory,
        "count": c.count,
        "ram": c.ram,
        "outcome": c.outcome,
        "strength": c.strength,
        "complete": c.complete,
        "caveat": c.caveat,
        "citation": dict(c.citation),
    }
    return {**facts, **(_passed(j) if isinstance(j, Passed) else _said(j))}


def _passed(j: Passed) -> dict[str, Any]:
    return {"fits": None, "skipped": j.reason, "detail": j.detail}


def _said(j: AnsweredCase) -> dict[str, Any]:
    v = j.verdict
    return {
        "fits": j.fits,
        "by": j.by,
        "reason": v.reason,
        "share_that_fits": v.share_that_fits,
        "tipped_by": v.tipped_by,
        "needed": v.per_device._asdict(),
        "usable": v.usable._asdict(),
        "because": j.case.because if j.wrong else "",
        "skipped": None,
    }
