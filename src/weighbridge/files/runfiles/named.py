"""Models that prose names: by their names on the Hub, everyday names and tags."""

import re
from collections.abc import Iterator

from weighbridge.base.records import NamedTuple
from weighbridge.files.runfiles.document import Document
from weighbridge.models.catalogue import everyday, pipelines

MOST_TEXT = 60_000  # characters that are searched: a GitHub issue may have 65,536
OLLAMA = re.compile(  # a line of `ollama ps`
    r"(?m)^[ \t]*(?P<name>[\w./-]+:[\w.-]+)[ \t]+[0-9a-f]{12}[ \t]+"
    r"(?P<size>[\d.]+) (?P<unit>[GM]B)[ \t]+(?:(?P<cpu>\d+)%/)?\d+%[^\n]*?"
    r"[ \t](?P<context>\d{3,8})[ \t]"
)
PLAIN = re.compile(r"(?i)(?:qwen|llama|gemma|mistral|phi|deepseek)[\d. -]*")  # a family alone
HOSTED = re.compile(
    r"(?<![A-Za-z\d_.-])(?=([A-Za-z0-9][\w.-]{1,40}/[A-Za-z][\w.-]{2,90})(:(?:UD-)?I?Q\d\w+)?)"
)
NAMED = re.compile(  # Ollama's tags too
    r"(?<![A-Za-z\d_/.])(?=((?:[A-Za-z][- ])?[A-Za-z]{2,24}"
    r"(?:[ -]?[\d.]{1,8}(?:[nslmx]|vl)?(?![A-Za-z\d]))?"
    r"(?:(?:[- ]|:(?=e?\d[\dx.]{0,6}[bmt](?![A-Za-z])))[A-Za-z0-9._]{1,24}){0,6}))"
)
HEAD = re.compile(r"[\w.-]{1,60}-$")  # the beginning of a name whose end was matched
COMMENT = re.compile(r"(?m)(?<=[(\[{,=\"')\]])[ \t]*#[^\n]*")  # behind code of a line
# What follows a name if it means another release or model: FLUX.2, LTX 2.3, Flux2Klein
VERSION = re.compile(
    r"[A-Za-z\d]|[ .-]?v?\d{1,2}\.\d{1,2}(?![\d.]| ?(?:GB|s\b|sec))|[.-]\d{1,2}(?!\d)"
    r"| \d(?![\d.]| ?(?:[x\u00d7*-]|GB|GPU|card|image|step|frame|s\b|sec|h\b|min|day|time|LoRA))"
)
FAMILY = re.compile(  # Family2.5-VL-72B-Instruct-AWQ
    r"(?i)(?<![\w/.-])(?:qwen|llama|gemma|mistral|phi|deepseek|glm|internvl|minicpm|kimi|gpt-oss)"
    r"[\w.]{0,12}-(?:[\w.]{1,20}-){0,4}\d{1,4}(?:\.\d)?b(?:-[\w.]{1,20}){0,5}"
)
# The rest of a path to a program's file, whose folders are no models
OF_A_FILE = re.compile(r"(?:/[\w.-]{1,80}){1,8}?\.(?:toml|ya?ml|json|py|sh)\b")
MOST_WORDS = 6  # of a name with blanks: Qwen3 30B A3B Instruct 2507
LONG_NAME = 7  # characters of a name without a size: glm-5.2


class Piece(NamedTuple):
    """A value found in a text, and its line."""

    value: str
    line: int
    assumed: str = ""  # the part of the value that was assumed, and why
    listed: bool = False  # from a program's output, not from the writer


def piece_of(document: Document, match: "re.Match[str]", value: str) -> Piece:
    return Piece(value, document.line_of(match.start()))


