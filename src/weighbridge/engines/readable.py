"""Refuses formats of weights that an engine's release does not read on a card, with those that it
does and with the engines that read it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import FormatChoice
from weighbridge.engines.engine import Engine, Version, written
from weighbridge.engines.reads import FILE, WeightFormat, lacking, listed, reads
from weighbridge.engines.table import ENGINES, usual
from weighbridge.errors import BadFileError, NotServedError, UnsupportedError
from weighbridge.wording import either

if TYPE_CHECKING:
    from weighbridge.accelerators.parts import Part

LISTED = 5  # formats that a refusal names
TOGETHER = ", experts "  # between the formats of a mixed checkpoint: quantization/declared.py


class Loader(NamedTuple):
    """Who loads a model, and where."""

    engine: Engine
    version: Version
    card: "Part | None" = None
    reference: str = ""  # how the model was called


def check(part: ModelPart, choice: FormatChoice, asked: str | None, by: Loader) -> None:
    """Raises NotServedError for a format that is not read. `asked` is what --quantization said,
    None where the checkpoint decides."""
    for f in formats(part, choice, asked):
        if not reads(by.engine.reading, f, by.version, by.card):
            whole = choice.scheme.name if choice.scheme and f.stored else f.name
            raise NotServedError(told(f, by, whole), elsewhere(f, by), by.engine.name)


def formats(part: ModelPart, choice: FormatChoice, asked: str | None) -> Iterator[WeightFormat]:
    """Yield the formats that an engine must read: one, or those of a mixed checkpoint."""
    form = choice.scheme.name if choice.scheme else ""
    if part.packed and asked in (None, form):
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
    method = method_of(part)
    for name in (form or method).split(TOGETHER):
        if name:
            yield WeightFormat(name, stored=True, method=method)


def method_of(part: ModelPart) -> str:
    return str((part.quantization or {}).get("quant_method") or "").lower()


def told(f: WeightFormat, by: Loader, whole: str = "") -> str:
    """One line: what is not read and why, and what is. `whole` names a mixed checkpoint."""
    who = f"{by.engine.title} {written(by.version)}"
    if f.stored:
        form = whole or f.name
        what = f"{by.reference}: its weights are stored in {form}, which {who} does not read"
    else:
        what = f"--quantization {f.name}: {who} does not read it"
    why = lacking(by.engine.reading, f, by.version, by.card)
    others = [name for name in read(by) if name != f.name]
    more = f" and {len(others) - LISTED} kinds more" if len(others) > LISTED else ""
    known = f"it reads {', '.join(others[:LISTED])}{more}"
    beside = known if others else "it reads nothing but plain weights there"
    return f"{what}{why and ': '}{why}; {beside}"


def elsewhere(form: WeightFormat, by: Loader) -> str:
    """Name the engines that read a format; "" where another release or card of this engine does."""
    why = lacking(by.engine.reading, form, by.version, by.card)
    return who_reads(form, by) or ("" if why else "no engine here reads it")


def read(by: Loader) -> tuple[str, ...]:
    """One name of each kind that can be asked for there; types of GGUF are one kind."""
    from weighbridge.quantization.schemes import GGUF, NAMES

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
    from weighbridge.quantization.declared import declared

    try:
        return declared(part.quantization).name
    except (UnsupportedError, BadFileError):
        return ""


def who_reads(form: WeightFormat, by: Loader) -> str:
    """Name engines whose newest release reads it, on that device where they run there."""
    others = [kind for kind in ENGINES.values() if kind.name != by.engine.name]
    reading = [kind for kind in others if reads(kind.reading, form, kind.newest, None)]
    here = [kind for kind in reading if runs_on(kind, by.card)]
    here = [kind for kind in here if reads(kind.reading, form, kind.newest, by.card)]
    if not reading:
        return ""
    named = either(kind.name for kind in here or reading)
    macs = " on a Mac" if all(kind.metal for kind in reading) else " elsewhere"
    return f"--engine {named} does{'' if here else macs}"


def runs_on(kind: Engine, card: "Part | None") -> bool:
    """Tell whether our rules for an engine are of such devices."""
    if card is None:
        return not kind.metal
    return card.vendor == "Apple" if kind.metal else not (kind.server and card.stack == "own")
