"""Parts that a run did not see as it left its loops early: later batches, and lines that never ran.
Torch-free.
"""

from collections.abc import Iterable

from weighbridge_lab.trace.steady import ALIKE, LeftLoop

SHOWN = 4  # lines of a loop that were not run
PLACES = 3  # places that are named
UNTRAINED = "what stands under {places} trains more, and never ran: "
LATER = "if no later batch is larger, "


def untrained(loops: Iterable[LeftLoop]) -> tuple[str, ...]:
    """Return the lines of code that trains more and never ran."""
    return tuple(dict.fromkeys(line for loop in loops for line in loop.training))


def later(loops: Iterable[LeftLoop]) -> bool:
    """Return whether a larger batch may come in a loop that was left."""
    return any(not loop.scanned for loop in loops)


def bounds(loops: Iterable[LeftLoop]) -> str:
    """Return what an answer assumes; "" if everything was seen."""
    left = tuple(loops)
    places = untrained(left)
    trains = UNTRAINED.format(places=", ".join(places[:PLACES])) if places else ""
    return trains + LATER * later(left)


def on_left(left: LeftLoop) -> str:
    """Return a line on a loop that was left early."""
    times = f"{left.rounds} rounds" + f" ({left.times} times)" * (left.times > 1)
    why = f"the last {ALIKE} or more were alike in memory" if left.alike else "as --steps says"
    if left.still:
        why = "its peak was still"
    line = f"{left.place}: the loop was left after {times}: {why}"
    if left.untaken:
        line += f"; never run in it: what stands under {', '.join(left.untaken[:SHOWN])}"
        line += f" and {len(left.untaken) - SHOWN} more" * (len(left.untaken) > SHOWN)
    if left.scanned:
        line += "; no batch that was still to come is larger"
    return f"{line}. --steps all runs every round"
