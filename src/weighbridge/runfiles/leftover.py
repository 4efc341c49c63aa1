"""What a text says of a run in words and nobody took: named, so that all else is the default.

    "LoRA with sample packing and 3 images a prompt"    said, and not taken: packing, 3 images

Flags that decide no memory are none of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from weighbridge.engines.launch.arguments import find
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.runfiles.claims import MOST_PLACES
from weighbridge.runfiles.prose import clause, own_words, tokens
from weighbridge.runfiles.reading import groups, table
from weighbridge.runfiles.record import Value
from weighbridge.runfiles.training.arguments import KEYS
from weighbridge.runfiles.vocabulary import BARE, CACHE_FORMAT, OTHER_TOKENS, PEOPLE

NOT_TAKEN = "said, and not taken: {what}"
MOST = 6  # that are named
WHERE = re.compile(r"https?://\S+|(?:/[\w.-]+){2,}")  # addresses and paths
FLAG = r"(?<![\w/.-])--(?P<name>[a-z][\w-]{2,40})(?P<is>=[\w.,:-]{1,40}|[ ]\d[\w.]{0,12})?"
KEY = (
    r"(?<![\w/.-])(?P<name>[a-z]+(?:_[a-z0-9]+)+)[ ]?[=:][ ]?"
    r"(?P<is>\d[\w.]{0,12}|(?i:true|false|on|off)\b|[\"'][\w.-]{1,40}[\"'])"
)
# Of programs that start others, and what no engine's table has
NO_MEMORY = re.compile(r"(?:num|n|nproc)_(?:gpu|node|per|proc|worker|machine)\w*|max_split_size_mb")
WORDS = (
    r"(?i)(?<![a-z])flash[ -]?att(?:entio)?n(?:[ -]?[23])?|(?<![a-z])FSDP(?![a-z])"
    r"|(?<![a-z])deep-?speed(?![a-z])|(?<![a-z])ZeRO-?\d"
    r"|(?<![a-z-])(?:cpu|disk|nvme|optimizer|activation)[ -]offload(?:ing)?"
    r"|(?:tensor|pipeline|expert|sequence|context|data)[ -]parallel(?:ism)?(?: size)?(?: ?=? ?\d+)?"
    r"|speculative decoding|prefix (?:cache|caching)|chunked prefill|cuda ?graphs|eager mode"
    r"|(?<![a-z])packing(?![a-z])|(?<![a-z])GaLore(?![a-z])|torch\.compile|sliding window"
    r"|rs-?LoRA|LoRA\+|(?<![a-z])DoRA(?![a-z])|(?:pure|full) (?:bf16|fp16|fp32)|ring attention"
    r"|(?<![\w.-])\d{1,3} (?:LoRA )?(?:adapters|images|pictures|frames)(?![a-z])"
    rf"|(?<![\w.-])\d{{1,4}} (?:(?:parallel|concurrent|simultaneous) \w+|{PEOPLE}(?![a-z/]))"
    r"|(?:(?:global|total|effective) )?batch(?:es)?(?:[ -]size)?(?: of)? \d{1,4}"
    r"|(?<![a-z])utili[sz]ation(?: of)? 0?\.\d+|(?<![a-z])(?:alpha|dropout) ?=? ?[\d.]*\d"
    r"|(?-i:(?<![A-Za-z])[TP]P ?=? ?\d+)|并发 ?\d+|张量并行 ?\d*|批(?:次|量)?大小 ?\d+"
)
OF_CACHE = rf"(?i)(?<![\w-]){CACHE_FORMAT}[ -]?(?:kv[ -]?cache|cache)|kv[ -]?cache in \w+"
LENGTH = re.compile(r"\d{1,4} ?[kK]|\d[\d,]*[ -]?tokens?")
PATTERNS = (FLAG, KEY, *BARE, WORDS, OF_CACHE)
Spans = Sequence[tuple[int, int]]


def not_taken(text: str, settings: Mapping[str, Value], spans: Spans) -> str:
    """Return the note on what a text says in words outside of the `spans` that were read as
    settings; "" where there is nothing."""
    engine = str(settings.get("engine") or "")
    said: dict[str, str] = {}
    numbers = {value for value in settings.values() if isinstance(value, int)}
    for each in _left(own_words(text), engine, spans):
        if LENGTH.fullmatch(each) and tokens(each) in numbers:  # said twice
            continue
        said.setdefault(each.casefold(), each)
    if "shard" in settings:  # whose it is
        said.pop("deepspeed", None)
    shown = [*said.values()]
    more = [f"{len(shown) - MOST} more"] if len(shown) > MOST else []
    return NOT_TAKEN.format(what=", ".join((*shown[:MOST], *more))) if shown else ""


def _left(text: str, engine: str, spans: Spans) -> Iterator[str]:
    text = WHERE.sub(lambda match: " " * len(match[0]), text)
    taken = list(spans)
    for pattern in PATTERNS:
        for match in islice(re.finditer(pattern, text), MOST_PLACES):
            start, end = match.span()
            if any(start < b and a < end for a, b in taken) or _decides_nothing(match, engine):
                continue
            taken.append((start, end))
            yield " ".join(match[0].strip("\"'`:").split())


def _decides_nothing(match: "re.Match[str]", engine: str) -> bool:
    """Tell whether a flag or a key decides no memory, or is only spoken of; or whether a number of
    tokens is of a log."""
    if match.re.pattern in BARE:
        return re.search(OTHER_TOKENS, clause(match)) is not None
    name = (match.groupdict().get("name") or "").replace("-", "_")
    if not name:
        return False
    if NO_MEMORY.match(name) or any(each in table(KEYS).ignored for each in groups(name)):
        return True
    owned = ENGINES.get(engine)
    flag = find(f"--{name.replace('_', '-')}", dialect(owned)) if owned and owned.programs else None
    if flag is None:
        return match["is"] is None
    return flag.effect == "-" or (match["is"] is None and flag.takes != "switch")
