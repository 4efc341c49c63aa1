r"""Regular expressions that users type, searched for in tensor names in bounded time.

    TensorPattern(r"blk\.(1[0-9]|2\d)\.ffn_.*_exps").found("blk.12.ffn_up_exps.weight")    True

They mean what std::regex makes of them by default: ECMAScript, found anywhere in a name, byte by
byte. Lookahead (?=) and back references (\1) are refused: nobody needs them to name tensors, and
without them a name is read once, character by character, as a set of automaton states. Sets are
cached, so most characters cost one table lookup; work is counted, and refused beyond what
`PatternWork` has.

Source: libstdc++ bits/regex_scanner.tcc, bits/regex_compiler.tcc (GCC 13).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from weighbridge.base.records import NamedTuple, dataclass
from weighbridge.base.sentences import sentence

MOST_STATES = 20_000  # per pattern, repeated parts expanded; libstdc++ has 100,000
MOST_DEPTH = 40  # nested groups
MOST_COUNT = 1_000  # largest count, as in {1000}
# Cost in characters: of a visit to a state, and of a part of a pattern
STATE, NODE = 8, 32
END, FOUND, START = "", -1, 0
REPEATS = "*+?{"
CONTROLS = {"0": "\0", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
DIGITS, SPACES = frozenset("0123456789"), frozenset(" \t\n\r\f\v")
LOWER, UPPER = frozenset("abcdefghijklmnopqrstuvwxyz"), frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LETTERS = LOWER | UPPER
WORD = LETTERS | DIGITS | {"_"}
PUNCTUATION = frozenset(map(chr, range(33, 127))) - LETTERS - DIGITS
ESCAPED = {"d": DIGITS, "s": SPACES, "w": WORD}
NAMED = {  # [[:digit:]]
    "alnum": LETTERS | DIGITS,
    "alpha": LETTERS,
    "blank": frozenset(" \t"),
    "digit": DIGITS,
    "lower": LOWER,
    "punct": PUNCTUATION,
    "space": SPACES,
    "upper": UPPER,
    "xdigit": DIGITS | frozenset("abcdefABCDEF"),
    **ESCAPED,
}


class PatternError(ValueError):
    """Error of a pattern that is invalid or takes too long; its text says which in a few words."""


@dataclass(slots=True)
class PatternWork:
    """Work left for all patterns of one question, compiling included, in characters read."""

    left: int = 16_000_000

    def spend(self, signs: int) -> None:
        self.left -= signs
        if self.left < 0:
            raise PatternError(sentence("pattern.slow"))


class SignSet(NamedTuple):
    """Characters of a class such as [^a-f0-9]."""

    signs: frozenset[str]
    others: bool = False  # all characters but `signs`

    def has(self, sign: str) -> bool:
        return (sign in self.signs) is not self.others


PlaceTest = Callable[[bool | None, str], bool]  # (is the previous a word character?, next one)


class PlaceNode(NamedTuple):
    """An assertion between characters, such as ^."""

    test: PlaceTest


class SequenceNode(NamedTuple):
    """Parts one after another."""

    parts: "Sequence[PatternNode]"


class ChoiceNode(NamedTuple):
    """Alternatives, of which one matches."""

    parts: "Sequence[PatternNode]"


class RepeatNode(NamedTuple):
    """A part that is repeated `least` to `most` times; `most` is None without a limit."""

    part: "PatternNode"
    least: int
    most: int | None


PatternNode = SignSet | PlaceNode | SequenceNode | ChoiceNode | RepeatNode


class PatternState(NamedTuple):
    """A state and its successors: at once, if `place` holds, or after a character."""

    following: tuple[int, ...] = ()
    sign: SignSet | None = None
    place: PlaceTest | None = None


PLACES: Mapping[str, PlaceTest] = {
    "^": lambda before, sign: before is None,
    "$": lambda before, sign: sign == END,
    "\\b": lambda before, sign: bool(before) is not (sign in WORD),
    "\\B": lambda before, sign: bool(before) is (sign in WORD),
}


class TensorPattern:
    """A compiled pattern and its cache: sets of states by number, and the transitions from each."""

    def __init__(self, text: str, work: PatternWork | None = None) -> None:
        self.work = PatternWork() if work is None else work
        self._states: list[PatternState] = [PatternState()]  # state 0 is the match
        self._first = self._made(_Parser(in_bytes(text)).whole(), 0)
        self._keys: list[tuple[frozenset[int], bool | None]] = [(frozenset(), None)]
        self._moves: list[dict[str, int]] = [{}]
        self._numbers = {self._keys[START]: START}

    def found(self, name: str) -> bool:
        """Return whether any part of `name` matches. Raises PatternError if the work left is not
        enough."""
        signs, at = in_bytes(name), START
        self.work.spend(len(signs) + 1)
        for sign in (*signs, END):
            to = self._moves[at].get(sign)
            at = self._moved(at, sign) if to is None else to
            if at == FOUND:
                return True
        return False

    def _moved(self, at: int, sign: str) -> int:
        """Return the number of the set after `sign`, and cache it; FOUND if the pattern matches."""
        before, word = self._keys[at]
        reached = self._reached(before, word, sign)
        if 0 in reached:
            to = FOUND
        else:
            states = (self._states[n] for n in reached)
            behind = frozenset(
                n
                for s in states
                if s.sign is not None and sign != END and s.sign.has(sign)
                for n in s.following
            )
            to = self._number((behind, sign in WORD))
        self._moves[at][sign] = to
        return to

    def _reached(self, before: frozenset[int], word: bool | None, sign: str) -> set[int]:
        """Return all states reached without a character; a match may begin here, too."""
        waiting, seen = [self._first, *before], {self._first, *before}
        while waiting:
            state = self._states[waiting.pop()]
            if state.sign is not None or (state.place and not state.place(word, sign)):
                continue
            new = set(state.following) - seen
            seen |= new
            waiting += new
        self.work.spend(STATE * len(seen))
        return seen

    def _number(self, key: tuple[frozenset[int], bool]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._keys)
            self._keys.append(key)
            self._moves.append({})
        return self._numbers[key]

    # States of nodes, the last first: each is made with the state that follows it

    def _made(self, node: PatternNode, following: int) -> int:
        self.work.spend(NODE)
        match node:
            case SignSet():
                return self._add(PatternState((following,), sign=node))
            case PlaceNode(test):
                return self._add(PatternState((following,), place=test))
            case ChoiceNode(parts):
                return self._add(PatternState(tuple(self._made(each, following) for each in parts)))
            case RepeatNode():
                return self._repeated(node, following)
            case SequenceNode(parts):
                for each in reversed(parts):
                    following = self._made(each, following)
        return following

    def _repeated(self, node: RepeatNode, following: int) -> int:
        part, least, most = node
        if most is None:
            at = self._add(PatternState())
            self._states[at] = PatternState((self._made(part, at), following))
        else:
            at = following
            for _ in range(most - least):
                at = self._add(PatternState((self._made(part, at), following)))
        for _ in range(least):
            at = self._made(part, at)
        return at

    def _add(self, state: PatternState) -> int:
        if len(self._states) >= MOST_STATES:
            raise PatternError(sentence("pattern.long"))
        self._states.append(state)
        return len(self._states) - 1


def in_bytes(text: str) -> str:
    """Return `text` with one character per byte, as the program reads it."""
    return text.encode("utf-8", "replace").decode("latin-1")


class _Parser:
    """Parser of a pattern's text, which reads it once from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def whole(self) -> PatternNode:
        node = self._alternatives()
        if self._next() == ")":
            raise PatternError(sentence("pattern.closes"))
        if self._next():
            raise PatternError(sentence("pattern.nothing", sign=self._next()))
        return node

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, sign: str) -> bool:
        if self.text.startswith(sign, self.at):
            self.at += len(sign)
            return True
        return False

    def _one(self, ends: str = "pattern.escape_ends") -> str:
        sign = self._next()
        if not sign:
            raise PatternError(sentence(ends))
        self.at += 1
        return sign

    def _alternatives(self) -> PatternNode:
        found = [self._sequence()]
        while self._take("|"):
            found.append(self._sequence())
        return found[0] if len(found) == 1 else ChoiceNode(found)

    def _sequence(self) -> PatternNode:
        found: list[PatternNode] = []
        while self._next() and self._next() not in ")|*+?{":
            place = next((sign for sign in PLACES if self._take(sign)), None)
            if place is None:
                found.append(self._repeats(self._atom()))
            else:
                found.append(PlaceNode(PLACES[place]))
        return SequenceNode(found)

    def _atom(self) -> PatternNode:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._bracket()
        sign = self._one()
        if sign == ".":
            return SignSet(frozenset("\n\r"), others=True)
        return self._escape() if sign == "\\" else SignSet(frozenset(sign))

    def _group(self) -> PatternNode:
        if self._take("?=") or self._take("?!"):
            raise PatternError(sentence("pattern.ahead"))
        self._take("?:")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise PatternError(sentence("pattern.groups", most=MOST_DEPTH))
        node = self._alternatives()
        self.depth -= 1
        if not self._take(")"):
            raise PatternError(sentence("pattern.open"))
        return node

    def _repeats(self, node: PatternNode) -> PatternNode:
        """Return `node` with its quantifiers; greedy or lazy changes no result."""
        for _ in range(MOST_DEPTH + 1):
            if not self._next() or self._next() not in REPEATS:
                return node
            sign = self._one()
            least, most = self._counts() if sign == "{" else (int(sign == "+"), None)
            node = RepeatNode(node, least, 1 if sign == "?" else most)
            self._take("?")
        raise PatternError(sentence("pattern.repeats", most=MOST_DEPTH))

    def _counts(self) -> tuple[int, int | None]:
        """Return the least and the most of {2} or {2,5}; in -ot a comma ends the pattern, so only
        {2} occurs."""
        end = self.text.find("}", self.at)
        number, comma, more = self.text[self.at : max(end, self.at)].partition(",")
        self.at = end + 1
        if not number.isdecimal() or (more and not more.isdecimal()):
            raise PatternError(sentence("pattern.no_count"))
        least, most = int(number[:9]), int(more[:9]) if more else None
        if max(least, most or 0) > MOST_COUNT or (most is not None and most < least):
            raise PatternError(sentence("pattern.counts", most=MOST_COUNT))
        return least, most if comma else least

    def _escape(self) -> SignSet:
        sign = self._one()
        if sign.lower() in ESCAPED:
            return SignSet(ESCAPED[sign.lower()], others=sign.isupper())
        if sign in "123456789":
            raise PatternError(sentence("pattern.back"))
        if sign in "xu":
            return SignSet(frozenset(self._coded(2 if sign == "x" else 4)))
        if sign == "c":
            raise PatternError(sentence("pattern.control"))
        return SignSet(frozenset(CONTROLS.get(sign, sign)))

    def _coded(self, digits: int) -> str:
        code = self.text[self.at : self.at + digits]
        self.at += digits
        if len(code) < digits or not set(code) <= NAMED["xdigit"]:
            raise PatternError(sentence("pattern.escape"))
        return chr(int(code, 16))

    def _bracket(self) -> SignSet:
        others, signs = self._take("^"), set[str]()
        while not self._take("]"):
            signs |= self._item()
        return SignSet(frozenset(signs), others)

    def _item(self) -> frozenset[str]:
        """Return an item's characters: one, a class, or a range; a - at either end is one."""
        low = self._member()
        last = self.text.startswith("-]", self.at)
        if len(low) != 1 or self._next() != "-" or last:
            return low
        self.at += 1
        high = self._member()
        if len(high) != 1 or min(high) < min(low):
            raise PatternError(sentence("pattern.range"))
        return frozenset(map(chr, range(ord(min(low)), ord(min(high)) + 1)))

    def _member(self) -> frozenset[str]:
        sign = self._one("pattern.class_open")
        if sign == "[" and self._next() and self._next() in ":.=":
            return self._named()
        if sign != "\\":
            return frozenset(sign)
        if self._take("b"):
            return frozenset("\b")
        found = self._escape()
        return frozenset(_all_but(found.signs)) if found.others else found.signs

    def _named(self) -> frozenset[str]:
        end = self.text.find(":]", self.at + 1)
        name = self.text[self.at + 1 : max(end, self.at)]
        if not self._take(":") or name not in NAMED:
            raise PatternError(sentence("pattern.class"))
        self.at = end + 2
        return NAMED[name]


def _all_but(signs: frozenset[str]) -> Iterator[str]:
    return (chr(n) for n in range(256) if chr(n) not in signs)
