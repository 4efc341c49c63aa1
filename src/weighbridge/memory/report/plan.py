"""The plan of `fit`: the engine, format, layout and split that answer the question, chosen once.

Headline, exit code, `-q`, `--check`, JSON, charts, page, Space and agents read this record. A plan
is one rung of the ladder if formats were tried, else the question as asked.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.records import frozen_record, replace
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Answer, under_words

if TYPE_CHECKING:
    from weighbridge.memory.report.verdict import Verdict
    from weighbridge.models.quantization.quality import Finding

PUBLISHED = 0  # `bits` of weights as published, or in the format asked for
USEFUL = 3  # bits below which splitting between card and RAM is better (assumed)


@frozen_record
class Rung:
    """One format in which to run the model: the inference question with a change, and its
    answer."""

    change: Mapping[str, Any]  # settings that, added to those asked, give this report of `infer`
    report: Report
    bits: int = PUBLISHED  # per weight
    longest: int | None = None  # tokens of the longest context; None if nothing fits
    quality: "Finding | None" = None  # the published loss of quality; None if none is known
    undoes: str = ""  # flags that replace what the user typed, which does not fit

    @property
    def verdict(self) -> "Verdict":
        assert self.report.verdict is not None
        return self.report.verdict

    @property
    def fits(self) -> Answer:
        return "no" if self.short_of else self.verdict.fits

    @property
    def short_of(self) -> int:
        """Return the tokens that the user asked for if the engine's context is shorter, else 0."""
        asked: int = self.report.said.get("context") or 0
        return asked if asked and (self.report.setting("context") or asked) < asked else 0

    @property
    def engine(self) -> str:
        """Return the program that runs it; for training a pipeline, the trainer."""
        w = self.report.workload
        return str(w["framework"] if "engine" not in w else w["engine"])

    @property
    def format(self) -> str:
        w = self.report.workload
        return str(w["quantization"] or w["dtype"])

    @property
    def layers(self) -> tuple[int, int] | None:
        """Return (layers on the card, all layers) if the engine keeps the rest in RAM."""
        kept = self.report.derived.get("layers_on_card")
        return None if kept is None else (kept[0], kept[1])

    @property
    def whole(self) -> bool:
        """Return whether the whole model is on the card."""
        return self.layers is None

    @property
    def slower(self) -> float:
        """Return at most how many times slower than wholly on the card; infinite if unknown."""
        return 1.0 if self.whole else self.report.derived.get("times_slower", (inf,))[-1]

    @property
    def elsewhere(self) -> str:
        """Return the other card or number of cards that it needs; "" for the cards of the
        question."""
        return str(self.change.get("gpu", ""))

    def to_dict(self) -> dict[str, Any]:
        v, w = self.verdict, self.report.workload
        return {
            "change": dict(self.change),
            "format": self.format,
            "bits": self.bits or None,
            "engine": self.engine,
            "engine_version": w.get("engine_version"),
            "accelerator": v.accelerator,
            "count": v.count,
            "fits": self.fits,
            "peak_bytes": v.per_device.expected,
            "usable_bytes": v.usable_bytes,
            "margin_bytes": v.margin_bytes,
            "layers_on_card": None if self.layers is None else list(self.layers),
            "largest_context": self.longest,
            "quality": None if self.quality is None else self.quality.to_dict(),
            "launch": self.report.derived.get("launch"),
        }


def _that(answer: Answer, rungs: "Iterable[Rung]") -> list[Rung]:
    return [rung for rung in rungs if rung.fits == answer]


def best(ladder: "tuple[Rung, ...]") -> Rung | None:
    """Return the rung that answers "can I run it?"; None without any. In this order: the best
    format that surely fits whole, or split in one memory; one of 2 bits if none above 3 bits fits
    split; one that may fit; the fastest split one; one that may fit split; else one with other
    settings or cards."""
    here = [rung for rung in ladder if not rung.elsewhere and not rung.undoes]
    whole = [rung for rung in here if rung.whole]
    useful = [rung for rung in whole if not 0 < rung.bits < USEFUL]
    divided = [rung for rung in reversed(here) if not rung.whole]
    slowly = sorted(_that("yes", divided), key=lambda rung: rung.slower)
    by_ram = [rung for rung in slowly if rung.bits > USEFUL]
    ranked = (
        *_that("yes", useful),
        *(rung for rung in slowly if (host := rung.verdict.host) and host.shared),
        *(() if by_ram else _that("yes", whole)),
        *_that("unknown", useful),
        *by_ram,
        *_that("yes", whole),
        *slowly,
        *_that("unknown", (*whole, *divided)),
        *(rung for rung in ladder if rung.undoes),
        *(rung for rung in ladder if rung.elsewhere),
    )
    return next(iter(ranked), None)


