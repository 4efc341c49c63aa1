"""Ways to place a model over GPUs and host memory so that it fits, as settings, for a search.

    all         every layer is on a card
    experts     MoE: experts of as few layers as possible stay on the host (-ncmoe)
    layers      as few whole layers as possible stay there (-ngl), of MoE besides all experts
    by name     MoE that none of these makes fit: experts where there is room, matrix by matrix
                (-ot; by_name.py)

Each is searched with the cards used in every way that the program has:

    by layers   split by free memory as the program does, or by numbers of layers (-ts) that fill
                the cards about evenly
    by rows     each matrix over all cards (-sm row)
    one card    of several (-sm none -mg N), one of each kind

The bytes of a layer on a card are counted once; the rest (buffers, pools) is that of launches with
all layers on cards and with some. A way is yielded if the numbers of `infer` say that it fits.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from weighbridge.base.records import dataclass, replace
from weighbridge.base.units import ceil_div
from weighbridge.base.watching import go_on
from weighbridge.engines.interface import EngineAnswer, Fits, PlacedWay
from weighbridge.engines.llama_cpp.answers import fixed
from weighbridge.engines.llama_cpp.by_name import by_name
from weighbridge.engines.llama_cpp.ggml.graph import F32
from weighbridge.engines.llama_cpp.holdings import BLOCK, BLOCK_BYTES, DeviceHoldings
from weighbridge.engines.llama_cpp.placement import EXPERTS, INPUT, OUTPUT, PER_LAYER
from weighbridge.machines.accelerators.budget import Budget

if TYPE_CHECKING:
    from weighbridge.memory.report.keys import DerivedFacts
    from weighbridge.workload import Infer

ALL = -1  # n_gpu_layers: every layer
FINE = 32  # steps of a card's room by which cards are filled evenly
TRIES = 16  # levels that are checked, from the first that may fit
ROUNDS = 3  # repeated splits of the layers over cards
BY_ROWS = ("cuda", "hip")  # stacks whose backend has row-split buffers
NAMED = ("tensor_split", "split_mode", "main_gpu")
OF_HOST = ("n_gpu_layers", "n_cpu_moe", "override_tensor")
Hold = Callable[["Infer"], DeviceHoldings]
Holds = Callable[["Infer"], bool]


def ways(hold: Hold, holds: Holds, fits: Fits, w: "Infer", budget: Budget) -> Iterator[PlacedWay]:
    """Yield for each way to use the cards the placement that leaves least to the host. Preferred is
    one that `fits` accepts, then one that cards hold, then the one that moves most to the host;
    experts by name if none fits. What the user set stays."""
    fitting = False
    for sharing in _sharings(hold(w), w, budget):
        search = _WaySearch(hold, holds, w.but(**sharing), budget)
        if sharing.get("split_mode") == "none" and not search.whole:
            continue  # what one card does not hold is better shared
        found = search.found(fits)
        fitting = fitting or search.fitting
        yield found._replace(change={**sharing, **found.change})
    if not fitting and all(getattr(w, name) is None for name in OF_HOST):
        yield from _WaySearch(hold, holds, w, budget).named(fits)


def helped(
    answer: EngineAnswer, hold: Hold, holds: Holds, w: "Infer", budget: Budget | None
) -> EngineAnswer:
    """Return `answer` with a placement that unlike cards hold, if they do not hold the launch as
    set and the user set no placement: the one that leaves least to the host."""
    open_ = all(getattr(w, name) is None for name in (*NAMED, *OF_HOST))
    if budget is None or not budget.mixed or not open_:
        return answer
    if "n_gpu_layers_that_fit" not in answer.derived:
        return answer
    found = _WaySearch(hold, holds, w, budget).found(lambda _: True)
    derived = {**answer.derived, "placement_that_fits": dict(found.change)}
    return replace(answer, derived=cast("DerivedFacts", derived))


def _sharings(holdings: DeviceHoldings, w: "Infer", budget: Budget) -> Iterator[dict[str, Any]]:
    """Yield the settings of each way to use the cards: the default, row split, one card."""
    yield {}
    said = (*NAMED, "override_tensor")
    if holdings.launch.gpus < 2 or any(getattr(w, name) is not None for name in said):
        return
    if holdings.launch.rules.splits_rows and budget.choice.part.stack in BY_ROWS:
        yield {"split_mode": "row"}
    kinds = budget.choice.cards if budget.mixed else (None,)
    for card, kind in enumerate(kinds):
        if kind not in kinds[:card]:
            yield {"split_mode": "none", "main_gpu": card}


@dataclass(frozen=True, slots=True)
class LayerBytes:
    """Bytes that a layer takes on a card: its weights, the experts among them, its cache."""

    weights: int
    experts: int
    cache: int


class _WaySearch:
    """Search for the placement that leaves least to the host, with the cards used in one way. A
    level is what it moves there: experts of some layers, then whole layers as well."""

    def __init__(self, hold: Hold, holds: Holds, w: "Infer", budget: Budget) -> None:
        self.hold, self.holds, self.w = hold, holds, w
        self.base = hold(w.but(n_gpu_layers=ALL) if w.n_gpu_layers is None else w)
        self.rooms = [budget.of(d).low for d in range(self.base.launch.gpus)]
        self.routed = any(EXPERTS in name for name in self.base.net.weights)
        by_layers = self.base.launch.split_mode == "layer"
        free = w.tensor_split is None and w.override_tensor is None
        self.shares = len(self.rooms) > 1 and by_layers and free
        self.layers = of_layers(self.base)
        self.fitting = False  # whether the placement that was found surely fits
        self.stack = budget.choice.part.stack

    @property
    def whole(self) -> bool:
        """Return whether weights and caches of all layers can be on cards."""
        sizes = sum(self._sizes({}, ()))
        one = self.base.launch.split_mode == "none"
        rooms = [self.rooms[self.base.launch.main_gpu]] if one else self.rooms
        return bool(sizes <= sum(rooms))

    @cached_property
    def beside(self) -> list[tuple[int, ...]]:
        """Return the bytes per card besides its layers, one tuple per launch: with all layers on
        cards, if they can be, and with something on the host."""
        base = self.base.launch
        if self.routed:
            some = replace(base, cpu_moe=len(self.base.net.layers))
        else:
            some = replace(base, gpu_layers=max(0, base.gpu_layers - 1))
        launches = (base, some) if self.whole else (some,)
        placements = [replace(self.base, launch=launch) for launch in launches]
        return [
            tuple(fixed(holdings, d) for d in range(len(self.rooms))) for holdings in placements
        ]

    def found(self, fits: Fits) -> PlacedWay:
        """Return the placement of the first level at which everything surely fits."""
        levels = list(self._levels())
        held = levels[-1]
        for change in self._held(levels) if self.rooms else ():
            verdict = fits(self.w.but(**change))
            if held is levels[-1] or verdict:
                held = change
            if verdict is not False:  # it fits, or the host is full, and later levels fill it more
                self.fitting = bool(verdict)
                break
        return _way(held, self.hold(self.w.but(**held)))

    def named(self, fits: Fits) -> Iterator[PlacedWay]:
        """Yield the placement of experts by name that reads least from the host, over all ways to
        split layers, if one fits."""
        if not self.routed or not self.rooms:
            return
        every = {"n_cpu_moe": len(self.base.net.layers)}
        found = [self._named(every, split, fits) for split in self._splits(every)]
        fitting = [way for way in found if way is not None]
        if fitting:
            yield min(fitting, key=lambda way: way.read[-1])

    def _named(
        self, every: Mapping[str, Any], split: Mapping[str, Any], fits: Fits
    ) -> PlacedWay | None:
        """Return the first placement that fits, leaving ever more of each card free."""
        empty = self.hold(self.w.but(**every, **split))
        for patterns in by_name(empty, self.rooms, self.stack):
            go_on()
            change = {**patterns, **split}
            moved = self.w.but(**change)
            verdict = fits(moved) if self.holds(moved) else False
            if verdict:
                return _way(change, self.hold(moved))
            if verdict is None:  # the host is full, and later ones fill it more
                break
        return None

    def _held(self, levels: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the settings that cards surely hold, of the first `TRIES` levels that may fit."""
        least = bisect_left(levels, True, key=self._may)
        for level in levels[least : least + TRIES]:
            for split in self._splits(level):
                go_on()
                change = {**level, **split}
                if self.holds(self.w.but(**change)):
                    yield change

    def _levels(self) -> Iterator[dict[str, Any]]:
        """Yield settings that move ever more to the host, starting with nothing."""
        if any(getattr(self.w, name) is not None for name in OF_HOST):
            yield {}
            return
        yield {"n_gpu_layers": self.base.launch.layers}  # set, or the program moves some itself
        count = len(self.base.net.layers)
        if self.routed:
            yield from ({"n_cpu_moe": n} for n in range(1, count + 1))
        beside = {"n_cpu_moe": count} if self.routed else {}
        yield from ({"n_gpu_layers": n} | beside for n in range(count, -1, -1))

    def _may(self, level: Mapping[str, Any]) -> bool:
        """Return whether a level may fit, besides the least that cards hold for other purposes."""
        go_on()
        left = self._left(min)
        if self.shares:
            return self._dealt(self._sizes(level, ()), left) is not None
        holdings = self.hold(self.w.but(**level))
        return all(
            holdings.weights[d] + holdings.kv(d) + holdings.state(d) <= room
            for d, room in enumerate(left)
        )

    def _splits(self, level: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield how layers are split: as the program does, and by layers per card."""
        yield {}
        known: set[tuple[int, ...]] = set()
        for of in (max, min) if self.shares else ():
            split = self._even(level, self._left(of))
            if split is not None and split not in known:
                known.add(split)
                yield {"tensor_split": split}

    def _left(self, of: Callable[[tuple[int, ...]], int]) -> list[int]:
        """Return bytes per card for layers, with the most or the least of `beside` taken off."""
        beside = map(of, zip(*self.beside, strict=True))
        return [max(0, room - x) for room, x in zip(self.rooms, beside, strict=True)]

    def _even(self, level: Mapping[str, Any], left: Sequence[int]) -> tuple[int, ...] | None:
        """Return the layers per card that fill the fullest card least, None if they do not fit.
        Repeated, since which experts are moved may depend on the split."""
        split: tuple[int, ...] | None = ()
        for _ in range(ROUNDS):
            sizes = self._sizes(level, split or ())
            dealt = (
                self._dealt(sizes, [n * parts // FINE for n in left])
                for parts in range(1, FINE + 1)
            )
            known, split = split, next((each for each in dealt if each is not None), None)
            if split in (None, known) or self.base.launch.rules.lends == "first":
                break
        return split

    @staticmethod
    def _dealt(sizes: Sequence[int], left: Sequence[int]) -> tuple[int, ...] | None:
        """Return the layers per card if cards are filled one after another, the output as one more
        layer; None if some are left."""
        done, each = 0, []
        for room in left:
            begin = done
            while done < len(sizes) and sizes[done] <= room:
                room -= sizes[done]
                done += 1
            each.append(done - begin)
        return tuple(each) if done == len(sizes) else None

    def _sizes(self, level: Mapping[str, Any], split: tuple[int, ...]) -> list[int]:
        """Return the bytes of each layer that is on a card, the output last."""
        base = self.base.launch
        on_cards = level.get("n_gpu_layers", base.gpu_layers)
        launch = replace(
            base,
            gpu_layers=on_cards,
            cpu_moe=level.get("n_cpu_moe", base.cpu_moe),
            tensor_split=tuple(map(float, split)),
        )
        lent = replace(self.base, launch=launch).placed.lent
        return [
            x.weights + x.cache - (x.experts if i in lent else 0)
            for i, x in enumerate(self.layers)
            if i >= base.layers - on_cards
        ]


def _way(change: Mapping[str, Any], holdings: DeviceHoldings) -> PlacedWay:
    places = [holdings.placed.layer(i) for i in range(len(holdings.net.layers))]
    each = tuple(places.count(d) for d in range(holdings.launch.gpus + 1))
    lent = {*holdings.placed.lent, *_by_name(holdings, holdings.placed.host)}
    host = sum(any(EXPERTS in w.name for w in holdings.net.of_layer(i)) for i in lent)
    cards = tuple(len(_by_name(holdings, d)) for d in range(holdings.launch.gpus))
    return PlacedWay(change, each, host, read(holdings), sent(holdings), cards)


def _by_name(holdings: DeviceHoldings, device: int) -> set[int]:
    """Return the layers whose experts -ot places on `device`, while the layer is on another."""
    placed, blocks = holdings.placed, holdings.net.blocks
    numbers = (
        blocks[name]
        for name, each in placed.overridden.items()
        if EXPERTS in name and each.device == device
    )
    return {n for n in numbers if n is not None and placed.layer(n) != device}


def of_layers(holdings: DeviceHoldings) -> list[LayerBytes]:
    """Return the bytes of each layer on a card, the output as one more."""
    launch = replace(
        holdings.launch,
        gpus=1,
        main_gpu=0,
        gpu_layers=holdings.launch.layers,
        cpu_moe=0,
        overrides=(),
    )
    alone = replace(
        holdings, launch=replace(launch, tensor_split=(), split_mode="layer"), free=(1,)
    )
    last = len(holdings.net.layers)
    weights, experts = [0] * (last + 1), [0] * (last + 1)
    for t, device, nbytes in alone.placed.pieces():
        if device == alone.placed.host:
            continue
        number = holdings.net.blocks[t.name]
        i = last if number is None else min(number, last)
        weights[i] += nbytes
        experts[i] += nbytes if EXPERTS in t.name else 0
    caches = [
        holdings.kept(layer.mixers) if holdings.launch.cache_offload else 0
        for layer in holdings.net.layers
    ]
    return [LayerBytes(*x) for x in zip(weights, experts, [*caches, 0], strict=True)]


def read(holdings: DeviceHoldings) -> tuple[int, ...]:
    """Return the bytes of weights that each device reads per token, the host last. Experts count as
    far as a token is routed to them; embedding tables, of which it reads one row, do not count."""
    sizes, placed = [0] * (holdings.launch.gpus + 1), holdings.placed
    logits_at = placed.weight(OUTPUT)
    for t, device, nbytes in placed.pieces():
        looked_up = t.name in (*INPUT, PER_LAYER) and device == placed.weight(t.name)
        makes_logits = holdings.net.tied and t is holdings.net.head and device == logits_at
        if looked_up and not makes_logits:
            continue
        experts = t.ne[2] if EXPERTS in t.name and len(t.ne) > 2 else 0
        sizes[device] += ceil_div(nbytes * holdings.net.top_k, experts) if experts else nbytes
    return tuple(sizes)


def sent(holdings: DeviceHoldings) -> int:
    """Return the bytes that cards send each other per token: a hidden state if the next layer is on
    another card. With row split also each matrix's input, in 8 bits if it is quantized, and the
    results back. Source: llama.cpp 0c1e57098 ggml/src/ggml-cuda/ggml-cuda.cu
    (ggml_cuda_op_mul_mat)."""
    places = [holdings.placed.layer(i) for i in range(len(holdings.net.layers) + 1)]
    ends = holdings.placed.ends if holdings.launch.gpus else ()
    main, others = holdings.launch.main_gpu, holdings.launch.gpus - 1
    nbytes = 0
    for here, there in pairwise(places):
        nbytes += (
            F32.size(holdings.net.hidden)
            if here != there and holdings.placed.host not in (here, there)
            else 0
        )
    for d in range(holdings.launch.gpus):  # to experts on another card, and back
        nbytes += 2 * F32.size(holdings.net.hidden) * len(_by_name(holdings, d))
    if holdings.launch.split_mode != "row" or others < 1:
        return nbytes
    own = ends[main] - (ends[main - 1] if main else 0)
    for t, name in ((t, name) for name, t in holdings.net.weights.items() if len(t.ne) == 2):
        if holdings.placed.weight(name) == main:
            given = t.ne[0] * BLOCK_BYTES // BLOCK if t.dtype.block > 1 else F32.size(t.ne[0])
            nbytes += others * given + round((1 - own) * F32.size(t.ne[1]))
    return nbytes
