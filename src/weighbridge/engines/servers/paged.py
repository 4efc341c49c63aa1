"""A paged server budgets a share of each card, and fills the rest of it with KV cache pages.

The order of work is the same in vLLM and SGLang, and runs here, over what an engine fills in:

    meet      the model as the card runs it, what the engine refuses, what is prepared once
    ask       the launch with the user's settings
    search    other launches, the nearest first: one that surely serves, else one that is expected
              to
    answer    phases of each distinct rank, the host, settings, facts and warnings, the line to
              paste

The engine decides how the share is budgeted, what is inside of it and which pages a request takes.
docs/contributing/engine.md says how to write the next one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from weighbridge.base.memory import Device, Instant
from weighbridge.base.records import NamedTuple, dataclass, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines import launch_line
from weighbridge.engines.engine import Engine, Version, version
from weighbridge.engines.interface import (
    EXPECTED,
    WORST,
    EngineAnswer,
    HeldBytes,
    Probe,
    SearchPoint,
    Serves,
    Subject,
)
from weighbridge.engines.servers import device_support
from weighbridge.memory.report.keys import DerivedFacts, EffectiveSettings
from weighbridge.memory.report.verdict import Condition, judge
from weighbridge.settings.setting import Setting

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer


class PagedLaunch(Protocol):
    """A launch of a server, with the memory it reserves."""

    @property
    def asked(self) -> "Infer":
        """Return the user's workload."""

    @property
    def w(self) -> "Infer":
        """Return the workload with this launch's settings."""

    @property
    def ranks(self) -> Sequence[int]:
        """Return the kind of each rank of all replicas."""


class StepLimits(NamedTuple):
    """Limits of a step that the user set; None if the server chooses."""

    sequences: int | None
    tokens: int | None
    eager: bool | None  # without CUDA graphs

    def less(self, sequences: int | None, sizes: Iterable[int]) -> "Iterator[StepLimits]":
        """Yield smaller steps, as far as the user leaves them open: with `sequences`, then each of
        `sizes` tokens, then without CUDA graphs."""
        limits = self
        yield limits
        if limits.sequences is None and sequences is not None:
            limits = limits._replace(sequences=sequences)
            yield limits
        for tokens in sizes if self.tokens is None else ():
            limits = limits._replace(tokens=tokens)
            yield limits
        if limits.eager is None:
            yield limits._replace(eager=True)


L = TypeVar("L", bound=PagedLaunch)
Asks = Callable[[SearchPoint], L]


def nothing(*_: object) -> Iterator[str]:
    """Yield no sentence."""
    yield from ()


