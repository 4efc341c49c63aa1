"""Sets of changes, and the answer to each: a full estimate, or a count (a lower bound) first.

    asked(parent, added)      the answer with these changes
    counted(parent, added)    its lower bound, sooner: only for searches, never shown
    tried(parent, added)      the answer; only the count, if by that it does not surely fit
    surely(parent, added)     the answer, if it surely fits

What does not surely fit by count does not in full, either: tensors are the same, and the
allocator's overhead comes on top.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Cost, Estimator, Move, RemedyCase, runnable
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import dataclass, replace
from weighbridge.machines.accelerators.ram import usual
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Answer

DEAR = 80.0  # points: dearer sets are shown only if nothing else helps (assumed)
_FIRST = ("engine", "release", "method", "quantization", "dtype", "precision", "checkpointing")
KINDS = {kind: place for place, kind in enumerate(_FIRST)}
TO_HOST = frozenset(("n_cpu_moe", "n_gpu_layers", "cpu_offload_gb"))  # settings that move weights
MOVES_TO_HOST = TO_HOST | {"offload"}
MERGED = ("megatron_args",)  # settings of several arguments, of which each change adds some
OFF = 4  # a change may save this many times its guess (assumed)
HELPS = 0.985  # share of a peak: a change that leaves more is not built upon (assumed)


@dataclass(frozen=True, slots=True)
class MoveSet:
    """A set of changes, and the answer to all of them together."""

    moves: tuple[Move, ...]
    case: RemedyCase
    counted: bool = False  # a lower bound, never shown

    @property
    def fits(self) -> Answer:
        """Return the verdict; open if the set moves more to RAM than such a machine usually has and
        the user set no RAM."""
        verdict = self.case.verdict
        return "unknown" if verdict.fits == "yes" and self._wants_ram() else verdict.fits

    def _wants_ram(self) -> bool:
        if MOVES_TO_HOST.isdisjoint(self.change):
            return False
        host, part = self.case.verdict.host, self.case.part
        if host is None or host.available is not None or part is None:
            return False
        return host.needed.expected > usual(part, self.case.count)

    @property
    def change(self) -> Mapping[str, Any]:
        return changed(self.in_order)

    @property
    def cost(self) -> Cost:
        return prices.together((*(move.cost for move in self.in_order), *_divided(self.report)))

    @property
    def report(self) -> Report:
        return self.case.report

    @property
    def peak(self) -> int:
        return self.report.peak.expected

    @property
    def held(self) -> float:
        """Return the bytes live at once, at most. Fragmentation is left out: it says little about
        the next change."""
        return self.case.guessed(())

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(move.kind for move in self.moves))

    @property
    def in_order(self) -> tuple[Move, ...]:
        """Return the changes in the usual order of speech: what the model is, then how it runs."""
        return tuple(sorted(self.moves, key=lambda move: KINDS.get(move.kind, len(KINDS))))

    @property
    def place(self) -> tuple[float, int]:
        return self.cost.price.points, len(self.moves)


def _divided(report: Report) -> Iterator[Cost]:
    """Yield the cost of layers, or their experts, that an engine itself leaves in RAM."""
    if "layers_on_card" in report.derived:
        on_card, every = report.derived["layers_on_card"]
        yield prices.on_host(report.derived["divided_by"], every - on_card, every)


def changed(some: Iterable[Move]) -> Mapping[str, Any]:
    """Return the merged settings of several changes. LoRA with an nf4 base is named QLoRA."""
    settings: dict[str, Any] = {}
    for move in some:
        for name, value in move.change.items():
            settings[name] = _merged(settings.get(name), value) if name in MERGED else value
    if settings.get("method") == "lora" and settings.get("quantization") == "nf4":
        del settings["quantization"]
        settings["method"] = "qlora"
    return settings


def _merged(
    before: tuple[str, ...] | None, words: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Return the arguments of two changes together; for one that both have, the later counts. None
    removes all."""
    if words is None:
        return None
    named = {word.partition("=")[0]: word for word in (*(before or ()), *words)}
    return tuple(named.values())


