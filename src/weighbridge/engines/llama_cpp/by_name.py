"""Placement of experts by name (-ot), for a search: if moving whole layers is too coarse.

All layers are on cards, and the host takes what no card has room for, matrix by matrix:

    its own       experts of each card's first layers, as many as it has room for
    another's     experts of other cards' layers, if a card has room left
    one matrix    of a layer's experts the largest that a card has room for
    the host      the rest

Patterns are written only for what is away from its layer, of whole layers one pattern per device.
"""

from collections.abc import Iterator, Mapping, Sequence

from weighbridge.base.records import dataclass
from weighbridge.base.units import MIB
from weighbridge.engines.llama_cpp.answers import fixed
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.llama_cpp.overrides import EXPERTS, blocks
from weighbridge.engines.llama_cpp.placement import EXPERTS as OF_EXPERTS
from weighbridge.engines.llama_cpp.placement import on_a_card

BUFFERS: Mapping[str, str] = {
    "cuda": "CUDA",
    "hip": "ROCm",
}  # stack -> name of a card's buffer
# Bytes left free per card, tried in turn until everything surely fits: buffers differ with what the
# host lends
SPARED = tuple(MIB * n for n in (0, 128, 256, 512, 1024, 2048))


@dataclass(frozen=True, slots=True)
class ExpertMatrix:
    """One matrix of a layer's experts."""

    layer: int
    kind: str  # ffn_up_exps
    nbytes: int


def by_name(
    empty: DeviceHoldings, rooms: Sequence[int], stack: str
) -> Iterator[dict[str, tuple[str, ...]]]:
    """Yield -ot patterns that give ever less of `rooms`, in bytes per card, to experts. `empty` is
    the launch with all experts on the host and no patterns."""
    matrices = list(_matrices(empty))
    used = [
        empty.weights[d] + empty.kv(d) + empty.state(d) + fixed(empty, d) for d in range(len(rooms))
    ]
    known: set[tuple[str, ...]] = set()
    for spared in SPARED:
        left = [room - n - spared for room, n in zip(rooms, used, strict=True)]
        places = _dealt(empty, matrices, left, shares=stack in BUFFERS)
        written = tuple(_written(places, empty.placed.host, BUFFERS.get(stack, "")))
        if written and written not in known:
            known.add(written)
            yield {"override_tensor": written}


def _matrices(holdings: DeviceHoldings) -> Iterator[ExpertMatrix]:
    for layer in range(len(holdings.net.layers)):
        for t in holdings.net.of_layer(layer):
            if OF_EXPERTS in t.name and t.name.endswith(".weight"):
                yield ExpertMatrix(layer, t.name.split(".")[2], on_a_card(t))


def _dealt(
    holdings: DeviceHoldings, matrices: Sequence[ExpertMatrix], left: list[int], *, shares: bool
) -> dict[ExpertMatrix, tuple[int, int]]:
    """Return (device, device of its layer) of each matrix. `left` are the free bytes per card;
    `shares` lets a card take experts of other cards' layers."""
    layers = dict.fromkeys(m.layer for m in matrices)
    own = {i: holdings.placed.layer(i) for i in layers}
    sizes = {i: sum(m.nbytes for m in matrices if m.layer == i) for i in layers}
    whole: dict[int, int] = {}
    for others in (False, True) if shares else (False,):
        for i in layers:
            cards = range(len(left)) if others else (own[i],)
            fitting = [d for d in cards if d < len(left) and sizes[i] <= left[d]]
            if i not in whole and fitting:
                whole[i] = fitting[0]
                left[fitting[0]] -= sizes[i]
    places = {m: (whole.get(m.layer, holdings.placed.host), own[m.layer]) for m in matrices}
    for m in sorted(matrices, key=lambda m: -m.nbytes):
        card = own[m.layer]
        if m.layer not in whole and card < len(left) and m.nbytes <= left[card]:
            places[m] = card, card
            left[card] -= m.nbytes
    return places


def _written(
    places: Mapping[ExpertMatrix, tuple[int, int]], host: int, cards: str
) -> Iterator[str]:
    """Yield PATTERN=BUFFER for each device and each set of matrices on it that are away from their
    layers."""
    away: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for layer in dict.fromkeys(m.layer for m in places):
        mine = {m.kind: place for m, place in places.items() if m.layer == layer}
        for device in sorted({d for d, own in mine.values() if d != own}):
            kinds = tuple(kind for kind, (d, _) in mine.items() if d == device)
            key = device, () if len(kinds) == len(mine) else kinds
            away.setdefault(key, []).append(layer)
    for (device, kinds), layers in away.items():
        what = f"\\.({'|'.join(kinds)})\\." if kinds else EXPERTS
        buffer = "CPU" if device == host else f"{cards}{device}"
        yield f"{blocks(layers)}{what}={buffer}"
