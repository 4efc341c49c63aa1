"""Patterns that are searched in what strangers paste: none begins with a repetition without a
bound, which would begin again at each character of a long word."""

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest
from tests.cases import all_of

from weighbridge.base.records import replace
from weighbridge.engines.launch.arguments import find
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.serving.start_logs import LINES
from weighbridge.files.runfiles.text import LAUNCH, LM_STUDIO
from weighbridge.files.runfiles.training import unanswered

SEARCHED = [line.searched for line in LINES] + [LAUNCH.pattern, LM_STUDIO.pattern]


def endless(pattern):
    """Tell whether a pattern may begin with a repetition that has no bound."""
    return _endless(parser.parse(pattern))


def _endless(items):
    for code, what in items:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, inside = what
            if most is codes.MAXREPEAT or _endless(inside):
                return True
            if not least:
                continue  # it may be left out: what stands behind begins
        elif code is codes.SUBPATTERN:
            return _endless(what[-1])
        elif code is codes.BRANCH:
            return any(_endless(branch) for branch in what[1])
        elif code in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
            continue
        return False
    return False


@all_of("pattern", SEARCHED)
def test_no_search_begins_again_at_each_character_of_a_long_word(pattern):
    assert not endless(pattern)


def test_the_test_tells_such_a_pattern():
    assert endless(r"(?P<device>\w+) model")
    assert endless(r"\b(?:a|(?:\S*/)?llama)")
    assert not endless(r"weights\s*(\d+)")


class CountedFlags(dict):
    """Flags that count how often all of them are gone through."""

    walks = 0

    def __iter__(self):
        CountedFlags.walks += 1
        return super().__iter__()

    def items(self):
        CountedFlags.walks += 1
        return super().items()


def test_words_that_are_no_flags_are_not_compared_with_all_of_them():
    known = dialect(ENGINES["vllm"])
    counted = replace(known, flags=CountedFlags(known.flags))
    assert [find(f"--x{n}", counted) for n in range(100)] == [None] * 100
    assert CountedFlags.walks <= 1


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("--max-model", "--max-model-len"),
        ("--max-model-len", "--max-model-len"),
        ("--max", None),
        ("--nothing-such", None),
    ],
)
def test_a_beginning_is_the_flag_that_alone_begins_so(word, found):
    flag = find(word, dialect(ENGINES["vllm"]))
    assert (flag and found in flag.names) if found else flag is None


def test_a_word_of_a_device_is_found_at_its_beginning():
    line = next(one for one in LINES if one.part == "weights" and one.program == "llama.cpp")
    found = re.search(line.searched, "x: CUDA0 model buffer size = 12.5 MiB")
    assert found["device"] == "CUDA0"
    assert re.search(line.searched, f"{'1' * 41} model buffer size = 12.5 MiB") is None


def test_a_text_of_very_many_runs_is_weighed_in_part_and_says_so():
    lines = "".join(f"lms load some/model-{n} and RAM\n" for n in range(100))
    runs = read(lines * 2).runs
    assert [run.model for run in runs] == [f"some/model-{n}" for n in range(12)]
    assert all("more than 12 runs" in run.notes[-1] for run in runs)
    (one,) = read("lms load some/model and RAM\n" * 100).runs
    assert not any("more than" in note for note in one.notes)


@pytest.mark.parametrize("word", ["actor_rollout_ref.", "a.", "trainer.x-y.", "a-b."])
def test_a_key_is_looked_for_only_from_where_its_dotted_word_begins(word, monkeypatch):
    """Keys of Hydra have dots: within a long word each part would be a beginning."""
    patterns, search = [], re.search

    def noted(pattern, text, *flags):
        patterns.append(pattern)
        return search(pattern, text, *flags)

    monkeypatch.setattr(re, "search", noted)
    text = f"{word * 3}key=1"
    assert unanswered._first_value(text, "key") == "1"
    (pattern,) = patterns
    assert [n for n in range(len(text)) if re.compile(pattern).match(text, n)] == [0]
