"""One replica of a model: its ranks, what each holds, and the pools that its card has room for.

    free        what a process can have, less context and communicators
    available   free - weights - free (1 - mem_fraction_static) - 100 MiB for encoded images
    tokens      the pools that `available` makes, of the rank that has the fewest

The fraction is of what is free before weights are loaded, not of the card. Drafts and adapters are
loaded before pools are made, so they come off `available` (drafts since 0.5.14; before, a fixed
amount was reserved). Source: sglang 0.5.23 srt/mem_cache/kv_cache_configurator.py
(_profile_available_bytes, config_from_budget), srt/distributed/bootstrap.py
(measure_pre_model_load_memory), srt/managers/scheduler.py (init_model_worker).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING

from weighbridge.allocator.filling import filled
from weighbridge.arch.mixers import Layer
from weighbridge.components import device
from weighbridge.components.weights import Placed
from weighbridge.engines import arriving, extras, shards
from weighbridge.engines.caches import sglang as caches
from weighbridge.engines.communication import communication
from weighbridge.engines.parallel.spread import Sizes
from weighbridge.engines.serving import Subject
from weighbridge.engines.sglang import kernels, outside
from weighbridge.engines.sglang.effective import Effective, remembered, requests
from weighbridge.engines.table import Version
from weighbridge.memory import Component, exactly, total
from weighbridge.units import MIB, ceil_div
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

ENCODED = 100 * MIB  # SGLANG_VLM_CACHE_SIZE_MB, off the pools since 0.5.18
ENCODED_COUNTED = (0, 5, 18)
DRAFT_BEFORE_POOLS = (0, 5, 14)
HOPPER = 9  # its layouts where no card is named
WORST, EXPECTED, BEST = range(3)
INDEX = 8  # int64, of a free token in a list


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Served:
    """One workload on one model: everything that the ranks have in common."""

    s: Subject
    w: Infer
    e: Effective
    budget: "Budget | None"
    by: int = EXPECTED  # the bound of what is free that is believed; of what is taken, the other

    @cached_property
    def ranks(self) -> tuple[shards.Rank, ...]:
        """Of one replica; the others are the same."""
        return shards.ranks(self.s, rules=self.rules, **self.sizes)

    @cached_property
    def arriving(self) -> tuple[tuple[Component, ...], ...]:
        """What each rank has while it loads, and no longer."""
        plain, form = arriving.plain(self.s, "sglang"), self.s.choice.scheme
        if plain is None or form is None:
            return ((),) * len(self.ranks)
        pairs = zip(self.ranks, shards.ranks(plain, rules=self.rules, **self.sizes), strict=True)
        version = self.e.version
        return tuple((arriving.arriving("sglang", version, form.name, *p),) for p in pairs)

    @property
    def sizes(self) -> Sizes:
        """How one replica is spread."""
        return {
            "tensor": self.e.tensor,
            "pipeline": self.e.pipeline,
            "expert_parallel": self.e.experts,
            "groups": self.e.groups,
            "capability": kernels.major(self.compute) or HOPPER,
        }

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """Of each rank, the first one that holds the same."""
        seen: dict[tuple[int, int], int] = {}
        return tuple(
            seen.setdefault((r.pipeline, id(r.tensors)), i) for i, r in enumerate(self.ranks)
        )

    @property
    def kinds(self) -> tuple[shards.Rank, ...]:
        return tuple(self.ranks[i] for i in sorted(set(self.firsts)))

    @property
    def rules(self) -> shards.Rules:
        return _rules(self.e.version, self.w.language_model_only)

    @cached_property
    def load(self) -> outside.Load:
        batch = ceil_div(self.w.batch_size or 1, self.e.pools_of)
        images = 1 if self.w.images is None else self.w.images
        return outside.Load(requests=batch, images=images)

    @cached_property
    def driver(self) -> tuple[Component, ...]:
        """What is there before weights: context and communicators."""
        sizes: Sizes = {**self.sizes, "data": self.e.pools_of}
        talk = communication(
            "sglang",
            self.e.version,
            body=self.s.body,
            budget=self.budget,
            **sizes,
        )
        part = self.budget.choice.part if self.budget else None
        return (device.context(part), *talk)

    @property
    def compute(self) -> tuple[int, int] | None:
        return self.budget.choice.part.capability if self.budget else None

    @cached_property
    def beside(self) -> int:
        """Bytes of a token in the draft model's own cache."""
        if self.s.draft is not None:
            layers = remembered(self.s.draft)
            one = self.e.pools(1)
            c = caches.cells(layers, _plain(one))
            return c.full + c.sliding
        if self.e.algorithm not in ("NEXTN", "EAGLE", "EAGLE3"):
            return 0
        layers = remembered(self.s)
        raw = self.s.config.raw if self.s.config is not None else {}
        drafts = int(raw.get("num_nextn_predict_layers") or 1)
        c = caches.cells(layers, self.e.pools(1))
        return (c.full + c.sliding) * drafts // max(1, len(layers))

    def setting(self, sequences: int) -> caches.Setting:
        shared = extras.shared_tokens(self.w.shared_prefix or 0, sequences, self.e.page)
        return self.e.pools(sequences, beside=self.beside, shared=shared if self.e.radix else 0)

    def extra(self, rank: shards.Rank) -> tuple[Component, ...]:
        """Adapters, and the weights of what drafts."""
        found: tuple[Component, ...] = ()
        if self.e.loras:
            found += extras.lora(
                self.s,
                rank,
                slots=self.e.loras,
                lora_rank=self.e.lora_rank,
                rules=self.rules,
                **self.sizes,
            )
        if self.e.algorithm is not None:
            found += extras.draft(
                self.s,
                method=self.w.speculative_method or "draft",
                tokens=self.e.drafted,
                rules=self.rules,
                **self.sizes,
            )
        return found


