"""Names that people type -> one part and a count.

    4090   rtx4090   NVIDIA GeForce RTX 4090   4090 48G   A100 80G   a100-80gb:8   2x RTX 4090
    4张3090   8卡A800   A10*4   p5.48xlarge   m3 max 128gb   a100-80gb/1g.10gb   24GiB
    1x4090+1x3090

Two spellings are one name if they agree without case, separators, the maker's words and "GB". A
name is first compared with those of a part (its id, name or alias), else with names derived from
those: without the size or the form factor, or with a size that the part is sold with. If a derived
name fits several parts, the error lists them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from weighbridge.base.cost import short_name
from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import human, parse_size
from weighbridge.base.wording import spelled_like
from weighbridge.machines.accelerators.parts import (
    Instance,
    MemoryFigure,
    Part,
    instances,
    parts,
    slice_of,
)
from weighbridge.machines.accelerators.spelling import (
    AT,
    FILLER,
    FORM,
    PIECES,
    SERIES,
    SIZE,
    compact,
    derived,
    essence,
    generations,
    normal,
    orders,
    unbracketed,
)

JOINED = re.compile(r"(?<!\bmax)\+", re.I)  # two cards; not "Ryzen AI Max+ 395"
MEMORY = re.compile(r"\d+(?:\.\d+)? ?[kmgt](?:i?b)?")
MAC = re.compile(r"(?:apple )?mac(?:book)?(?: (?:mini|studio|pro|air))* (?P<size>\d+) ?gi?b?")
OF_A_CARD = re.compile(r"\d{1,3}(?!\d)")
SLICE = re.compile(r"(?:[/ :-]|\bmig\b)+(\d+g\.\d+gb)(?:[+.]\w+)?$")  # ".me" in a Kubernetes label
# "4张3090", "A10*4", "A800 8卡", "8 A100"; kept as text, since few names have a count
COUNTS = (
    rf"(?P<count>\d{{1,9}}) *(?:[x\u00d7*]|{PIECES}) *(?P<name>.+)",
    r"(?P<name>.+?) *[x\u00d7*:,] *(?P<count>-?\d{1,9}(?:\.\d+)?)",
    rf"(?P<name>.+?) *(?P<count>\d{{1,9}}) *{PIECES}",
    r"(?P<count>\d{1,3}) +(?P<name>.+)",  # of four digits it is a name: 5090 16GB
    r"(?P<name>tpu ?v\d\w*)-(?P<count>\d{1,4})",  # a slice: TPU v5e-8
)
MOST = 1 << 14  # devices, our limit: more than the largest published trainings
HOST = ("cpu", "cpus", "host", "ram", "none")  # words that are not accelerators
NUMBER = 3  # fewest digits that identify a card: 780
SHOWN = 5  # names in an error
SHORT, NAMES = 64, 512  # characters of names that are cached, and how many names
MIXED = 64  # cards per machine, assumed: the largest on sale hold 16


@frozen_record
class ChosenCard:
    """One of several cards. `room`: the bytes of it that a process can use, with which the verdict
    compares; for a card of this machine, what was measured as `free`."""

    part: Part
    room: Bytes
    free: Bytes | None = None


@frozen_record
class DeviceChoice:
    """The devices that a text means."""

    part: Part  # for mixed cards, the one with the least room
    count: int = 1
    note: str = ""  # other meanings of the name
    cards: tuple[ChosenCard, ...] = ()  # in order, if they differ or were measured
    others: tuple[Part, ...] = ()  # other sizes that the name could mean

    @property
    def mixed(self) -> bool:
        """Return whether the cards differ in kind or in usable memory."""
        return len({(c.part.id, c.part.name, c.room) for c in self.cards}) > 1

    @property
    def room(self) -> Bytes:
        """Return the bytes per device that the verdict compares with; if cards differ, the
        least."""
        return least(self.cards).room if self.cards else self.part.room


def find(text: str) -> DeviceChoice:
    """Return the part and the count that `text` means. Raises UsageError with the nearest names."""
    short_name(text, "--gpu")
    return _again(text) if len(text) <= SHORT else _device_named(text)


@lru_cache(maxsize=NAMES)
def _again(text: str) -> DeviceChoice:
    """Return the devices that a short text means, from the cache."""
    return _device_named(text)


def _device_named(text: str) -> DeviceChoice:
    pieces = [one.strip() for one in JOINED.split(text)]
    if 1 < len(pieces) <= MIXED and all(map(_is_one, pieces)):
        return _mixed(text, pieces)
    typed = normal(text)
    choice = _device(typed)
    if choice is not None:
        return _whole(text, choice)
    for pattern in COUNTS:
        match = re.fullmatch(pattern, typed)
        inner = _device(match["name"]) if match else None
        if match and inner:
            count = int(match["count"]) if match["count"].isdecimal() else 0
            return _times(inner, count, text)
    if len(pieces) > 1:  # which of the pieces is unknown
        _mixed(text, pieces[: MIXED + 1])
    if bare := re.match(AT, typed):
        return _device_named(typed[bare.end() :])
    raise _unknown(text, typed)


def _whole(text: str, choice: DeviceChoice) -> DeviceChoice:
    """Return `choice`. Raises UsageError if a plus in the text has a card on only one side; some
    names end with a plus."""
    plus = text.strip()
    if not plus.startswith("+") and not plus.endswith("+"):
        return choice
    if any(name.casefold().endswith("+") for name in (choice.part.name, *choice.part.aliases)):
        return choice
    raise UsageError(sentence("joins_one", text=text))


def _is_one(text: str) -> bool:
    """Return whether a text names a device by itself."""
    try:
        return bool(text) and find(text).count > 0
    except UsageError:
        return False


def _mixed(text: str, pieces: Sequence[str]) -> DeviceChoice:
    """Return several kinds of cards in one machine, in the typed order. Raises UsageError if one is
    unknown."""
    named = [find(one) for one in pieces]
    if sum(c.count for c in named) > MIXED:
        raise UsageError(sentence("mixed", text=text, most=MIXED))
    first = named[0].part
    for other in (c.part for c in named):
        if (other.vendor, other.shares_host) != (first.vendor, first.shares_host):
            raise UsageError(sentence("two_stacks", text=text, card=first.name, other=other.name))
    cards = tuple(ChosenCard(part=c.part, room=c.part.room) for c in named for _ in range(c.count))
    if len({c.part.id for c in cards}) == 1:
        return DeviceChoice(part=first, count=len(cards), note=named[0].note)
    notes = [*(c.note for c in named if c.note), in_words(cards)]
    return DeviceChoice(part=least(cards).part, count=len(cards), note=clauses(*notes), cards=cards)


def least(cards: Iterable[ChosenCard]) -> ChosenCard:
    """Return the card with the least usable memory; among equals, the oldest."""
    return min(cards, key=lambda c: (c.room.low, c.part.capability or (99, 0)))


def in_words(cards: Iterable[ChosenCard]) -> str:
    """Return a sentence on what is assumed about cards that differ."""
    small = least(cards).part.name
    return sentence("cards_differ", card=small)


def sized(text: str) -> Part:
    """Return a device of which only the bytes usable by a process are known."""
    nbytes = parse_size(text)
    if nbytes <= 0:
        raise UsageError(sentence("device_memory", text=text))
    figure = MemoryFigure(exactly(nbytes), "read", "as you said")
    return Part(
        id=text.strip(),
        name=f"a device with {human(nbytes)}",
        vendor="",
        kind="gpu",
        marketed_gb=-(-nbytes // 10**9),
        also_sold_as=(),
        aliases=(),
        compute_capability=None,
        total=figure,
        visible=figure,
        mig=(),
        slices={},
        context=None,
    )


def search(pattern: str) -> tuple[list[Part], list[Instance]]:
    """Return parts and instances whose name contains `pattern`, or that have that size or name."""
    typed = normal(pattern)
    size = re.fullmatch(r"(\d+)g", compact(typed))
    matching = [
        p
        for p in parts().values()
        if (size and int(size[1]) in (p.marketed_gb, *p.also_sold_as)) or _within(typed, _said(p))
    ]
    if not matching:
        named = _named(pattern)
        matching = [named] if named else []
    ids = {p.id for p in matching} if typed else set()
    machines = [
        i
        for i in instances().values()
        if i.part in ids or _within(typed, (i.id, i.name, i.provider))
    ]
    return matching, machines


def _said(part: Part) -> tuple[str, ...]:
    return (part.id, part.name, part.vendor, *part.aliases)


def _within(typed: str, names: Iterable[str]) -> bool:
    joined, key = compact(typed), essence(typed)
    texts = [normal(name) for name in names]
    return any(joined in compact(text) or key in essence(text) for text in texts)


def _named(pattern: str) -> Part | None:
    """Return the part of the catalogue that `pattern` means, unless a machine has that name."""
    try:
        part = find(pattern).part
    except UsageError:
        return None
    meant_a_machine = _within(normal(pattern), (i.name for i in instances().values()))
    return part if part.vendor and not meant_a_machine else None


def _times(choice: DeviceChoice, count: int, text: str) -> DeviceChoice:
    if count < 1:
        raise UsageError(sentence("card_count", text=text))
    if choice.count * count > MOST:
        raise UsageError(sentence("many_devices", text=text, count=choice.count * count, most=MOST))
    return replace(choice, count=choice.count * count)


def _device(typed: str) -> DeviceChoice | None:
    """Return the device that `typed` names without a count; None if it names none. The size may
    precede the name or the form factor, and the name may be plural ("3090s")."""
    match = SLICE.search(typed)
    if match:
        return _slice(typed[: match.start()], match[1])
    if mac := MAC.fullmatch(typed):
        return _mac_of_size(typed, int(mac["size"]))
    size = FILLER.sub("", typed).strip()
    sized_alone = MEMORY.fullmatch(size) is not None
    if sized_alone and OF_A_CARD.match(size):  # not part of a card's name: 48gb
        return _device_of_size(size)
    choices = (_ordered(text) for text in orders(typed))
    usual = next((one for one in choices if one is not None), None)
    return _device_of_size(size) if usual is None and sized_alone else usual


def _ordered(typed: str) -> DeviceChoice | None:
    key = essence(typed)
    for spelling in (compact(typed), key, key + "g"):
        names = _listed().get(spelling)
        if names is not None:
            others = _others(names.part, key)
            return replace(names, note=_told(names.part, others), others=others)
        part = _derived(spelling, typed)
        if part is not None:
            return DeviceChoice(part=part)
    return None


def _device_of_size(typed: str) -> DeviceChoice:
    """Return a device named only by its size, with a note on the reading. GB that cards are sold
    with mean what such cards give; GiB, and other sizes, are exact."""
    part, note = sized(typed), ""
    sold = [
        p
        for p in parts().values()
        if re.fullmatch(rf"{p.marketed_gb} ?gi?b?", typed) and p.kind == "gpu" and p.stack != "own"
    ]
    if sold:
        known = max(sold, key=lambda p: (p.visible.basis == "read", p.capability or (0, 0)))
        least = min(p.visible.bytes.low for p in sold)
        most = max(p.visible.bytes.high for p in sold)
        gb, total = known.marketed_gb, known.total
        note = sentence("sold_with", gb=gb, low=human(least), high=human(most))
        if "i" not in typed:
            visible = Bytes(least, known.visible.bytes.expected, most)
            figure = MemoryFigure(visible, "assumed", "cards that are sold with it")
            part = replace(part, name=f"{gb} GB card", visible=figure, total=total)
            return DeviceChoice(part=part, note=note)
    size = part.visible.bytes.expected
    shown = typed.upper().replace("IB", "iB")
    read = sentence("read_as", typed=shown, size=size, human=human(size))
    return DeviceChoice(part=part, note=clauses(read, note))


def _mac_of_size(typed: str, gb: int) -> DeviceChoice | None:
    """Return a Mac with `gb` of memory: of the chips sold with it, the one that leaves least to a
    process, within each chip's interval. None if none is sold so."""
    chips = [p for p in parts().values() if p.vendor == "Apple" and p.marketed_gb == gb]
    if not chips:
        return None
    part = min(chips, key=lambda p: p.room.low)
    return DeviceChoice(part=replace(part, id=typed, name=f"Mac {gb}GB"))