Why = Literal["asked", "changed", "whole", "divided", "undone", "elsewhere", "nothing"]
RANKS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
# Settings that define the picture, video or training: with others the answer is to another question
MADE = frozenset({"size", "frames", "seconds", "batch_size", "seq_len", "lora_r"})
SHARED_BY = ("enable_expert_parallel", "enable_dp_attention", "tensor_split", "shard", "offload")


@frozen_record
class Plan:
    """The answer to a question of `fit`, chosen once. `fits` is about the cards of the question.

    why   asked      the question as asked, if no other format was tried
          changed    the training that was asked about, with settings that it leaves open
          whole      the best format that fits on the cards
          divided    a format with the rest in RAM
          undone     a format with another value of a setting that the user typed
          elsewhere  the smallest other cards that hold one
          nothing    no format of the ladder fits anywhere
    """

    fits: Answer
    why: Why
    rung: Rung | None = None  # None if nothing was found, or the question has no answer

    def under_words(self, words: str) -> "Plan":
        """Return the plan with the answer "unknown", because `words` in the question were not
        understood."""
        rung = self.rung and replace(self.rung, report=under_words(self.rung.report, words))
        return replace(self, fits="unknown", rung=rung)

    @property
    def report(self) -> Report | None:
        return None if self.rung is None else self.rung.report

    @property
    def engine(self) -> str | None:
        return None if self.rung is None else self.rung.engine

    @property
    def format(self) -> str | None:
        return None if self.rung is None else self.rung.format

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings that, added to those asked, give this answer."""
        return {} if self.rung is None else self.rung.change

    @property
    def here(self) -> bool:
        """Return whether it is about the cards and the settings that the user asked about."""
        return self.why not in ("undone", "elsewhere")

    @property
    def layout(self) -> Mapping[str, Any]:
        """Return the settings that split the model over the cards; empty for one card."""
        w = {} if self.report is None else self.report.workload
        ranks = {name: w[name] for name in RANKS if (w.get(name) or 1) > 1}
        return ranks | {name: w[name] for name in SHARED_BY if w.get(name) not in (None, False)}

    def to_dict(self) -> dict[str, Any]:
        facts = {} if self.rung is None else self.rung.to_dict()
        names = ("engine", "engine_version", "format", "accelerator", "count", "layers_on_card")
        sizes = ("peak_bytes", "usable_bytes", "margin_bytes", "largest_context", "launch")
        return {
            "fits": self.fits,
            "why": self.why,
            **{name: facts.get(name) for name in names},
            "layout": dict(self.layout),
            "settings": dict(self.settings),
            **{name: facts.get(name) for name in sizes},
        }


def chosen(ladder: tuple[Rung, ...]) -> Plan:
    """Return the plan with the best format of `ladder`, and the reason for it."""
    rung = best(ladder)
    if rung is None:
        return Plan(fits="no", why="nothing")
    if rung.undoes or rung.elsewhere:
        return Plan(fits="no", why="undone" if rung.undoes else "elsewhere", rung=rung)
    return Plan(fits=rung.fits, why="whole" if rung.whole else "divided", rung=rung)


def chosen_way(ladder: tuple[Rung, ...]) -> Plan:
    """Return the plan how a pipeline makes what was asked: as asked (the first rung), with the
    first change that surely fits, or slowly, partly in RAM."""
    asked, *steps = ladder
    if asked.fits == "yes":
        return Plan(fits="yes", why="asked", rung=asked)
    same = (rung for rung in steps if rung.fits == "yes" and MADE.isdisjoint(rung.change))
    way = next(same, None)
    if way is not None:
        moved = way.report.workload.get("offload") not in (None, "none")
        why: Why = "changed" if way.report.task == "train" else "divided" if moved else "whole"
        return Plan(fits="yes", why=why, rung=way)
    if asked.verdict.runs_in_part:
        return Plan(fits="yes", why="divided", rung=asked)
    return Plan(fits=asked.fits, why="asked", rung=asked)


def as_asked(report: Report | None, longest: int | None = None) -> Plan:
    """Return the plan that is the question as asked, with its report."""
    if report is None or report.verdict is None:
        return Plan(fits="unknown", why="asked")
    rung = Rung(change={}, report=report, longest=longest)
    return Plan(fits=rung.fits, why="asked", rung=rung)
