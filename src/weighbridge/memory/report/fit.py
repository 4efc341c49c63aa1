"""The answer of `fit` as one record: five questions about one model and one kind of accelerator.

>>> import weighbridge
>>> found = weighbridge.fit("llama-3.1-8b", gpu="3060")
>>> found.fits
'yes'
>>> found.plan.engine, found.plan.format, found.asked.fits
('ollama', 'Q8_0', 'no')
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base._version import __version__
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.memory.report import ModelFacts, Report, Shown, as_dict, plain, verdict_as_dict
from weighbridge.memory.report.plan import Plan, Rung, as_asked, chosen, chosen_way
from weighbridge.memory.report.verdict import Answer

if TYPE_CHECKING:
    from weighbridge.base.memory import Bytes
    from weighbridge.memory.report.verdict import Remedy, Verdict

SCHEMA = "weighbridge.fit/1"
RANKING = "weighbridge.ranking/1"
# What --for names -> the task and the method of its question
SMALLEST = ("gpu", "count", "instance")  # hardware that can be solved for
NAMES: Mapping[str, tuple[str, str | None]] = {
    "load": ("load", None),
    "infer": ("infer", None),
    "lora": ("train", "lora"),
    "qlora": ("train", "qlora"),
    "train": ("train", "full"),
}
PICTURES = ("image", "video", "train_image")  # the question of a pipeline, by what it makes


def question_of(name: str) -> tuple[str, str | None]:
    """Return the task and the method of a question: one that learns from rewards or preferences is
    named by its method."""
    return (name, None) if name in PICTURES else NAMES.get(name, ("train", name))


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The cards that verdicts are about: `count` devices, each with so many bytes for a process."""

    name: str
    id: str
    count: int
    total: int  # what a process can have of one device when nothing else uses it
    free: int  # what is left of that here: what verdicts compare with

    def to_dict(self) -> dict[str, Any]:
        usable = {"total": self.total, "free": self.free}
        return {"name": self.name, "id": self.id, "count": self.count, "usable_bytes": usable}


@frozen_record
class Question:
    """One question and its answer. Without a report, `reason` says why there is none."""

    name: str  # as --for spells it
    report: Report | None = None
    reason: str = ""
    tokens: int | None = None  # the length that it is about; None where the model reads no text
    longest: int | None = None  # tokens of the longest context: as asked, or after the first remedy
    elsewhere: "Remedy | None" = None  # the large cards that it takes, where none of these will do
    sought: bool = True  # whether changes were looked for

    @property
    def task(self) -> str:
        return question_of(self.name)[0]

    @property
    def method(self) -> str | None:
        return question_of(self.name)[1]

    @property
    def verdict(self) -> "Verdict | None":
        return None if self.report is None else self.report.verdict

    @property
    def remedies(self) -> "tuple[Remedy, ...]":
        return () if self.report is None else self.report.remedies

    @property
    def fits(self) -> Answer:
        return "unknown" if self.verdict is None else self.verdict.fits

    @property
    def help(self) -> "Remedy | None":
        """The first change that is enough and leaves the method and the cards as they are."""
        bought = (r.price is not None and r.price.money for r in self.remedies)
        enough = (
            r
            for r, dear in zip(self.remedies, bought, strict=True)
            if r.fits == "yes" and "method" not in r.change and not dear
        )
        return next(enough, None)

    @property
    def replaced(self) -> "Remedy | None":
        """The first change to as many larger cards that leaves the method as it is and fits."""
        others = (r for r in self.remedies if "method" not in r.change)
        return next((r for r in others if r.kind == "larger device" and r.fits == "yes"), None)

    @property
    def ways(self) -> "tuple[Remedy, ...]":
        """Remedies as a row tells them: none after which training needs more than the card has by
        what is expected. Full training is no other method's row, so that a change which leaves the
        method as it is comes first, and larger cards where they alone do."""
        ways = tuple(r for r in self.remedies if self.task != "train" or not _exceeds(r))
        first = (self.help or self.replaced) if self.name == "train" else None
        return ways if first is None else (first, *(r for r in ways if r is not first))

    def to_dict(self, accelerator: Accelerator) -> dict[str, Any]:
        report = None if self.report is None else self.report.to_dict()
        found = None if report is None else report["verdict"]
        return {
            "task": self.task,
            "method": self.method,
            "verdict": _unanswered(accelerator, self.reason) if found is None else found,
            "report": report,
            "remedies": [] if report is None else report["remedies"],
            "largest_context": self.longest,
            "elsewhere": None if self.elsewhere is None else as_dict(self.elsewhere),
        }


def _exceeds(remedy: "Remedy") -> bool:
    """Tell whether a change leaves more than its card has, by what is expected."""
    return remedy.fits != "yes" and (remedy.margin_bytes or 0) < 0


def _unanswered(accelerator: Accelerator, reason: str) -> dict[str, Any]:
    """The verdict of a question that has no answer: no number stands in it."""
    return {
        "accelerator": accelerator.name,
        "accelerator_id": accelerator.id,
        "count": accelerator.count,
        "usable_bytes": accelerator.free,
        "fits": "unknown",
        "margin_bytes": None,
        "reason": reason,
    }