@cache
def _rules(version: Version, language_only: bool) -> shards.Rules:
    """One object each: what was spread by it is kept by its identity."""
    return replace(shards.rules("sglang", version), towers=not language_only)


@lru_cache(maxsize=64)
def loaded(tensors: tuple[Placed, ...], stored: bool) -> tuple[Component, ...]:
    """Weights in the allocator, one tensor after the other; the context apart."""
    phase = device.loaded(
        tensors,
        formula="the tensors of this rank",
        basis="read" if stored else "computed",
        order=lambda pairs: (t for _, t in pairs),
    )
    return tuple(c for c in phase.components if c.name != "context")


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of one rank's card."""

    free: int
    available: int


def room(v: Served, rank: shards.Rank) -> Room | None:
    if v.budget is None or v.e.share is None:
        return None
    free = v.budget.usable[v.by] - total(c.bytes for c in v.driver)[2 - v.by]
    held = total(c.bytes for c in weights(v, rank)).expected
    more = [c for c in v.extra(rank) if c.name == "adapters" or _draft_counts(v)]
    held += total(c.bytes for c in more).expected
    kept = ENCODED if v.e.towers and v.e.version >= ENCODED_COUNTED else 0
    return Room(free, free - held - int(free * (1 - v.e.share)) - kept)


def _draft_counts(v: Served) -> bool:
    return v.e.version >= DRAFT_BEFORE_POOLS


