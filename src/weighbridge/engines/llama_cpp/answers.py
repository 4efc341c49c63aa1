"""The answer: devices and their components, settings, what follows from them, warnings.

What a budget leaves room for: tokens of cache, layers on GPUs, experts that stay there.

tokens     what is left beside the largest GPU's buffers, by the bytes of one more token
layers     from the last one down, as long as the budget holds them beside what is fixed
experts    layers whose experts go to the host until the rest fits
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from weighbridge.accelerators.budget import Budget
from weighbridge.arch.mixers import Attention, Latent
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.llama_cpp import components, launching
from weighbridge.engines.llama_cpp.caches import CELLS
from weighbridge.engines.llama_cpp.components import CONTEXT, projector
from weighbridge.engines.llama_cpp.compute import PAIRS
from weighbridge.engines.llama_cpp.graphs import architectures
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings, pool
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.llama_cpp.rules import (
    LlamaCppRules,
    aborts_on_metal,
    rules,
    rules_on_metal,
)
from weighbridge.engines.llama_cpp.setting import LlamaCppLaunch, ModelTraits
from weighbridge.errors import UnsupportedError
from weighbridge.memo import memo
from weighbridge.report.keys import DerivedFacts
from weighbridge.units import human

if TYPE_CHECKING:
    from weighbridge.workload import Infer


def answer(h: DeviceHoldings, subject: Subject, w: "Infer", budget: Budget | None) -> EngineAnswer:
    part = budget.choice.part if budget is not None else None
    gpus = components.gpus(h, subject, projector(subject, w), part)
    return EngineAnswer(
        devices=(*gpus, components.host(h, subject)),
        settings=h.launch.to_dict(),
        derived=derived(h, subject, w, budget),
        warnings=tuple(warnings(h, budget)),
    )


def known_network(s: Subject) -> Network:
    """The model's, whatever the context."""
    facts = ("llama.cpp", *s.choice.facts)
    return memo(s.part, facts, lambda: network(s))


def model(net: Network, s: Subject) -> ModelTraits:
    pairs = [
        (m.rank + m.rotary, m.rank) if isinstance(m, Latent) else (m.key_dim, m.value_dim)
        for m in net.mixers
        if isinstance(m, Attention | Latent)
    ]
    return ModelTraits(
        layers=len(net.layers),
        causal=s.body.causal,
        embeds=s.body.embeds or net.encodes,
        flash=all(pair in PAIRS for pair in pairs),
    )


def on_device(net: Network, build: int, budget: Budget | None) -> LlamaCppRules:
    """A build's rules on such a card. Raises UnsupportedError for types that it aborts on."""
    part = budget.choice.part if budget is not None else None
    if part is None or part.vendor != "Apple":
        return rules(build)
    bad = aborts_on_metal((t.dtype.name for t in net.weights.values()), build)
    if bad:
        raise UnsupportedError(
            f"{', '.join(bad)}: llama.cpp {build} has no Metal kernel for it, and aborts at the "
            f"first token on {part.name}; take a type such as Q2_K or IQ2_M"
        )
    return rules_on_metal(build)


def _left_to_the_host(h: DeviceHoldings) -> Iterator[str]:
    for name, nbytes in h.placed.unmultiplied.items():
        yield (
            f"llama.cpp has no GPU kernel for {name}: {human(nbytes)} of weights stay in host "
            "memory, and the processor multiplies them, which is slow"
        )


def free(budget: Budget | None, settings: LlamaCppLaunch) -> tuple[int, ...]:
    return tuple(budget.of(d).expected if budget is not None else 1 for d in range(settings.gpus))


def derived(h: DeviceHoldings, s: Subject, w: "Infer", budget: Budget | None) -> DerivedFacts:
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": marginal(h, s.context),
        "compute_buffer_bytes": list(h.compute),
        **launching.facts(s, h.launch, w),
    }
    return facts | (what_fits(h, budget) if budget is not None and h.launch.gpus else {})


def warnings(h: DeviceHoldings, budget: Budget | None) -> Iterator[str]:
    if budget is None and h.launch.gpus:
        yield "without --gpu one GPU is assumed that takes all layers; name one to see what fits"
    if h.launch.requests > h.launch.slots:
        yield (
            f"--parallel {h.launch.slots}: of {h.launch.requests:,} requests {h.launch.slots} run "
            "at once, the others wait"
        )
    yield from _left_to_the_host(h)
    if h.foreign:
        yield f"{h.foreign}, whose graph is not in our rules: its buffer is an interval"
    if h.guessed:
        yield (
            f"llama.cpp's graph of {h.net.arch!r} is not in our tables; its compute buffer is "
            "assumed from the widest layer, from half to three times as much"
        )
    elif not architectures.known(h.net.arch):
        yield (
            f"llama.cpp's graph of {h.net.arch!r} is not in our tables; its compute buffer is "
            "that of a Llama with the same tensors"
        )
    if h.placed.many_copies:
        yield (
            f"this build keeps {h.launch.copies} copies of every weight that the host lends a GPU, "
            "which such runs fail with: build with -DGGML_SCHED_MAX_COPIES=1 and ask again with "
            "--sched-max-copies 1, or take build 3873 or newer"
        )
    if h.launch.asked_flash == "on" and not h.launch.flash:
        yield "flash attention has no CUDA kernel for these heads; it runs on the host"


