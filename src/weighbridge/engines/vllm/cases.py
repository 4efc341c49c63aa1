"""A model, settings and cards as vLLM meets them: prepared once for any context and batch.

case(subject, workload, budget, rules)   kept by the model, the settings and the card
case.launched(workload, point, batch)    ranks at a context, of so many requests, by such steps
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from operator import attrgetter

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.interface import SearchPoint, Subject
from weighbridge.engines.vllm import reserve, setting
from weighbridge.engines.vllm.reserve import RankReserve, Resident, Standing
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.engines.vllm.setting import Batch, VllmLaunch
from weighbridge.memo import memo
from weighbridge.units import ceil_div
from weighbridge.workload import Infer

STEPS = 16  # launches by their steps that are kept of a case
POINT = ("context", "prompt_len", "max_new_tokens", "batch_size")
SETTINGS = attrgetter(*(f.name for f in fields(Infer) if f.name not in POINT))


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class VllmLaunched:
    """A launch and what it reserves. `share` is of the card, where it is not as asked."""

    asked: Infer
    batch: Batch
    kinds: tuple[RankReserve, ...]  # ranks that differ
    kind_of: tuple[int, ...]  # of each rank, which of them it is
    share: float | None = None

    @property
    def utilization(self) -> float:
        return self.kinds[0].standing.launch.utilization if self.share is None else self.share

    @property
    def ranks(self) -> Iterator[RankReserve]:
        """Every rank's."""
        return (self.kinds[i] for i in self.kind_of)

    @cached_property
    def launch(self) -> VllmLaunch:
        first = self.kinds[0]
        return replace(
            first.standing.launch,
            context=first.context,
            requests=first.requests,
            utilization=self.utilization,
        )

    @cached_property
    def w(self) -> Infer:
        """Return the request with what differs from vLLM's defaults."""
        if self.share is None and self.batch == setting.said(self.asked):
            return self.asked
        utilization = self.asked.gpu_memory_utilization
        return replace(
            self.asked,
            max_num_seqs=self.batch.sequences,
            max_num_batched_tokens=self.batch.tokens,
            enforce_eager=self.batch.eager,
            gpu_memory_utilization=utilization if self.share is None else self.share,
        )


@dataclass(frozen=True, slots=True)
class VllmCase:
    """`first` is a launch of the first question's context and requests."""

    first: VllmLaunch
    usual: tuple[int, int]  # tokens and sequences of a server on this card
    # by tokens, sequences, whether steps are eager, and prompts read in pieces
    standing: Callable[[int, int, bool, bool], tuple[Standing, ...]]
    kind_of: tuple[int, ...]
    made_of: tuple[Subject, Budget | None]

    def launched(self, w: Infer, point: SearchPoint, batch: Batch) -> VllmLaunched:
        """Raises UsageError for a context that the batch cannot read."""
        first = self.first
        requests = ceil_div(point.batch_size, first.data)
        chunked = setting.in_pieces(self.made_of[0], w, point.context, first.rules)
        tokens, sequences = setting.batch(
            point.context, requests, batch, self.usual, first.rules, chunked=chunked
        )
        requests = min(requests, sequences)
        prompts = reserve.prompts(first, w, point, requests)
        kinds = tuple(
            RankReserve(
                standing=standing, context=point.context, requests=requests, prompts=prompts
            )
            for standing in self.standing(tokens, sequences, bool(batch.eager), chunked)
        )
        return VllmLaunched(asked=w, batch=batch, kinds=kinds, kind_of=self.kind_of)


def case(subject: Subject, w: Infer, budget: Budget | None, rules: VllmRules) -> VllmCase:
    return memo(subject.model, _facts(subject, w, budget), lambda: _case(subject, w, budget, rules))


def _facts(subject: Subject, w: Infer, budget: Budget | None) -> tuple[Hashable, ...]:
    """Return all that a case depends on beside the model. It holds the card and the draft model, so
    that no others can take their place in memory."""
    draft = subject.draft
    proposes = None if draft is None else (id(draft.model), draft.formats)
    card = (
        None if budget is None else (id(budget.choice.part), budget.choice.count, budget.headroom)
    )
    return "vllm case", subject.formats, proposes, card, SETTINGS(w)


def _case(subject: Subject, w: Infer, budget: Budget | None, rules: VllmRules) -> VllmCase:
    first = setting.launch(subject, w, budget, rules)

    @lru_cache(maxsize=2)
    def residents(eager: bool) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
        return reserve.residents(subject, replace(first, eager=eager), w, budget)

    @lru_cache(maxsize=STEPS)
    def standing(tokens: int, sequences: int, eager: bool, chunked: bool) -> tuple[Standing, ...]:
        captures = setting.captured(subject, (tokens, sequences), w, budget, rules, eager=eager)
        launch = replace(
            first,
            tokens=tokens,
            sequences=sequences,
            eager=eager,
            captures=captures,
            chunked=chunked,
        )
        return tuple(reserve.standing(subject, r, launch, w, budget) for r in residents(eager)[0])

    usual, kind_of = setting.by_default(subject, budget, rules), residents(first.eager)[1]
    return VllmCase(first, usual, standing, kind_of, made_of=(subject, budget))
