"""Sets of changes as they are told: remedies, with their price, their flags and a line to paste."""

from weighbridge.answers.remedies import prices, written
from weighbridge.answers.remedies.case import Move, RemedyCase
from weighbridge.answers.remedies.sets import TO_HOST, MoveSet, asked
from weighbridge.base.memory import Bytes
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses
from weighbridge.base.units import human
from weighbridge.memory.report.verdict import Remedy
from weighbridge.training.launching import start
from weighbridge.workload.flags import flags


def flagged(case: RemedyCase) -> tuple[Remedy, ...]:
    """Find the flags that a command lacks, as its engine's rules say, with what comes of them."""
    return (
        tuple(_flagged(case, remedy) for remedy in case.report.remedies) if case.commanded else ()
    )


def _flagged(case: RemedyCase, lacking: Remedy) -> Remedy:
    cost = prices.CHANGES["flags"]
    move = Move(kind="flags", change=lacking.change, cost=cost)
    known = all(hasattr(case.workload, name) for name in lacking.change)
    node = asked(MoveSet((), case), (move,)) if known else None
    line = str(case.report.derived.get("launch") or "")
    if node is None:  # a variable of the environment
        paste = f"{lacking.flags} {line}" if line else ""
        return replace(lacking, paste=paste, price=cost.price, kind=move.kind)
    remedy = told(node)
    return replace(
        remedy, fits=lacking.fits, cost=lacking.cost, flags=lacking.flags, source=cost.source
    )


def told(node: MoveSet) -> Remedy:
    """Turn a set of changes into a remedy."""
    verdict, cost, line = node.case.verdict, node.cost, written.paste(node.case)
    return Remedy(
        change=dict(node.change),
        peak_bytes=node.peak,
        fits=node.fits,
        cost=cost.words,
        source=cost.source,
        price=cost.price,
        margin_bytes=verdict.margin_bytes,
        per_device=Bytes(*verdict.per_device),
        kind=node.moves[0].kind,
        flags=flags(node.change, node.case.engine if node.case.commanded else ""),
        paste=line.text,
        note=_note(node, line.why),
        host=None if verdict.host is None else verdict.host.needed,
    )


def _note(node: MoveSet, why: str) -> str:
    """Say what is to be done beside the line, or why there is none."""
    trained = node.case.task == "train" and not why
    started = f"start it with {start(node.case.count)}" if node.case.count > 1 else ""
    launch_note = started if trained else _same_memory(node)
    return clauses(
        *dict.fromkeys(filter(None, (*(move.note for move in node.moves), why, launch_note)))
    )


def _same_memory(node: MoveSet) -> str:
    """Say what moving weights off the device means where both have the same memory."""
    host = node.case.verdict.host
    if host is None or not host.shared or host.available is None or TO_HOST.isdisjoint(node.change):
        return ""
    whole = human(host.available)
    return f"both halves stay in the same memory: {human(host.needed.expected)} of {whole} in all"
