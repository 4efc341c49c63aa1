"""Cards that prose names, how many of them, and which of several are the asker's own.

    dual 3090   双卡4090   3090s (x4)   an 8-GPU H100 node   4 GPUs (A10G)   g5.12xlarge
    my 4090 has 48GB   RTX 4090 Laptop   A100 80G, 8卡

Where a text names cards of two kinds, none of them is taken: whose they are is in its sentences.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain, islice

from weighbridge.base.errors import UsageError
from weighbridge.base.units import UNITS
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import MOST_TEXT, OLLAMA, Piece, piece_of
from weighbridge.files.runfiles.slurm import times

_SPOKEN = """单,一
两,二,双,two,dual,pair of,couple of,two of them,two of those
三,three,triple
四,four,quad
五,five
六,six
七,seven
八,eight"""
_COUNTS: Mapping[str, int] = {
    word: count for count, words in enumerate(_SPOKEN.split("\n"), 1) for word in words.split(",")
}
_WORD = "|".join(word for word in _COUNTS if word.isascii())
_SIGN = "".join(word for word in _COUNTS if not word.isascii())
_NAMES = (
    r"RTX PRO \d{4}(?: Blackwell)?(?: (?:Workstation|Max-Q|Server Edition))?"
    r"|RTX ?6000 PRO|RTX6KPRO|(?:RTX ?)?\d{4} (?:SFF )?Ada(?: Generation)?"
    r"|(?:RTX ?)?A[2456][05]00(?!\d)"
    r"|(?:[RG]TX ?\d{4}|[345]0[5-9]0(?!\d)|(?:1[06]|20)[5-8]0(?= ?(?:Ti|SUPER)))"
    r"(?: ?Ti)?(?: SUPER)?(?: ?D(?![A-Za-z0-9]))?(?: (?:Laptop|Mobile))?"
    r"|(?:RX ?\d{4}|[679]\d\d0(?= ?(?:XT|GRE)))(?: ?(?:XTX?|GRE))?"
    r"|TITAN (?:RTX|V|Xp)(?![A-Za-z0-9])"
    r"|H100(?: NVL)?|H20(?![A-Za-z0-9])|H[28]00|G[BH]200|B[23]00|A[18]00|L40S?|MI\d{2,3}X?"
    r"|(?:V100(?-i:S)?|(?-i:T4|L4|L20|A10G?|A[34]0|P40|P100))(?!(?!s\b)[A-Za-z0-9])"
    r"|Arc (?:Pro )?[AB]\d{2,3}|(?-i:B[567]0)(?![A-Za-z0-9])"
    r"|(?:Ascend|昇腾) ?(?:910[BC]?[1-4]?|310P)(?![A-Za-z0-9])"
    r"|Jetson (?:AGX (?:Xavier|Orin|Thor)|Orin (?:Nano|NX)|Nano)"
    r"|DGX Spark|Strix Halo|(?:Ryzen )?AI Max\+? 395|M[1-5] (?:Pro|Max|Ultra)"
)
CARD = re.compile(
    r"(?i)(?<![A-Za-z0-9_.])"
    rf"(?:(?P<before>\d{{1,3}}) ?[x\u00d7*] ?|(?P<count>\d{{1,3}}|[{_SIGN}])"
    r"(?:[ ]?卡|[ ]?[张块]卡?| (?:pieces|pcs|nos\.?|units)(?: of)? | ) ?"
    rf"|(?P<word>(?:{_WORD})[ -]|双))?"
    r"(?P<first>\d{2,3} ?GB )?"
    r"(?:NVIDIA |GeForce |AMD |ROCm |Radeon |Apple |Tesla )*"
    rf"(?P<dgx>DGX )?(?P<name>{_NAMES})s?(?:[- ](?:SXM\d?|PCIe))?"
    r"(?: (?P<many>\d{1,2}) ?[x\u00d7*](?= ?\d{2,3} ?G))?"
    r"(?P<size>(?:[ (\uff08-]|魔改版?|mod(?:d|ifi)ed )*\d{2,3} ?GB?(?![A-Za-z0-9]))?"
    r"(?: (?:has|with|having) (?:the |a )?(?P<own>\d{2,3}) ?GB)?"
    r"(?:\)?[ ,]{0,2}\(? ?[x\u00d7*] ?(?P<after>\d{1,2})(?![\d.]|[ ]?GB?)"
    r"|[ ]?\((?P<times>\d{1,2}) ?[x\u00d7]\))?"
)
NODES = re.compile(  # "4 nodes with 8 H100 each", "4机8卡", "2*8*h20"
    rf"(?i)(?<![\w.-])(\d{{1,3}}|{_WORD}|[{_SIGN}]) ?(?:(?:nodes|machines|servers)\b[ ,]{{1,2}}"
    r"(?:each )?(?:[a-z]{1,12} )?(?:with|of|having|[x\u00d7*]) ?|[机台]|个?节点"
    r"|台机器[，,]?(?:每台)?|[x\u00d7*] ?)(?=$|\x1f)"
)
COUNTED_BY = ("before", "count", "word", "after", "times", "many")  # groups of CARD
PER_SERVER = 8  # cards of a DGX A100, H100, H200 or B200 (NVIDIA's data sheets)
BEFORE = 60  # characters before a card that are searched
OF_OTHERS = re.compile(  # words before a number that counts no cards
    r"(?ai)\b(?:size|bs|batch|rank|alpha|len(?:gth)?|ctx|context|tokens|seq|steps?|epochs?|workers|"
    r"accumulation|frames|users|qwen|llama|gemma|mistral|phi|glm|flux|wan)"
    r"(?: of| is|_size)?[ :=]{0,2}$"
)
MACHINE = re.compile(  # a rented machine, by its cloud's name
    r"(?<![\w.-])(?:g[4-6][a-z]{0,3}|p[3-6][a-z]{0,3})\.\d{0,2}x?large\b"
    r"|\ba[23]-(?:high|mega|ultra)gpu-\d{1,2}g\b"
)
OF_HOST = re.compile(r"(?i) ?(?:Gi?B)?[- ]?(?:of )?(?:system|host|main|DDR|RAM|CPU)(?![a-z])")
OF_SIZE_ALONE = re.compile(r"(?:\d+gb)?")  # the id of a device of some size, no named card
ROCM = re.compile(r"(?m)^\d{1,2}[ \t]+\d{1,3}[ \t]+(0x[0-9a-f]{4}),")  # a row of `rocm-smi`
PCI_IDS = {"0x66a1": "MI50 32GB", "0x740f": "MI210", "0x74a1": "MI300X"}  # by pci.ids
SMI = re.compile(  # one line per card, as nvidia-smi, nvidia-smi -L and scripts list them
    r"(?m)^(?:[ \t]*(?:GPU )?(?P<index>\d{1,2}): (?:NVIDIA )?(?P<name>[A-Z][\w .-]{2,40}?)"
    r"(?:,? \d{4,6} ?MiB\b| \(UUID: GPU-)"
    r"|\|[ ]{2,4}(?P<row>\d{1,2})[ ]{2}(?:NVIDIA )?(?P<shown>[A-Z][\w .-]{2,40}?)[ ]+"
    r"(?:On|Off|N/A)[ ]+\|)"
)
LISTS = re.compile(r"UUID|\|")  # a line of nvidia-smi itself, which lists all cards
UNIFIED = re.compile(
    r"(?i)\b(?:unified memory[:：]?[ ]{0,2}"
    r"|mac(?:book)?(?: (?:studio|mini|pro|air))? (?:has|with) )(\d{2,3}) ?GB"
    r"|\b(\d{2,3}) ?GB[ ](?:of )?(?:unified|Apple|mac(?:book)?(?![a-z]))"
)
GGML = re.compile(  # a line of ggml_cuda_init per card
    r"(?m)^[ \t]*Device \d{1,2}: (?P<name>[^,\n]{3,60}),"
    r"[^\n]{0,120}?(?:VRAM: (?P<mib>\d{3,7}) MiB|$)"
)
COUNT = re.compile(
    rf"(?i)(?<![A-Za-z\d._-])(\d{{1,3}}|[{_SIGN}])[ ]?(?:卡|[张块](?:卡|显卡|GPU))"
    rf"|(?<![A-Za-z\d._-])(\d{{1,3}}|{_WORD})(?:[ ]?x?[ ]?(?:GPUs|cards)|[- ]GPU)\b"
    r"|\bGPU (?:number|count)[ ]*:[ ]*(\d{1,3})\b"
)
MOST_NAMES = 500  # card names in one text
MORE_ROWS = "{rows} rows of it are there, and `ollama ps` shows more than they hold (assumed)"
Kinds = Mapping[str, tuple[int, Piece]]  # id of a card -> (count, where it is named)


def card(document: Document) -> Piece | None:
    """Return the cards that a text names, if all are of one kind; else None. They have their count
    if the text states it or a program lists each."""
    listed = _cards_of_smi_list(document)
    if listed is not None:
        return listed
    kinds = _card_kinds(document)
    if len(kinds) != 1:
        return None
    count, piece = next(iter(kinds.values()))
    if MACHINE.fullmatch(piece.value):
        return piece
    count = count if count > 1 else _counted_apart(document.text[:MOST_TEXT])
    return piece._replace(value=f"{piece.value}:{count}" if count > 1 else piece.value)


def several_cards(document: Document) -> tuple[str, ...]:
    """Return the cards that a text names if `card` returns none, because they are of several kinds
    or a name is ambiguous."""
    if card(document) is not None:
        return ()
    text = document.text[:MOST_TEXT]
    kinds = {piece.value: None for _, piece in _card_kinds(document).values()}
    unsure = {
        " ".join(m["name"].split()): None
        for m in islice(CARD.finditer(text), MOST_NAMES)
        if not _card_and_name(m)[0]
    }
    return tuple({**kinds, **unsure})


def _card_kinds(document: Document) -> Kinds:
    """Return the kinds of cards that a text names for its run: id -> (count, place)."""
    kinds = _without_shorter(_all_card_kinds(document)) or _of_rocm_smi(document)
    named = dict(kinds)
    for kind, (count, piece) in _cards_of_ggml_log(document).items():
        if kind in named or not named:
            named[kind] = max((count, piece), named.get(kind, (0, piece)), key=lambda each: each[0])
    return named


def _all_card_kinds(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return all kinds of cards that a text names: id -> (count, place)."""
    kinds: dict[str, tuple[int, Piece]] = {}
    memory = _unified_memory(document)
    text = document.text[:MOST_TEXT]
    for match in chain(*(islice(p.finditer(text), MOST_NAMES) for p in (CARD, MACHINE))):
        part, name = _card_and_name(match, memory)
        if part:
            before, _ = kinds.get(part, (0, None))
            count = 1 if match.re is MACHINE else count_of(match)
            kinds[part] = (max(count, before), piece_of(document, match, name))
    return kinds