def models(document: Document) -> list[Piece]:
    """Return the models named in a text, each once, by line; the title's comes first."""
    text = COMMENT.sub(lambda match: " " * len(match[0]), document.text[:MOST_TEXT])
    pieces: dict[str, Piece] = {}
    for match in HOSTED.finditer(text):
        last = match[1].rpartition("/")[2].rstrip(".")
        entry = "" if OF_A_FILE.match(text, match.end(1)) else known(last)
        if entry and entry not in pieces:
            name = last if _in_a_path(text, match.start()) else match[1].rstrip(".")
            pieces[entry] = piece_of(document, match, f"{name}{match[2] or ''}")
    end, outer = 0, ""  # of the name before
    for match in NAMED.finditer(text):
        names = [*filter(known, beginnings(match[1]))]
        if names and match.start(1) < end and known(names[0]) != outer:
            continue  # the end of another name: qwen 32b of deepseek r1 distill qwen 32b
        head = HEAD.search(text[max(0, match.start(1) - 60) : match.start(1)]) if names else None
        if head and known(head[0] + names[0]):
            continue  # the end of another name: Qwen-32B of DeepSeek-R1-Distill-Qwen-32B
        if names:  # the shorter of two names with one meaning: "llama3.1 8b 4090"
            name = [n for n in names if stored(n) == stored(names[0])][-1]
            end, outer = match.start(1) + len(names[0]), known(name)
            piece = piece_of(document, match, name)
            before = pieces.setdefault(known(name), piece)
            if before.value.endswith(
                f" {name}"
            ):  # the word before the name is not part of it: "dpo llama-3.1-8b"
                pieces[known(name)] = piece
    return sorted(pieces.values(), key=lambda piece: piece.line)


def pipeline(document: Document, *, plain: bool = False) -> Piece | None:
    """Return the first image or video pipeline that a text names, by its catalogue name. A name
    that is also a word ("wan", "flux") counts only if the text is `plain`: names and numbers, no
    sentences."""
    known = (piece for piece, other in _pipelines(document, plain) if not other)
    return next(known, None)


def unknown_pipeline(document: Document) -> str:
    """Return the text's first pipeline of a known series but of an unknown release; "" if none."""
    return next((other for _, other in _pipelines(document, plain=False) if other.strip()), "")


def _pipelines(document: Document, plain: bool) -> Iterator[tuple[Piece, str]]:
    """Yield (pipeline, "") for each pipeline in the text, or with the name of an unknown release
    that it means."""
    text = document.text[:MOST_TEXT]
    for match in NAMED.finditer(text):
        for name in beginnings(match[1]):
            names = plain or re.search(r"[A-Z\d]|\w[ -]\w", name)
            one = pipelines.find(name) if names else None
            if one is not None:
                more = VERSION.match(text, match.start(1) + len(name))
                other = f"{name}{more[0]}" if more else ""
                yield piece_of(document, match, one.name), other
                break


def _in_a_path(text: str, start: int) -> bool:
    """Return whether the text at `start` continues a path or a web address."""
    behind = text[max(start - 1, 0) : start] in ("/", ":", "@")
    return behind or "://" in text[max(start - 60, 0) : start]


def beginnings(phrase: str) -> Iterator[str]:
    """Yield the beginnings of a phrase, longest first, since names may have blanks."""
    words = re.split(r"(?<=[ ])", re.sub(r"(\d) ([bB])\b", r"\1\2", phrase))
    for count in range(min(len(words), MOST_WORDS), 0, -1):
        yield "".join(words[:count]).strip(" .,-")


def known(name: str) -> str:
    """Return the catalogue entry that a name means; "" for none, or for a mere word."""
    digits = re.search(r"\d", name) and re.search(r"[A-Za-z]{2}", name)
    sized = re.search(r"(?i)\d[\d.]*b(?:\b|[-_])", name) or len(name) >= LONG_NAME
    if not digits or not sized or PLAIN.fullmatch(name):
        return ""
    return (stored(name) or ("",))[0]


def stored(name: str) -> tuple[str, str] | None:
    """Return (entry, format) of a name in the catalogue; None if unknown."""
    meaning = everyday.meaning(name)
    return meaning and (meaning.name, meaning.quantization)


def unknown_model(document: Document) -> str:
    """Return the first name that looks like a model with its size, is of a known family, but not in
    the catalogue; "" if none."""
    for match in FAMILY.finditer(document.text[:MOST_TEXT]):
        name = match[0].rstrip(".-")
        if not known(name):
            return name
    return ""


def positions(name: str) -> int | None:
    """Return the context length in tokens of a catalogue model, by its name on the Hub."""
    return _of_config(name, "max_position_embeddings")


def _of_config(name: str, key: str) -> int | None:
    plain = re.sub(r"(?i)[-_.]gguf(?::.*)?$", "", name.rpartition("/")[2])
    meaning = everyday.meaning(plain)
    config = meaning.entry.config if meaning is not None else {}
    value = {**config, **(config.get("text_config") or {})}.get(key)
    return value if isinstance(value, int) else None
