"""Names of parameters, by the layers that they lie below."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.training.forward.modules import below, each_below

PATHS = ("model.layers.1.", "model.layers.11.", "layers.1.", "model.norm.")
NAMES = st.builds(
    "".join, st.tuples(st.sampled_from((*PATHS, "", "model.", "model.layers.2.")), st.text("ab.1"))
)


@pytest.mark.slow
@given(st.lists(NAMES))
def test_names_in_a_row_lie_where_each_of_them_does(names):
    assert list(each_below(names, PATHS)) == [below(name, PATHS) for name in names]


def test_the_path_of_a_layer_ends_with_its_number():
    names = ["model.layers.1.up", "model.layers.11.up", "lm_head", "model.layers.1.down"]
    assert list(each_below(names, PATHS)) == ["model.layers.1.", "model.layers.11.", "", PATHS[0]]