@dataclass(frozen=True, kw_only=True)
class PagedServer(Generic[L]):
    """The rules of one server. `by` is one of WORST, EXPECTED and BEST: the estimates to use."""

    engine: Engine
    needs: device_support.Needs  # of a card
    changed: tuple[Setting[Any], ...]  # settings that a search may change if unset

    # Before any estimate: refusals; then what is prepared once for all launches
    check: Callable[[Subject, "Infer", Version], None]
    asks: Callable[[Subject, "Infer", "Budget | None"], Asks[L]]
    alone: Callable[[L], L] = lambda launched: launched  # for a command without a request

    # A launch in bytes, settings and words
    phases: Callable[[L, int], tuple[Instant, ...]]  # of a kind of rank
    taken: Callable[[L, int], tuple[int | None, int | None]]  # at start: expected, and at least
    host: Callable[[L], Device]
    effective: Callable[[L], EffectiveSettings]
    facts: Callable[[L], DerivedFacts]
    command: Callable[[Subject, L], str]

    # A launch on a card
    holds: Callable[[L], bool]  # the cache has pages for all requests, by expected values
    stands: Callable[[L, int], bool]  # and the card has room for the rest
    hopeless: Callable[[L], bool]  # no change helps
    others: Callable[[L, int], Iterator[L]]  # candidates, the nearest first
    conditions: Callable[[L], Iterable[Condition]]  # they hold if it `stands`
    lacks: Callable[[L], str]  # a sentence, if it does not surely stand
    caps: Callable[[L], str] = lambda _: ""  # a note on the limit of requests
    first: Callable[[L], Iterator[str]] = nothing  # warnings about the user's launch
    last: Callable[[L], Iterator[str]] = nothing  # and about the estimated one

    def infer(self, subject: Subject, w: "Infer", budget: "Budget | None") -> EngineAnswer:
        """Return the answer. Raises UsageError for settings that the engine refuses."""
        subject, asks = self._met(subject, w, budget)
        asked = asks(SearchPoint(subject.context, w.prompt_len, w.batch_size or 1))
        asked = self.alone(asked) if _starts_alone(w) else asked
        able = asked if budget is None else self.able(asked)
        sized = asked if w.engine_defaults or able is None else able  # a command stays as it is
        served, serves, helped = self._on_card(asked, able, budget)
        of_line = able or sized  # the launch that serves
        command = self.command(subject, of_line)
        line = launch_line.facts(subject, of_line.w, self.engine, command)
        return EngineAnswer(
            devices=self._devices(sized),
            settings=self.effective(sized) | {"dtype": subject.choice.dtype.name},
            derived=self.facts(sized) | line | served | {"dtype_from": subject.why},
            warnings=(
                *self.first(asked),
                *helped,
                *launch_line.warnings(subject, w, self.engine),
                *self.last(sized),
                *self._of_card(subject, w, budget),
            ),
            serves=serves,
        )

    def _of_card(self, subject: Subject, w: "Infer", budget: "Budget | None") -> Iterator[str]:
        number = version(self.engine, w.engine_version)[0]
        yield from device_support.caution(budget, self.engine)
        yield from device_support.unbuilt(budget, self.needs, number)
        yield from device_support.packed_alone(subject, budget, self.engine, number)

    def probe(self, subject: Subject, w: "Infer", budget: "Budget") -> Probe:
        """Return a function from a search point to the bytes of `infer`, for searches."""
        _, asks = self._met(subject, w, budget)

        def ask(point: SearchPoint) -> HeldBytes | None:
            asked = asks(point)
            if w.engine_defaults:
                launched = asked if self.stands(asked, WORST) else None
            else:
                launched = self.surest(asked)
            if launched is None:
                return None
            parts = {
                kind: [instant.parts for instant in self.phases(launched, kind)]
                for kind in dict.fromkeys(launched.ranks)
            }
            each = [parts[kind] for kind in launched.ranks]
            return HeldBytes(len(each), each if budget.mixed else list(parts.values()))

        return ask

    def _met(
        self, subject: Subject, w: "Infer", budget: "Budget | None"
    ) -> tuple[Subject, Asks[L]]:
        """Return the model as the server runs it on that card, and its function of launches."""
        subject = device_support.suited(subject, w, budget, self.needs)
        self.check(subject, w, version(self.engine, w.engine_version)[0])
        subject = subject.without_towers() if w.language_model_only else subject
        return subject, self.asks(subject, w, budget)

    # Search

    def surest(self, asked: L) -> L | None:
        """Return the nearest launch that surely serves; None if there is none."""
        if self.stands(asked, WORST):
            return asked
        if self.hopeless(asked):
            return None
        sure = (one for one in self.others(asked, WORST) if self.stands(one, WORST))
        return next((one for one in sure if self.stands(one, EXPECTED)), None)

    def able(self, asked: L) -> L | None:
        """Return the nearest launch that surely serves, else one that is expected to."""
        sure = self.surest(asked)
        if sure is not None:
            return sure
        if self.stands(asked, EXPECTED):
            return asked
        if self.hopeless(asked):
            return None
        others = self.others(asked, EXPECTED)
        return next((one for one in others if self.stands(one, EXPECTED)), None)

    # Answer

    def _devices(self, launched: L) -> tuple[Device, ...]:
        kinds = {kind: self._device(launched, kind) for kind in dict.fromkeys(launched.ranks)}
        gpus = (replace(kinds[kind], index=i) for i, kind in enumerate(launched.ranks))
        return (*gpus, self.host(launched))

    def _device(self, launched: L, kind: int) -> Device:
        expected, least = self.taken(launched, kind)
        return Device(
            index=0,
            kind="gpu",
            phases=self.phases(launched, kind),
            taken=expected,
            taken_at_least=least,
        )

    def _on_card(
        self, asked: L, able: L | None, budget: "Budget | None"
    ) -> tuple[DerivedFacts, Serves | None, Sequence[str]]:
        """Return facts, answer and warnings for a launch on a card and the one that serves."""
        if budget is None:
            return {}, None, ()
        serves = able is not None
        facts: DerivedFacts = {
            "serves_as_asked": serves and self.holds(asked),
            "launch_serves": serves,
        }
        helped = () if able is asked else (self._helped(asked, able, budget),)
        return facts, self._serves(asked, able), helped

    def _serves(self, asked: L, able: L | None) -> Serves:
        """Return whether it serves: a command as it is, else the launch line's settings."""
        alike = asked.asked.engine_defaults
        judged = asked if alike or able is None else able
        conditions = tuple(self.conditions(judged))
        lacks = "" if judge(conditions) == "yes" else self.lacks(judged)
        if able is asked or able is None:
            return Serves(conditions=conditions, lacks=lacks, caps=self.caps(asked))
        return Serves(
            conditions=conditions,
            lacks=lacks,
            flags=self._flags(asked, able),
            change=self._change(asked, able),
            changed=self._devices(able) if alike else (),
            then=judge(self.conditions(able)),
        )

    def _helped(self, asked: L, able: L | None, budget: "Budget") -> str:
        """Return what the user's flags lack, and what the launch line sets instead, or which cards
        are idle. Whether that fits is for the verdict and the remedies to say."""
        used, count, way = len(asked.ranks), budget.choice.count, ""
        if able is not None:
            way = sentence("line_asks", flags=self._flags(asked, able))
        elif count > used:
            way = sentence("cards_left", used=used, count=count)
        return clauses(self.lacks(asked), way)

    def _change(self, asked: L, able: L) -> Mapping[str, object]:
        """Return the settings of `able` that differ from those of `asked`."""
        names = (setting.name for setting in self.changed)
        return {n: v for n in names if (v := getattr(able.w, n)) != getattr(asked.w, n)}

    def _flags(self, asked: L, able: L) -> str:
        """Return these changes as flags."""
        changed = self._change(asked, able)
        flags = ((s.written, changed[s.name]) for s in self.changed if s.name in changed)
        return " ".join(flag if value is True else f"{flag} {value}" for flag, value in flags)


def _starts_alone(w: "Infer") -> bool:
    """Return whether a command is asked to start only, without a request."""
    request = (w.prompt_len, w.max_new_tokens, w.batch_size)
    return w.engine_defaults and all(value is None for value in request)