@frozen_record
class Solved:
    """The number that was asked for. `value` is None where nothing fits, or nobody can say."""

    unknown: str  # "context", "gpu", ...
    value: int | str | None
    question: str  # which question it is about, as --for spells it
    searched_to: int | None = None  # the largest value that was looked at
    workload: Mapping[str, Any] | None = None  # settings which, asked again, fit
    peak_bytes: int | None = None  # of the fullest device then
    launch: str | None = None  # the line or script that runs it so
    note: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        fields = plain(self)
        fields["for"] = fields.pop("question")
        return fields


@frozen_record
class Fit(Shown):
    """The answer whether one model fits one kind of accelerator: for loading, inference and
    training; of a pipeline, for making pictures or video."""

    model: ModelFacts
    accelerator: Accelerator
    questions: tuple[Question, ...]
    about: str = "infer"  # the question that `fits` and the exit code are about
    solved: Solved | None = None
    workload: Mapping[str, Any]  # the settings that were given
    warnings: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()  # formats to run it in, best first; () where nobody looked
    way: Rung | None = None  # the training that was asked about, with a change: so it surely fits

    @property
    def pictures(self) -> bool:
        """Tell whether it is of a pipeline that makes pictures or video."""
        return self.about in PICTURES

    @property
    def plan(self) -> Plan:
        """The answer: among the formats to run it in where they were tried; of training with the
        change that makes it fit; else as asked."""
        if self.way is not None:
            plan = Plan(fits="yes", why="changed", rung=self.way)
        elif self.ladder and self.about in ("infer", *PICTURES):
            plan = (chosen_way if self.pictures else chosen)(self.ladder)
        else:
            return as_asked(self.asked.report, self.asked.longest)
        words = self.workload.get("not_understood")
        return plan.under_words(words) if words else plan

    @property
    def asked(self) -> Question:
        """Return the question that the exit code is about, as it was asked."""
        return self.question(self.about)

    @property
    def fits(self) -> Answer:
        """The answer that the exit code says."""
        return self.plan.fits

    @property
    def report(self) -> Report | None:
        """The report of the plan; of the question as it was asked, where these cards have none."""
        return self.plan.report if self.plan.here and self.plan.rung else self.asked.report

    @property
    def verdict(self) -> "Verdict | None":
        return None if self.report is None else self.report.verdict

    @property
    def peak(self) -> "Bytes | None":
        return None if self.report is None else self.report.peak

    def question(self, name: str) -> Question:
        """The question of that name: load, infer, lora, qlora or train. Raises KeyError."""
        question = next((q for q in self.questions if q.name == name), None)
        if question is None:
            raise KeyError(name)
        return question

    def to_dict(self) -> dict[str, Any]:
        """The JSON answer (docs/report.md)."""
        questions = [q.to_dict(self.accelerator) for q in self.questions]
        model = next(q["report"]["model"] for q in questions if q["report"] is not None)
        return {
            "schema": SCHEMA,
            "version": __version__,
            "model": model,
            "workload": dict(self.workload),
            "accelerators": [self.accelerator.to_dict()],
            "for": self.about,
            "plan": self.plan.to_dict(),
            "verdict": self._headline(),
            "answer": self._answer(),
            "ladder": [rung.to_dict() for rung in self.ladder],
            "questions": questions,
            "solved": None if self.solved is None else self.solved.to_dict(),
            "warnings": [*map(str, self.warnings)],
        }

    def _headline(self) -> dict[str, Any]:
        """The verdict of the first line: that of the plan's report, with the plan's answer."""
        verdict = None if self.verdict is None else verdict_as_dict(self.verdict)
        found = verdict or _unanswered(self.accelerator, self.asked.reason)
        return {**found, "fits": self.fits}

    def _answer(self) -> dict[str, Any] | None:
        """Whether the model can be run on these cards, and in which format, as one object."""
        plan = self.plan
        return (
            {"fits": plan.fits, "rung": plan.rung and plan.rung.to_dict()} if self.ladder else None
        )

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)


@frozen_record
class Ranking:
    """Cards for one model, models for one card, or layouts of one model on several: what fits comes
    first."""

    of: Literal["gpus", "models", "layouts"]
    about: str  # the question, as --for spells it
    rows: tuple[Mapping[str, Any], ...]
    model: str | None = None
    accelerator: str | None = None
    count: int = 1
    by: str = ""  # the framework that layouts are of
    pipelines: tuple[Mapping[str, Any], ...] = ()  # of pictures and video, beside models
    left_out: Mapping[str, str] = field(default_factory=dict)  # names that have no answer, and why
    among: int = 0  # models of which the first that fit were looked for; no more were asked

    @property
    def candidates(self) -> int:
        """Count what could be asked: more than the rows, if the first that fit were looked for."""
        return max(self.among, len(self.rows))

    @property
    def fitting(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(row for row in self.rows if row["fits"] == "yes")

    @property
    def fits(self) -> Answer:
        """Tell whether anything fits, or may."""
        answers: set[Answer] = {row["fits"] for row in self.rows}
        return "yes" if "yes" in answers else "unknown" if "unknown" in answers else "no"

    def to_dict(self) -> dict[str, Any]:
        """The JSON answer (docs/report.md)."""
        return {
            "schema": RANKING,
            "version": __version__,
            "for": self.about,
            "framework": self.by or None,
            **{name: getattr(self, name) for name in ("of", "model", "accelerator", "count")},
            "rows": [dict(row) for row in self.rows],
            **({"pipelines": [dict(row) for row in self.pipelines]} if self.pipelines else {}),
            **({"left_out": dict(self.left_out)} if self.left_out else {}),
        }
