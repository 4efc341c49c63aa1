"""A vLLM launch prepared once per model, settings and kind of card, for any context and batch.

case(subject, workload, budget, rules)     cached by the model, the settings and facts of the card
case.launched(workload, point, batch, b)   its ranks for one context, number of requests and batch

Cards are only read through facts here, so that cards with equal facts share one case
(accelerators/seen.py). Their capacity is read where it is compared: serving.py.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Component
from weighbridge.base.records import dataclass, replace
from weighbridge.base.units import ceil_div
from weighbridge.engines.interface import SearchPoint, Subject, case_key
from weighbridge.engines.servers import device_support, shards
from weighbridge.engines.servers.communication import received
from weighbridge.engines.servers.paged import StepLimits
from weighbridge.engines.servers.replica import Replica
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import (
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
from weighbridge.engines.vllm.effective import VllmLaunch, has_experts
from weighbridge.engines.vllm.reserve import RankReserve, Resident, Standing
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.seen import Card, by_card
from weighbridge.settings.setting import fields
from weighbridge.settings.shared import DeviceSettings

if TYPE_CHECKING:
    from weighbridge.workload import Infer

OF_CARDS = tuple(
    fields(DeviceSettings)
)  # and the host: a case is the same for cards with equal facts
PEAKS = 16  # profile peaks cached per launch
REQUESTS = 2  # RankReserves cached per standing


@dataclass(frozen=True, kw_only=True)  # not slotted: cached_property needs a __dict__
class VllmLaunched:
    """A launch and its ranks' memory. `share` overrides gpu_memory_utilization unless None."""

    case: "VllmCase"
    asked: "Infer"
    point: SearchPoint
    batch: StepLimits
    budget: Budget | None
    kinds: tuple[RankReserve, ...]  # distinct ranks
    ranks: tuple[int, ...]  # for each rank, its index in `kinds`
    share: float | None = None

    @property
    def utilization(self) -> float:
        return self.kinds[0].standing.launch.utilization if self.share is None else self.share

    @property
    def on_cards(self) -> Budget:
        """Return the budget of a launch that has one."""
        assert self.budget is not None
        return self.budget

    @property
    def reserves(self) -> Iterator[RankReserve]:
        """Iterate over the reserve of every rank."""
        return (self.kinds[i] for i in self.ranks)

    def by(self, batch: StepLimits) -> "VllmLaunched":
        """Return the same launch with other batch limits."""
        if batch == self.batch:
            return self
        return self.case.launched(self.asked, self.point, batch, self.budget)

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
        """Return the workload with the flags this launch changed filled in."""
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
    """A model and its settings on cards with equal facts. `first` is the launch for the context and
    requests asked about first; `key` identifies the case in caches of what is derived from it."""

    key: object
    first: VllmLaunch
    usual: tuple[int, int]  # default max_num_batched_tokens and max_num_seqs on this card
    residents: tuple[Resident, ...]  # distinct ranks, with the batch limits of `first`
    kind_of: tuple[int, ...]  # for each rank, its index in `kinds`
    subject: Subject
    w: "Infer"  # device settings removed

    def launched(
        self, w: "Infer", point: SearchPoint, batch: StepLimits, budget: Budget | None
    ) -> VllmLaunched:
        """Return the launch at `point`. Raises UsageError if the batch cannot hold the context."""
        first = self.first
        requests = ceil_div(point.batch_size, first.data)
        chunked = effective.in_pieces(self.subject, w, point.context, first.rules)
        tokens, sequences = effective.batch(
            point.context, requests, batch, self.usual, first.rules, chunked=chunked
        )
        requests = min(requests, sequences)
        prompts = prompt_tokens(first, w, point, requests)
        steps = replace(
            first, tokens=tokens, sequences=sequences, eager=bool(batch.eager), chunked=chunked
        )
        kinds = tuple(
            _reserve(standing, point.context, requests, prompts)
            for standing in self._standing(steps, budget)
        )
        return VllmLaunched(
            case=self,
            asked=w,
            point=point,
            batch=batch,
            budget=budget,
            kinds=kinds,
            ranks=self.kind_of,
        )

    def _standing(self, steps: VllmLaunch, budget: Budget | None) -> tuple[Standing, ...]:
        """Return the memory of each distinct rank that does not depend on requests. Cached by the
        facts that kernels depend on; the CUDA context is set for the card itself."""
        asked = self.key, steps.tokens, steps.sequences, steps.eager, steps.chunked
        model = self.subject.model

        def placed(card: Card) -> tuple[Standing, ...]:
            found = by_card(model, ("kernels", *asked), card, lambda seen: self._stand(steps, seen))
            return tuple(
                replace(r, context=hardware.context(_own(r.resident, card))) for r in found
            )

        return by_card(model, asked, budget, placed)

    def _stand(self, steps: VllmLaunch, card: Card) -> tuple[Standing, ...]:
        batch = steps.tokens, steps.sequences
        captures = effective.captured(
            self.subject, batch, self.w, card, steps.rules, eager=steps.eager
        )
        launch = replace(steps, captures=captures)
        return tuple(
            standing_of(self.subject, r, launch, self.w, _own(r, card))
            for r in self._resident(card, eager=launch.eager)
        )

    def _resident(self, card: Card, *, eager: bool) -> tuple[Resident, ...]:
        """Return the memory of each distinct rank that no batch changes, eager or compiled."""
        first = self.first
        if eager == first.eager:
            return self.residents
        other = replace(first, eager=eager)
        return by_card(
            self.subject.model,
            ("residents", self.key, eager),
            card,
            lambda seen: residents_of(self.subject, other, self.w, seen)[0],
        )


