"""Programs of published figures run on the fake GPU, and give what is kept of them.

All of them: `make traced`. Here are those that take a few seconds each.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

from weighbridge.base.units import MIB
from weighbridge_lab.evidence import traced
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, records
from weighbridge_lab.evidence.traced import Failure, Peaks, ProgramWorker, TracedRun

KEPT = traced.read(str(Path(__file__).parent.parent / "traced.jsonl"))
NEEDS = {"xmm-031": "transformers", "xmm-009": "torchvision"}
FAST = ("gmm-014", "gmm-020", "gmm-024", "xmm-009", "xmm-031")
SLACK = 0.005  # another torch has other temporaries
TINY = TracedRun(
    "gpumemnet_mlp",
    "a100",
    "2.3",
    '{"batch": 4, "inputs": 8, "layers": [["linear", 8], ["ReLU", 8], ["linear", 2]]}',
)


def usable(name):
    try:
        __import__(NEEDS.get(name, "torch"))
    except (ImportError, RuntimeError):  # torchvision beside a torch that it was not made for
        return False
    return True


@pytest.fixture(scope="module")
def worker():
    found = ProgramWorker()
    yield found
    found.stop()


def test_a_network_of_a_few_weights_by_hand(worker):
    """Two workspaces of cuBLAS, one a thread, 8,519,680 bytes each, share a segment of 20 MiB; the
    one of cuBLASLt, 1 MiB while it adds the bias, and all else is small and has one of 2 MiB."""
    told = worker.peaks(TINY)
    assert told.reserved == 22 * MIB
    assert 0 < told.allocated - 2 * 8519680 - MIB < 64 * 1024


@pytest.mark.parametrize("name", FAST)
def test_a_re_run_gives_what_is_kept(worker, name):
    if not usable(name):
        pytest.skip(f"{NEEDS[name]} cannot be imported")
    (record,) = (r for r in records() if r.id == name)
    for one in traced.runs(record):
        told, was = worker.peaks(one), KEPT[one]
        assert told.allocated == pytest.approx(was.allocated, rel=SLACK), one
        assert told.reserved == pytest.approx(was.reserved, rel=SLACK), one


def test_two_perceptrons_differ_as_they_were_measured(worker):
    """nvidia-smi's readings, 1,477 and 1,535 MiB, less that of the smallest network: to 20 MiB,
    which is one segment."""
    figures = [r for r in records() if r.id in ("gmm-014", "gmm-020")]
    found = {one: worker.peaks(one) for one in traced.wanted(figures)}
    for told in outcomes(figures, found):
        assert isinstance(told, Prediction)
        assert abs(told.bytes.expected - told.record.measured) <= 20 * MIB


def test_a_program_that_fails_is_said_and_the_next_one_runs(worker):
    told = worker.peaks(replace(TINY, setting='{"batch": 4}'))
    assert isinstance(told, Failure)
    assert told.reason == "the program failed"
    assert "missing" in told.detail
    assert isinstance(worker.peaks(TINY), Peaks)


def test_a_program_that_takes_too_long_is_ended_and_the_next_one_runs(worker, monkeypatch):
    slow = replace(traced.PROGRAMS["gpumemnet_mlp"], seconds=0)
    with monkeypatch.context() as changed:
        changed.setattr(traced, "PROGRAMS", {"gpumemnet_mlp": slow})
        told = worker.peaks(TINY)
    assert isinstance(told, Failure)
    assert "0 s" in told.detail
    assert isinstance(worker.peaks(TINY), Peaks)


def test_a_missing_package_is_named(worker, monkeypatch):
    other = replace(traced.PROGRAMS["gpumemnet_mlp"], needs=("no_such_package",))
    monkeypatch.setattr(traced, "PROGRAMS", {"gpumemnet_mlp": other})
    told = worker.peaks(TINY)
    assert told == Failure("needs a package that is not installed", "no_such_package")
