"""Models and cards that prose names: by their names on the Hub, everyday names and tags, and by
the tables of programs that list them."""

import math
import re
from collections.abc import Iterator, Mapping

from weighbridge.catalogue import everyday
from weighbridge.errors import UsageError
from weighbridge.records import NamedTuple
from weighbridge.runfiles.document import Document
from weighbridge.units import UNITS

MOST_TEXT = 60_000  # characters of a text that are looked at: an issue may have 65,536
OLLAMA = re.compile(  # a line of `ollama ps`
    r"(?m)^[ \t]*(?P<name>[\w./-]+:[\w.-]+)[ \t]+[0-9a-f]{12}[ \t]+"
    r"(?P<size>[\d.]+) (?P<unit>[GM]B)[ \t]+\d+%[^\n]*?[ \t](?P<context>\d{3,8})[ \t]"
)
PLAIN = re.compile(r"(?i)(?:qwen|llama|gemma|mistral|phi|deepseek)[\d. -]*")  # a family alone
HOSTED = re.compile(r"(?<![A-Za-z\d_.-])(?=([A-Za-z0-9][\w.-]{1,40}/[A-Za-z][\w.-]{2,90}))")
NAMED = re.compile(
    r"(?<![A-Za-z\d_/.])(?=([A-Za-z]{2,24}(?:[ -]?[\d.]{1,8}(?![A-Za-z\d]))?"
    r"(?:[- ][A-Za-z0-9.]{1,24}){0,6}))"
)
TAG = re.compile(r"`([a-z][a-z0-9.-]*:\d[\w.-]*)`")  # a model of Ollama
CARD = re.compile(
    r"(?i)(?:(?P<before>\d{1,3}) ?[x\u00d7*] ?|(?P<count>\d{1,3}|[两二四八])(?:卡|[张块]|张卡| ))?"
    r"(?P<first>\d{2,3} ?GB )?"
    r"(?:NVIDIA |GeForce |AMD |Apple )*"
    r"(?P<name>(?:RTX ?)?A6000|RTX ?\d{4}(?: Ti)?(?: D)?|[345]0[5-9]0(?: ?Ti)?|H100(?: NVL)?"
    r"|H20(?![A-Za-z0-9])|H200|"
    r"B200|A100|A800|L40S?|L4(?![A-Za-z0-9])|V100|MI\d{2,3}X?|M[1-4] (?:Pro|Max|Ultra))s?"
    r"(?P<size>[ (-]*\d{2,3} ?GB?(?![A-Za-z0-9]))?"
    r"(?:\)? ?[x\u00d7*] ?(?P<after>\d{1,2})(?![\d.]|[ ]?GB?))?"
)
ROCM = re.compile(r"(?m)^\d{1,2}[ \t]+\d{1,3}[ \t]+(0x[0-9a-f]{4}),")  # a row of `rocm-smi`
PCI_IDS = {"0x66a1": "MI50 32GB", "0x740f": "MI210", "0x74a1": "MI300X"}  # by pci.ids
SMI = re.compile(  # a line for each card, as nvidia-smi and scripts list them
    r"(?m)^[ \t]*(?:GPU )?(?P<index>\d{1,2}): (?:NVIDIA )?(?P<name>[A-Z][\w .-]{2,40}?),? "
    r"\d{4,6} ?MiB\b"
)
UNIFIED = re.compile(
    r"(?i)\bunified memory[:：]?[ ]{0,2}(\d{2,3}) ?GB|\b(\d{2,3}) ?GB[ ](?:of )?(?:unified|Apple)"
)
GGML = re.compile(  # a line of ggml_cuda_init, for each card
    r"(?m)^[ \t]*Device \d{1,2}: (?P<name>[^,\n]{3,60}),"
    r"[^\n]{0,120}?(?:VRAM: (?P<mib>\d{3,7}) MiB|$)"
)
COUNT = re.compile(
    r"(?i)(?<![A-Za-z\d._-])(\d{1,3}|[单一两二四八])[ ]?(?:卡|[张块](?:卡|显卡|GPU))"
    r"|(?<![A-Za-z\d._-])(\d{1,3})[ ]?x?[ ]?(?:GPUs|cards)\b"
)
MORE_ROWS = "{rows} rows of it are there, and `ollama ps` shows more than they hold (assumed)"
CHINESE = {"单": 1, "一": 1, "两": 2, "二": 2, "四": 4, "八": 8}
LONG_NAME = 7  # characters of a name without a size: glm-5.2