def _slice(name: str, profile: str) -> DeviceChoice | None:
    whole = _device(name)
    if whole is None:
        return None
    if profile not in whole.part.mig:
        known = ", ".join(whole.part.mig) or "none"
        raise NotFoundError(
            sentence("no_slice", card=whole.part.name, profile=profile, known=known)
        )
    return DeviceChoice(part=slice_of(whole.part, profile), count=whole.count, note=whole.note)


@cache
def _listed() -> dict[str, DeviceChoice]:
    """Return the devices by listed name: of parts, then of instances; parts win."""
    index: dict[str, DeviceChoice] = {}
    for part in parts().values():
        names = (part.id, part.name, unbracketed(part.name), *part.aliases)
        choice = DeviceChoice(part=part)
        for typed in dict.fromkeys(typed for name in names for typed in generations(name)):
            index[essence(typed)] = index[compact(typed)] = choice
    for i in instances().values():
        for name in (i.id, i.name):
            index.setdefault(
                essence(normal(name)), DeviceChoice(part=parts()[i.part], count=i.count)
            )
    return index


@cache
def _parts_by_derived_name() -> dict[str, dict[str, Part]]:
    """Return {derived name: {id: part}} of the parts that each derived name fits."""
    index: dict[str, dict[str, Part]] = defaultdict(dict)
    for part in parts().values():
        for name in (unbracketed(part.name), *part.aliases):
            for text in generations(name):
                for key in derived(text, (part.marketed_gb, *part.also_sold_as)):
                    index[key][part.id] = part
    return index


