"""The answer of `fit` as one record: five questions about one model on one kind of accelerator.

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
# Question, as --for names it -> its task and method
SMALLEST = ("gpu", "count", "instance")  # hardware that --smallest solves for
NAMES: Mapping[str, tuple[str, str | None]] = {
    "load": ("load", None),
    "infer": ("infer", None),
    "lora": ("train", "lora"),
    "qlora": ("train", "qlora"),
    "train": ("train", "full"),
}
PICTURES = ("image", "video", "train_image")  # questions about a pipeline, by what it makes


def question_of(name: str) -> tuple[str, str | None]:
    """Return the task and the method of a question; a method of rewards or preferences is itself
    the name of a question."""
    return (name, None) if name in PICTURES else NAMES.get(name, ("train", name))


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The cards that verdicts are about: `count` devices, with sizes in bytes per device."""

    name: str
    id: str
    count: int
    total: int  # what a process can use of one device if nothing else does
    free: int  # the part of it that is free here, which verdicts compare with

    def to_dict(self) -> dict[str, Any]:
        usable = {"total": self.total, "free": self.free}
        return {"name": self.name, "id": self.id, "count": self.count, "usable_bytes": usable}


@frozen_record
class Question:
    """One question and its answer. Without a report, `reason` says why there is none."""

    name: str  # as --for spells it
    report: Report | None = None
    reason: str = ""
    tokens: int | None = None  # the length it was asked for; None if the model reads no text
    longest: int | None = None  # tokens of the longest context: as asked, or after the first remedy
    elsewhere: "Remedy | None" = None  # larger cards that would do, if none of these will
    sought: bool = True  # whether remedies were searched for

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
        """Return the first remedy that fits and keeps the method and the cards, None without
        one."""
        bought = (r.price is not None and r.price.money for r in self.remedies)
        enough = (
            r
            for r, dear in zip(self.remedies, bought, strict=True)
            if r.fits == "yes" and "method" not in r.change and not dear
        )
        return next(enough, None)

    @property
    def replaced(self) -> "Remedy | None":
        """Return the first remedy with equally many larger cards that fits and keeps the method,
        None without one."""
        others = (r for r in self.remedies if "method" not in r.change)
        return next((r for r in others if r.kind == "larger device" and r.fits == "yes"), None)

    @property
    def ways(self) -> "tuple[Remedy, ...]":
        """Return the remedies to show: for training, only those expected to fit their card. For
        full training, first one that keeps the method, if there is one: with other settings, else
        with larger cards."""
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
    """Return whether a remedy is still expected to need more than its card has."""
    return remedy.fits != "yes" and (remedy.margin_bytes or 0) < 0


def _unanswered(accelerator: Accelerator, reason: str) -> dict[str, Any]:
    """Return the JSON verdict of a question without an answer: no bytes are estimated."""
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
    """The solved number. `value`: None if nothing fits, or if it cannot be determined."""

    unknown: str  # "context", "gpu", ...
    value: int | str | None
    question: str  # the question it is about, as --for spells it
    searched_to: int | None = None  # the largest value that was tried
    workload: Mapping[str, Any] | None = None  # settings that fit if they are asked about again
    peak_bytes: int | None = None  # of the fullest device with them
    launch: str | None = None  # the command or script that runs it with them
    note: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        fields = plain(self)
        fields["for"] = fields.pop("question")
        return fields


@frozen_record
class Fit(Shown):
    """The answer whether a model fits an accelerator: for loading, inference and training, or, with
    a pipeline, for making pictures or video."""

    model: ModelFacts
    accelerator: Accelerator
    questions: tuple[Question, ...]
    about: str = "infer"  # the question that `fits` and the exit code are about
    solved: Solved | None = None
    workload: Mapping[str, Any]  # the settings that the user set
    warnings: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()  # formats to run it in, best first; () if none were tried
    way: Rung | None = None  # the training asked about, with a change that makes it surely fit

    @property
    def pictures(self) -> bool:
        """Return whether the model is a pipeline that makes pictures or video."""
        return self.about in PICTURES

    @property
    def plan(self) -> Plan:
        """Return the plan: the best of the formats that were tried; for training, the change that
        makes it fit; else the question as asked."""
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
        """Return the question that decides the exit code, as the user asked it."""
        return self.question(self.about)

    @property
    def fits(self) -> Answer:
        """Return the plan's answer, on which the exit code depends."""
        return self.plan.fits

    @property
    def report(self) -> Report | None:
        """Return the report of the best plan; without a plan for these cards, that of the question
        as asked, which may be None."""
        return self.plan.report if self.plan.here and self.plan.rung else self.asked.report

    @property
    def verdict(self) -> "Verdict | None":
        return None if self.report is None else self.report.verdict

    @property
    def peak(self) -> "Bytes | None":
        return None if self.report is None else self.report.peak

    def question(self, name: str) -> Question:
        """Return the question of that name (load, infer, lora, qlora or train). Raises KeyError."""
        question = next((q for q in self.questions if q.name == name), None)
        if question is None:
            raise KeyError(name)
        return question

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON answer (docs/report.md)."""
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
        """Return the verdict shown first: the plan's report's, with the plan's answer."""
        verdict = None if self.verdict is None else verdict_as_dict(self.verdict)
        found = verdict or _unanswered(self.accelerator, self.asked.reason)
        return {**found, "fits": self.fits}

    def _answer(self) -> dict[str, Any] | None:
        """Return whether these cards run the model, and in which format; None if no formats were
        tried."""
        plan = self.plan
        return (
            {"fits": plan.fits, "rung": plan.rung and plan.rung.to_dict()} if self.ladder else None
        )

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)


@frozen_record
class Ranking:
    """Rows of cards for one model, of models for one card, or of layouts of one model on several
    cards; those that fit come first."""

    of: Literal["gpus", "models", "layouts"]
    about: str  # the question, as --for spells it
    rows: tuple[Mapping[str, Any], ...]
    model: str | None = None
    accelerator: str | None = None
    count: int = 1
    by: str = ""  # the framework of the layouts
    pipelines: tuple[Mapping[str, Any], ...] = ()  # rows of pictures and video, besides models
    left_out: Mapping[str, str] = field(default_factory=dict)  # name without an answer -> reason
    among: int = 0  # number of models in a search for the first that fit, which may stop early

    @property
    def candidates(self) -> int:
        """Return the number of candidates: more than the rows if the search stopped early."""
        return max(self.among, len(self.rows))

    @property
    def fitting(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(row for row in self.rows if row["fits"] == "yes")

    @property
    def fits(self) -> Answer:
        """Return the best answer of all rows."""
        answers: set[Answer] = {row["fits"] for row in self.rows}
        return "yes" if "yes" in answers else "unknown" if "unknown" in answers else "no"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON answer (docs/report.md)."""
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