def count_of(match: "re.Match[str]") -> int:
    """Return the number of cards in a match of CARD, over all machines."""
    groups: tuple[str, ...] = COUNTED_BY
    if match["count"] and OF_OTHERS.search(match.string[: match.start()][-BEFORE:]):
        groups = groups[2:]
    cards = _number(next((match[name] for name in groups if match[name]), "1"))
    nodes = NODES.search(match.string[max(match.start() - BEFORE, 0) : match.start()])
    cards *= PER_SERVER if match["dgx"] else 1
    in_all = nodes is not None and "机" in nodes[0] and cards > PER_SERVER  # 2机16卡
    return cards if nodes is None or in_all else cards * _number(nodes[1])


def _card_and_name(match: "re.Match[str]", memory: str = "") -> tuple[str, str]:
    """Return (id, name) of the matched card; "" for none or several. `memory`: GB stated elsewhere
    in the text, for a machine whose CPU and GPU share it."""
    name = match.groupdict().get("name") or match[0]
    shares = name[:1] in "Mm" and name[1:2].isdigit()
    size = re.sub(r"[^0-9]", "", _size(match, shares=shares)) or (memory if shares else "")
    names = (f"{name} {size}GB", name) if size else (name,)
    if not shares and _is_ram(match) and OF_SIZE_ALONE.fullmatch(part_id(names[0])):
        names = names[::-1]
    return next(((part, each) for each in names if (part := part_id(each))), ("", ""))