def _others(part: Part, key: str) -> tuple[Part, ...]:
    """Return the parts of other sizes with the same derived name."""
    return tuple(
        p
        for p in _parts_by_derived_name().get(key, {}).values()
        if p.marketed_gb != part.marketed_gb and "modified" not in p.name
    )


def _told(part: Part, others: Sequence[Part]) -> str:
    """Return a sentence with other parts that a name could mean; "" without any."""
    names = ", ".join(p.name for p in others)
    return sentence("card_taken", card=part.name, others=names) if others else ""


def _derived(key: str, typed: str) -> Part | None:
    """Return the part that a derived name fits. Raises UsageError if it fits several."""
    spelled = _parts_by_derived_name().get(key, {})
    if len(spelled) <= 1:
        return next(iter(spelled.values()), None)
    names = ", ".join(part.name for part in spelled.values())
    raise UsageError(sentence("card_many", name=typed, names=names))


def _unknown(text: str, typed: str) -> NotFoundError:
    """Return an error with names that contain what was typed, then names that look like it."""
    if typed in HOST:
        return NotFoundError(sentence("card_host", name=text[:60]))
    key = "" if typed.isdigit() and len(typed) < NUMBER else essence(typed)[:40]
    names: dict[str, str] = {}
    for name, choice in _listed().items():
        names.setdefault(name, choice.part.name)
    close = [name for name in names if key and key in name]
    close += spelled_like(key, names, 2 * SHOWN) if key else []
    nearest = list(dict.fromkeys(names[name] for name in close))[:SHOWN]
    if nearest:
        return NotFoundError(sentence("card_near", name=text[:60], near=", ".join(nearest)))
    return NotFoundError(sentence("card_far", name=text[:60]))


