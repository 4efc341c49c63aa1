"""A program that is measured in a process of its own (tests/measure has what needs no torch)."""

import pytest

from weighbridge_lab.measure import run
from weighbridge_lab.measure.record import DONE, FakeCard
from weighbridge_lab.measure.run import Target, apart

pytest.importorskip("torch")

WORKERS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

data = TensorDataset(torch.zeros(64, 8))
model = torch.nn.Linear(8, 8)
assert sum(len(model(rows)) for rows, in DataLoader(data, batch_size=8, num_workers=2)) == 64
"""


def ran(target):
    """Run a target here, without a card."""
    target.run()
    return True


@pytest.mark.slow
def test_a_program_may_start_processes(tmp_path):
    """A DataLoader's workers: a daemon of multiprocessing may have none."""
    script = tmp_path / "loader.py"
    script.write_text(WORKERS)
    assert apart(f"{__name__}:ran", Target(name=str(script)))
    traced = run.traced(Target(name=str(script)), FakeCard(name="t4"))
    assert traced.outcome == DONE
    assert all(
        low <= point <= high
        for phase in traced.phases
        for low, point, high in zip(phase.low, phase.peak, phase.high, strict=True)
    )
