"""The weight formats that an engine reads: the rows of its table, how they are searched, and the
refusal of a format that an engine's release does not read on a card, which names the formats that
it reads and the engines that read this one.

Each engine has formats.txt in its folder; what no row names is not read. A row has a pattern of
format names as `--quantization` takes them; GGUF means a GGUF file, and a format without a name of
ours goes by the quant_method of its config. After that come facts, or -, and the source. `how` says
what the engine does with them:

    loaded     kept quantized on the device, as stored or as the engine quantizes them
    made       quantized while loading, only from a 16-bit checkpoint: none is stored so
    unpacked   stored so, and converted to another format or to floats when loaded
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
FILE = "GGUF"  # a GGUF file, whatever types are in it
BITSANDBYTES = r"(nf4|fp4)(-dq)?|bnb-int8"
FLOAT8 = r"fp8-(tensor|block|static|dynamic)|w8a8-fp8"
TORCHAO = r"torchao-.*"
SHORT = {"<bitsandbytes>": BITSANDBYTES, "<float8>": FLOAT8, "<torchao>": TORCHAO}  # in formats.txt
EVERYWHERE: "tuple[SoftwareStack, ...]" = ("cuda", "hip", "own")


class Reads(NamedTuple):
    """Formats read alike. Releases and compute capabilities are the first that do."""

    forms: str  # a pattern of their names
    source: str
    since: Version = ()
    until: Version = ()  # the first release that no longer does; (): none
    least: tuple[int, int] = (0, 0)  # compute capability, of CUDA devices
    native: tuple[int, int] = (0, 0)  # first that multiplies in it; older ones multiply in 16 bits
    stacks: "tuple[SoftwareStack, ...]" = EVERYWHERE
    methods: str = ""  # pattern of the quant_method that it is stored under; "": any
    how: How = "loaded"
    note: str = ""  # appended to the reasons if it is not read

    def names(self, form: "WeightFormat") -> bool:
        """Return whether the row covers the format, whatever the release and the device."""
        if re.fullmatch(self.forms, form.name) is None:
            return False
        if not form.stored:
            return self.how != "unpacked"
        stored = self.how != "made"
        return stored and (not self.methods or bool(re.fullmatch(self.methods, form.method)))

    def released(self, version: Version) -> bool:
        return self.since <= version and not (self.until and version >= self.until)

    def runs(self, part: "Part | None") -> bool:
        """Return whether the device has all that the format needs; True for an unknown device."""
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
    """A format that the user sets, or that a checkpoint is stored in, with the quant_method of its
    config."""

    name: str
    stored: bool = False
    method: str = ""


def reads(rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None") -> bool:
    """Return whether an engine of that release reads the format on that device."""
    return reading_row(rows, form, version, part) is not None


def reading_row(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> Reads | None:
    """Return the row by which the release reads the format on the device, None if it does not."""
    fitting = (row for row in rows if row.released(version) and row.runs(part))
    return next((row for row in fitting if row.names(form)), None)


def listed(
    rows: Iterable[Reads], names: Iterable[str], version: Version, part: "Part | None"
) -> tuple[str, ...]:
    """Return those of `names` that --quantization accepts for that release and device."""
    rows = tuple(rows)
    return tuple(name for name in names if reads(rows, WeightFormat(name), version, part))


def makes(rows: Iterable[Reads], name: str) -> bool:
    """Return whether an engine makes the format of 16-bit checkpoints, and none is stored."""
    return any(row.how == "made" and row.names(WeightFormat(name)) for row in rows)


def offered(kind: Engine, version: Version, part: "Part | None") -> tuple[str, ...]:
    """Return the formats that remedies may offer: those of `formats` it reads there."""
    return listed(kind.reading, kind.formats, version, part)


def lacking(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> str:
    """Return what an unread format would need: another release, another card; "" if no release
    reads it on any card."""
    about = [row for row in rows if row.names(form)]
    there = [row for row in about if row.released(version)] or about
    nearest = min((row.least for row in there), default=(0, 0))  # name only the lowest threshold
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
TOGETHER = ", (?:experts|others) "  # separates formats of one checkpoint: quantization/declared.py


class Loader(NamedTuple):
    """The engine and its release that load a model, and the card that they load it on."""

    engine: Engine
    version: Version
    card: "Part | None" = None
    reference: str = ""  # the model as the user named it


def check_format(part: ModelPart, choice: FormatChoice, asked: str | None, by: Loader) -> None:
    """Raise NotServedError if the format is not read. `asked` is the value of --quantization, None
    if the checkpoint decides."""
    for f in formats_of(part, choice, asked):
        if not reads(by.engine.reading, f, by.version, by.card):
            mixed = choice.scheme is not None and f.stored and not of_mlx(part)
            whole = choice.scheme.name if choice.scheme and mixed else f.name
            others, away = elsewhere(f, by)
            raise NotServedError(refusal(f, by, whole), others, by.engine.name, away=away)


def formats_of(part: ModelPart, choice: FormatChoice, asked: str | None) -> Iterator[WeightFormat]:
    """Yield the formats that an engine must read: one, or each of a mixed checkpoint."""
    form = choice.scheme.name if choice.scheme else ""
    if of_mlx(part):
        yield from stored(part, declared_name(part))
    elif part.packed and asked in (None, form):
        yield from stored(part, form) if form or choice.as_stored else ()
    elif asked is not None:
        yield WeightFormat(form)
        if asked != form:  # the engine's own name of it
            yield WeightFormat(asked.lower())


def stored(part: ModelPart, form: str) -> Iterator[WeightFormat]:
    """Yield a checkpoint's stored formats, by our name or else the quant_method."""
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
    """Return why a format is not read, and what is. `whole` names a mixed checkpoint."""
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
    """Return (sentence on engines that read a format, whether only on other devices); "" if another
    release or card of this engine does."""
    others, away = who_reads(form, by)
    if others or lacking(by.engine.reading, form, by.version, by.card):
        return others, away
    return sentence("nobody_reads"), False


