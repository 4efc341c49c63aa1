"""Round ticks, widths of texts."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.base.units import GIB
from weighbridge.faces.charts import scale
from weighbridge.faces.charts.canvas import cut, folded, width

sizes = st.integers(1, 1 << 50)


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (23.5, ["0", "5", "10", "15", "20"]),
        (79.2, ["0", "20", "40", "60", "80"]),
        (0.9, ["0", "0.2", "0.4", "0.6", "0.8"]),
        (2048, ["0", "500", "1,000", "1,500", "2,000"]),
    ],
)
def test_ticks_are_round_numbers_of_the_unit(most, told):
    axis = scale.memory("", most * GIB, scale.ByteUnit("GiB"))
    assert [t.text for t in axis.ticks] == told


@pytest.mark.slow
@given(sizes)
def test_an_axis_holds_what_it_is_made_for(most):
    unit = scale.unit(most)
    axis = scale.memory("", most, unit)
    assert 2 <= len(axis.ticks) <= 9
    assert axis.high >= most
    assert all(0 <= scale.place(axis, t.value) <= 1 for t in axis.ticks)


@pytest.mark.slow
@given(st.floats(1e-3, 1e6), st.floats(1.3, 1e4))
def test_ratios_have_equal_lengths(low, times):
    axis = scale.ratios("", low, low * times)
    middle = scale.place(axis, low * times**0.5)
    assert middle == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("most", "name"), [(1 << 10, "KiB"), (922 << 20, "MiB"), (1 << 30, "GiB"), (1 << 42, "TiB")]
)
def test_the_unit_suits_the_most(most, name):
    assert scale.unit(most).name == name
    assert scale.unit(most, "GB").name == "GB"


@pytest.mark.slow
@given(st.text(max_size=80), st.floats(20, 400))
def test_what_is_cut_fits(words, room):
    assert width(cut(words, 12, room), 12) <= room


@pytest.mark.slow
@given(st.text(string.ascii_letters + " ", min_size=1, max_size=200), st.floats(60, 400))
def test_folded_lines_fit_and_are_few(words, room):
    lines = folded(words, 12, room, most=3)
    assert len(lines) <= 3
    assert all(width(line, 12) <= room for line in lines)


def test_what_fits_is_left_whole():
    assert cut("weights", 12, 100) == "weights"
    assert folded("one two", 12, 300) == ["one two"]
    assert cut("a long name indeed", 12, 60).endswith("…")