def weights(v: Served, rank: shards.Rank) -> tuple[Component, ...]:
    return loaded(rank.tensors, v.s.choice.as_stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What one card holds beside the weights."""

    pools: Mapping[int, caches.Pools]  # of each first rank
    rooms: tuple[Room, ...]
    tokens: int
    sliding: int
    slots: int | None
    running: int


def fitted(v: Served) -> Fit | None:
    """The pools on the card; every rank has those of the poorest. None without a card."""
    rooms = tuple(r for r in (room(v, rank) for rank in v.kinds) if r is not None)
    if not rooms:
        return None
    made = [
        caches.fitting(layers_of(v, rank), v.setting(1), max(0, r.available))
        for rank, r in zip(v.kinds, rooms, strict=True)
    ]
    tokens = min((p.full or p.sliding for p in made if p.full or p.sliding), default=0)
    if all(r.available > 0 for r in rooms) and not any(_kept(v, rank) for rank in v.kinds):
        tokens = v.e.context  # states alone: a request is as long as its context
    if v.e.tokens is not None:
        tokens = min(tokens, v.e.tokens // v.e.page * v.e.page)
    pools = {i: _capped(v, p, tokens) for i, p in zip(sorted(set(v.firsts)), made, strict=True)}
    slots = min((p.slots for p in made if p.slots), default=None)
    return Fit(
        pools=pools,
        rooms=rooms,
        tokens=tokens,
        sliding=min(p.sliding for p in pools.values()),
        slots=slots,
        running=requests(v.e, tokens, slots),
    )


def _kept(v: Served, rank: shards.Rank) -> int:
    c = caches.cells(layers_of(v, rank), v.setting(1))
    return c.full + c.sliding


def _capped(v: Served, p: caches.Pools, tokens: int) -> caches.Pools:
    if not p.full:
        return caches.Pools(full=0, sliding=min(p.sliding, tokens), slots=p.slots)
    if tokens == p.full:
        return p
    near = int(tokens * v.e.swa_ratio) // v.e.page * v.e.page if p.sliding else 0
    return caches.Pools(full=tokens, sliding=near, slots=p.slots)


def layers_of(v: Served, rank: shards.Rank) -> tuple[Layer, ...]:
    if rank.layers or v.s.layers:
        return rank.layers
    return remembered(v.s)


def pool_parts(
    v: Served, rank: shards.Rank, pools: caches.Pools, running: int
) -> tuple[Component, ...]:
    layers, setting = layers_of(v, rank), v.setting(v.load.requests)
    c = caches.cells(layers, setting)
    sizes = pools.sizes(c, v.e.page)
    named = (
        ("kv_cache", sizes.kv, "", _told(pools, c)),
        ("recurrent_state", sizes.state, "", f"{pools.slots} + 1 slots x {c.state:,} bytes"),
        ("kv_cache", (pools.full + v.e.page) * v.beside, "draft model", f"{v.beside:,} a token"),
        ("kv_cache", _table(v, running), "table of requests", f"{running:,} + 1 rows of int32"),
        ("kv_cache", _lists(v, pools), "lists of free tokens", "int64, one a page"),
        ("fragmentation", _unused(layers, setting, pools), "pools", "segments of 2 MiB"),
    )
    return tuple(
        Component(
            name=name,
            bytes=exactly(nbytes),
            basis="computed",
            detail=detail,
            formula=formula,
            source=caches.SOURCE,
        )
        for name, nbytes, detail, formula in named
        if nbytes
    )


def _told(pools: caches.Pools, c: caches.Cells) -> str:
    told = f"{pools.full:,} tokens x {c.full:,} bytes"
    return f"{told}, {pools.sliding:,} x {c.sliding:,} in sliding layers" if c.sliding else told


def _table(v: Served, running: int) -> int:
    return (running + 1) * (v.e.context + 4 + v.e.drafted) * caches.POSITION


def _lists(v: Served, pools: caches.Pools) -> int:
    """Of free pages; and where a token of the full pool is in the sliding one."""
    mapped = pools.full + v.e.page if pools.sliding and pools.full else 0
    return INDEX * ((pools.full + pools.sliding) // v.e.page + mapped)


def _unused(layers: Sequence[Layer], setting: caches.Setting, pools: caches.Pools) -> int:
    sizes = tuple(caches.buffers(layers, setting, pools))
    return filled(sizes).reserved - sum(sizes)


def _plain(s: caches.Setting) -> caches.Setting:
    """The draft's windows have no second pool of their own."""
    return replace(s, model_type="draft")
