"""The ladder of `fit`: formats in which people with such a card run the model, best first.

    as published    inference as the user asked for it, or by the card's usual engine
    8 bit, 4 bit    formats that this engine reads on the card, each estimated like any question
    3 bit, 2 bit    if four bits do not fit whole
    another engine  if none of these does, and its format was found to fit whole on these cards;
                    or split between card and RAM, if nothing else works, or as fast

Each rung is a change of the inference question: asked by itself it has the same answer. If no rung
fits whole, other cards are tried with the smallest rung of four bits, smallest card first.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.questions.fit.answers import (
    REFUSED,
    Asker,
    inference,
    judged,
    longest_context,
    reads_text,
)
from weighbridge.answers.questions.fit.request import FitRequest, workload
from weighbridge.answers.remedies.devices import ALONE, COUNTS, LADDERS, named
from weighbridge.answers.remedies.formats import BITS, OF_CHECKPOINTS, WIDENED
from weighbridge.answers.remedies.typed import TYPED
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.base.sentences import keys_of
from weighbridge.base.watching import go_on
from weighbridge.engines.format_names import meant
from weighbridge.engines.servers.layouts import LAYOUT, spreads
from weighbridge.engines.table import at_home, record, usual, version
from weighbridge.engines.transformers.formats import packs_on
from weighbridge.engines.weight_formats import declared_name, offered, runs_on
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.memory.report.fit import Question
from weighbridge.memory.report.plan import PUBLISHED, Plan, Rung, as_asked, chosen

if TYPE_CHECKING:
    from weighbridge.engines.engine import Engine
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.memory.report import Report
    from weighbridge.memory.report.verdict import Remedy
    from weighbridge.models.checkpoint.model import Model
    from weighbridge.models.quantization.quality import Finding

WIDTHS = (8, 4)  # bits per weight
LESS = (3, 2)  # tried if four bits do not fit whole
NAMED = ("quantization", "dtype", "engine_version")  # settings that fix the format
TRIED = 4  # other cards that are tried
ACROSS = 4 * MACHINE  # cards at most, for servers
FEW_USERS = 4  # llama-server's default parallel requests


def ladder(asker: Asker, request: FitRequest, infer: Question) -> tuple[Rung, ...]:
    """Return the rungs of a model on a card, as published first; empty if inference has no
    answer."""
    if infer.report is None or infer.verdict is None or not infer.verdict.count:
        return ()
    ladder_of = _Ladder(asker, request, infer.report, infer.remedies)
    return tuple(ladder_of.rungs())


def planned(asker: Asker, request: FitRequest) -> Plan:
    """Return the chosen plan of a request with as few estimates as possible: no other cards, no
    format after one that fits whole, and none of fewer bits than usual."""
    report = judged(asker, workload(request.about, request, inference(asker, request)))
    if request.about != "infer" or report.verdict is None or not request.chooses:
        return as_asked(report)
    rungs: list[Rung] = []
    ladder_of = _Ladder(asker, request, report, ())
    for rung in ladder_of.here(less=False):
        rungs.append(rung)
        if rung.whole and rung.fits == "yes":
            break
    return chosen(tuple(rungs))


def planned_or_none(asker: Asker, request: FitRequest) -> Plan | None:
    """Return the chosen plan of a request; None if the question is refused."""
    try:
        return planned(asker, request)
    except REFUSED:
        return None


def least_weights(request: FitRequest, bare: "Report") -> int:
    """Return the total bytes of the weights at least, in the fewest bits that a plan may choose."""
    known = weights(bare)
    if not request.chooses or request.about != "infer" or request.as_published:
        return known
    free = request.settings.keys().isdisjoint(NAMED)
    return min(known, bare.model.parameters * min(WIDTHS) // 8) if free else known


class _Ladder:
    """The rungs of one inference question, each estimated when it is reached."""

    def __init__(
        self, asker: Asker, request: FitRequest, report: "Report", remedies: "tuple[Remedy, ...]"
    ) -> None:
        self.asker, self.request, self.found = asker, request, remedies
        self.asked = Rung(
            change={},
            report=report,
            bits=_named_bits(asker, report),
            longest=self._longest(report),
            quality=loss(report),
        )
        self.room = _budget(request.settings)

    def here(self, *, less: bool = True) -> Iterator[Rung]:
        """Yield the formats on these cards. `less`: also below 4 bits, if nothing else fits
        whole."""
        first = self._first()
        yield first
        if not self.request.as_published:
            yield from self._narrower(first, less=less)

    def rungs(self) -> Iterator[Rung]:
        first, *others = self.here()
        again = any(rung.format == first.format for rung in others)
        rungs = others if again else [first, *others]
        yield from rungs
        short = not any(rung.whole and rung.fits == "yes" for rung in rungs)
        if short and not self.request.as_published:
            other = next(self._of_typed(), None) or self._of_another(rungs)
            if other is not None:
                yield other
            if other is None or not other.whole:
                yield from self._elsewhere(_smallest(rungs))

    def _first(self) -> Rung:
        """Return the rung as published: by the card's usual engine if that is a server or reads the
        stored format; else as the user asked."""
        kind = self._engine()
        plain = self._plain(kind) and "quantization" not in self.request.settings
        convertible = not kind.server and plain  # such files are not published
        if kind.name == self.asked.engine or convertible:
            return self._spread(self.asked)
        rung = self._asked({"engine": kind.name}, self.asked.bits)
        typed = "quantization" in self.request.settings  # the usual engine reads it, too
        if rung is None or (typed and rung.fits != "yes" and self.asked.fits == "yes"):
            return self.asked
        return rung

    def _engine(self) -> "Engine":
        """Return the usual engine for the card, unless the question or the model's name implies
        another; for a format that it does not read, the server that does."""
        by_format = "quantization" in self.request.settings  # a GGUF type implies its engine
        free = (usual().name, *([usual(gguf=True).name] if by_format else []))
        named = self.request.inference is not None or self.asked.engine not in free
        if named or self.room is None or not self.request.settings.keys().isdisjoint(NAMED[1:]):
            return record(self.asked.engine)
        card, form = self.room.choice.part, self.request.settings.get("quantization")
        kind, server = engine_of(card), usual(server=True)
        if form is None or self._offers(kind, form):
            return kind
        serves = runs_on(server, card) and self._offers(server, form)
        return server if serves else record(self.asked.engine)

    def _offers(self, kind: "Engine", form: str) -> bool:
        """Return whether an engine's rungs include the format that the user named, or the engine
        has that name for one of them: 4bit."""
        assert self.room is not None  # the card decides the engine
        forms = offered(kind, version(kind, None)[0], self.room.choice.part)
        own = {kind.written.get(each, each) for each in forms}
        return self._plain(kind) and not own.isdisjoint((form, meant(form, kind.name)))

    def _narrower(self, first: Rung, *, less: bool) -> Iterator[Rung]:
        named = any("named_form" in keys_of(line) for line in self.asked.report.warnings)
        tag = self.asked.bits and (named or self.request.inference is None)  # the name implies it
        if tag or not self.request.settings.keys().isdisjoint(NAMED[:2]):
            return
        names = dict.fromkeys((self._engine().name, self.asked.engine))
        for kind in map(record, names):
            rungs = [first]
            for rung in self._of_widths(kind, WIDTHS) if self._plain(kind) else ():
                rungs.append(rung)
                yield rung
            if len(rungs) > 1:
                if less and not any(rung.whole and rung.fits == "yes" for rung in rungs):
                    yield from (r for r in self._of_widths(kind, LESS) if r.whole)
                return

    def _of_widths(self, kind: "Engine", widths: tuple[int, ...]) -> Iterator[Rung]:
        card = None if self.room is None else self.room.choice.part
        if kind.name == usual().name and not packs_on(card):  # bitsandbytes
            return
        number, _ = version(kind, self.request.settings.get("engine_version"))
        forms = offered(kind, number, card)
        for bits in widths:
            for form in of_width(forms, bits):
                rung = self._of_form(kind, form, bits)
                if rung is not None:
                    yield rung

    def _of_form(self, kind: "Engine", form: str, bits: int) -> Rung | None:
        change = {"quantization": kind.written.get(form, form)}
        if bits in LESS and not self._may_hold(change):
            return None
        if kind.name != self.asked.engine:
            change = {"engine": kind.name, **change}
        return self._asked(change, bits)

    def _plain(self, kind: "Engine") -> bool:
        return plain(self.asker.model(), kind)

    def _may_hold(self, change: Mapping[str, Any]) -> bool:
        """Return whether the weights, at their nominal bits, fit on the cards; True if the bits are
        unknown."""
        bits = BITS.get(change.get("quantization", ""))
        if self.room is None or bits is None or "gpu" in change:
            return True
        have = self.room.usable.high * self.room.choice.count
        return self.asked.report.model.parameters * bits / 8 <= have

    def _asked(self, change: Mapping[str, Any], bits: int) -> Rung | None:
        """Return the rung of the inference question with a change, in a parallel layout that fits;
        None if it is refused."""
        rung = self._laid_out(change, bits)
        return None if rung is None else self._spread(rung)

    def _spread(self, rung: Rung) -> Rung:
        """Return the rung in the first parallel layout that fits, if the engine's default does not
        and the user set none; else as it is, or in one that may fit. A default engine's split
        between card and RAM becomes llama.cpp's, if that keeps all of it on the card."""
        kind, count = record(rung.engine), rung.verdict.count
        named = {*self.request.settings, *rung.change}
        room = rung.verdict.usable_bytes * count
        if not rung.whole and _weights(rung) < room:
            other = self._by_llama_cpp(rung)
            rung = other if other is not None and other.whole and other.fits == "yes" else rung
        if rung.fits == "yes" or not named.isdisjoint(LAYOUT) or _weights(rung) > room:
            return rung
        best, model = rung, rung.report.model
        for layout in spreads(kind, count, experts=model.active_parameters < model.parameters):
            other = self._laid_out({**rung.change, **layout}, rung.bits)
            if other is not None and other.fits == "yes":
                return other
            if other is not None and other.fits == "unknown" and best.fits == "no":
                best = other
        return best

    def _by_llama_cpp(self, rung: Rung) -> Rung | None:
        """Return the rung by llama.cpp instead of the default engine of consumer cards; None for
        other engines or if it is refused."""
        if rung.change.get("engine") != at_home().name:
            return None
        return self._laid_out({**rung.change, "engine": usual(gguf=True).name}, rung.bits)

    def _laid_out(self, change: Mapping[str, Any], bits: int) -> Rung | None:
        """Return the rung of the inference question with a change; None if it is refused."""
        change = self.request.sized(change, self.asked.report.derived.get("longest_context"))
        changed = self.request.planned(change)
        go_on()
        try:
            asked = workload("infer", changed, inference(self.asker, changed))
            limits = (
                ("context",) if self._may_hold(change) else ()
            )  # longer contexts do not fit, either
            report = self.asker.briefly(asked, *limits)
        except WeighbridgeError:
            return None
        if report.verdict is None:
            return None
        if self._in_parts(report):  # the launch line is another engine's
            return self._laid_out({**change, "engine": usual(gguf=True).name}, bits)
        longest = self._longest(report)
        return Rung(change=change, report=report, bits=bits, longest=longest, quality=loss(report))

    def _in_parts(self, report: "Report") -> bool:
        """Return whether the default engine cannot read the model's files, since they are split."""
        note = report.derived.get("launch_note") or ""
        return self.request.inference is None and "in_parts" in keys_of(note)

    def _longest(self, report: "Report") -> int | None:
        """Return the longest context in tokens; None for a model that reads no text."""
        return longest_context(report) if reads_text(self.asker.model()) else None

    def _of_typed(self) -> Iterator[Rung]:
        """Yield the rung that fits with another value of one of the user's settings."""
        for remedy in self.found[:1]:
            if remedy.kind == TYPED and remedy.fits == "yes":
                rung = self._asked(remedy.change, self.asked.bits)
                if rung is not None and rung.whole and rung.fits == "yes":
                    yield replace(rung, undoes=remedy.flags)

    def _of_another(self, rungs: list[Rung]) -> Rung | None:
        """Return the first format of another engine that fits: whole, or split between card and RAM
        if none of `rungs` works, or it is no slower."""
        others = list(self._of_engines(rungs[0]))
        works = [rung.slower for rung in rungs if rung.fits == "yes"]
        divided = (rung for rung in others if not works or rung.slower < min(works))
        return next((rung for rung in others if rung.whole), next(divided, None))

    def _of_engines(self, first: Rung) -> Iterator[Rung]:
        """Yield the published format by llama.cpp, if it fits, and formats of other engines that
        the search found to fit on these cards: those are for one user or a few, so they are skipped
        if a server has more requests at once."""
        published = self._by_llama_cpp(first)
        if published is not None and published.fits == "yes":
            yield published
        many = int(self.asked.report.setting("batch_size") or 1) > FEW_USERS
        for remedy in () if many and self._engine().server else self.found:
            bits = BITS.get(remedy.change.get("quantization", ""))
            if bits is None or "engine" not in remedy.change or "gpu" in remedy.change:
                continue
            rung = self._asked(remedy.change, int(bits))
            if rung is not None and rung.fits == "yes":
                yield rung

    def _elsewhere(self, rung: Rung) -> Iterator[Rung]:
        """Yield the rung on the smallest card, or number of cards, that has room for it."""
        if self.room is None or not self.request.settings.get("gpu"):
            return
        most = ACROSS if record(rung.engine).server else MACHINE
        for gpu in _cards(self.room, _weights(rung), most):
            there = self._asked({**rung.change, "gpu": gpu}, rung.bits)
            if there is not None and there.whole and there.fits == "yes":
                yield there
                return


