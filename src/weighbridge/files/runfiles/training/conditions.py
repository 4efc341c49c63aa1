"""Conditions of a shell script, decided where the script itself sets what they ask.

    DTYPE=fp8
    if [ "$DTYPE" = fp8 ]; then ARGS+=(--fp8-format hybrid); fi      the branch is taken

    case "$DEVICE" in gpu) TP=2 ;; npu) TP=4 ;; esac                 as GPUs are weighed

A branch that is not taken is blanked, and so are the lines of a decided `if` or `case` itself; all
other text stays, line by line. Tests of files, of programs and of what nobody sets are not decided,
but for a `case` of devices: it is a GPU that is asked about.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import eq, ge, gt, le, lt, ne

from weighbridge.base.records import dataclass

IF = re.compile(r"^\s*(?P<word>if|elif)\s+(?P<test>.*?)\s*(?:;\s*then)?\s*$")
OPENS = re.compile(r"^\s*(?:for|while|until|case|select)\b")
CLOSES = re.compile(r"^\s*(?:done|esac)\b")
CASE = re.compile(r"^\s*case\s+(?P<word>\S+)\s+in\s*$")
# splits a one-line `case` into its parts: case X in a) one ;; b) two ;; esac
PARTS_OF_CASE = re.compile(
    r"(?m)(?:(?<=;;)[ \t]*(?=[^\s#])|(?<=\bin)[ \t]+(?=\(?[^\s()]{1,80}\)))(?![^\n]*\bdone\b)"
)
ARM = re.compile(r"^\s*\(?(?P<names>[\w*\"'\[][\w.*?!|\s\"'\[\]-]*)\)(?P<rest>.*)$")
ENDS = re.compile(r"^(?P<rest>.*?);;\s*$")
GPU = "gpu"  # the arm that is taken in a `case` of devices
ELSE, FI, THEN = (re.compile(rf"^\s*{word}\s*;?\s*$") for word in ("else", "fi", "then"))
JOINED = re.compile(r"\s*(&&|\|\|)\s*")
BRACKETS = re.compile(r"^\s*(?:\[\[?|test)\s+|\s+\]\]?\s*$")
COMPARED = re.compile(r"^(?P<one>.*?)\s*(?P<by>==|!=|=|-eq|-ne|-gt|-ge|-lt|-le)\s*(?P<two>.*)$")
CERTAIN = {"true": True, ":": True, "false": False}  # the shell's own commands
WORDS: Mapping[str, Callable[[str, str], bool]] = {"=": eq, "==": eq, "!=": ne}
NUMBERS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": eq,
    "-ne": ne,
    "-gt": gt,
    "-ge": ge,
    "-lt": lt,
    "-le": le,
}
DECIDED = 64  # most conditions of one script; each reads the text above it
Fill = Callable[[str, Mapping[str, str]], str]  # (text, variables) -> the text with them filled in
Known = Callable[[str], Mapping[str, str]]  # a text -> the variables it sets


@dataclass(slots=True)
class OpenBlock:
    """An `if`, `case` or loop that has not ended."""

    now: bool | None  # whether this branch is taken; None if unknown
    over: bool = False  # a branch above was taken
    word: str | None = None  # the word of a `case`, whose branches begin with names


def decided(text: str, known: Known, fill: Fill) -> str:
    """Return the script, without the branches that its own variables rule out."""
    return _Script(known, fill).read(text)


class _Script:
    def __init__(self, known: Known, fill: Fill) -> None:
        self.known, self.fill = known, fill
        self.blocks: list[OpenBlock] = []
        self.kept: list[str] = []
        self.left = DECIDED

    def read(self, text: str) -> str:
        lines = PARTS_OF_CASE.sub("\n", text).splitlines(keepends=True)
        for number, line in enumerate(lines):
            if self._cases(line, lines[number + 1 :]):
                continue
            self.kept.append(line if self._is_kept(line) else "\n")
        return "".join(self.kept)

    def _cases(self, line: str, below: Sequence[str]) -> bool:
        """Process a line that opens or belongs to a `case`. Return whether that `case` is decided;
        the line has then been kept or dropped."""
        opens = CASE.match(line)
        if opens is not None and self._alive(self.blocks):
            word = self._word(opens["word"], self.known("".join(self.kept)))
            word = GPU if word is None and _of_devices(below) else word
            if word is not None:
                self.blocks.append(OpenBlock(False, word=word))
                self.kept.append("\n")
                return True
        block = self.blocks[-1] if self.blocks else None
        if block is None or block.word is None:
            return False
        if CLOSES.match(line):
            self.blocks.pop()
            self.kept.append("\n")
            return True
        return self._arm(line, block, block.word)

    def _arm(self, line: str, block: OpenBlock, word: str) -> bool:
        begins, rest = ARM.match(line), line
        if begins is not None:
            names = (name.strip().strip("\"'") for name in begins["names"].split("|"))
            block.now = not block.over and any(fnmatchcase(word, name) for name in names)
            block.over, rest = block.over or block.now, f"{begins['rest']}\n"
        ends = ENDS.match(rest)
        if begins is None and ends is None:
            return False
        rest = rest if ends is None else f"{ends['rest']}\n"
        self.kept.append(rest if self._alive(self.blocks) else "\n")
        block.now = bool(block.now) and ends is None
        return True

    def _is_kept(self, line: str) -> bool:
        """Update the open blocks by a line. Return whether the line stays: it is in a taken or
        undecided branch, and not the line of a decided `if` itself."""
        match = IF.match(line)
        if match is not None and match["word"] == "if":
            return self._opened(match["test"], line)
        if OPENS.match(line):
            self.blocks.append(OpenBlock(None))
            return self._alive(self.blocks[:-1])
        if not self.blocks:
            return True
        return self._within(line, match)

    def _opened(self, test: str, line: str) -> bool:
        before = self._alive(self.blocks)
        whole = not re.search(r";\s*fi\s*$", line) and all(block.now for block in self.blocks)
        if re.search(r";\s*fi\s*$", line):
            return before
        now = self._decided(test) if whole else None if before else False
        self.blocks.append(OpenBlock(now, bool(now)))
        return before and now is None

    def _within(self, line: str, match: re.Match[str] | None) -> bool:
        block, outer = self.blocks[-1], self._alive(self.blocks[:-1])
        if CLOSES.match(line) or FI.match(line):
            self.blocks.pop()
            return outer and block.now is None
        if match is None and not ELSE.match(line):
            return self._alive(self.blocks) and not (block.now and THEN.match(line))
        if block.now is None:  # all after an unknown test is unknown
            return outer
        taken = not block.over and (match is None or self._decided(match["test"]))
        block.now, block.over = taken, block.over or taken is not False
        return outer and taken is None

    @staticmethod
    def _alive(blocks: list[OpenBlock]) -> bool:
        return all(block.now is not False for block in blocks)

    # ---- tests

    def _decided(self, test: str) -> bool | None:
        """Return a test's result; None if the script alone does not decide it."""
        self.left -= 1
        if self.left < 0:
            return None
        known = self.known("".join(self.kept))
        first, *others = JOINED.split(test)
        truth = self._one(first, known)
        for by, one in zip(others[::2], others[1::2], strict=True):
            truth = _joined_tests(truth, by, self._one(one, known))
        return truth

    def _one(self, test: str, known: Mapping[str, str]) -> bool | None:
        test = BRACKETS.sub("", BRACKETS.sub("", test)).strip()
        if test.startswith("! "):
            truth = self._one(test[2:], known)
            return None if truth is None else not truth
        if test in CERTAIN:
            return CERTAIN[test]
        if test[:3] in ("-z ", "-n "):
            word = self._word(test[3:], known)
            return None if word is None else (word == "") == (test[1] == "z")
        match = COMPARED.match(test)
        if match is None:
            return None
        one, two = self._word(match["one"], known), self._word(match["two"], known)
        return None if one is None or two is None else _compared(one, match["by"], two)

    def _word(self, word: str, known: Mapping[str, str]) -> str | None:
        """Return a word with its variables filled in; None if one is unknown."""
        filled_word = self.fill(word.strip(), known).strip().strip("\"'")
        return None if re.search(r"[$`*?()]", filled_word) else filled_word


def _of_devices(below: Sequence[str]) -> bool:
    """Return whether the `case` before these lines has a GPU branch."""
    for line in below:
        arm = ARM.match(line)
        if arm is not None and GPU in re.split(r"[\s|\"']+", arm["names"]):
            return True
        if CLOSES.match(line):
            return False
    return False


def _compared(one: str, by: str, two: str) -> bool | None:
    if by in WORDS:
        return WORDS[by](one, two)
    numbers = [int(word) for word in (one, two) if re.fullmatch(r"-?\d{1,12}", word)]
    return NUMBERS[by](*numbers) if len(numbers) == 2 else None


def _joined_tests(one: bool | None, by: str, two: bool | None) -> bool | None:
    """Return the result of two tests joined by && or ||; None means unknown."""
    decides = by == "||"  # the result that decides by itself
    if one is decides or two is decides:
        return decides
    return None if one is None or two is None else not decides