@lru_cache(MOST_NAMES)
def part_id(name: str) -> str:
    """Return the id of the card that `name` means; "" for none or several."""
    from weighbridge.machines.accelerators.names import find

    try:
        return find(name).part.id
    except UsageError:
        return ""


def _size(match: "re.Match[str]", *, shares: bool) -> str:
    """Return the size next to a card's name; "" without one, or if it is the host's memory. For a
    card that `shares` the host's memory, that size counts too."""
    named = match.groupdict()
    stated = named.get("own") or ""
    if stated and not shares and OF_HOST.match(match.string, match.end("own")):
        stated = ""
    return named.get("size") or stated or named.get("first") or ""


def _is_ram(match: "re.Match[str]") -> bool:
    """Return whether the size after a card's name is called RAM: "4090 32GB RAM"."""
    size = match.groupdict().get("size")
    return bool(size and OF_HOST.match(match.string, match.end("size")))


def _unified_memory(document: Document) -> str:
    """Return the GB of unified memory that a text states, "" if none or several sizes."""
    text = document.text[:MOST_TEXT]
    sizes = {match[1] or match[2] for match in UNIFIED.finditer(text)}
    return sizes.pop() if len(sizes) == 1 else ""


def _cards_of_smi_list(document: Document) -> Piece | None:
    """Return the cards that a program lists, one per line, in order; of several lists the first.
    None without a list."""
    from weighbridge.machines.accelerators.names import find

    rows = list(SMI.finditer(document.text[:MOST_TEXT]))
    names = [
        row["name"] or row["shown"]
        for number, row in enumerate(rows)
        if number == int(row["index"] or row["row"])
    ]
    if not names or (len(names) == 1 and not LISTS.search(rows[0][0])):
        return None
    value = times(names[0], len(names)) if len(set(names)) == 1 else "+".join(names)
    try:
        find(value)
    except UsageError:
        return None
    return piece_of(document, rows[0], value)._replace(listed=True)


