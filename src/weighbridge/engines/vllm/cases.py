"""A model, settings and cards as vLLM meets them: prepared once for any context and batch.

case(subject, workload, budget, rules)   kept by the model, the settings and the card
case.launched(workload, point, batch)    ranks at a context, of so many requests, by such steps
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from weighbridge.accelerators.budget import Budget
from weighbridge.components.device import context
from weighbridge.engines.interface import SearchPoint, Subject, case_key
from weighbridge.engines.servers import lora_and_speculation, shards
from weighbridge.engines.servers.communication import communication, received
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import (
    ENGINE,
    effective,
    forward,
    graphs,
    hardware,
    launching,
    outside_torch,
    pool,
    profile,
    weights,
)
from weighbridge.engines.vllm.effective import Batch, VllmLaunch, has_experts
from weighbridge.engines.vllm.reserve import RankReserve, Resident, Standing
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.memo import memo
from weighbridge.memory import Component
from weighbridge.records import dataclass, replace
from weighbridge.units import ceil_div

if TYPE_CHECKING:
    from weighbridge.workload import Infer

STEPS = 16  # launches by their steps that are kept of a case
PEAKS = 16  # moments that are kept of a launch


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class VllmLaunched:
    """A launch and what it reserves. `share` is of the card, where it is not as asked."""

    asked: "Infer"
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
    def w(self) -> "Infer":
        """Return the request with what differs from vLLM's defaults."""
        if self.share is None and self.batch == effective.said(self.asked):
            return self.asked
        utilization = self.asked.gpu_memory_utilization
        return self.asked.but(
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

    def launched(self, w: "Infer", point: SearchPoint, batch: Batch) -> VllmLaunched:
        """Raises UsageError for a context that the batch cannot read."""
        first = self.first
        requests = ceil_div(point.batch_size, first.data)
        chunked = effective.in_pieces(self.made_of[0], w, point.context, first.rules)
        tokens, sequences = effective.batch(
            point.context, requests, batch, self.usual, first.rules, chunked=chunked
        )
        requests = min(requests, sequences)
        prompts = prompt_tokens(first, w, point, requests)
        kinds = tuple(
            RankReserve(
                standing=standing, context=point.context, requests=requests, prompts=prompts
            )
            for standing in self.standing(tokens, sequences, bool(batch.eager), chunked)
        )
        return VllmLaunched(asked=w, batch=batch, kinds=kinds, kind_of=self.kind_of)


def case(subject: Subject, w: "Infer", budget: Budget | None, rules: VllmRules) -> VllmCase:
    return memo(
        subject.model,
        case_key("vllm case", subject, w, budget),
        lambda: _case(subject, w, budget, rules),
    )


def _case(subject: Subject, w: "Infer", budget: Budget | None, rules: VllmRules) -> VllmCase:
    first = effective.launch(subject, w, budget, rules)

    @lru_cache(maxsize=2)
    def residents(eager: bool) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
        return residents_of(subject, replace(first, eager=eager), w, budget)

    @lru_cache(maxsize=STEPS)
    def standing(tokens: int, sequences: int, eager: bool, chunked: bool) -> tuple[Standing, ...]:
        captures = effective.captured(subject, (tokens, sequences), w, budget, rules, eager=eager)
        launch = replace(
            first,
            tokens=tokens,
            sequences=sequences,
            eager=eager,
            captures=captures,
            chunked=chunked,
        )
        return tuple(standing_of(subject, r, launch, w, r.budget) for r in residents(eager)[0])

    usual, kind_of = effective.by_default(subject, budget, rules), residents(first.eager)[1]
    return VllmCase(first, usual, standing, kind_of, made_of=(subject, budget))


def resident_of(
    subject: Subject, rank: Rank, launch: VllmLaunch, w: "Infer", budget: Budget | None
) -> Resident:
    adapters = _adapters(subject, rank, launch, w, budget)
    draft = _draft(subject, rank, launch, budget)
    imported = weights.imported(subject, launch, budget)
    extra = tuple(c.bytes.expected for c in (*adapters, *draft))
    return Resident(
        rank=rank,
        budget=budget,
        loaded=weights.loaded(rank, launch, (*extra, imported)),
        imported=imported,
        adapters=adapters,
        draft=draft,
        cached=pool.cached(subject, rank, launch, w),
        context=context(budget.choice.part if budget else None),
        talk_before=outside_torch.first_communicators(launch, budget, experts=has_experts(subject)),
        asleep=outside_torch.asleep(subject, rank, launch),
        arriving=(),
    )


def standing_of(
    subject: Subject, resident: Resident, launch: VllmLaunch, w: "Infer", budget: Budget | None
) -> Standing:
    rank = resident.rank
    widths = forward.widths(
        rank.blocks,
        subject.body.hidden,
        profile.share(launch),
        eager=launch.eager,
        through=weights.elements_through(subject),
    )
    return Standing(
        subject=subject,
        w=w,
        budget=budget,
        launch=launch,
        resident=resident,
        widths=widths,
        captured=graphs.captured(subject, rank, launch, budget),
        growth=outside_torch.growth(launch, rank, subject.body.vocab, budget),
        batch=sum(weights.batch_buffers(subject, launch.tokens)),
        talk_after=_talk(subject, rank, launch, budget),
        peak=_peaks(subject, rank, launch, widths, budget),
    )


def _peaks(
    subject: Subject, rank: Rank, launch: VllmLaunch, widths: forward.Widths, budget: Budget | None
) -> Callable[[int, bool, int], profile.ProfiledMoment]:
    """The widest moment of so many tokens, with images and sounds or without, of a context."""
    kept_workspace = weights.keeps_workspace(subject, budget)
    seen = launch.rules.second_items or not launch.second_runner
    towers = profile.largest_towers(subject) if seen else subject.body.towers

    @lru_cache(maxsize=PEAKS)
    def widest(tokens: int, items: bool, context: int, rows: int) -> profile.ProfiledMoment:
        work = profile.Work(
            tokens=tokens,
            sequences=launch.sequences,
            context=context,
            rows=rows,
            itemsize=int(subject.choice.dtype.nbytes),
            items=items,
            kept=kept_workspace,
            profiled=launch.tokens,
            towers=towers,
            levels=weights.deepstack_levels(subject),
        )
        moments = profile.moments(subject.body, widths, launch, work, budget, last=rank.last)
        return profile.peak(moments)

    def peak(tokens: int, items: bool, context: int) -> profile.ProfiledMoment:
        """Find the widest moment. Arguments that do not matter are set alike, so that it is found
        again."""
        items = items and rank.first and bool(subject.body.towers)
        rows = forward.expanded_rows(context, launch.sequences) if widths.expanded else 0
        return widest(max(1, min(tokens, launch.tokens)), items, context if items else 0, rows)

    return peak


def prompt_tokens(launch: VllmLaunch, w: "Infer", point: SearchPoint, requests: int) -> int:
    """Tokens that this workload brings at once; a shared prefix is computed once."""
    prompt = point.prompt_len or point.context
    shared = min(w.shared_prefix or 0, prompt - 1) if launch.prefix_caching else 0
    return shared + requests * (prompt - shared)


def _adapters(
    subject: Subject, rank: Rank, launch: VllmLaunch, w: "Infer", budget: Budget | None
) -> tuple[Component, ...]:
    if not w.max_loras:
        return ()
    return lora_and_speculation.lora(
        subject,
        rank,
        slots=w.max_loras,
        lora_rank=w.max_lora_rank or launching.LORA_RANK,
        rules=weights.split(launch),
        **weights.sizes(launch, budget),
    )


def _draft(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    if not launch.speculative or not rank.last:
        return ()
    return lora_and_speculation.draft(
        subject,
        method=launch.method,
        tokens=launch.speculative,
        rules=weights.split(launch),
        **weights.sizes(launch, budget),
    )


def _talk(
    subject: Subject, rank: Rank, launch: VllmLaunch, budget: Budget | None
) -> tuple[Component, ...]:
    groups = communication(
        outside_torch.collectives(launch.rules),
        body=subject.body,
        budget=budget,
        **weights.sizes(launch, budget),
    )
    if rank.first:
        return groups
    itemsize = int(subject.choice.dtype.nbytes)
    return (*groups, received(launch.tokens, subject.body.hidden, itemsize))


def residents_of(
    subject: Subject, launch: VllmLaunch, w: "Infer", budget: Budget | None
) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
    """Return what ranks hold, each kind once; and of each rank, which of these kinds it is."""
    number_of: dict[tuple[object, ...], int] = {}
    kinds: list[Resident] = []
    dealt: list[int] = []
    ranks = weights.ranks(subject, launch, budget)
    arriving = _unpacked(subject, launch, budget, ranks)
    for number, (rank, unpacked) in enumerate(zip(ranks, arriving, strict=True)):
        card = budget and budget.like(number)  # ranks are on the cards in the order of both
        kind = card and (card.choice.part.id, card.choice.part.name, card.choice.room)
        key = (id(rank.tensors), rank.layers, rank.first, rank.last, kind)
        if key not in number_of:
            number_of[key] = len(kinds)
            kinds.append(replace(resident_of(subject, rank, launch, w, card), arriving=unpacked))
        dealt.append(number_of[key])
    return tuple(kinds), tuple(dealt)


def _unpacked(
    subject: Subject, launch: VllmLaunch, budget: Budget | None, packed: Sequence[Rank]
) -> Sequence[tuple[Component, ...]]:
    """Estimate what each rank has of 16-bit weights, where the format is made while it loads, or of
    packed ones that are laid out anew."""
    plain, form = shards.plain(subject, ENGINE), subject.choice.scheme
    if form is None:
        return [()] * len(packed)
    if plain is None:
        kernel = weights.split(launch).kernel(hardware.capability(budget)[0])
        moved = (shards.laid_out(form.name, kernel, rank) for rank in packed)
        return [() if c is None else (c,) for c in moved]
    pairs = zip(packed, weights.ranks(plain, launch, budget), strict=True)
    at_once = weights.AT_ONCE[launch.rules.arrives]
    return [(shards.arriving(*pair, at_once),) for pair in pairs]
