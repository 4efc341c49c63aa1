"""Prices of changes: in comparable points, in plain words, and with their source.

    quality   3 points per percent of perplexity increase                  (assumed: the exchange)
    speed     1 point per 5 percent slower                                 (assumed)
    scope     1 point per 2 percent of what was asked and is given up      (assumed)
    effort    5 for a checkpoint that must be made first, 6 for another program (assumed)
    money     60 per doubling of the memory that is bought                 (assumed)

Points only put changes in an order; the words say what was measured, and by whom. losses.py prices
formats. The costs of changes are in changes.json.
"""

import json
from collections.abc import Mapping
from math import log2
from typing import Any

from weighbridge.answers.remedies.case import Cost
from weighbridge.answers.remedies.losses import SLOWER, points
from weighbridge.base.parsed import text_beside
from weighbridge.memory.report.verdict import Price

PART, DOUBLE = 1 / 2, 60.0
ON_HOST = {  # flag, and percent slower if all of them are on the host (assumed)
    "experts": ("--n-cpu-moe", 150),
    "layers": ("--n-gpu-layers", 400),
}
BUS = 32.0  # GB/s at which weights come from the host: PCIe 4.0 x16 (PCI-SIG)
ACROSS = 800  # percent slower if all weights do, on a card of unknown bandwidth (assumed)
AGAIN = 2.0  # points per further change of a set: one more thing to keep in mind (assumed)


def _price(row: dict[str, Any]) -> Price:
    """Return the price in a row: `slower` is in percent, `loses` is a format with that loss."""
    if "slower" in row:
        row["speed"] = row.pop("slower") * SLOWER
    if "loses" in row:
        row["quality"] = points(row.pop("loses"))
    return Price(**row)


CHANGES: Mapping[str, Cost] = {
    name: Cost(price=_price(row["price"]), words=row["words"], source=row["source"])
    for name, row in json.loads(text_beside(__file__, "changes.json")).items()
}


def shorter(was: int, now: int, what: str) -> Cost:
    """Return the cost of fewer tokens or requests than asked."""
    lost = 100 * (was - now) / was
    return Cost(
        price=Price(scope=max(1.0, lost * PART)),
        words=f"{now:,} {what} instead of {was:,}",
        source="what was asked",
    )


def less_beside(was: float, now: float, unit: str) -> Cost:
    """Return the cost of a smaller second cache level: prefixes that it loses are read anew."""
    return Cost(
        price=Price(speed=2 * SLOWER * (was - now) / was),
        words=f"{now:,g} {unit} of the cache in host memory instead of {was:,.4g}: more "
        "prefixes are read anew",
        source="https://docs.vllm.ai/en/latest/features/ (KV offloading); "
        "https://docs.sglang.ai/advanced_features/hicache.html",
    )


def again(share: float) -> Cost:
    """Return the cost of recomputing norms and MLPs, which takes `share` more FLOPs per step: more
    than the time, since a step does more than products."""
    return Cost(
        price=Price(speed=100 * share * SLOWER),
        words=f"norms and feed-forwards are computed again in backward: {share:.0%} more FLOPs",
        source="counted: a forward is a third of a step",
    )


def on_host(what: str, count: int, whole: int) -> Cost:
    """Return the cost of layers, or their experts, that run on the CPU."""
    share, flag, slower = count / max(whole, 1), *ON_HOST[what]
    return Cost(
        price=Price(speed=max(1.0, slower * share * SLOWER)),
        words=f"{what} of {count} of {whole} layers run on the processor: slower"
        if what == "experts"
        else f"{count} of {whole} layers run on the processor: slower",
        source=f"https://github.com/ggml-org/llama.cpp/tree/master/tools/server ({flag})",
    )


def micro(share: int, words: str) -> Cost:
    """Return the cost of a batch in `share` times as many pieces."""
    change = CHANGES["micro-batches"]
    return Cost(
        price=Price(speed=change.price.speed * log2(share)), words=words, source=change.source
    )


def less(was: int, now: int, words: str, quality: float) -> Cost:
    """Return the cost of a smaller adapter."""
    return Cost(
        price=Price(scope=2.0, quality=quality * log2(was / now)),
        words=words,
        source="https://arxiv.org/abs/2106.09685",
    )


def crossing(share: float, bandwidth: float | None = None) -> Cost:
    """Return the cost of reading a share of the weights from the host per token. `bandwidth`: of
    the card's own memory, in GB/s."""
    slower = ACROSS if bandwidth is None else 100 * max(1.0, bandwidth / BUS)
    return Cost(
        price=Price(speed=max(10.0, slower * share * SLOWER)),
        words=f"{_percent(share)} of the weights comes from RAM for every token: much slower",
        source="https://docs.vllm.ai/en/latest/configuration/conserving_memory/",
    )


def _percent(share: float) -> str:
    """Return a share in percent, never 0 %."""
    if share >= 0.01:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def hardware(was: int, now: int, words: str) -> Cost:
    """Return the cost of more memory, from `was` to `now` bytes."""
    return Cost(
        price=Price(money=max(DOUBLE / 2, DOUBLE * log2(max(now, 1) / max(was, 1)))),
        words=words,
        source="accelerators/parts.jsonl; prices are not in our tables",
    )


def together(costs: tuple[Cost, ...]) -> Cost:
    """Return the cost of several changes together."""
    prices = [cost.price for cost in costs]
    return Cost(
        price=Price(
            quality=sum(price.quality for price in prices),
            speed=sum(price.speed for price in prices),
            scope=sum(price.scope for price in prices),
            effort=sum(price.effort for price in prices) + AGAIN * (len(prices) - 1),
            money=sum(price.money for price in prices),
        ),
        words="; ".join(dict.fromkeys(cost.words for cost in costs)),
        source="; ".join(dict.fromkeys(cost.source for cost in costs)),
    )
