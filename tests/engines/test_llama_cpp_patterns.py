"""Patterns of tensor names: what they are found in, and that none of them takes long."""

import re

import pytest

from weighbridge.engines.llama_cpp.patterns import PatternError, PatternWork, TensorPattern

KINDS = ("ffn_up_exps.weight", "ffn_down_exps.weight", "attn_q.weight", "ffn_gate_inp.weight")
NAMES = (
    *(f"blk.{i}.{kind}" for i in range(101) for kind in KINDS),
    *("token_embd.weight", "output.weight", "output_norm.weight", "A_b-2"),
)
# Where Python's expressions mean the same as ECMAScript's
SAME = (
    *("exps", "^blk.1", r"blk\.(1[0-9]|2[0-9])\.ffn_.*_exps\.", "_exps.weight$", "[^a-z]q", "p{2}"),
    *(r"blk\.\d+\.attn", "(?:up|gate)_exps", ".*", "", "out.?put", r"\bq\b", "e.*?s$", "(o|u|t)+p"),
    *(
        r"\w+_norm",
        r"blk\.(?:[0-9]|1[0-4])\.ffn",
        r"\D_\S+\W",
        "[a-c_]{3}",
        "x|token",
        r"\Bk\.",
        "-",
    ),
    *(
        "^b?l?k?.{0}",
        "^out?put.w?$",
        "^ou{1}tput",
        r"[\d.]{4}",
        "^.{13}$",
        "(f+)*n",
        "b(l?k)?",
        r"\x62lk",
        "t?t?put",
    ),
)


@pytest.mark.parametrize("pattern", SAME)
def test_it_is_found_where_python_finds_it(pattern):
    told = TensorPattern(pattern)
    assert [told.found(name) for name in NAMES] == [bool(re.search(pattern, n)) for n in NAMES]


@pytest.mark.parametrize(
    ("pattern", "is_in", "is_not"),
    [("^a{2}$", "aa", "aaa"), ("^ab?$", "ab", "abb"), ("^a+$", "a", "")],
)
def test_how_often(pattern, is_in, is_not):
    assert TensorPattern(pattern).found(is_in)
    assert not TensorPattern(pattern).found(is_not)


def test_what_is_otherwise_in_ecmascript():
    """A class of POSIX's, an empty one, and a sign that Python takes for the end of a text."""
    assert TensorPattern("[[:digit:]]{2}").found("blk.10.")
    assert not TensorPattern("[[:digit:]]{2}").found("blk.1.0")
    assert not TensorPattern("[]").found("blk")
    assert TensorPattern(r"\Z").found("blk.Z")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a*)*(a*)*(a*)*c", "a{500}b"])
def test_no_pattern_takes_long(pattern):
    """What would try a million ways reads each sign once."""
    work = PatternWork()
    before = work.left
    assert not TensorPattern(pattern, work).found("a" * 2000 + "!")
    assert before - work.left < 6_000_000


@pytest.mark.parametrize(
    "pattern",
    ["(((){1000}){1000}){1000}", "((|){900}){900}", "(a{1000}){19}(b{900})", "((a?){99}){99}"],
)
def test_no_pattern_takes_long_to_make(pattern):
    """Groups of nothing, a thousand times each, are looked at as often as they are repeated."""
    with pytest.raises(PatternError, match="too long"):
        TensorPattern(pattern, PatternWork(left=500_000))


def test_work_is_counted_by_signs():
    """A name of 20 bytes and its end; a look at each of two states, and two parts of a pattern."""
    work = PatternWork(left=1000)
    told = TensorPattern("b", work)
    made = 1000 - work.left
    assert made == 2 * 32
    assert not told.found("a" * 20)
    first = 1000 - made - work.left
    assert not told.found("a" * 20)  # every move is known
    assert 1000 - made - work.left - first == 21
    assert first > 21


def test_work_ends_at_the_last_sign():
    work = PatternWork(left=5)
    work.spend(5)
    with pytest.raises(PatternError, match="takes too long"):
        work.spend(1)


def test_work_ends():
    many = TensorPattern("(a?){400}" + "a{400}$", work := PatternWork())
    work.left = 10_000
    with pytest.raises(PatternError, match="takes too long"):
        many.found("a" * 200 + "b")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(b", "not closed"),
        ("a)", "without a \\("),
        ("*a", "nothing before it"),
        ("[a", "not closed"),
        ("[b-a]", "backwards"),
        ("(?=a)", "looks ahead"),
        (r"(a)\1", "refers back"),
        ("a{2", "no count"),
        ("a{2000}", "more than 1,000"),
        ("((a{1000}){1000}){1000}", "too long"),
        ("(" * 60 + ")" * 60, "within each other"),
        ("a\\", "in the middle"),
        ("[[:nope:]]", "not known"),
    ],
)
def test_what_is_no_pattern(pattern, why):
    with pytest.raises(PatternError, match=why):
        TensorPattern(pattern)
