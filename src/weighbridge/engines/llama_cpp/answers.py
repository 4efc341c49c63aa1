"""The engine's answer: devices and their components, settings, derived facts, warnings.

What a budget leaves room for: tokens of cache, layers on GPUs, experts that stay there.

    tokens     what the fullest GPU's weights and buffers leave, by the bytes of one more token
    layers     from the last one down, as long as they fit besides the fixed bytes
    experts    layers whose experts go to the host until the rest fits
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import gcd
from typing import TYPE_CHECKING

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import MIB, human
from weighbridge.base.watching import go_on
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.llama_cpp import components, launching
from weighbridge.engines.llama_cpp.caches import CELLS, WHOLE
from weighbridge.engines.llama_cpp.components import CONTEXT
from weighbridge.engines.llama_cpp.compute import PAIRS, reads_rows
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch, ModelTraits
from weighbridge.engines.llama_cpp.graphs import architectures
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings, pool
from weighbridge.engines.llama_cpp.networks import network
from weighbridge.engines.llama_cpp.placement import EMBEDDING, PER_LAYER
from weighbridge.engines.llama_cpp.rules import (
    LlamaCppRules,
    aborts_on_metal,
    rules,
    rules_on_metal,
)
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.models.arch.mixers import Attention, Latent

if TYPE_CHECKING:
    from weighbridge.workload import Infer


NEAR = 4  # fewer layers than the most that may fit, down to a number that surely does


def answer(
    holdings: DeviceHoldings, subject: Subject, w: "Infer", budget: Budget | None
) -> EngineAnswer:
    part = budget.choice.part if budget is not None else None
    images = components.on_card(subject, w)
    tower = 0 if images is None else images.weights.bytes.high + images.compute.bytes.high
    gpus = components.gpus(holdings, subject, images, part)
    return EngineAnswer(
        devices=(*gpus, components.host(holdings, subject, w)),
        settings=holdings.launch.to_dict(),
        derived=derived(holdings, subject, w, budget),
        divisions=tuple(divisions(holdings, budget, tower=tower)) if _moves_by_itself(w) else (),
        warnings=tuple(warnings(holdings, budget)),
    )


def with_tower(answer: EngineAnswer, subject: Subject, w: "Infer") -> EngineAnswer:
    """Return `answer` with a warning about an encoder that is loaded automatically: what it takes
    besides the layers that --fit places, or that this is unknown. Source: llama.cpp PR 21489 (April
    2026)."""
    if not w.mmproj_auto:
        return answer
    return replace(answer, warnings=(*answer.warnings, *_of_tower(subject, w)))


def _of_tower(subject: Subject, w: "Infer") -> Iterator[str]:
    tower = components.on_card(subject, w)
    if tower is None and subject.part.library == "gguf":
        yield sentence("projector_there")
    elif tower is not None:
        size = tower.weights.bytes.expected + tower.compute.bytes.expected
        yield sentence("projector", size=human(size), target=1024 + -(-size // MIB))


def known_network(subject: Subject) -> Network:
    """Return the model's network, cached, since it does not depend on the context."""
    facts = ("llama.cpp", *subject.choice.facts)
    return memo(subject.part, facts, lambda: network(subject))


def model(net: Network, subject: Subject) -> ModelTraits:
    pairs = [
        (m.rank + m.rotary, m.rank) if isinstance(m, Latent) else (m.key_dim, m.value_dim)
        for m in net.mixers
        if isinstance(m, Attention | Latent)
    ]
    return ModelTraits(
        layers=len(net.layers),
        causal=subject.body.causal,
        embeds=subject.body.embeds or net.encodes,
        flash=all(pair in PAIRS for pair in pairs),
    )


def on_device(net: Network, build: int, budget: Budget | None) -> LlamaCppRules:
    """Return a build's rules on a card. Raises UnsupportedError for types it aborts on."""
    part = budget.choice.part if budget is not None else None
    if part is None or part.vendor != "Apple":
        return rules(build)
    bad = aborts_on_metal((t.dtype.name for t in net.weights.values()), build)
    if bad:
        raise UnsupportedError(
            sentence("no_metal_kernel", forms=", ".join(bad), build=build, card=part.name)
        )
    return rules_on_metal(build)


def _left_to_the_host(holdings: DeviceHoldings) -> Iterator[str]:
    for name, nbytes in holdings.placed.unmultiplied.items():
        yield sentence("no_gpu_kernel", form=name, size=human(nbytes))


def _nowhere(holdings: DeviceHoldings) -> Iterator[str]:
    """Yield a warning for each -ot pattern that places nothing, since it may be mistyped."""
    used = set(holdings.placed.overridden.values())
    for each in holdings.launch.overrides:
        if each not in used:
            yield sentence("override_tensor", pattern=each.written)


