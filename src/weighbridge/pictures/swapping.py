"""Blocks of a denoiser that wait in host memory while it is trained, and come one by one.

The card keeps as many blocks as do not wait: each that comes takes the memory of one that goes.
Only linears move. Of two lists of blocks half of the number is of the first, and of the second
twice what is left (FLUX, whose single blocks are half as large).
Source: musubi-tuner modules/custom_offloading_utils.py (swap_weight_devices_cuda), sd-scripts
library/flux_models.py (enable_block_swap).
"""

from collections.abc import Sequence

from weighbridge.models.arch.blueprint import Param

TWICE = 2


def lists(params: Sequence[Param]) -> dict[str, int]:
    """Return the lists of blocks by their paths, with how many blocks each has."""
    numbers: dict[str, set[str]] = {}
    for p in params:
        words = p.name.split(".")
        if len(words) > 2 and words[1].isdigit():
            numbers.setdefault(words[0], set()).add(words[1])
    return {path: len(blocks) for path, blocks in numbers.items() if len(blocks) > 1}


def waiting(params: Sequence[Param], count: int) -> dict[str, int]:
    """Return how many blocks of each list wait, where `count` are asked for."""
    known = lists(params)
    paths = sorted(known, key=lambda path: -known[path])[:2]
    if len(paths) < 2:
        return {path: min(count, known[path]) for path in paths}
    order = [path for path in known if path in paths]
    first = count // 2
    asked = {order[0]: first, order[1]: TWICE * (count - first)}
    return {path: min(number, known[path]) for path, number in asked.items()}


def swapped(params: Sequence[Param], sizes: Sequence[int], count: int) -> tuple[list[int], int]:
    """Return the bytes of tensors that are on the card, and of all that wait."""
    if not count:
        return list(sizes), 0
    known, waits = lists(params), waiting(params, count)
    here, away = [], 0
    for param, nbytes in zip(params, sizes, strict=True):
        words = param.name.split(".")
        stays = known.get(words[0], 0) - waits.get(words[0], 0)
        moves = param.kind == "linear" and words[0] in waits and words[1].isdigit()
        if moves and int(words[1]) >= stays:
            away += nbytes
        else:
            here.append(nbytes)
    return here, away
