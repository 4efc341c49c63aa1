"""One run judged on all cards: by made-up peaks, without torch."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.memory import Bytes
from weighbridge.base.words import words_in
from weighbridge.machines.accelerators.parts import parts
from weighbridge_lab.trace.card import card
from weighbridge_lab.trace.cards import CardClass, CardRange, classes, spans
from weighbridge_lab.trace.screen import on_cards

GIB = 1 << 30
NAMES = ("4060", "3060", "4090", "a100-80gb", "h100", "t4")


def took(name, allocated, reserved=None, spread=0.03):
    traced, _ = card(name)
    reserved = allocated if reserved is None else reserved
    low, expected, high = (
        int(size * by) + outside
        for size, by, outside in zip(
            (allocated, reserved, reserved),
            (1 - spread, 1, 1 + spread),
            traced.outside,
            strict=True,
        )
    )
    moment = SimpleNamespace(allocated=allocated, reserved=reserved)
    return SimpleNamespace(allocated=moment, driver=Bytes(low, expected, high)), traced


def judged(name, allocated, reserved=None, whole=True, at_most=False):
    device, traced = took(name, allocated, reserved)
    return classes(device, traced, whole=whole, at_most=at_most)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gib", [0.5, 3, 9, 20, 60])
def test_every_size_of_the_catalogue_has_an_answer_and_larger_is_never_worse(name, gib):
    sizes = judged(name, int(gib * GIB))
    assert {24, 80} <= {one.gb for one in sizes} <= {p.marketed_gb for p in parts().values()}
    span = spans(sizes)
    assert span.no < (span.fits or 1000)
    for one in sizes:
        assert (one.fits == "yes") is (bool(span.fits) and one.gb >= span.fits) or one.fits != "no"
        if one.gb < 0.9 * gib:
            assert one.fits == "no"
        if one.gb > 1.4 * gib + 4:
            assert one.fits == "yes"


@pytest.mark.parametrize("name", NAMES)
def test_more_memory_fits_no_smaller_card(name):
    before = 0
    for gib in range(1, 70, 3):
        span = spans(judged(name, gib * GIB))
        assert (span.fits or 1000) >= before
        before = span.fits or 1000


def test_what_is_only_kept_is_given_back_on_a_smaller_card():
    """9 GiB of which 2 are cached: nobody can say of 8 GB, and 6 GB cannot hold 7 and a context."""
    answers = {one.gb: one.fits for one in judged("3060", 7 * GIB, 9 * GIB)}
    assert (answers[6], answers[8], answers[16]) == ("no", "unknown", "yes")


def test_what_a_course_did_not_show_is_not_said():
    parted = judged("4090", 12 * GIB, whole=False)
    assert "yes" not in {one.fits for one in parted} and "no" in {one.fits for one in parted}
    most = judged("4090", 30 * GIB, at_most=True)
    assert "no" not in {one.fits for one in most} and "yes" in {one.fits for one in most}


def test_older_kernels_are_left_out_of_a_newer_card_s():
    assert min(one.gb for one in judged("t4", GIB)) == 4  # a GTX 1650
    assert min(one.gb for one in judged("4090", GIB)) > 3


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", NAMES)
def test_the_traced_card_s_answer_is_the_same_in_both_lines(name, lang):
    """Whatever it took: what its own verdict says is not "cannot say" where sizes are told."""
    traced, _ = card(name)
    gb, words = parts()[traced.id].marketed_gb, words_in(lang)
    for verdict in ("yes", "no", "unknown"):
        for share in range(80, 110):
            device, _ = took(name, share * traced.total_memory // 100)
            each = classes(device, traced, verdict, whole=True, at_most=False)
            span, line = spans(each), on_cards(each, traced.name, words)
            assert gb not in span.unknown or verdict == "unknown"
            assert (traced.name in line) == (span.apart is not None)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_sizes_of_which_nobody_can_say_are_few_or_a_range(lang):
    words = words_in(lang)
    for course in ("yes", "unknown"):
        open_ones = [CardClass(gb, "unknown") for gb in range(5, 20)]
        each = [CardClass(4, "no"), *open_ones, CardClass(24, course)]
        line = on_cards(each, "T4", words)
        assert f"5\u2013{19 if course == 'yes' else 24} GB" in line and "4 GB" in line
    assert on_cards(open_ones, "T4", words) == ""  # the headline says that it is open


@all_of(
    ("answers", "span"),
    [
        ("no no unknown yes yes", CardRange(4, (3,), 2)),
        ("yes yes", CardRange(1, (), 0)),
        ("no no", CardRange(0, (), 2)),
        ("unknown yes unknown", CardRange(0, (1, 2, 3), 0)),
        ("no yes no yes", CardRange(4, (2, 3), 1)),
    ],
)
def test_ranges_say_what_holds_for_all_of_them(answers, span):
    assert spans([CardClass(n, fits) for n, fits in enumerate(answers.split(), 1)]) == span