class Piece(NamedTuple):
    """Something that was found in a text, and the line where it stands."""

    value: str
    line: int
    assumed: str = ""  # what of the value the text does not say, and why it is taken


def piece_of(document: Document, match: "re.Match[str]", value: str) -> Piece:
    return Piece(value, document.line_of(match.start()))


def models(document: Document) -> list[Piece]:
    """Return the models that a text names, each once, in the order of its lines: a title leads."""
    text = document.text[:MOST_TEXT]
    found: dict[str, Piece] = {}
    for match in HOSTED.finditer(text):
        last = match[1].rpartition("/")[2].rstrip(".")
        at = match.start()
        path = text[max(at - 1, 0) : at] in ("/", ":", "@") or "://" in text[max(at - 60, 0) : at]
        entry = known(last)
        if entry and entry not in found:
            found[entry] = piece_of(document, match, last if path else match[1].rstrip("."))
    for match in NAMED.finditer(text):
        for name in _beginnings(match[1]):
            entry = known(name)
            if entry:
                found.setdefault(entry, piece_of(document, match, name))
                break
    for match in TAG.finditer(text):
        if everyday.meaning(match[1]) is not None:
            found.setdefault(match[1], piece_of(document, match, match[1]))
    return sorted(found.values(), key=lambda piece: piece.line)


def _beginnings(phrase: str) -> Iterator[str]:
    """Yield the beginnings of a phrase, the longest first: a name may have blanks in it."""
    words = re.split(r"(?<=[ ])", re.sub(r"(\d) ([bB])\b", r"\1\2", phrase))
    for count in range(min(len(words), 4), 0, -1):
        yield "".join(words[:count]).strip(" .,-")


def known(name: str) -> str:
    """Return the entry of the catalogue that a name means; "" where it is none, or only a word."""
    digits = re.search(r"\d", name) and re.search(r"[A-Za-z]{2}", name)
    sized = re.search(r"(?i)\d[\d.]*b(?:\b|[-_])", name) or len(name) >= LONG_NAME
    if not digits or not sized or PLAIN.fullmatch(name):
        return ""
    meaning = everyday.meaning(name)
    return meaning.entry.name if meaning is not None else ""


def positions(name: str) -> int | None:
    """Return the context that a model of the catalogue was made for, by its name on the Hub."""
    plain = re.sub(r"(?i)[-_.]gguf(?::.*)?$", "", name.rpartition("/")[2])
    meaning = everyday.meaning(plain)
    config = meaning.entry.config if meaning is not None else {}
    found = {**config, **(config.get("text_config") or {})}.get("max_position_embeddings")
    return found if isinstance(found, int) else None


def card(document: Document) -> Piece | None:
    """Return the cards of a text where all that it names are of one kind, with their number where
    it says that, or where a program lists each; else None."""
    listed = _of_smi(document)
    if listed is not None:
        return listed
    kinds = _card_kinds(document)
    if len(kinds) != 1:
        return None
    count, piece = next(iter(kinds.values()))
    count = count if count > 1 else _counted_apart(document.text[:MOST_TEXT])
    return piece._replace(value=f"{piece.value}:{count}" if count > 1 else piece.value)


def several_cards(document: Document) -> tuple[str, ...]:
    """Return the cards that a text names where none of them is taken: of several kinds, or of a
    name that says too little."""
    if card(document) is not None:
        return ()
    text = document.text[:MOST_TEXT]
    kinds = {piece.value: None for _, piece in _card_kinds(document).values()}
    unsure = {" ".join(m["name"].split()): None for m in CARD.finditer(text) if not _part(m)[0]}
    return tuple({**kinds, **unsure})


