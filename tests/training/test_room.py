"""What is left of a device for the tensors of a run: by hand."""

from types import SimpleNamespace

import pytest

from weighbridge.memory import Bytes, exactly
from weighbridge.training import answer
from weighbridge.units import GIB, MIB


@pytest.mark.parametrize(("usable", "left"), [(10 * GIB, 10 * GIB - 700 * MIB), (600 * MIB, 0)])
def test_the_allocator_has_what_a_context_and_libraries_leave(monkeypatch, usable, left):
    """At most 500 MiB of a context, 200 of libraries that are expected beside it."""
    monkeypatch.setattr(
        answer, "context", lambda part: SimpleNamespace(bytes=Bytes(1, 2, 500 * MIB))
    )
    beside = SimpleNamespace(bytes=Bytes(1, 200 * MIB, GIB))
    monkeypatch.setattr(answer, "beside", lambda plan: beside)
    plan, room = SimpleNamespace(part=None), SimpleNamespace(usable=exactly(usable))
    assert answer.capacity(plan, room) == left
    assert answer.capacity(plan, None) is None
    monkeypatch.setattr(answer, "beside", lambda plan: None)
    assert answer.capacity(plan, room) == max(0, usable - 500 * MIB)