def _unread_rows(holdings: DeviceHoldings) -> Iterator[str]:
    """Yield a warning for each table that -ot puts on a card that cannot read its rows."""
    placed = holdings.placed
    for name, each in placed.overridden.items():
        table = holdings.net.weights[name]
        on_card = each.device != placed.host and name in (EMBEDDING, PER_LAYER)
        if on_card and not reads_rows(table.dtype, table.ne[0], holdings.launch.rules):
            yield sentence(
                "rows_copied",
                pattern=each.written,
                form=table.dtype.name,
                size=human(table.nbytes),
                name=name.partition(".")[0],
            )


def free(budget: Budget | None, settings: LlamaCppLaunch) -> tuple[int, ...]:
    """Return each GPU's room, divided by the greatest common divisor: layers are split by shares,
    so equal cards of any size have the same placement, which is cached."""
    rooms = [budget.of(d).expected if budget is not None else 1 for d in range(settings.gpus)]
    whole = gcd(*rooms) or 1
    return tuple(room // whole for room in rooms)


def derived(
    holdings: DeviceHoldings, subject: Subject, w: "Infer", budget: Budget | None
) -> DerivedFacts:
    facts: DerivedFacts = {
        "kv_cache_bytes_per_token": marginal(holdings, subject.context),
        "compute_buffer_bytes": list(holdings.compute),
        **launching.facts(subject, holdings.launch, w, narrow=narrow(holdings, budget)),
    }
    return facts | (
        what_fits(holdings, budget) if budget is not None and holdings.launch.gpus else {}
    )


def warnings(holdings: DeviceHoldings, budget: Budget | None) -> Iterator[str]:
    if budget is None and holdings.launch.gpus:
        yield sentence("one_assumed")
    if holdings.launch.requests > holdings.launch.slots:
        yield sentence(
            "parallel",
            slots=holdings.launch.slots,
            requests=holdings.launch.requests,
            run=holdings.launch.slots,
        )
    yield from _left_to_the_host(holdings)
    yield from _nowhere(holdings)
    yield from _unread_rows(holdings)
    if holdings.foreign:
        yield sentence("foreign_graph", reason=holdings.foreign)
    if holdings.guessed:
        graph = sentence("llama_graph", kind=holdings.net.arch)
        yield clauses(graph, sentence("llama_graph.widest"))
    elif not architectures.known(holdings.net.arch):
        graph = sentence("llama_graph", kind=holdings.net.arch)
        yield clauses(graph, sentence("llama_graph.llama"))
    if holdings.placed.many_copies:
        yield sentence("many_copies", copies=holdings.launch.copies)
    if holdings.launch.asked_flash == "on" and not holdings.launch.flash:
        yield sentence("flash_on_host")


# What a budget leaves room for


def marginal(holdings: DeviceHoldings, context: int) -> int:
    """Return the cache bytes of one more token, over all devices. Sliding layers add nothing once
    their window is full: the spare cells of other slots and of a step are not a token's."""
    near = holdings.launch.swa_full or context < window(holdings)
    step = (CELLS if near else WHOLE) * holdings.launch.streams
    launch = replace(holdings.launch, n_ctx=holdings.launch.n_ctx + step)
    longer = replace(holdings, launch=launch)
    more = sum(
        longer.caches[d][name].kv - holdings.caches[d][name].kv
        for d in range(holdings.launch.gpus + 1)
        for name in ("", "sliding")[: 1 + near]
    )
    proposing = 0 if holdings.draft is None else marginal(holdings.draft.held, context)
    return more // step + proposing


def window(holdings: DeviceHoldings) -> int:
    """Return the widest window of the sliding layers in tokens, 0 without any."""
    widths = (
        m.reach or 0 for la in holdings.net.layers for m in la.mixers if isinstance(m, Attention)
    )
    return max(widths, default=0)


def fixed(holdings: DeviceHoldings, device: int) -> int:
    beside = (
        holdings.compute[device]
        + holdings.state(device)
        + holdings.drafting(device)
        - _proposed(holdings, device)
    )
    return CONTEXT.high + pool(holdings, device).high + beside


def _proposed(holdings: DeviceHoldings, device: int) -> int:
    """Return the bytes of the draft context's cache, which grows like the model's own."""
    return 0 if holdings.draft is None else holdings.draft.held.kv(device)


def what_fits(holdings: DeviceHoldings, budget: Budget) -> DerivedFacts:
    rooms = [budget.of(d).low for d in range(holdings.launch.gpus)]
    facts: DerivedFacts = {"kv_cache_tokens": tokens(holdings, rooms)}
    if any(
        holdings.weights[d] + holdings.kv(d) + _proposed(holdings, d) + fixed(holdings, d) > room
        for d, room in enumerate(rooms)
    ):
        facts["n_gpu_layers_that_fit"] = layers(holdings, rooms)
        if any("_exps." in name for name in holdings.net.weights):
            facts["n_cpu_moe_that_fits"] = experts(holdings, rooms)
    return facts


def _moves_by_itself(w: "Infer") -> bool:
    """Return whether the user left the placement open: common/fit.cpp stops if any of it is set."""
    said = (w.n_gpu_layers, w.n_cpu_moe, w.override_tensor, w.tensor_split)
    return all(setting is None for setting in said) and w.split_mode in (None, "layer", "none")


def divisions(
    holdings: DeviceHoldings, budget: Budget | None, *, apart: bool = True, tower: int = 0
) -> Iterator[Mapping[str, int]]:
    """Yield settings by which a program moves layers to host memory itself, the least moved first.
    If it moves experts `apart`, it begins with those; `tower` bytes stay free for an encoder. It
    measures, and we use upper bounds: a few more are yielded. Source: common/fit.cpp (step 3),
    which also brings parts of one more layer of experts back."""
    leaves = holdings.launch.rules.leaves
    if budget is None or leaves is None or not holdings.launch.gpus:
        return
    rooms = [budget.of(d).low - leaves for d in range(holdings.launch.gpus)]
    rooms[holdings.launch.main_gpu] -= tower
    if _all_on_cards(holdings, rooms):
        return
    moe = apart and any("_exps." in name for name in holdings.net.weights)
    count = len(holdings.net.layers)
    fewest = experts(holdings, rooms) if moe else None
    if fewest is not None:
        least = max(fewest, 1)
        yield from ({"n_cpu_moe": n} for n in range(least, min(least + NEAR, count) + 1))
        return
    beside = {"n_cpu_moe": count} if moe else {}
    held = replace(holdings, launch=replace(holdings.launch, cpu_moe=count)) if moe else holdings
    most = layers(held, rooms)
    yield from ({"n_gpu_layers": n} | beside for n in range(most, max(most - NEAR, 0) - 1, -1))


def narrow(holdings: DeviceHoldings, budget: Budget | None) -> bool:
    """Return whether all layers fit on the cards only if the user sets so: the build would move
    some of them to leave room."""
    leaves = holdings.launch.rules.leaves
    if budget is None or leaves is None or holdings.launch.gpu_layers < holdings.launch.layers:
        return False
    rooms = [budget.of(d).low for d in range(holdings.launch.gpus)]
    less = [room - leaves for room in rooms]
    return _all_on_cards(holdings, rooms) and not _all_on_cards(holdings, less)


def _all_on_cards(holdings: DeviceHoldings, rooms: Sequence[int]) -> bool:
    return _holds(holdings, [room - fixed(holdings, d) for d, room in enumerate(rooms)])


def tokens(holdings: DeviceHoldings, rooms: Sequence[int]) -> int:
    """Return how many cached tokens fit, in steps of `CELLS`, by the GPU that is full first.
    `rooms` are bytes per GPU."""
    counts = []
    for d, room in enumerate(rooms):
        each = (holdings.kv(d) + _proposed(holdings, d)) / holdings.launch.n_ctx
        left = room - holdings.weights[d] - fixed(holdings, d)
        if each:
            counts.append(max(0, int(left / each)) // CELLS * CELLS)
    return min(counts, default=0)


def layers(holdings: DeviceHoldings, rooms: Sequence[int]) -> int:
    """Return the largest -ngl whose layers fit on every GPU, as they are split."""

    worst = _worst(holdings)
    left = [room - worst for room in rooms]

    def too_many(count: int) -> bool:
        return not _holds(
            replace(holdings, launch=replace(holdings.launch, gpu_layers=count)), left
        )

    return bisect_left(range(1, holdings.launch.layers + 1), True, key=too_many)


def experts(holdings: DeviceHoldings, rooms: Sequence[int]) -> int | None:
    """Return the smallest -ncmoe with which all layers fit on GPUs; None if none is enough."""

    beside = _worst(holdings) + _copy(holdings)
    left = [room - beside for room in rooms]

    def enough(count: int) -> bool:
        launch = replace(holdings.launch, gpu_layers=holdings.launch.layers, cpu_moe=count)
        return _holds(replace(holdings, launch=launch), left)

    count = len(holdings.net.layers)
    least = bisect_left(range(count + 1), True, key=enough)
    return least if least <= count else None


def _copy(holdings: DeviceHoldings) -> int:
    """Return the bytes of the largest expert tensor, the most that is copied to a GPU at once."""
    sizes = (t.nbytes for name, t in holdings.net.weights.items() if "_exps." in name)
    return max(sizes, default=0)


def _worst(holdings: DeviceHoldings) -> int:
    """Return the most bytes that a GPU needs besides its layers; one more layer does not change
    it."""
    return max(fixed(holdings, d) for d in range(holdings.launch.gpus))


def _holds(holdings: DeviceHoldings, left: Sequence[int]) -> bool:
    go_on()
    return all(
        holdings.weights[d] + holdings.kv(d) + _proposed(holdings, d) <= room
        for d, room in enumerate(left)
    )
