"""The screen of this machine: accelerators, then memory, versions and what is missing."""

from collections.abc import Iterator

from weighbridge.base.units import GIB, human
from weighbridge.base.wording import printable
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.records import (
    Block,
    Column,
    Grid,
    Headline,
    Lines,
    Note,
    Screen,
    Section,
    lines,
    row,
)
from weighbridge.machines.accelerators.diagnosis import DiagnosedDevice, Diagnosis, Extra

MOST = 16  # most devices on a screen; JSON has all


def screen(diagnosis: Diagnosis, lang: str = "en") -> Screen:
    words = words_in(lang)
    title = words("doctor.title", version=diagnosis.versions.get("weighbridge", ""))
    if not diagnosis.here:
        title = words("doctor.title.output", source=diagnosis.seen[0].source)
    return Screen(
        title=title,
        sections=tuple(section for section in _sections(diagnosis, words) if section),
        footer=(_next_step(diagnosis, words),) if diagnosis.here else (),
        lang=lang,
    )


def _next_step(diagnosis: Diagnosis, words: Words) -> str:
    known = any(accelerator.card for accelerator in diagnosis.accelerators)
    return words("doctor.next" if known else "doctor.next.none")


def _sections(diagnosis: Diagnosis, words: Words) -> Iterator[Section]:
    yield (_headline(diagnosis, words), *_device_blocks(diagnosis, words))
    yield tuple(Note(printable(note)) for note in diagnosis.notes)
    yield tuple(_host_lines(diagnosis, words))
    yield tuple(_version_lines(diagnosis, words))
    yield tuple(_extras_table(diagnosis, words))


def _headline(diagnosis: Diagnosis, words: Words) -> Headline:
    count = len(diagnosis.accelerators)
    if not count:
        none = words("doctor.none" if diagnosis.here else "doctor.none.output")
        return Headline(none, printable(diagnosis.why) or words("doctor.none.told"), None)
    return Headline(
        words.some("doctor.one", "doctor.several", count), _figures(diagnosis, words), None
    )


def _figures(diagnosis: Diagnosis, words: Words) -> str:
    cards = [accelerator.card for accelerator in diagnosis.accelerators if accelerator.card]
    if not cards:
        return words("doctor.unknown")
    free = [c.free.low for c in cards if c.free is not None]
    if len(cards) > 1 and len(free) == len(cards):
        low, high = _size(min(free)), _size(max(free))
        key = "doctor.free.alike" if low == high else "doctor.free.several"
        return words(key, low=low, high=high)
    total = cards[0].part.room.low
    if not free:
        return words("doctor.total", total=_size(total))
    return words("doctor.free", free=_size(free[0]), total=_size(total))


def _size(nbytes: int | None) -> str:
    if nbytes is None:
        return ""
    return human(nbytes) if abs(nbytes) < GIB else f"{nbytes / GIB:,.1f} GiB"


def _device_blocks(diagnosis: Diagnosis, words: Words) -> Iterator[Block]:
    known = [accelerator for accelerator in diagnosis.accelerators if accelerator.card][:MOST]
    if known:
        columns = (
            Column(words("doctor.number")),
            Column(words("doctor.name"), folds=True),
            Column(words("doctor.driver"), right=True),
            Column(words("doctor.kept"), right=True, rank=2),
            Column(words("doctor.used"), right=True, rank=1),
            Column(words("doctor.left"), right=True),
        )
        yield Grid(columns, tuple(row(*_row(accelerator, words)) for accelerator in known))
    for accelerator in diagnosis.accelerators[:MOST]:
        if accelerator.card is None:
            why = accelerator.device.why
            yield lines(
                words("doctor.unread", name=printable(accelerator.name), why=printable(why))
            )
    if diagnosis.missing:
        yield Note(words("doctor.asked", names=", ".join(diagnosis.missing)))
    yield from _raw_outputs(diagnosis, words)


def _row(accelerator: DiagnosedDevice, words: Words) -> Iterator[str]:
    assert accelerator.card is not None
    card, device = accelerator.card, accelerator.device
    idle, total = card.part.room.expected, card.part.total.bytes.expected
    reserved = ("" if card.part.room.exact else "~") + _size(total - idle)
    name = (
        f"{accelerator.name} ({words('doctor.shared')})"
        if card.part.shares_host
        else accelerator.name
    )
    yield str(device.index)
    yield printable(name)
    yield _size(total)
    yield reserved
    yield _size(max(0, idle - card.free.expected)) if card.free else ""
    yield _size(card.free.low) if card.free else ""


def _raw_outputs(diagnosis: Diagnosis, words: Words) -> Iterator[Lines]:
    """Yield the raw numbers that each program printed; equal lines are shown once."""
    for seen in diagnosis.seen:
        outputs = [
            _raw_line(device.raw, device.index) for device in seen.devices[:MOST] if device.raw
        ]
        if outputs:
            heading = words("doctor.printed", source=seen.source)
            yield lines(*dict.fromkeys(outputs), heading=heading)


def _raw_line(raw: object, index: int) -> str:
    assert isinstance(raw, dict)
    figures = ", ".join(f"{name} {value}" for name, value in raw.items() if value)
    return printable(f"#{index} {figures}")


def _host_lines(diagnosis: Diagnosis, words: Words) -> Iterator[Lines]:
    host = diagnosis.host
    sentences = []
    if host.total is not None and host.available is not None:
        left, total = _size(host.available), _size(host.total)
        sentences.append(words("doctor.ram.left", left=left, total=total, source=host.source))
    elif host.total is not None:
        sentences.append(words("doctor.ram.total", total=_size(host.total)))
    elif diagnosis.here:
        sentences.append(words("doctor.ram.unknown"))
    sentences += [
        words("doctor.ram.limit", left=_size(r.nbytes), source=r.source) for r in host.limits
    ]
    if sentences:
        yield lines(*sentences, heading=words("doctor.ram"))


def _version_lines(diagnosis: Diagnosis, words: Words) -> Iterator[Lines]:
    sentences = [" · ".join(f"{name} {version}" for name, version in diagnosis.versions.items())]
    have = [f"{name} {version}" for name, version in diagnosis.packages.items() if version]
    lack = [name for name, version in diagnosis.packages.items() if not version]
    if have:
        sentences.append(words("doctor.installed", names=" · ".join(have)))
    if lack:
        sentences.append(words("doctor.not_installed", names=", ".join(lack)))
    if any(sentences):
        yield lines(*map(printable, sentences), heading=words("doctor.versions"))


def _extras_table(diagnosis: Diagnosis, words: Words) -> Iterator[Grid]:
    missing = [extra for extra in diagnosis.extras if extra.missing]
    if missing:
        heads = (words("doctor.extra.command"), words("doctor.extra.for"))
        yield Grid(
            (Column(heads[0]), Column(heads[1], folds=True)),
            tuple(row(extra.install, _purpose(extra, words)) for extra in missing),
            heading=words("doctor.extras"),
        )


def _purpose(extra: Extra, words: Words) -> str:
    key = f"doctor.extra.{extra.name}"
    if key in words.sentences:
        return words(key)
    return words("doctor.extra.other", missing=", ".join(extra.missing))