def _own(resident: Resident, card: Card) -> Card:
    """Return the card of the first rank of this kind."""
    return card and card.like(resident.number)


def _reserve(standing: Standing, *requests: int) -> RankReserve:
    """Return `standing` with requests (context, count, prompt tokens), cached for the last
    REQUESTS."""
    reserves: dict[tuple[int, ...], RankReserve] = memo(standing, ("requests",), dict)
    reserve = reserves.get(requests)
    if reserve is None:
        context, count, prompts = requests
        reserve = RankReserve(standing=standing, context=context, requests=count, prompts=prompts)
        for oldest in list(reserves)[: 1 - REQUESTS]:
            reserves.pop(oldest, None)
        reserves[requests] = reserve
    return reserve


def case(subject: Subject, w: "Infer", budget: Budget | None, rules: VllmRules) -> VllmCase:
    w = w.but(**dict.fromkeys(OF_CARDS))
    return by_card(
        subject.model,
        case_key("vllm case", subject, w, None),
        budget,
        lambda card: _case(subject, w, card, rules),
    )


def _case(subject: Subject, w: "Infer", card: Card, rules: VllmRules) -> VllmCase:
    first = effective.launch(subject, w, card, rules)
    usual = effective.by_default(subject, card, rules)
    residents, kind_of = residents_of(subject, first, w, card)
    return VllmCase(object(), first, usual, residents, kind_of, subject, w)


def resident_of(replica: Replica, rank: Rank, launch: VllmLaunch, card: Card) -> Resident:
    subject, w = replica.subject, replica.w
    adapters = replica.adapters(rank, w.max_loras, w.max_lora_rank or launching.LORA_RANK)
    draft: tuple[Component, ...] = ()
    if launch.speculative and rank.last:
        draft = replica.draft(launch.method, launch.speculative)
    imported = weights.imported(subject, launch, card)
    extra = tuple(c.bytes.expected for c in (*adapters, *draft))
    return Resident(
        rank=rank,
        number=0,
        loaded=weights.loaded(rank, launch, (*extra, imported)),
        imported=imported,
        adapters=adapters,
        draft=draft,
        cached=pool.cached(subject, rank, launch, w),
        talk_before=outside_torch.first_communicators(launch, card, experts=has_experts(subject)),
        asleep=outside_torch.asleep(subject, rank, launch),
        arriving=(),
    )