def weights(report: "Report") -> int:
    """Return the bytes of weights per device, at least; 0 without a GPU."""
    gpus = [device for device in report.devices if device.kind == "gpu"]
    return min((p.of("weights").low for device in gpus for p in device.phases), default=0)


def plain(model: "Model", kind: "Engine") -> bool:
    """Return whether weights are stored as floats, from which an engine's formats can be made."""
    part = model.parts[0]
    if part.library == "gguf" or not part.packed:
        return part.library != "gguf"
    return kind.reads == "gguf" and declared_name(part).startswith(WIDENED)


def engine_of(card: "Part") -> "Engine":
    """Return the usual engine for a card (assumed): for a consumer card one that keeps what fits on
    it, a server for a data-center card; the default one if neither runs."""
    kind = at_home() if card.at_home else usual(server=True)
    return kind if runs_on(kind, card) else usual()


def _budget(settings: Mapping[str, Any]) -> "Budget | None":
    from weighbridge.machines.accelerators.budget import budget

    return budget(settings.get("gpu"), settings.get("gpu_memory"), settings.get("headroom"))


def of_width(forms: tuple[str, ...], bits: int) -> tuple[str, ...]:
    """Return the formats of `bits` bits: those that an engine makes while loading, else the first
    that needs a converted file."""
    alike = tuple(form for form in forms if int(BITS[form]) == bits)
    converted = tuple(form for form in alike if form not in OF_CHECKPOINTS)
    return converted or alike[:1]