def tried(parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
    """Return the count of the changed question, and the full answer if that surely fits."""
    if parent.case.count_least is not None:
        least = counted(parent, added)
        if least is None or least.fits != "yes":
            return least
    return asked(parent, added)


def surely(parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
    """Return the answer, by count first; None if it does not surely fit."""
    node = tried(parent, added)
    return node if node is not None and node.fits == "yes" else None


def matters(case: RemedyCase, move: Move, before: tuple[Move, ...] = ()) -> bool:
    """Return whether a change saves enough of what is left after `before` to be tried in sets."""
    if move.frees and case.short_of_ram:
        return True
    return case.guessed((*before, move)) <= HELPS * case.guessed(before)


def misses_ram(case: RemedyCase, move: Move) -> bool:
    """Return whether host memory is surely short, and a change touches nothing in it."""
    verdict, host = case.verdict, case.verdict.host
    if host is None or host.room is None or move.frees or "*" in move.touches:
        return False
    beside = verdict.per_device.high * verdict.devices_used if host.shared else 0
    if host.needed.low - beside <= host.room.high:
        return False
    hosts = (device for device in case.report.devices if device.kind == "host")
    return move.touches.isdisjoint(c.name for d in hosts for p in d.phases for c in p.components)


def lessens(node: MoveSet, parent: MoveSet) -> bool:
    """Return whether a set reduces what is missing: on the device, or of host memory if that is
    short."""
    if node.held <= HELPS * parent.held:
        return True
    return parent.case.short_of_ram and node.case.in_ram <= HELPS * parent.case.in_ram


def leaves_short(node: MoveSet, root: MoveSet) -> bool:
    """Return whether the device fits before and host memory stays as short as it was: then the set
    changes nothing that decides."""
    verdict = root.case.verdict
    if not root.case.short_of_ram or verdict.per_device.high > verdict.usable.low:
        return False
    return node.case.in_ram > HELPS * root.case.in_ram


def may_do(parent: MoveSet, move: Move) -> bool:
    """Return whether a change that saves little saves a relevant part of what is missing."""
    verdict = parent.case.verdict
    lacking = verdict.per_device.high - verdict.per_device.expected - verdict.margin_bytes
    away = parent.held - parent.case.guessed((move,)) + parent.case.unfragmented(move)
    return lacking <= OFF * away


def within(node: MoveSet, some: tuple[Move, ...], points: float) -> bool:
    """Return whether `some` are a node's changes and others, or dearer steps of them; or lead to
    its settings and others, as LoRA with an nf4 base does to QLoRA."""
    if facts_of(node.moves) <= facts_of(some):
        return True
    by_kind = {move.kind: move for move in some}
    return all(
        move.kind in by_kind
        and (by_kind[move.kind].change == move.change or (move.graded and points >= node.place[0]))
        for move in node.moves
    )


def hopeless(case: RemedyCase, added: tuple[Move, ...]) -> bool:
    """Return whether what these changes surely leave exceeds the device."""
    return case.room is not None and case.least(added) > case.room


def facts_of(some: tuple[Move, ...]) -> frozenset[tuple[str, str]]:
    """Return the resulting settings, a key for a set of changes."""
    return frozenset((name, repr(value)) for name, value in changed(some).items())


def asked(parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
    """Return the answer with these changes; None if it is refused."""
    return _answered(parent, added, parent.case.ask)


def counted(parent: MoveSet, added: tuple[Move, ...]) -> MoveSet | None:
    """Return the lower bound with these changes, which is never shown; the full answer if nothing
    can be counted."""
    count = parent.case.count_least
    node = asked(parent, added) if count is None else _answered(parent, added, count)
    return node if node is None or count is None else replace(node, counted=True)


def _answered(parent: MoveSet, added: tuple[Move, ...], ask: Estimator) -> MoveSet | None:
    case, change = parent.case, changed((*parent.moves, *added))
    try:
        workload = case.changed(change)
        report = ask(workload)
    except WeighbridgeError:
        return None
    if report.verdict is None:
        return None
    pinned = case.pinned | change.keys()
    then = replace(case, workload=workload, report=report, pinned=pinned)
    return MoveSet((*parent.moves, *added), then)


def dear(node: MoveSet) -> bool:
    """Return whether a set costs so much, money aside, that nobody with a choice takes it."""
    price = node.cost.price
    return price.points - price.money > DEAR


def beats(other: MoveSet, node: MoveSet) -> bool:
    return node.cost.price.no_less(other.cost.price) and node.peak >= other.peak


def needed(case: RemedyCase) -> tuple[MoveSet, ...]:
    """Return the change without which a training launch is refused, with its answer; else empty."""
    move = runnable(case) if case.task == "train" else None
    node = asked(MoveSet((), case), (move,)) if move is not None else None
    return () if node is None else (node,)