def _card_kinds(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return each kind of card that a text names, how many of it and where."""
    kinds: dict[str, tuple[int, Piece]] = {}
    memory = _unified(document)
    for match in CARD.finditer(document.text[:MOST_TEXT]):
        count = _number(match["before"] or match["count"] or match["after"] or "1")
        part, name = _part(match, memory)
        if part:
            most = max(count, kinds.get(part, (0, None))[0])
            kinds[part] = (most, piece_of(document, match, name))
    kinds = _without_shorter(kinds) or _of_rocm_smi(document)
    for kind, (count, piece) in _of_ggml(document).items():
        if kind in kinds or not kinds:
            kinds[kind] = max((count, piece), kinds.get(kind, (0, piece)), key=lambda each: each[0])
    return kinds


def _part(match: "re.Match[str]", memory: str = "") -> tuple[str, str]:
    """Return the id of the card that a match of CARD names, and the name that it was found by; ""
    where it is none, or several. `memory`: GB that the text says apart, of machines that share
    it."""
    from weighbridge.accelerators.names import find

    size = re.sub(r"[^0-9]", "", match["size"] or match["first"] or "") or (
        memory if match["name"][:1] in "Mm" and match["name"][1:2].isdigit() else ""
    )
    for name in ((f"{match['name']} {size}GB",) if size else ()) + (match["name"],):
        try:
            return find(name).part.id, name
        except UsageError:
            continue
    return "", ""


def _unified(document: Document) -> str:
    """Return the GB of a memory that card and processor share, where a text says one size of it."""
    text = document.text[:MOST_TEXT]
    found = {match[1] or match[2] for match in UNIFIED.finditer(text)}
    return found.pop() if len(found) == 1 else ""


def _of_smi(document: Document) -> Piece | None:
    """Return the cards that a program lists, a line each with its memory, in their order."""
    from weighbridge.accelerators.names import find

    rows = list(SMI.finditer(document.text[:MOST_TEXT]))
    if len(rows) < 2 or [int(row["index"]) for row in rows] != list(range(len(rows))):
        return None
    names = [row["name"] for row in rows]
    value = f"{names[0]}:{len(names)}" if len(set(names)) == 1 else "+".join(names)
    try:
        find(value)
    except UsageError:
        return None
    return piece_of(document, rows[0], value)


def _counted_apart(text: str) -> int:
    """Return how many cards a text says apart from their name: "8卡", "8 GPUs"; 1 where it says
    nothing, or several numbers."""
    counts = {_number(match[1] or match[2]) for match in COUNT.finditer(text)}
    return counts.pop() if len(counts) == 1 else 1


def _number(text: str) -> int:
    return CHINESE.get(text) or int(text)


def ggml_memory(document: Document) -> int | None:
    """Return the MiB that llama.cpp counts on each of its devices; None where it does not say."""
    sizes = {match["mib"] for match in GGML.finditer(document.text[:MOST_TEXT])}
    return int(size) if len(sizes) == 1 and (size := sizes.pop()) else None


def _of_ggml(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return the cards that llama.cpp found: one line each."""
    from weighbridge.accelerators.names import find

    rows = list(GGML.finditer(document.text[:MOST_TEXT]))
    if len({row["name"] for row in rows}) != 1:
        return {}
    try:
        part = find(rows[0]["name"]).part
    except UsageError:
        return {}
    return {part.id: (len(rows), piece_of(document, rows[0], rows[0]["name"]))}


def _of_rocm_smi(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return the cards of a table of `rocm-smi`: as many as have rows, and no fewer than hold what
    `ollama ps` shows."""
    from weighbridge.accelerators.names import find

    rows = [match for match in ROCM.finditer(document.text[:MOST_TEXT]) if match[1] in PCI_IDS]
    if not rows or len({match[1] for match in rows}) > 1:
        return {}
    part = find(PCI_IDS[rows[0][1]]).part
    shown = max(
        (float(m["size"]) * UNITS[m["unit"]] for m in OLLAMA.finditer(document.text)), default=0
    )
    count = max(len(rows), math.ceil(shown / part.total.bytes.expected))
    piece = piece_of(document, rows[0], PCI_IDS[rows[0][1]])
    if count > len(rows):
        piece = piece._replace(assumed=MORE_ROWS.format(rows=len(rows)))
    return {part.id: (count, piece)}


def _without_shorter(kinds: Mapping[str, tuple[int, Piece]]) -> dict[str, tuple[int, Piece]]:
    """Leave out a name that is the beginning of another: `H100` beside `H100 NVL`."""
    names = [piece.value for _, piece in kinds.values()]
    kept = {
        key: (count, piece)
        for key, (count, piece) in kinds.items()
        if not any(n != piece.value and n.startswith(piece.value) for n in names)
    }
    most = max((count for count, _ in kinds.values()), default=1)
    return {key: (max(count, most if len(kept) == 1 else 1), p) for key, (count, p) in kept.items()}
