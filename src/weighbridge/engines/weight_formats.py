"""The formats of weights that an engine reads: a row of its table, how the table is asked, and the
refusal of a format that an engine's release does not read on a card, with those that it does and
with the engines that read it.

Each engine has formats.txt in its folder, and what no row of it names is not read. A row names
formats as `--quantization` does, by a pattern of the whole name; GGUF is a file of it, and what has
no name of ours goes by the quant_method of its config. Behind that stand facts, or -, and the
source. `how` says what becomes of them:

    loaded     packed on the device, as they were stored or as the engine packs them
    made       the same, of a checkpoint in 16 bits alone: none is stored so
    unpacked   stored so, and turned into another format or into floats when it is loaded
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.base.errors import BadFileError, NotServedError, UnsupportedError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import about, clauses, sentence
from weighbridge.base.wording import either
from weighbridge.engines.engine import Engine, Version, release_of, written
from weighbridge.engines.table import ENGINES, usual
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.checkpoint.model import ModelPart

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part, SoftwareStack

How = Literal["loaded", "made", "unpacked"]
FILE = "GGUF"  # a file of that kind, whatever types are in it
BITSANDBYTES = r"(nf4|fp4)(-dq)?|bnb-int8"
FLOAT8 = r"fp8-(tensor|block|static|dynamic)|w8a8-fp8"
TORCHAO = r"torchao-.*"
SHORT = {"<bitsandbytes>": BITSANDBYTES, "<float8>": FLOAT8, "<torchao>": TORCHAO}  # in formats.txt
EVERYWHERE: "tuple[SoftwareStack, ...]" = ("cuda", "hip", "own")


class Reads(NamedTuple):
    """Formats that are read alike. Releases and compute capabilities are the first that do."""

    forms: str  # a pattern of their names
    source: str
    since: Version = ()
    until: Version = ()  # the first release that does not; (): there is none
    least: tuple[int, int] = (0, 0)  # compute capability, of CUDA devices
    native: tuple[int, int] = (0, 0)  # that multiplies in it; older ones multiply in 16 bits
    stacks: "tuple[SoftwareStack, ...]" = EVERYWHERE
    methods: str = ""  # a pattern of the quant_method that it is stored under; "": any
    how: How = "loaded"
    note: str = ""  # what else is said where it is not read

    def names(self, form: "WeightFormat") -> bool:
        """Tell whether the row is about such a format, whatever the release and the device."""
        if re.fullmatch(self.forms, form.name) is None:
            return False
        if not form.stored:
            return self.how != "unpacked"
        stored = self.how != "made"
        return stored and (not self.methods or bool(re.fullmatch(self.methods, form.method)))

    def released(self, version: Version) -> bool:
        return self.since <= version and not (self.until and version >= self.until)

    def runs(self, part: "Part | None") -> bool:
        """Tell whether the device has all that the format needs; of an unknown device, yes."""
        if part is None:
            return True
        enough = part.capability is None or part.capability >= self.least
        return part.stack in self.stacks and enough


@cache
def rows(package: str) -> tuple[Reads, ...]:
    """Return the rows of formats.txt in an engine's folder."""
    return tuple(map(_row, lines_beside(import_module(package).__file__ or "", "formats.txt")))


def _row(line: str) -> Reads:
    forms, facts, text = line.split(maxsplit=2)
    for short, pattern in SHORT.items():
        forms = forms.replace(short, pattern)
    source, _, note = text.partition(" -- ")
    row = Reads(forms, source, note=note)
    for name, _, value in (fact.partition("=") for fact in facts.split(",") if fact != "-"):
        row = row._replace(**{name: READERS.get(name, str)(value)})
    return row


def _stacks(text: str) -> "tuple[SoftwareStack, ...]":
    return tuple(stack for stack in EVERYWHERE if stack in text.split("+"))


READERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("since", "until", "least", "native"), release_of),
    "stacks": _stacks,
}


class WeightFormat(NamedTuple):
    """A format that is asked for, or that a checkpoint is stored in, under the method of its
    config."""

    name: str
    stored: bool = False
    method: str = ""


