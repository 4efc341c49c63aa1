"""Laws of every program: what is trained is read, so that it has a gradient when it is stepped;
and shapes fit, as autograd asserts.

view        has as many numbers as what it sees, or is a mask that is expanded, or is cut off it
broadcast   dimensions are equal, or one of them is 1
linear      the weight has the inputs' width on one of its sides, or whole rows of it
gradient    has as many numbers as what it is the gradient of
"""

from math import prod

import pytest

from weighbridge.training.forward import backward, machine, tensors
from weighbridge.training.forward.ops import matrix, pointwise
from weighbridge.training.optimizers.row import Optimization

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


@pytest.fixture
def fits(monkeypatch):
    """The three laws that look at operands alone, wherever a program could break them."""
    view, broadcast, ahead = tensors.Tensor.view, pointwise._broadcast, matrix.ahead

    def viewed(self, *shape):
        expands = 1 in self.shape and prod(shape) % self.numel == 0
        sides = len(shape) == len(self.shape) and zip(shape, self.shape, strict=True)
        cuts = sides and all(new <= old for new, old in sides)
        assert prod(shape) == self.numel or expands or cuts, (self.shape, shape)
        return view(self, *shape)

    def broadcasted(a, b):
        sides = zip(reversed(a.shape), reversed(b.shape), strict=False)
        assert all(x == y or 1 in (x, y) for x, y in sides), (a.shape, b.shape)
        return broadcast(a, b)

    def saved(m, inputs, kept):
        x, w, *_ = inputs
        if len(w.shape) > 2:  # of a convolution
            return ahead(m, inputs, kept)
        flat = len(w.shape) == 1 and w.numel % x.shape[-1] == 0
        assert x.shape[-1] in w.shape or flat, (x.shape, w.shape)
        return ahead(m, inputs, kept)

    monkeypatch.setattr(tensors.Tensor, "view", viewed)
    monkeypatch.setattr(pointwise, "_broadcast", broadcasted)
    monkeypatch.setattr(matrix, "ahead", saved)


@pytest.fixture
def asserted(monkeypatch, fits):
    """Each of the four laws. It keeps nodes, and so what they hold: not for tests of bytes."""
    numels, alive = {}, []
    edge, call = machine._edge, backward._call

    def edged(t):
        source, slot = edge(t)
        alive.append(source)  # its id is nobody else's
        numels.setdefault((id(source), slot), t.numel)
        return source, slot

    def called(m, node, grads):
        found = call(m, node, grads)
        for (source, slot), grad in zip(node.inputs, found, strict=False):
            if source is not None and grad is not None:
                assert grad.numel == numels[id(source), slot], node.back.__qualname__
        return found

    monkeypatch.setattr(machine, "_edge", edged)
    monkeypatch.setattr(backward, "_call", called)