def standing_of(
    subject: Subject, resident: Resident, launch: VllmLaunch, w: "Infer", card: Card
) -> Standing:
    rank = resident.rank
    widths = forward.widths(
        rank.blocks,
        subject.body.hidden,
        replace(profile.share(launch), shuffled=weights.shuffles(subject, launch.rules, card)),
        eager=launch.eager,
        through=weights.elements_through(subject),
    )
    return Standing(
        subject=subject,
        w=w,
        launch=launch,
        resident=resident,
        widths=widths,
        captured=graphs.captured(subject, rank, launch, card),
        growth=outside_torch.growth(launch, rank, subject.body.vocab, card),
        processes=device_support.host_processes(hardware.capability(card)),
        batch=sum(weights.batch_buffers(subject, launch.tokens)),
        talk_after=_talk(subject, rank, launch, w, card),
        peak=_peaks(subject, rank, launch, widths, card),
        blackwell=hardware.blackwell(card),
        context=hardware.context(None),
    )


def _peaks(
    subject: Subject, rank: Rank, launch: VllmLaunch, widths: forward.Widths, card: Card
) -> Callable[[int, bool, int], profile.ProfiledMoment]:
    """Return a function from (tokens, with multimodal items, context) to a step's peak moment."""
    kept_workspace = weights.keeps_workspace(subject, card)
    kernels = profile.kernels(launch, card)
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
        moments = profile.moments(subject.body, widths, launch, work, kernels, last=rank.last)
        return profile.peak(moments)

    def peak(tokens: int, items: bool, context: int) -> profile.ProfiledMoment:
        """Return the peak, with arguments that do not matter normalized so that the cache is
        hit."""
        items = items and rank.first and bool(subject.body.towers)
        rows = forward.expanded_rows(context, launch.sequences) if widths.expanded else 0
        return widest(max(1, min(tokens, launch.tokens)), items, context if items else 0, rows)

    return peak


def prompt_tokens(launch: VllmLaunch, w: "Infer", point: SearchPoint, requests: int) -> int:
    """Return the prompt tokens of all requests; a shared prefix is computed once."""
    prompt = point.prompt_len or point.context
    shared = min(w.shared_prefix or 0, prompt - 1) if launch.prefix_caching else 0
    return shared + requests * (prompt - shared)


def _talk(
    subject: Subject, rank: Rank, launch: VllmLaunch, w: "Infer", card: Card
) -> tuple[Component, ...]:
    replica = weights.replica(subject, launch, w, card)
    groups = replica.talk(outside_torch.collectives(launch.rules), card, launch.data)
    if rank.first:
        return groups
    itemsize = int(subject.choice.dtype.nbytes)
    return (*groups, received(launch.tokens, subject.body.hidden, itemsize))


def residents_of(
    subject: Subject, launch: VllmLaunch, w: "Infer", card: Card
) -> tuple[tuple[Resident, ...], tuple[int, ...]]:
    """Return the memory of each distinct rank, and for each rank its index among these."""
    replica = weights.replica(subject, launch, w, card)
    ranks = replica.ranks()
    firsts = replica.firsts(ranks, card)
    unpacked = _unpacked(replica, launch, card, ranks)
    kinds = {number: kind for kind, number in enumerate(dict.fromkeys(firsts))}
    residents = (  # both are in rank order, as the cards are
        resident_of(replica, ranks[number], launch, card and card.like(number)) for number in kinds
    )
    numbered = zip(residents, kinds, strict=True)
    return (
        tuple(replace(r, number=number, arriving=unpacked[number]) for r, number in numbered),
        tuple(kinds[number] for number in firsts),
    )


def _unpacked(
    replica: Replica, launch: VllmLaunch, card: Card, ranks: Sequence[Rank]
) -> Sequence[tuple[Component, ...]]:
    """Return, for each rank, the extra memory while loading: 16-bit weights that are quantized on
    load, or packed weights that are repacked for the kernel."""
    arriving = replica.arriving(ranks, weights.AT_ONCE[launch.rules.arrives])
    form = replica.subject.choice.scheme
    if arriving is not None or form is None:
        return arriving or [()] * len(ranks)
    kernel = replica.rules.kernel(hardware.major(card))
    moved = (shards.laid_out(form.name, kernel, rank) for rank in ranks)
    return [() if c is None else (c,) for c in moved]