def reads(rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None") -> bool:
    """Tell whether an engine of that release reads the format on that device."""
    return reading_row(rows, form, version, part) is not None


def reading_row(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> Reads | None:
    """Find the row by which the format is read; None where it is not."""
    fitting = (row for row in rows if row.released(version) and row.runs(part))
    return next((row for row in fitting if row.names(form)), None)


def listed(
    rows: Iterable[Reads], names: Iterable[str], version: Version, part: "Part | None"
) -> tuple[str, ...]:
    """Return those of `names` that can be asked for there."""
    rows = tuple(rows)
    return tuple(name for name in names if reads(rows, WeightFormat(name), version, part))


def makes(rows: Iterable[Reads], name: str) -> bool:
    """Tell whether an engine packs checkpoints in 16 bits to a format in which none is stored."""
    return any(row.how == "made" and row.names(WeightFormat(name)) for row in rows)


def offered(kind: Engine, version: Version, part: "Part | None") -> tuple[str, ...]:
    """Return what remedies may offer of an engine: those of its `formats` that are read there."""
    return listed(kind.reading, kind.formats, version, part)


def lacking(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> str:
    """Say what a format that is not read would need: another release, another card; "" where no
    release reads it on any."""
    about = [row for row in rows if row.names(form)]
    there = [row for row in about if row.released(version)] or about
    nearest = min((row.least for row in there), default=(0, 0))  # one threshold is enough
    there = [row for row in there if row.least == nearest]
    return clauses(*dict.fromkeys(_needs(there, version, part)))


def _needs(rows: Iterable[Reads], version: Version, part: "Part | None") -> Iterator[str]:
    for row in rows:
        if row.since > version:
            yield sentence("since", release=written(row.since))
        elif not row.released(version):
            yield sentence("until", release=written(row.until))
        elif part is not None and part.stack not in row.stacks:
            yield sentence("on_alone", devices=_devices(row.stacks))
        elif part is not None and part.capability is not None:
            has, least = written(part.capability), written(row.least)
            yield sentence("capability.needs", least=least, card=part.name, has=has)
        if row.note:
            yield row.note


def _devices(stacks: "tuple[SoftwareStack, ...]") -> str:
    names = {"cuda": "CUDA", "hip": "ROCm", "own": "other"}
    return " and ".join(names[s] for s in stacks)


# Formats that are not read

LISTED = 5  # formats that a refusal names
TOGETHER = ", (?:experts|others) "  # between formats of one checkpoint: quantization/declared.py


class Loader(NamedTuple):
    """The engine and its release that load a model, and the card that they load it on."""

    engine: Engine
    version: Version
    card: "Part | None" = None
    reference: str = ""  # how the model was called


def check_format(part: ModelPart, choice: FormatChoice, asked: str | None, by: Loader) -> None:
    """Raises NotServedError for a format that is not read. `asked` is what --quantization said,
    None where the checkpoint decides."""
    for f in formats_of(part, choice, asked):
        if not reads(by.engine.reading, f, by.version, by.card):
            mixed = choice.scheme is not None and f.stored and not of_mlx(part)
            whole = choice.scheme.name if choice.scheme and mixed else f.name
            others, away = elsewhere(f, by)
            raise NotServedError(refusal(f, by, whole), others, by.engine.name, away=away)


def formats_of(part: ModelPart, choice: FormatChoice, asked: str | None) -> Iterator[WeightFormat]:
    """Yield the formats that an engine must read: one, or those of a mixed checkpoint."""
    form = choice.scheme.name if choice.scheme else ""
    if of_mlx(part):
        yield from stored(part, declared_name(part))
    elif part.packed and asked in (None, form):
        yield from stored(part, form) if form or choice.as_stored else ()
    elif asked is not None:
        yield WeightFormat(form)
        if asked != form:  # an engine's own name of it
            yield WeightFormat(asked.lower())


def stored(part: ModelPart, form: str) -> Iterator[WeightFormat]:
    """Formats that a checkpoint is stored in; what has no name of ours goes by its method."""
    if part.library == "gguf":
        yield WeightFormat(FILE, stored=True)
        return
    method = quant_method(part)
    for name in re.split(TOGETHER, form or method):
        if name:
            yield WeightFormat(name, stored=True, method=method)


def quant_method(part: ModelPart) -> str:
    return str((part.quantization or {}).get("quant_method") or "").lower()


def refusal(asked: WeightFormat, by: Loader, whole: str = "") -> str:
    """One line: what is not read and why, and what is. `whole` names a mixed checkpoint."""
    who = f"{by.engine.title} {written(by.version)}"
    form = whole or asked.name if asked.stored else asked.name
    what = sentence("stored_unread" if asked.stored else "unread", form=form, engine=who)
    why = lacking(by.engine.reading, asked, by.version, by.card)
    said = about(by.reference if asked.stored else "", about(what, why) if why else what)
    others = [name for name in readable_names(by) if name != asked.name]
    if not others:
        return clauses(said, sentence("reads_plain"))
    names, count = ", ".join(others[:LISTED]), len(others) - LISTED
    if count <= 0:
        return clauses(said, sentence("reads", names=names))
    return clauses(said, sentence("reads_more", names=names, count=count))


def elsewhere(form: WeightFormat, by: Loader) -> tuple[str, bool]:
    """Name the engines that read a format, and tell whether they do on other devices alone; ""
    where another release or card of this engine does."""
    others, away = who_reads(form, by)
    if others or lacking(by.engine.reading, form, by.version, by.card):
        return others, away
    return sentence("nobody_reads"), False


def readable_names(by: Loader) -> tuple[str, ...]:
    """One name of each kind that can be asked for there; types of GGUF are one kind."""
    from weighbridge.models.quantization.schemes import GGUF, NAMES

    kinds = (listed((row,), NAMES, by.version, by.card) for row in by.engine.reading)
    first = dict.fromkeys(names[0] for names in kinds if names)
    others = tuple(name for name in first if name not in GGUF)
    return others if len(others) == len(first) else (*others, "types of GGUF (Q4_K_M...)")


def by_default(part: ModelPart, asked: str | None, card: "Part | None") -> Engine:
    """The engine of a question that names none: the usual one, or where that does not read the
    checkpoint, or the format that was asked for, the first that does and runs on that device."""
    first = usual(gguf=part.library == "gguf")
    wanted = (WeightFormat(asked),) if asked else tuple(stored(part, declared_name(part)))
    if not wanted:
        return first
    able = (kind for kind in (first, *ENGINES.values()) if runs_on(kind, card))
    reading = (k for k in able if all(reads(k.reading, f, k.newest, card) for f in wanted))
    return next(reading, first)


def declared_name(part: ModelPart) -> str:
    """Our name of the format that a config declares; "" where it has none."""
    if part.quantization is None:
        return ""
    from weighbridge.models.quantization.declared import declared

    try:
        return declared(part.quantization).name
    except (UnsupportedError, BadFileError):
        return ""


def of_mlx(part: ModelPart) -> bool:
    """Tell whether weights are packed as MLX alone does, which nobody else unpacks (ollama/ollama
    issue 15175)."""
    return part.packed and declared_name(part).startswith("mlx-")


def who_reads(form: WeightFormat, by: Loader) -> tuple[str, bool]:
    """Name engines whose newest release reads it, on that device where they run there, and tell
    whether they do on others alone."""
    others = [kind for kind in ENGINES.values() if kind.name != by.engine.name]
    reading = [kind for kind in others if reads(kind.reading, form, kind.newest, None)]
    here = [kind for kind in reading if runs_on(kind, by.card)]
    here = [kind for kind in here if reads(kind.reading, form, kind.newest, by.card)]
    if not reading:
        return "", False
    named = either(kind.name for kind in here or reading)
    if here:
        return sentence("does_it", engines=named), False
    macs = all(kind.metal for kind in reading)
    return sentence("does_on_macs" if macs else "does_elsewhere", engines=named), True


def runs_on(kind: Engine, card: "Part | None") -> bool:
    """Tell whether our rules for an engine are of such devices."""
    if card is None:
        return not kind.metal
    return card.vendor == "Apple" if kind.metal else not (kind.server and card.stack == "own")
