"""The reason of a verdict in plain words: what it needs, what the card has, and the difference.

    needs about 16.4 GiB; the card has 11.7 for you: short by 4.8 GiB
    too close to call: needs 11.65-11.74 GiB, the card has 11.65-11.76 for you

Figures have one decimal if the difference shows in it, else two.
"""

from typing import TYPE_CHECKING

from weighbridge.answers.verdict import closeness
from weighbridge.base.memory import Bytes
from weighbridge.base.sentences import Sentence
from weighbridge.base.units import GIB, human
from weighbridge.memory.report.verdict import Answer

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

COMPARED = "compared"  # key of the clause that compares two numbers
CLOSE = GIB // 2  # bytes: smaller differences have two decimals


def loaded(answer: Answer, each: Bytes, budget: "Budget", splitter: str | None) -> str:
    """Return the reason for a load; `splitter` names the program that would split it."""
    count = budget.choice.count
    if count == 1 or (answer == "yes" and splitter is None):
        return _figures(f"{_said(answer, each, budget, 1)}{_nodes(budget)}")
    if splitter is None:
        unsplit = f", and nothing splits this model over {count}"
        return _figures(f"{_said(answer, each, budget, 1)}{unsplit}")
    reason = f"{_said(answer, each, budget, count)}, layers dealt out by {splitter}"
    beside = ": each holds whole layers and a context of its own"
    summed = "" if answer == "yes" else _no_sum(budget) + beside
    return _figures(f"{reason}{summed}{_nodes(budget)}")


def dealt(answer: Answer, each: Bytes, budget: "Budget", used: int) -> str:
    """Return the reason for a model that an engine shards over `used` devices."""
    count = budget.choice.count
    idle = f"; {count - used} of {count} are not used" if used < count else ""
    summed = ""
    if answer == "no" and used > 1:
        summed = _no_sum(budget) + ": each must hold its own part"
    return _figures(f"{_said(answer, each, budget, used)}{idle}{summed}{_nodes(budget)}")


def compared(answer: Answer, needed: Bytes, usable: Bytes, who: str, where: str = "") -> str:
    """Return the clause with the two compared numbers and their difference."""
    if answer == "unknown":
        share = closeness.percent(needed, usable)
        figures = f"needs {span(needed)}{where}, {who} has {span(usable)} for you"
        return _figures(f"too close to call: {figures}; {share} % of that range fits")
    margin, spare = usable.low - needed.expected, usable.low - needed.high
    digits = 2 if abs(margin) < CLOSE or 0 <= spare < CLOSE else 1
    worst = "" if needed.exact or margin < 0 else f", at worst {figure(needed.high, digits)}"
    left = f"{figure(margin, digits)} to spare" if margin >= 0 else ""
    return _figures(
        f"needs about {figure(needed.expected, digits)}{where}{worst}; {who} has "
        f"{figure(usable.low, digits)} for you: {left or f'short by {figure(-margin, digits)}'}"
    )


def _figures(text: str) -> Sentence:
    """Return a comparison of two numbers as one clause; text before it is another reason."""
    return Sentence(text, COMPARED, {"text": text})


def _said(answer: Answer, each: Bytes, budget: "Budget", used: int) -> str:
    where = "" if used == 1 else f" on each of {used}"
    one = "card" if budget.choice.part.kind == "gpu" else "device"
    who = f"the {one}" if budget.choice.count == 1 else f"each {one}"
    spared = f", {human(budget.headroom)} of headroom kept free" if budget.headroom else ""
    others = f", {human(budget.others)} are used by others now" if budget.others else ""
    return compared(answer, each, budget.usable, who, where) + others + spared


def figure(nbytes: int, digits: int) -> str:
    """Return a size in GiB with `digits` decimals; below 1 GiB in a smaller unit."""
    return human(nbytes) if abs(nbytes) < GIB else f"{nbytes / GIB:,.{digits}f} GiB"


def span(size: Bytes) -> str:
    """Return both ends of an interval in one unit: "16.2-18.1 GiB"."""
    low, high = human(size.low), human(size.high)
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number}-{high}" if high.endswith(f" {unit}") else f"{low} to {high}"


def _no_sum(budget: "Budget") -> str:
    count, low = budget.choice.count, budget.usable.low
    return f"; {count} x {human(low)} is not {human(count * low)}"


def _nodes(budget: "Budget") -> str:
    """Return a clause on the number of machines, "" if one machine has all devices."""
    from weighbridge.machines.accelerators.machines import machine, nodes

    part, count = budget.choice.part, budget.choice.count
    one, several = machine(part), nodes(part, count)
    if one is None or several == 1:
        return ""
    return f"; {count} are {several} nodes of {one.devices} ({one.source})"
