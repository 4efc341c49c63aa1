"""Blocks of a denoiser that wait in host memory, and come one by one.

    training     the card keeps as many blocks as do not wait: each that comes takes the memory of
                 one that goes. Only linears move
    inference    whole blocks move; the one that runs and the one that comes are beside those that
                 stay
    combined     SimpleTuner: the last blocks of all, whole, one of which is there
    a fraction   OneTrainer: as many blocks as its share of their bytes leaves room for, two at
                 least; they are the next ones of the pass

Of two lists of blocks half of the number is of the first, and of the second twice what is left
(FLUX, whose single blocks are half as large).
Source: musubi-tuner modules/custom_offloading_utils.py (swap_weight_devices_cuda), sd-scripts
library/flux_models.py (enable_block_swap: of each list two blocks stay at least); SimpleTuner 3
helpers/musubi_block_swap.py; ComfyUI-WanVideoWrapper wanvideo/modules/model.py
(block_swap); OneTrainer @ 23df3832 modules/util/LayerOffloadConductor.py (LayerOffloadStrategy).
"""

from collections.abc import Iterable, Mapping, Sequence

from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.blueprint import Param

TWICE = 2
LEAST = 2  # fewest blocks on the card
DEPTH = 2  # depth of block lists within modules: encoder.block.0


class BlocksOnCard(NamedTuple):
    """The bytes of each tensor on the card, and of all tensors in host memory."""

    here: list[int]
    waiting: int


def block_of(name: str) -> tuple[str, int] | None:
    """Return (path of its block list, block number) of a tensor; None outside of blocks."""
    words = name.split(".")
    place = next((i for i, word in enumerate(words[:-1]) if word.isdigit()), DEPTH + 1)
    return None if place > DEPTH else (".".join(words[:place]), int(words[place]))


def lists(params: Iterable[Param]) -> dict[str, int]:
    """Return path -> number of blocks, for each list of several blocks."""
    numbers: dict[str, set[int]] = {}
    for p in params:
        block = block_of(p.name)
        if block is not None and "." not in block[0]:
            numbers.setdefault(block[0], set()).add(block[1])
    return {path: len(blocks) for path, blocks in numbers.items() if len(blocks) > 1}


def waiting(params: Sequence[Param], count: int, *, combined: bool = False) -> dict[str, int]:
    """Return path -> number of swapped blocks for each list, if `count` are requested."""
    return _waits(lists(params), count, combined=combined)


def _waits(known: Mapping[str, int], count: int, *, combined: bool = False) -> dict[str, int]:
    if combined:
        waits = {}
        for path in reversed([*known]):
            waits[path] = min(count, known[path])
            count -= waits[path]
        return waits
    paths = sorted(known, key=lambda path: -known[path])[:2]
    if len(paths) < 2:
        return {path: min(count, known[path]) for path in paths}
    order = [path for path in known if path in paths]
    first = count // 2
    asked = {order[0]: first, order[1]: TWICE * (count - first)}
    return {path: min(number, known[path]) for path, number in asked.items()}


def most(params: Sequence[Param], *, combined: bool = False) -> int:
    """Return the most blocks that can be swapped; 0 for a denoiser without blocks."""
    known = lists(params)
    total = max(0, sum(known.values()) - 1)
    if combined or len(known) < 2:
        return total
    waits = ((n, _waits(known, n).items()) for n in range(total, 0, -1))
    return next((n for n, w in waits if all(known[path] - one >= LEAST for path, one in w)), 0)


def swapped(
    params: Sequence[Param],
    sizes: Sequence[int],
    count: int,
    *,
    coming: int = 0,
    combined: bool = False,
) -> BlocksOnCard:
    """Return which of `sizes` are on the card with `count` blocks swapped; those of `params` come
    first. `coming`: whole blocks move, and this many in addition are on the card."""
    if not count:
        return BlocksOnCard(list(sizes), 0)
    known = lists(params)
    waits = _waits(known, count, combined=combined)
    stay = {path: known[path] - number for path, number in waits.items()}
    here = list(sizes[len(params) :])
    away: dict[tuple[str, int], list[int]] = {}
    for param, nbytes in zip(params, sizes, strict=False):
        path, number = block = block_of(param.name) or ("", -1)
        goes = number >= stay.get(path, number + 1)
        if goes and (coming or param.kind == "linear"):
            away.setdefault(block, []).append(nbytes)
        else:
            here.append(nbytes)
    largest = sorted(away.values(), key=sum, reverse=True)[:coming]
    return BlocksOnCard(sum(largest, here), sum(map(sum, away.values())))


def shared(params: Sequence[Param], sizes: Sequence[int], fraction: float) -> BlocksOnCard:
    """Return which tensors are on the card if `fraction` of the blocks' bytes is swapped."""
    known = lists(params)
    blocks: dict[tuple[str, int], list[int]] = {}
    here = []
    for param, nbytes in zip(params, sizes, strict=True):
        block = block_of(param.name)
        if block and block[0] in known and param.kind == "linear":
            blocks.setdefault(block, []).append(nbytes)
        else:
            here.append(nbytes)
    each = [sum(block) for block in blocks.values()]
    room = int(sum(each) * (1 - fraction))
    loaded = max((_window(each[i:] + each[:i][::-1], room) for i in range(len(each))), default=0)
    return BlocksOnCard([*here, loaded], sum(each) - loaded)


def _window(sizes: Sequence[int], room: int) -> int:
    """Return the bytes of successive blocks, from the first on, that fit into `room`; at least
    LEAST of them."""
    total = 0
    for count, nbytes in enumerate(sizes):
        if total + nbytes > room and count >= LEAST:
            break
        total += nbytes
    return total