def _counted_apart(text: str) -> int:
    """Return the number of cards stated away from their name: "8卡", "8 GPUs"; 1 for none or
    several numbers."""
    counts = {_number(match[match.lastindex or 1]) for match in COUNT.finditer(text)}
    return counts.pop() if len(counts) == 1 else 1


def _number(text: str) -> int:
    word = text.strip(" -").lower()
    return _COUNTS.get(word) or int(word)


def ggml_memory(document: Document) -> int | None:
    """Return the MiB that llama.cpp logs for each of its devices; None without that line."""
    sizes = {match["mib"] for match in GGML.finditer(document.text[:MOST_TEXT])}
    return int(size) if len(sizes) == 1 and (size := sizes.pop()) else None


def _cards_of_ggml_log(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return the cards that llama.cpp logged, one line each: id -> (count, place)."""
    from weighbridge.machines.accelerators.names import find

    rows = list(GGML.finditer(document.text[:MOST_TEXT]))
    if len({row["name"] for row in rows}) != 1:
        return {}
    try:
        part = find(rows[0]["name"]).part
    except UsageError:
        return {}
    piece = piece_of(document, rows[0], rows[0]["name"])
    return {part.id: (len(rows), piece._replace(listed=True))}


def _of_rocm_smi(document: Document) -> dict[str, tuple[int, Piece]]:
    """Return the cards of a `rocm-smi` table: one per row, and at least as many as hold the model
    that `ollama ps` shows."""
    from weighbridge.machines.accelerators.names import find

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


def _without_shorter(
    kinds: Mapping[str, tuple[int, Piece]],
) -> dict[str, tuple[int, Piece]]:
    """Return the kinds without a name that begins another: no `H100` if the text has `H100 NVL`."""
    names = [piece.value for _, piece in kinds.values()]
    longest = {
        key: counted
        for key, counted in kinds.items()
        if not any(n != counted[1].value and n.startswith(counted[1].value) for n in names)
    }
    most = max((count for count, _ in kinds.values()), default=1)
    least = most if len(longest) == 1 else 1
    return {key: (max(count, least), piece) for key, (count, piece) in longest.items()}
