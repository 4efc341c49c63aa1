"""The smallest cut, by networks small enough to see it."""

from tests.cases import all_of
from weighbridge_lab.trace.fused import FlowNetwork


@all_of(
    ("rooms", "makers", "sources", "needs", "flow"),
    [
        ({1: 8}, {}, {1}, {1: 8}, 8),  # the source itself
        ({1: 8}, {}, {1}, {1: 5}, 5),  # a part of it is enough
        ({1: 8, 2: 4}, {2: {1}}, {1}, {2: 9}, 4),  # the narrower of two
        ({1: 4, 2: 8}, {2: {1}}, {1}, {2: 9}, 4),
        ({1: 8, 2: 8, 3: 8}, {2: {1}, 3: {1}}, {1}, {2: 8, 3: 8}, 8),  # both come from one
        ({1: 8, 2: 8, 3: 8}, {3: {1, 2}}, {1, 2}, {3: 8}, 8),  # a sum of two
        ({1: 8, 2: 0, 3: 8}, {2: {1}, 3: {2}}, {1}, {3: 8}, 0),  # nothing goes through
        ({2: 8, 3: 8}, {3: {2}}, set(), {3: 8}, 0),  # made of nothing that is kept
        ({1: 8, 3: 8}, {3: {2}}, {1}, {3: 8}, 0),  # a node of no room that is told
    ],
)
def test_of_a_few_nodes(rooms, makers, sources, needs, flow):
    assert FlowNetwork(rooms, makers, sources).flow(needs) == flow


def test_what_flows_is_sent_another_way_where_more_can_come():
    """The first need takes the shortest way, through 5; only when it goes through 4 and 6 instead
    can the second have its part. By hand: 3 is made of 5 or 6, 7 of 5 alone."""
    rooms = {1: 4, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 4}
    makers = {3: {5, 6}, 5: {1}, 6: {4}, 4: {2}, 7: {5}}
    assert FlowNetwork(rooms, makers, {1, 2}).flow({3: 4, 7: 4}) == 8
    assert FlowNetwork(rooms, makers, {1, 2}).flow({7: 4, 3: 4}) == 8
    assert FlowNetwork({**rooms, 6: 1}, makers, {1, 2}).flow({3: 4, 7: 4}) == 5


def test_a_residual_stream_keeps_one_of_each_sum():
    """x, x + a, x + a + b: all three are needed, and come of three sources; their norms of them."""
    rooms = dict.fromkeys(range(1, 9), 4)
    makers = {4: {1, 2}, 5: {4, 3}, 6: {1}, 7: {4}, 8: {5}}
    assert FlowNetwork(rooms, makers, {1, 2, 3}).flow(dict.fromkeys((1, 4, 5, 6, 7, 8), 4)) == 12
