"""Words of a text by what its writer does with them: says them of the run, denies them, asks.

    "with LoRA, no gradient checkpointing: OOM. Would QLoRA help?"
          said        denied                           another

What is asked about is a setting of the run only where nothing is said of it, and what is asked
about in place of the run ("would", "switch to", 换成) never is, unless the text begins with it.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from weighbridge.records import NamedTuple

Way = Literal["said", "asked", "another", "denied"]
ENDS = re.compile(r"[!?。！？;；\n]|\.(?=\s|$)")
MOST_PLACES = 200  # of one pattern
MOST_SENTENCE = 1000  # characters before and after a word that are looked at
ANOTHER = re.compile(
    r"\b(?:(?:would|should|could|shall) (?:I|we|it|that|this|you|one|switching|using)"
    r"|switch(?:ing)? to|mov(?:e|ing) to|instead|what if|what about|how about|or do I"
    r"|(?:do|will) I (?:need|have) to|previously|used to|formerly|last time|last week)\b"
    r"|换成|换为|改成|改用|改为|要不要|是否应该|是不是应该|如果|之前|以前|原来",
    re.IGNORECASE,
)
HELPS = re.compile(r"(?i)^\W*(?:would|should|could|shall)\b")  # at the head of a question
# Behind this, in such a question, is the run that another card or way would do for
FOR = re.compile(r"(?i)\b(?:for|to (?:do|run|train))\b")
HELPED = re.compile(
    r"(?i)^[ \"'`)]*(?:[\w-]+\W+){0,2}(?:would|could|should|helps?|work)\b"
)  # behind it
FIRST = re.compile(rf"(?:{ANOTHER.pattern})|{HELPS.pattern[4:]}", re.IGNORECASE)
HOW_MUCH = re.compile(r"(?i)\bhow (?:much|many)\b|多少|几张")
ASKED = re.compile(r"[?？]$|吗[。?？]?$|呢[。?？]?$|能不能|可不可以|是否")
WHY = re.compile(
    r"(?i)^\W*(?:why|how come|how can it|为什么|为何|怎么会)"
)  # what is so is asked why
# Between a word that denies and what it denies
LINKS = (
    r"(?:any|a|the|use|uses|using|used|have|had|having|with|enabl(?:e|ed|ing)|turn(?:ed|ing)? on"
    r"|do|doing|done|even|Q?LoRA,?|full,?|or|and|nor|my|it's)"
)
DENIED_BEFORE = re.compile(
    rf"(?i)(?:\b(?:no|not|without|never|nor|neither|cannot|rather than|instead of|disabled?"
    rf"|turned off)|n['\u2019]t)\s{{1,4}}(?:{LINKS}\s{{1,4}}){{0,5}}$"
    r"|(?:没有?|不|未|无|非|别|无需|关闭|关掉)"
    r"(?:再|想|要|打算|开启?|启用|使用|打开|采用|做|是|用|任何|了| ){0,4}$"
)
DENIED_AFTER = re.compile(
    r"(?i)^[\w]{0,12}[`\"']?\s{0,3}(?:=|:|：|is|was|are|为|是|也|都)?\s{0,3}[`\"']?"
    r"(?:turned |switched |set to )?(?:off\b|disabled\b|false\b|not (?:on|enabled|used|set)\b"
    r"|没有?(?:开|打开|用|启用)|未(?:开|启用)|关闭|关了|关掉)"
)


OF_OTHERS = re.compile(  # whose run or card it is
    r"(?i)\b(?:colleague|co-?worker|friend|buddy|boss|someone|somebody)(?: else)?(?:['\u2019]s\b"
    r"| (?:\w+ )?(?:has|had|have|uses?|used|using|runs?|ran|running|owns?|got|trains?|trained)\b)"
    r"|(?:同事|朋友|别人|室友)(?:他|她|那)?(?:有|用|的|在)"
)


class Claim(NamedTuple):
    """One place of a text that a pattern finds, and what the writer does with it there."""

    match: "re.Match[str]"
    way: Way


def claims(pattern: "str | re.Pattern[str]", text: str) -> Iterator[Claim]:
    """Yield the first places of a pattern in a text with what is done with it."""
    for match in islice(re.finditer(pattern, text), MOST_PLACES):
        yield Claim(match, way(match))


def way(match: "re.Match[str]") -> Way:
    """Return what a text does with the words of a match."""
    text, start, end = match.string, match.start(), match.end()
    before = text[max(start - MOST_SENTENCE, 0) : start]
    after = text[end : end + MOST_SENTENCE]
    if DENIED_BEFORE.search(before[-80:]) or DENIED_AFTER.search(after):
        return "denied"
    last = ENDS.search(after)
    head = sentence_before(match)
    sentence = f"{head}{match[0]}{after[: last.end()] if last else after}".strip()
    leads = not before[: len(before) - len(head)].strip() and FIRST.match(head.strip())
    found = _way(head, sentence, after[: last.end()] if last else after)
    return "asked" if found == "another" and leads else found


def sentence_before(match: "re.Match[str]") -> str:
    """Return what stands before a match in its sentence."""
    before = match.string[max(match.start() - MOST_SENTENCE, 0) : match.start()]
    ends = [each.end() for each in ENDS.finditer(before)]
    return before[ends[-1] if ends else 0 :]


def _way(head: str, sentence: str, tail: str) -> Way:
    """Return what a sentence does with words between its head and its tail."""
    asks = ASKED.search(sentence) is not None
    if asks and (HOW_MUCH.search(sentence) or (HELPS.search(head) and FOR.search(head))):
        return "asked"
    if (
        ANOTHER.search(head)
        or OF_OTHERS.search(head)
        or (asks and (HELPS.search(head) or HELPED.search(tail)))
    ):
        return "another"
    if not asks or WHY.search(sentence) or ANOTHER.search(tail):
        return "said"
    return "asked"


def counted(ways: Iterable[Way]) -> Way:
    """Return which of these ways a setting is taken from: what is said, else what is asked about;
    "another" where there is neither."""
    there = set(ways)
    order: tuple[Way, ...] = ("said", "asked")
    return next((each for each in order if each in there), "another")
