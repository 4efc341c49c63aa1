"""Changes of a serving question."""

from collections.abc import Iterator, Mapping
from math import floor
from typing import Any

from weighbridge.answers.remedies import formats, losses, prices
from weighbridge.answers.remedies.case import Move, RemedyCase
from weighbridge.base.units import GIB, UNITS
from weighbridge.engines.interface import LENGTHS
from weighbridge.engines.servers.layouts import LAYOUT, spreads
from weighbridge.engines.table import usual
from weighbridge.machines.accelerators.machines import MACHINE, filled
from weighbridge.workload import SPREAD

ALL = frozenset(("*",))
STEPS = frozenset(("kv_cache", "activations", "logits"))
CACHE = frozenset(("kv_cache",))
EXPERTS = frozenset(("weights", "activations"))
EIGHT = "fp8-tensor"  # servers quantize to it while loading
KEPT = "mxfp4"  # llama.cpp's files keep it as it is
AWAY = {"weights": 0.01, "kv_cache": 0.01}  # computed from what fits: surely worth estimating
SHORTEST = 512  # tokens: a shorter context is of little use (assumed)
SHARES = (2, 4, 8)  # divisors of the context if its largest value is unknown
NEAR = 3  # numbers of layers tried from the engine's own computation on
# Size of a second KV cache level in host memory: flag, its switch, and the unit
SECOND_LEVELS = (
    ("kv_offloading_size", "kv_offloading_size", GIB, "GiB"),
    ("hicache_size", "enable_hierarchical_cache", UNITS["GB"], "GB"),
)
STEPS_DOWN = (1, 0.75, 0.5)  # shares of what is left: pinned blocks are powers of two
OF_CACHES = ("kv_cache_dtype", "cache_type_k", "cache_type_v", "cache_implementation")


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield every single change that the engine supports."""
    yield from formats.moves(case)
    yield from _shared(case)
    yield from _laid_out(case)
    yield from _cache(case)
    yield from _graphs(case)
    yield from _attention(case)
    yield from _shorter(case)
    yield from _fewer(case)
    yield from _on_host(case)
    yield from _offloaded(case)
    yield from _forgets(case)
    yield from _prompts(case)
    yield from _second_level(case)
    yield from _engines(case)


def _shared(case: RemedyCase) -> Iterator[Move]:
    """Yield uses of named but idle cards: tensor parallel in a machine, pipeline parallel between
    machines."""
    if not case.kind.server or case.count < 2 or not case.free(*SPREAD):
        return
    if any(int(case.effective.get(name) or 1) > 1 for name in SPREAD):
        return
    tensor, pipeline, _ = SPREAD
    inside, machines = min(case.count, MACHINE), filled(case.count)
    yield _parallel("tensor parallel", {tensor: inside}, inside)
    if machines:
        yield _parallel("pipeline parallel", {tensor: inside, pipeline: machines}, case.count)
    else:
        yield _parallel("pipeline parallel", {pipeline: inside}, inside)


def _laid_out(case: RemedyCase) -> Iterator[Move]:
    """Yield other usual parallel layouts over the same cards."""
    model = case.report.model
    experts = model.active_parameters < model.parameters
    for layout in spreads(case.kind, case.count, experts=experts) if case.free(*LAYOUT) else ():
        cost = prices.CHANGES["another layout"]
        yield Move(kind="layout", change=layout, cost=cost, touches=ALL, graded=True)


def _parallel(name: str, change: Mapping[str, int], ranks: int) -> Move:
    keeps = dict.fromkeys(("weights", "kv_cache", "logits", "activations"), 1 / ranks)
    cost = prices.CHANGES[name]
    return Move(kind="parallel", change=change, cost=cost, touches=ALL, keeps=keeps)


def _cache(case: RemedyCase) -> Iterator[Move]:
    """Yield a KV cache in 8 bits, or in 4; for a server also with 8-bit weights, if it quantizes
    them while loading."""
    change, least = case.kind.small_cache, case.kind.least_cache
    if not change or not case.free(*OF_CACHES) or _narrow(case):
        return
    if case.kind.server and not formats.stores_float8(case):
        return
    model, touches = case.report.model, CACHE | {"activations"}
    cost = prices.CHANGES["kv cache"] if case.kind.server else losses.cache_in_q8(model)
    yield Move(kind="kv cache", change=change, cost=cost, touches=touches)
    if least:
        yield Move(
            kind="kv cache",
            change=least,
            cost=prices.CHANGES["kv cache in 4 bits"],
            touches=touches,
            keeps={"kv_cache": 0.29},
        )
    packs = formats.packable(case)
    if case.kind.server and packs and formats.suits(EIGHT, case):
        weights = formats.quantized(EIGHT, case)
        yield Move(
            kind="8 bits",
            change={**weights.change, **change},
            cost=prices.together((weights.cost, cost)),
            touches=touches | weights.touches,
            leaves=weights.leaves,
            keeps={**weights.keeps, "kv_cache": 0.5},
            alone=True,
        )


def _narrow(case: RemedyCase) -> bool:
    """Return whether the KV cache is in few bits already."""
    dtypes = {str(case.effective.get(name) or "") for name in OF_CACHES[:3]}
    return not dtypes <= {"", "auto", "f16", "bf16", "f32"}


def _graphs(case: RemedyCase) -> Iterator[Move]:
    name = case.kind.graphs
    if name and case.free(name) and not case.effective.get(name):
        yield Move(kind="graphs", change={name: True}, cost=prices.CHANGES["eager"])


def _attention(case: RemedyCase) -> Iterator[Move]:
    """Yield an attention kernel that stores no scores."""
    if case.kind.reads != "any" or not case.free("attention"):
        return
    kernel = formats.unscored(case)
    if kernel is not None and case.effective.get("attention") in ("eager", "math"):
        change, cost = {"attention": kernel[0]}, kernel[1]
        yield Move(kind="attention", change=change, cost=cost, touches=frozenset(("activations",)))


def _shorter(case: RemedyCase) -> Iterator[Move]:
    """Yield shorter contexts."""
    if case.free(*LENGTHS):
        yield from _less(case, "context", "context", SHORTEST, "tokens")


def _fewer(case: RemedyCase) -> Iterator[Move]:
    """Yield fewer concurrent requests."""
    if case.free("batch_size"):
        yield from _less(case, "batch", "batch_size", 1, "requests at once")


def _less(case: RemedyCase, kind: str, name: str, least: int, words: str) -> Iterator[Move]:
    """Yield lower values of a number: the largest that fits, if known, else shares of it."""
    number = int(case.effective.get(name) or 0)
    known: Any = dict(case.report.derived).get(f"largest_{name}")
    for lower in [number // share for share in SHARES] if known is None else [int(known)]:
        if least <= lower < number:
            yield Move(
                kind=kind,
                change={name: lower},
                cost=prices.shorter(number, lower, words),
                touches=STEPS,
                graded=True,
            )


def _on_host(case: RemedyCase) -> Iterator[Move]:
    """Yield the fewest layers, or layers' experts, to move to host memory."""
    if case.kind.reads != "gguf":
        return
    derived, whole = case.report.derived, int(case.effective.get("n_gpu_layers") or 1)
    yield from _placed(case, derived.get("placement_that_fits") or {}, whole)
    fewest, most = derived.get("n_cpu_moe_that_fits"), derived.get("n_gpu_layers_that_fit")
    if case.free("n_cpu_moe"):
        for number in range(fewest or whole, min((fewest or whole) + NEAR, whole)):
            yield _away("experts", number, whole, {"n_cpu_moe": number})
    if case.free("n_gpu_layers"):
        for number in range(most or 0, max((most or 0) - NEAR, 0), -1):
            yield _away("layers", whole - number, whole, {"n_gpu_layers": number})


