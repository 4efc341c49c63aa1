"""One replica of a model: what requests need of it, and the pools that fit on its card.

    free        what a process can have, less context and communicators
    available   free - weights - free (1 - mem_fraction_static) - 100 MiB for encoded images
    tokens      the pools that `available` makes, on the rank with the fewest

The fraction is of what is free before weights are loaded, not of the card. Drafts and adapters are
loaded before pools are made, so they are deducted from `available` (drafts since 0.5.14; before, a
fixed amount was reserved). Source: sglang 0.5.23 srt/mem_cache/kv_cache_configurator.py
(_profile_available_bytes, config_from_budget).

A device's phases, with the pools that a workload needs or that a card has room for.

Source: sglang 0.5.23 srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Component, Instant, exactly, most, total
from weighbridge.base.records import dataclass, frozen_record, replace
from weighbridge.base.units import MIB, ceil_div
from weighbridge.engines.interface import BEST, EXPECTED, SearchPoint
from weighbridge.engines.servers import device_support, lora_and_speculation
from weighbridge.engines.servers.paged import StepLimits
from weighbridge.engines.sglang import caches, outside_pools
from weighbridge.engines.sglang.cases import RankResidents, SglangCase
from weighbridge.engines.sglang.effective import Effective, requests
from weighbridge.engines.sglang.rules import rules
from weighbridge.machines.allocator.filling import Filling
from weighbridge.models.arch.mixers import Latent

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

ENCODED = 100 * MIB  # SGLANG_VLM_CACHE_SIZE_MB, deducted from the pools since 0.5.18
FOREIGN = 100  # AMD cards: 1/100 of the whole card
INDEX = 8  # bytes of int64, per free token in a list


@dataclass(frozen=True, kw_only=True)  # not slotted, for cached properties
class Served:
    """One workload on one model: all that its launches have in common."""

    case: SglangCase
    asked: "Infer"
    limits: StepLimits
    point: SearchPoint
    request: int | None = None  # tokens per request, if less than the context

    @cached_property
    def settings(self) -> Effective:
        settings = self.case.settled(self.limits)
        same = settings.context == self.point.context
        return settings if same else replace(settings, context=self.point.context)

    @cached_property
    def load(self) -> outside_pools.ReplicaLoad:
        batch = ceil_div(self.point.batch_size, self.settings.pools_of)
        images = 1 if self.asked.images is None else self.asked.images
        return outside_pools.ReplicaLoad(requests=batch, images=images)

    @cached_property
    def alone(self) -> caches.SglangCacheSetting:
        return self._setting(1)

    @cached_property
    def together(self) -> caches.SglangCacheSetting:
        """Return the cache settings for all requests together."""
        return self._setting(self.load.requests)

    def _setting(self, sequences: int) -> caches.SglangCacheSetting:
        prefix = min(self.asked.shared_prefix or 0, self.point.context)
        shared = lora_and_speculation.shared_tokens(prefix, sequences, self.settings.page)
        shared = shared if self.settings.radix else 0
        pools = self.settings.pools(sequences, beside=self.case.beside, shared=shared)
        return pools if self.request is None else replace(pools, context=self.request)

    @cached_property
    def needed(self) -> Mapping[int, caches.Pools]:
        """Return the smallest pools of the workload, by distinct rank."""
        return {i: caches.holding(k.cells, self.together) for i, k in self.case.kinds.items()}

    @property
    def states(self) -> bool:
        return any(k.cells.state for k in self.case.kinds.values())

    def running(self, first: int) -> int:
        """Return the concurrent requests with the smallest pools."""
        pools = self.needed[first]
        return self.at_once(max(pools.full, pools.sliding), pools.slots if self.states else None)

    def at_once(self, tokens: int, slots: int | None) -> int:
        return requests(self.settings, tokens, slots, self.alone.slots)

    @cached_property
    def steps(self) -> Mapping[int, Mapping[str, tuple[Component, ...]]]:
        """Return all components outside the fraction, by distinct rank and phase."""
        case = self.case
        return {
            i: outside_pools.components(case.subject, kind, self.settings, self.load, case.compute)
            for i, kind in case.kinds.items()
        }

    @cached_property
    def moments(self) -> Mapping[int, tuple[Bytes, ...]]:
        """Return their sums by phase, with what each rank holds except its pools."""
        return {i: self._moments(kind) for i, kind in self.case.kinds.items()}

    def _moments(self, kind: RankResidents) -> tuple[Bytes, ...]:
        case = self.case
        *_, there = outside_pools.standing(case.subject, kind, self.settings, case.compute)
        amounts = outside_pools.amounts(case.subject, kind, self.settings, self.load)
        return amounts.sums(there.plus(kind.held))


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of one rank's card."""

    free: int
    available: int