def readable_names(by: Loader) -> tuple[str, ...]:
    """Return one name of each kind that --quantization accepts there; GGUF types are one kind."""
    from weighbridge.models.quantization.schemes import GGUF, NAMES

    kinds = (listed((row,), NAMES, by.version, by.card) for row in by.engine.reading)
    first = dict.fromkeys(names[0] for names in kinds if names)
    others = tuple(name for name in first if name not in GGUF)
    return others if len(others) == len(first) else (*others, "types of GGUF (Q4_K_M...)")


def by_default(part: ModelPart, asked: str | None, card: "Part | None") -> Engine:
    """Return the engine for a question that names none: the usual one or, if that does not read the
    checkpoint or the format that the user set, the first that does and runs on the device."""
    first = usual(gguf=part.library == "gguf")
    wanted = (WeightFormat(asked),) if asked else tuple(stored(part, declared_name(part)))
    if not wanted:
        return first
    able = (kind for kind in (first, *ENGINES.values()) if runs_on(kind, card))
    reading = (k for k in able if all(reads(k.reading, f, k.newest, card) for f in wanted))
    return next(reading, first)


def declared_name(part: ModelPart) -> str:
    """Return our name of the format that a config declares; "" without one."""
    if part.quantization is None:
        return ""
    from weighbridge.models.quantization.declared import declared

    try:
        return declared(part.quantization).name
    except (UnsupportedError, BadFileError):
        return ""


def of_mlx(part: ModelPart) -> bool:
    """Return whether weights are in MLX's own packing, which no other engine unpacks (ollama/ollama
    issue 15175)."""
    return part.packed and declared_name(part).startswith("mlx-")


def who_reads(form: WeightFormat, by: Loader) -> tuple[str, bool]:
    """Return (sentence naming other engines whose newest release reads the format, whether only on
    other devices); "" if none does."""
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
    """Return whether our rules for an engine cover this device."""
    if card is None:
        return not kind.metal
    return card.vendor == "Apple" if kind.metal else not (kind.server and card.stack == "own")
