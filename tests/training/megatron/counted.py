"""Numbers of Megatron's layers, counted by tests."""

from weighbridge.training.megatron.model import norms


def replicated(model, *, routed):
    """Count the numbers of a layer that each tensor rank has whole: norms, and the router."""
    feed = model.experts if routed else None
    return sum(norms(model)) + sum(feed.small if feed else ()) * model.hidden