# What a budget leaves room for


def marginal(h: DeviceHoldings, context: int) -> int:
    """Bytes of one more token of the cache, over all devices. Sliding layers add nothing once
    their window is full: the spare cells of other slots and of a step are not a token's."""
    longer = replace(h, launch=replace(h.launch, n_ctx=h.launch.n_ctx + CELLS * h.launch.streams))
    grown = ("", "sliding") if h.launch.swa_full or context < window(h) else ("",)
    more = sum(
        longer.caches[d][name].kv - h.caches[d][name].kv
        for d in range(h.launch.gpus + 1)
        for name in grown
    )
    proposing = 0 if h.draft is None else marginal(h.draft.held, context)
    return more // (CELLS * h.launch.streams) + proposing


def window(h: DeviceHoldings) -> int:
    """The widest of sliding layers."""
    widths = (m.reach or 0 for la in h.net.layers for m in la.mixers if isinstance(m, Attention))
    return max(widths, default=0)


def fixed(h: DeviceHoldings, device: int) -> int:
    beside = h.compute[device] + h.state(device) + h.drafting(device) - _proposed(h, device)
    return CONTEXT.high + pool(h, device).high + beside


def _proposed(h: DeviceHoldings, device: int) -> int:
    """Bytes of the cache of what proposes tokens, which grows as the model's own."""
    return 0 if h.draft is None else h.draft.held.kv(device)


def what_fits(h: DeviceHoldings, budget: Budget) -> DerivedFacts:
    rooms = [budget.of(d).low for d in range(h.launch.gpus)]
    facts: DerivedFacts = {"kv_cache_tokens": tokens(h, rooms)}
    if any(
        h.weights[d] + h.kv(d) + _proposed(h, d) + fixed(h, d) > room
        for d, room in enumerate(rooms)
    ):
        facts["n_gpu_layers_that_fit"] = layers(h, rooms)
        if any("_exps." in name for name in h.net.weights):
            facts["n_cpu_moe_that_fits"] = experts(h, rooms)
    return facts


def tokens(h: DeviceHoldings, rooms: Sequence[int]) -> int:
    """Return how many cached tokens fit, in whole cells: those of the GPU that is full first.
    `rooms` are bytes by GPU."""
    counts = []
    for d, room in enumerate(rooms):
        each = (h.kv(d) + _proposed(h, d)) / h.launch.n_ctx
        left = room - h.weights[d] - fixed(h, d)
        if each:
            counts.append(max(0, int(left / each)) // CELLS * CELLS)
    return min(counts, default=0)


def layers(h: DeviceHoldings, rooms: Sequence[int]) -> int:
    """The largest -ngl whose layers every GPU holds, as they are dealt out."""

    worst = _worst(h)
    left = [room - worst for room in rooms]

    def too_many(count: int) -> bool:
        return not _holds(replace(h, launch=replace(h.launch, gpu_layers=count)), left)

    return bisect_left(range(1, h.launch.layers + 1), True, key=too_many)


def experts(h: DeviceHoldings, rooms: Sequence[int]) -> int | None:
    """The smallest -ncmoe with which all layers are on GPUs; None where none is enough."""

    beside = _worst(h) + _copy(h)
    left = [room - beside for room in rooms]

    def enough(count: int) -> bool:
        launch = replace(h.launch, gpu_layers=h.launch.layers, cpu_moe=count)
        return _holds(replace(h, launch=launch), left)

    count = len(h.net.layers)
    least = bisect_left(range(count + 1), True, key=enough)
    return least if least <= count else None


def _copy(h: DeviceHoldings) -> int:
    """Experts on the host are brought to the GPU one tensor at a time."""
    sizes = (t.nbytes for name, t in h.net.weights.items() if "_exps." in name)
    return max(sizes, default=0)


def _worst(h: DeviceHoldings) -> int:
    """Return the most bytes that a GPU needs besides its layers; one more layer does not change
    it."""
    return max(fixed(h, d) for d in range(h.launch.gpus))


def _holds(h: DeviceHoldings, left: Sequence[int]) -> bool:
    return all(h.weights[d] + h.kv(d) + _proposed(h, d) <= room for d, room in enumerate(left))