def _away(kind: str, moved: int, whole: int, change: Mapping[str, Any]) -> Move:
    """Return the move of `moved` layers, or their experts, of a `whole` model."""
    return Move(
        kind=kind,
        change=change,
        cost=prices.on_host(kind, moved, whole) if moved else prices.CHANGES["dealt out"],
        touches=EXPERTS if change.keys() == {"n_cpu_moe"} else ALL,
        keeps=AWAY,
        graded=True,
        apart=True,
    )


def _placed(case: RemedyCase, placed: Mapping[str, Any], whole: int) -> Iterator[Move]:
    """Yield splits over unequal cards by what each has, with the fewest layers moved: a few more if
    the margins of published runs require it."""
    if "tensor_split" not in placed or not case.free("tensor_split", "split_mode", *placed):
        return
    experts = "n_gpu_layers" not in placed
    name, step = ("n_cpu_moe", 1) if experts else ("n_gpu_layers", -1)
    for more in range(NEAR + 1):
        number = placed[name] + step * more
        kind, moved = ("experts", number) if experts else ("layers", whole - number)
        yield _away(kind, moved, whole, {**placed, name: number})


def _offloaded(case: RemedyCase) -> Iterator[Move]:
    """Yield weights kept in host memory, to be read in every step."""
    if not case.kind.offloads or not case.free("cpu_offload_gb"):
        return
    lacks = max(0, -case.verdict.margin_bytes)
    needed = max(1, case.verdict.per_device.expected)
    for more in (1, 3):
        away = lacks // GIB + more
        share = min(1.0, away * GIB / needed)
        known = case.part.bandwidth if case.part is not None else None
        cost = prices.crossing(share, None if known is None else known[0])
        change = {"cpu_offload_gb": float(away)}
        yield Move(kind="offload", change=change, cost=cost, touches=ALL, graded=True, apart=True)