def spoken(part: Part) -> str:
    """Return the shortest unique name of a part that people type: 5090, a100-80gb."""
    names = (unbracketed(part.name), *part.aliases)
    short = {text for name in names for text in (name, FORM.sub("", name.lower()))}
    short |= {SIZE.sub("", text.lower()) for text in short}
    typed = {SERIES.sub("", normal(text)).strip(" -").replace(" ", "-") for text in short}
    for name in sorted(filter(str.isascii, typed), key=lambda text: (len(text), text)):
        try:
            choice = find(name)
        except UsageError:
            continue
        if choice.part is part and choice.count == 1 and not choice.note:
            return name
    return part.id.partition("-")[2]


def spellings() -> dict[str, list[str]]:
    """Return the keys by which `find` knows each part or machine, by its id. They have no blanks,
    hyphens, case and maker's words: 4090, a10080g, p548xlarge."""
    machines = {key: i for i in instances().values() for key in _keys_of(i)}
    by_id: dict[str, list[str]] = {i.id: [] for i in instances().values()}
    for key, choice in _listed().items():
        machine = machines.get(key)
        rented = machine is not None and machine.part == choice.part.id
        by_id.setdefault(machine.id if machine and rented else choice.part.id, []).append(key)
    for key, fitting in sorted(
        _parts_by_derived_name().items()
    ):  # made of sets, which have no order
        if len(fitting) == 1 and key not in _listed() and not MEMORY.fullmatch(key):
            by_id.setdefault(next(iter(fitting)), []).append(key)
    return by_id


def _keys_of(machine: Instance) -> set[str]:
    return {essence(normal(name)) for name in (machine.id, machine.name)}