def room(served: Served, kind: RankResidents, share: float | None, by: int) -> Room | None:
    """Return the free and available bytes of a card, at bound `by`; None without a card."""
    budget = served.case.budget
    if budget is None or share is None:
        return None
    free = budget.usable[by] - served.case.before[2 - by]
    encoded = ENCODED if served.settings.towers and rules(served.settings.version).encoded else 0
    used = share * (1.0 if by == BEST and _of_latents(served) else served.settings.share_used)
    gone = device_support.host_processes(served.case.compute)[2 - by]
    unread = (by - EXPECTED) * _unread(budget)
    left = free - kind.loaded[2 - by] - int(free * (1 - used)) - encoded - gone
    return Room(free, served.case.subject.doubt.around("kv_cache", exactly(left))[by] + unread)


def _of_latents(served: Served) -> bool:
    """Return whether aiter may use the whole share: its workspaces were logged for keys and values,
    and published runs of MLA (Kimi-K2.5 on four MI300X) need what it would leave."""
    return any(isinstance(x, Latent) for layer in served.case.subject.layers for x in layer.mixers)


def _unread(budget: "Budget") -> int:
    """Return the assumed error of pools in bytes, on cards whose rules are those of CUDA."""
    part = budget.choice.part
    return part.total.bytes.expected // FOREIGN if part.vendor == "AMD" else 0


@frozen_record
class CardFit:
    """Pools that fit on a card beside the weights."""

    pools: Mapping[int, caches.Pools]  # by distinct rank
    rooms: tuple[Room, ...]
    tokens: int
    sliding: int
    slots: int | None
    running: int


def fitted(served: Served, share: float | None, by: int = EXPECTED) -> CardFit | None:
    """Return the pools on the card; every rank has those of the scarcest. None without a card."""
    kinds = served.case.kinds
    rooms = tuple(r for r in (room(served, k, share, by) for k in kinds.values()) if r is not None)
    if not rooms:
        return None
    pools_of_rank = [
        caches.filling(kind.cells, served.alone, max(0, r.available))
        for kind, r in zip(kinds.values(), rooms, strict=True)
    ]
    tokens = _tokens(served, rooms, pools_of_rank)
    pools = {i: _capped(served, p, tokens) for i, p in zip(kinds, pools_of_rank, strict=True)}
    slots = min((p.slots for p in pools_of_rank if p.slots), default=None)
    return CardFit(
        pools=pools,
        rooms=rooms,
        tokens=tokens,
        sliding=min(p.sliding for p in pools.values()),
        slots=slots,
        running=served.at_once(tokens, slots),
    )