def _forgets(case: RemedyCase) -> Iterator[Move]:
    """Yield sleep without a copy of the weights, if host memory is short."""
    sleeps = case.short_of_ram and case.effective.get("enable_sleep_mode")
    if sleeps and case.effective.get("sleep_level") == 1 and case.free("sleep_level"):
        yield Move(
            kind="sleep",
            change={"sleep_level": 2},
            cost=prices.CHANGES["weights are dropped"],
            frees=True,
        )


def _prompts(case: RemedyCase) -> Iterator[Move]:
    """Yield a host cache without earlier prompts, if those may exceed host memory."""
    if case.short_of_ram and case.effective.get("cache_ram") and case.free("cache_ram"):
        yield Move(
            kind="prompts",
            change={"cache_ram": 0},
            cost=prices.CHANGES["prompts are dropped"],
            frees=True,
        )


def _second_level(case: RemedyCase) -> Iterator[Move]:
    """Yield a smaller second cache level if host memory is short, although the user set its size,
    since it is what takes the memory."""
    host = case.verdict.host
    if not case.short_of_ram or host is None or host.available is None:
        return
    beside_cards = _beside_cards(case)
    for name, switch, unit, short in SECOND_LEVELS:
        asked = getattr(case.workload, name, None)
        if not getattr(case.workload, switch, None) or not beside_cards:
            continue
        was = float(asked or beside_cards / (unit * case.count))
        left = was * (1 - (host.needed.high - host.available) / beside_cards)
        for now in dict.fromkeys(floor(left * part) for part in STEPS_DOWN):
            if 1 <= now < was:
                yield Move(
                    kind="second cache",
                    change={name: float(now)},
                    cost=prices.less_beside(was, now, short),
                    graded=True,
                    frees=True,
                )


def _beside_cards(case: RemedyCase) -> int:
    """Return the bytes of KV caches in host memory, in the phase with most of them."""
    hosts = (device for device in case.report.devices if device.kind == "host")
    return max((p.of("kv_cache").high for device in hosts for p in device.phases), default=0)


def _engines(case: RemedyCase) -> Iterator[Move]:
    """Yield other engines, for a card without room."""
    if not case.free("engine", "engine_version", "quantization", "dtype", "attention"):
        return
    if case.kind.reads != "any":
        return
    stored = str(case.effective.get("quantization") or "")
    if not formats.packed(case) or stored.startswith(formats.WIDENED):
        for form in usual(gguf=True).formats:
            yield _llama(form, case)
    elif stored.startswith(KEPT):
        cost = prices.CHANGES["files"]
        change = {"engine": usual(gguf=True).name}
        yield Move(kind="engine", change=change, cost=cost, touches=ALL, apart=True)
    if case.count > 1 and formats.compiled(case.part):
        inside = min(case.count, MACHINE)
        yield Move(
            kind="engine",
            apart=True,
            change={"engine": usual(server=True).name, "tensor_parallel_size": inside},
            cost=prices.together((prices.CHANGES["server"], prices.CHANGES["tensor parallel"])),
            touches=ALL,
        )


def _llama(form: str, case: RemedyCase) -> Move:
    return Move(
        kind="engine",
        apart=True,
        change={"engine": usual(gguf=True).name, "quantization": form},
        cost=prices.together((prices.CHANGES["files"], losses.cost(case.report.model, form))),
        touches=ALL if form == formats.USUAL else EXPERTS | STEPS,
        keeps={"weights": (formats.BITS[form] + 1) / formats.width(case)},
        leaves=formats.least(form, case),
    )
