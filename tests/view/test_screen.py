"""Text of a terminal is measured and broken as rich does it, which is too slow to import."""

from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from weighbridge.faces.render.terminal import cells, wrapped


def printed(*things, width):
    out = StringIO()
    console = Console(
        file=out, width=width, highlight=False, legacy_windows=False, color_system=None
    )
    for thing in things:
        console.print(thing)
    return [line.rstrip() for line in out.getvalue().split("\n")[:-1]]


TEXT = st.text(alphabet=st.sampled_from("ab cde  fgh-·模😀é"), max_size=60)


@pytest.mark.slow
@given(TEXT, st.integers(2, 50))
@settings(max_examples=100)
def test_text_is_broken_where_rich_breaks_it(text, width):
    ours = [line.rstrip() for line in wrapped(text, width)]
    assert ours == printed(Text(text), width=width)


def test_signs_of_two_columns_are_counted_so():
    assert cells("模型") == 4
    assert cells("✓ █▓░│") == 6


def test_a_long_list_of_flags_is_broken_behind_its_commas():
    words = "cross_entropy_loss_fusion,cross_entropy_fusion_impl=te,sequence_parallel"
    assert wrapped(f"add {words} now", 40) == [
        "add ",
        "cross_entropy_loss_fusion,",
        "cross_entropy_fusion_impl=te,",
        "sequence_parallel now",
    ]
    assert wrapped("a" * 9, 4) == ["aaaa", "aaaa", "a"]  # where it has none


@given(st.text(alphabet="ab,", max_size=40), st.integers(1, 20))
def test_nothing_of_a_word_is_lost(word, width):
    found = wrapped(word, width)
    assert "".join(found) == word
    assert all(len(line) <= width for line in found)
