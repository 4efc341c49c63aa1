"""What a change costs, in two to five words: "quality: small loss", "~30 % slower", "free".

The words follow the price that the change has (judged.py); all of its sentences are in `--details`.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.view.messages import Say

if TYPE_CHECKING:
    from weighbridge.report.verdict import Price, Remedy

LEAST = 0.4  # points: below it nothing is told
QUALITY = (  # points, from which on -> the words (assumed: about 3 for each percent of perplexity)
    (60.0, "cost.quality.large"),
    (15.0, "cost.quality.some"),
    (2.0, "cost.quality.small"),
)
MUCH, LITTLE = 80.0, 8.0  # percent slower: beyond and below, no figure is told
ASSUMED = ("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb", "offload")  # no figure is published
SCOPES: Mapping[str, str] = {  # the setting that was made smaller -> the words
    "context": "cost.context",
    "seq_len": "cost.seq_len",
    "method": "cost.adapters",
    "lora_r": "cost.lora_r",
    "lora_targets": "cost.lora_targets",
    "batch_size": "cost.batch_size",
}
MOST = 2  # that are named
FIRST = "made first"  # in the note of a format that no loader makes and no file at hand is in


def few(words: Say, r: "Remedy") -> str:
    """The dearest of it, "free" where it costs nothing; "" where no price is known."""
    if r.price is None:
        return ""
    found = sorted(_parts(r.price, r), key=lambda part: -part[0])
    told = [words(key, percent=f"{r.price.slower:.0f}") for _, key in found[:MOST]]
    free = "cost.quality.least" if r.price.quality else "cost.free"
    cost = words("cost.and").join(told) or words(free)
    made = "quantization" in r.change and FIRST in r.note
    return words("cost.made", cost=cost) if made else cost


def _parts(p: "Price", r: "Remedy") -> Iterator[tuple[float, str]]:
    """(points, key) of each kind of cost."""
    if p.money:
        yield p.money, "cost.more" if r.kind == "more devices" else "cost.larger"
    if "engine" in r.change:
        yield p.effort, "cost.engine"
    if p.scope >= LEAST:
        key = next((SCOPES[n] for n in r.change if n in SCOPES), "cost.scope")
        yield p.scope + p.quality * (key == "cost.adapters"), key
    quality = next((key for least, key in QUALITY if p.quality >= least), None)
    if quality is not None:
        yield p.quality, quality
    if p.slower >= 1:
        yield p.speed, _slower(p, r)


def _slower(p: "Price", r: "Remedy") -> str:
    if p.slower >= MUCH:
        return "cost.much_slower"
    if p.slower < LITTLE:
        return "cost.little_slower"
    return "cost.somewhat_slower" if r.change.keys() & set(ASSUMED) else "cost.slower"
