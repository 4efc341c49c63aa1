"""What a device leaves for the tensors of a run, and what a trainer copies of logits: by hand."""

from types import SimpleNamespace

import pytest

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.training import answer
from weighbridge.training.run import Batches


@pytest.mark.parametrize(("usable", "left"), [(10 * GIB, 10 * GIB - 700 * MIB), (600 * MIB, 0)])
def test_the_allocator_has_what_a_context_and_libraries_leave(monkeypatch, usable, left):
    """At most 500 MiB of a context, 200 of libraries that are expected beside it."""
    monkeypatch.setattr(
        answer, "context", lambda part: SimpleNamespace(bytes=Bytes(1, 2, 500 * MIB))
    )
    beside = SimpleNamespace(bytes=Bytes(1, 200 * MIB, GIB))
    monkeypatch.setattr(answer, "kernels", lambda torch, part: (beside,))
    plan, room = SimpleNamespace(part=None, torch=(2, 11)), SimpleNamespace(usable=exactly(usable))
    assert answer.capacity(plan, room) == left
    assert answer.capacity(plan, None) is None
    monkeypatch.setattr(answer, "kernels", lambda torch, part: ())
    assert answer.capacity(plan, room) == max(0, usable - 500 * MIB)


@pytest.mark.parametrize(("copies", "taken"), [(True, [2 * 3 * 100 * 2]), (False, [])])
def test_all_logits_but_the_last_are_copied_for_the_accuracy_of_tokens(copies, taken):
    """Two sequences of 4 tokens and 100 words in 16 bits."""
    found = []
    machine = SimpleNamespace(hidden=lambda nbytes, name: found.append(nbytes))
    run = SimpleNamespace(
        p=SimpleNamespace(framework=SimpleNamespace(copies_logits=copies)),
        s=SimpleNamespace(length=4, m=machine),
    )
    Batches._compared(run, SimpleNamespace(numel=2 * 4 * 100, dtype=BFLOAT16))
    assert found == taken
    Batches._compared(run, None)
    assert found == taken