def _tokens(served: Served, rooms: Sequence[Room], pools: Sequence[caches.Pools]) -> int:
    """Return the tokens of the scarcest rank's pools, at most --max-total-tokens."""
    settings, cells = served.settings, [kind.cells for kind in served.case.kinds.values()]
    tokens = min(filter(None, (p.full or p.sliding for p in pools)), default=0)
    if all(r.available > 0 for r in rooms) and not any(c.full + c.sliding for c in cells):
        tokens = settings.context  # only states: a request is as long as its context
    if settings.tokens is None:
        return tokens
    return min(tokens, settings.tokens // settings.page * settings.page)


def _capped(served: Served, pools: caches.Pools, tokens: int) -> caches.Pools:
    if not pools.full:
        return caches.Pools(full=0, sliding=min(pools.sliding, tokens), slots=pools.slots)
    if tokens == pools.full:
        return pools
    near = (
        int(tokens * served.settings.swa_ratio) // served.settings.page * served.settings.page
        if pools.sliding
        else 0
    )
    return caches.Pools(full=tokens, sliding=near, slots=pools.slots)


def pool_sizes(
    served: Served, kind: RankResidents, pools: caches.Pools, running: int
) -> tuple[int, ...]:
    """Return the bytes of tokens, states, draft tokens, tables, lists, and unused space."""
    return (*_pool_sizes(served, kind, pools, running), _unused(served, kind, pools))


def _pool_sizes(
    served: Served, kind: RankResidents, pools: caches.Pools, running: int
) -> tuple[int, ...]:
    sizes = pools.sizes(kind.cells, served.settings.page)
    return (
        sizes.kv,
        sizes.state,
        (pools.full + served.settings.page) * served.case.beside,
        _table(served, running),
        _lists(served, pools),
    )


def least_pools(served: Served, first: int) -> int:
    """Return the bytes of the smallest pools that hold the workload, at least."""
    return sum(
        _pool_sizes(served, served.case.kinds[first], served.needed[first], served.load.requests)
    )


def pool_parts(
    served: Served, kind: RankResidents, pools: caches.Pools, running: int
) -> tuple[Component, ...]:
    c, beside = kind.cells, served.case.beside
    labels = (
        ("kv_cache", "", _told(pools, c)),
        ("recurrent_state", "", f"{pools.slots} + 1 slots x {c.state:,} bytes"),
        ("kv_cache", "draft model", f"{beside:,} a token"),
        ("kv_cache", "table of requests", f"{running:,} + 1 rows of int32"),
        ("kv_cache", "lists of free tokens", "int64, one a page"),
        ("fragmentation", "pools", "segments of 2 MiB"),
    )
    return tuple(
        Component(
            name=name,
            bytes=exactly(nbytes),
            basis="computed",
            detail=detail,
            role="draft" if detail == "draft model" else "",
            formula=formula,
            source=caches.SOURCE,
        )
        for nbytes, (name, detail, formula) in zip(
            pool_sizes(served, kind, pools, running), labels, strict=True
        )
        if nbytes
    )


def _told(pools: caches.Pools, cell: caches.Cells) -> str:
    formula = f"{pools.full:,} tokens x {cell.full:,} bytes"
    return (
        f"{formula}, {pools.sliding:,} x {cell.sliding:,} in sliding layers"
        if cell.sliding
        else formula
    )


def _table(served: Served, running: int) -> int:
    return (running + 1) * (served.settings.context + 4 + served.settings.drafted) * caches.POSITION


def _lists(served: Served, pools: caches.Pools) -> int:
    """Return the bytes of the lists of free pages, and of the map from tokens of the full pool to
    the sliding one."""
    mapped = pools.full + served.settings.page if pools.sliding and pools.full else 0
    return INDEX * ((pools.full + pools.sliding) // served.settings.page + mapped)


def _unused(served: Served, kind: RankResidents, pools: caches.Pools) -> int:
    filling, used = Filling(), 0
    for sizes, times in caches.tensors(kind.runs, served.together, pools):
        filling.place(sizes, times)
        used += times * sum(sizes)
    return filling.reserved - used


# Phases


def phases(served: Served, first: int, pools: caches.Pools, running: int) -> Iterator[Instant]:
    kind = served.case.kinds[first]
    held_bytes = (*kind.weights, *kind.extra, *served.case.driver)
    yield Instant("load", (*held_bytes, *kind.arriving))
    cached = pool_parts(served, kind, pools, running)
    for name, parts in served.steps[first].items():
        yield Instant(name, (*held_bytes, *cached, *(p for p in parts if p.bytes.high)))


def _cached(kind: RankResidents, pools: int) -> Bytes:
    """Return the bytes of pools at each bound of what is held: weights above the expected bytes
    leave them as much less."""
    return Bytes(*(max(0, pools - (n - kind.loaded.expected)) for n in kind.loaded))


def taken(served: Served, first: int, fit: CardFit) -> Bytes:
    """Return the bytes that the driver shows with the card's pools."""
    kind = served.case.kinds[first]
    cached = _cached(kind, sum(pool_sizes(served, kind, fit.pools[first], fit.running)))
    loading = kind.held.plus(total(c.bytes for c in kind.arriving))
    return most((loading, *(moment.plus(cached) for moment in served.moments[first])))
