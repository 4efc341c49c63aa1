"""Spellings of a card's name: what two of them have in common.

normal        case, width, hyphens, sizes and counting words in one spelling
compact       `normal` without separators: rtx409048g
essence       ... and without the maker's words and filler words: 409048g
generations   with the number of an SXM socket and without it
derived       essences without the size or the form factor, with sizes that a part is sold with
orders        other orders of the words, if no card has the name
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

# Words for the maker or the series, in front of what identifies the part
SERIES = re.compile(
    r"(?:nvidia|geforce|rtx|gtx|tesla|amd|radeon|instinct|rx|apple|intel|arc|huawei|ascend|amazon|"
    r"google|aws|tenstorrent|macbookpro|macbookair|macbook|macstudio|macmini|imac|moorethreads|mtt|"
    r"英伟达|昇腾|华为|苹果|摩尔线程)+(?=\D*\d)"
)
# ... and filler words, anywhere
FILLER = re.compile(
    r"\b(?:gpus?|graphics|cards?|generation|edition|modified|blackwell|v?ram|memory)\b|显卡|显存"
)
FORM = re.compile(r"[ -]+(?:sxm\d?|pcie|nvl)\b")
GIGABYTES = re.compile(r"(?<=\d) ?(?:gi?b(?!\d)|g(?![a-z0-9.]))")
SIZE = re.compile(r"[ -]+\d+ ?(?:gib|gb|g)\b")
SEPARATORS = re.compile(r"(?:[^\w:*\u00d7]|_)+")  # characters of a count are not part of a name

NUMERALS = dict(zip("单一两双二三四五六七八", (1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8), strict=True))
PIECES = "[张卡块个片]"
NUMERAL = f"[{''.join(NUMERALS)}](?={PIECES})"
BLANKS = re.compile(r"[\s_]+")
WORDS: Mapping[str, int] = {  # "dual 4090", "two 3090s", "a pair of a6000"
    **dict.fromkeys(("one", "single"), 1),
    **dict.fromkeys(("two", "dual", "pair"), 2),
    **dict.fromkeys(("three", "triple"), 3),
    **dict.fromkeys(("four", "quad"), 4),
    "six": 6,
    "eight": 8,
}
COUNTED = re.compile(rf"(?:an? )?({'|'.join(WORDS)})(?: of)? (?=\S)")
RENTED = re.compile(r"ml\.(?=[a-z]+\d)")  # SageMaker's prefix of EC2 instances
# Where a card is rented, or that it was rebuilt; the card follows
AT = r"(?:(?:autodl|kaggle|colab|runpod|vast\.?ai|modal)[ :]+|魔改 *)(?=\S)"
MISPLACED = r"(?P<size>\d+ ?g(?:i?b)?)[ -]+(?P<name>\S.*)"  # "24gb 3090"
REVERSED = r"(?P<name>.+?)(?P<size>[ -]+\d+ ?g(?:i?b)?)(?P<form>[ -]+(?:sxm\d?|pcie|nvl))"


def normal(text: str) -> str:
    """Return `text` with case, width, hyphens, sizes and counting words normalized."""
    if not text.isascii():  # most are, and the start indexes a thousand names
        text = (
            unicodedata.normalize("NFKC", text).replace("笔记本", " laptop").replace("十六", "16")
        )
        text = re.sub(NUMERAL, lambda m: str(NUMERALS[m[0]]), text)
    text = text.casefold().strip().replace("mobile", "laptop")
    if "ml." in text:
        text = RENTED.sub("", text, count=1)
    text = BLANKS.sub(" ", text)
    counted = COUNTED.match(text)
    return f"{WORDS[counted[1]]} {text[counted.end() :]}" if counted else text


def compact(text: str) -> str:
    """Return a `normal` text without separators."""
    return SEPARATORS.sub("", GIGABYTES.sub("g", text))


def essence(text: str) -> str:
    """Return the key that all spellings of a name share; `text` is `normal`."""
    name = compact(FILLER.sub("", text)).removesuffix("魔改")
    series = SERIES.match(name)
    return name[series.end() :] if series else name


def generations(name: str) -> tuple[str, ...]:
    """Return the name with and without the number of its SXM socket."""
    text = normal(name)
    return (text, re.sub(r"\bsxm\d\b", "sxm", text)) if "sxm" in text else (text,)


def unbracketed(name: str) -> str:
    """Return the name without a part in parentheses."""
    return re.sub(r" ?\(.*\)", "", name)


def derived(name: str, sizes: Iterable[int]) -> Iterator[str]:
    """Yield essences of `name` with and without its form factor and a size."""
    for text in {SIZE.sub("", name), FORM.sub("", SIZE.sub("", name))}:
        yield essence(text)
        for gb in sizes:
            yield essence(f"{text} {gb}g")


def orders(typed: str) -> Iterator[str]:
    """Yield `typed`, then other orders of its words that it may stand for."""
    yield typed
    moved = re.fullmatch(MISPLACED, typed)
    if moved:
        yield f"{moved['name']} {moved['size']}"
    turned = re.fullmatch(REVERSED, typed)
    if turned:
        yield f"{turned['name']}{turned['form']}{turned['size']}"
    if re.search(r"\ds$", typed):
        yield typed[:-1]
