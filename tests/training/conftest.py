"""A law of every program: what is trained is read, so that it has a gradient when it is stepped."""

import pytest

from weighbridge.training.optimization import Optimization

# Of what no gradient reaches in the class either: an indexer picks keys, a token masks images, a
# pooler stands before a head that is not there, a tower is given no images
UNREAD = (".indexer.", ".mask_token", "pooler.", "visual.")


@pytest.fixture
def all_read(monkeypatch):
    step = Optimization.step

    def stepped(self, m):
        without = [p.name for p in self.params if p.grad is None]
        assert [name for name in without if not any(x in name for x in UNREAD)] == []
        step(self, m)

    monkeypatch.setattr(Optimization, "step", stepped)