def _named_bits(asker: Asker, report: "Report") -> int:
    """Return the bits of the format in the question or the model's name; PUBLISHED for weights as
    stored."""
    form = report.workload["quantization"]
    stored = form is None or any(part.packed for part in asker.model().parts)
    return PUBLISHED if stored else int(BITS.get(str(form), PUBLISHED))


def _weights(rung: Rung) -> int:
    """Return the bytes of a rung's weights, at least, on all devices together."""
    bits = BITS.get(rung.format)
    if bits is None:
        return weights(rung.report) * max(1, rung.verdict.devices_used)
    return int(rung.report.model.parameters * bits / 8)


def loss(report: "Report") -> "Finding | None":
    """Return the published loss of the format, on this model or the nearest of its family."""
    from weighbridge.answers.remedies.losses import of_model

    form = report.workload["quantization"]
    return None if form is None else of_model(report.model, form)


def _smallest(rungs: list[Rung]) -> Rung:
    """Return the rung with the fewest bits that is still useful: four, else the first one."""
    return next((rung for rung in reversed(rungs) if rung.bits >= min(WIDTHS)), rungs[0])


def _cards(room: "Budget", need: int, most: int) -> list[str]:
    """Return the names of cards, with counts up to `most`, whose total memory exceeds `need` bytes
    of weights; smallest first."""
    from weighbridge.machines.accelerators.parts import parts

    here, count, known = room.choice.part, room.choice.count, parts()
    sold = [known[f"{here.vendor.lower()}-{name}"] for name in LADDERS.get(here.vendor, ())]
    larger = [part for part in sold if part.total.bytes.low > here.total.bytes.low]
    counts = [1] if here.vendor in ALONE else [number for number in COUNTS if number <= most]
    sizes = [
        (part, number)
        for part in (here, *larger)
        for number in sorted({count, *(c for c in counts if c > count)})
    ]
    need = max(need, room.usable.high * count + 1)
    able = [(part.room.low * number, number, part) for part, number in sizes]
    able = sorted((one for one in able if one[0] >= need), key=lambda one: one[:2])
    return [named(part, number) for _, number, part in able[:TRIED]]
