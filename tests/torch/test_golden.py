"""The golden suite on a fake GPU, and what real ones measured beside it.

Every program runs, and runs the same way twice. Records of real GPUs are put in
tests/golden/CARD/ by `make golden`: each trace is held to them, at the torch version that was measured.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.measure.stored import measurement
from tests.torch import metered
from weighbridge.faces.cli import menu
from weighbridge_lab.golden import PROGRAMS, find
from weighbridge_lab.measure import history
from weighbridge_lab.measure.record import FakeCard
from weighbridge_lab.measure.run import Target, apart, traced

pytestmark = pytest.mark.slow

RECORDS = Path(__file__).parent.parent / "golden"
MB = 10**6
OTHERWISE = {  # programs that the pinned transformers runs otherwise than the measured release
    "t5-small-adafactor": "5.17 hands attention a bias by columns, which no fused kernel reads; 5.23 copies it"
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_and_is_deterministic(name):
    missing = find(name).missing
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    first, second = apart("tests.torch.metered:twice", name, warm=True)
    assert first.outcome == "done"
    assert [p.peak for p in first.phases] == [p.peak for p in second.phases]
    assert history.compare(first.events, second.events)["equal"]
    names = [p.name for p in first.phases]
    assert names[0] == "load"
    assert len(names) > 1
    assert all(p.peak.allocated > 0 for p in first.phases)


def test_a_published_measurement():
    """The perceptron of `perceptron-sgd` after loading: 204.03 MB on a T4, as its authors saw."""
    run = apart("tests.torch.metered:once", "perceptron-sgd", "t4", warm=True)
    assert round(run.phases[0].peak.allocated / MB, 2) == 204.03


def test_a_card_that_is_too_small_is_out_of_memory():
    run = apart("tests.torch.metered:once", "llama-1b-amp-adamw", "t4", warm=True)
    assert run.outcome == "out of memory"
    assert run.peak.reserved <= 16 * 2**30


# Beside real GPUs


def records():
    """card -> its records."""
    found = defaultdict(list)
    for path in sorted(RECORDS.rglob("*.json")):
        record = measurement(json.loads(path.read_text()))
        found[record.machine.card].append(record)
    return found


def near(errors, limit):
    """Share of errors within the limit."""
    return sum(abs(e) <= limit for e in errors) / len(errors)


@pytest.fixture(scope="module")
def both():
    """card -> [(record, trace of the same program)]"""
    found = records()
    if not found:
        pytest.skip("no GPU has been measured yet: `make golden` on a machine that has one")
    return {card: list(filter(None, map(beside, rest))) for card, rest in found.items()}


def beside(record):
    if find(record.target).missing or record.target in OTHERWISE:
        return None
    version = ".".join(record.machine.versions["torch"].split(".")[:2])
    memory = f"{record.machine.total_memory}B"
    card = FakeCard(name=record.machine.card, memory=memory, torch=version)
    return record, traced(Target(name=record.target), card, events=True)


def test_verdicts_agree(both):
    for pairs in both.values():
        assert [r.target for r, trace in pairs if r.measured.outcome != trace.outcome] == []


@pytest.mark.parametrize(("level", "limit"), [("allocated", 0.005), ("reserved", 0.02)])
def test_peaks_agree_on_nine_of_ten(both, level, limit):
    for card, pairs in both.items():
        off = {r.target: metered.error(r, trace, level) for r, trace in pairs}
        assert near(off.values(), limit) >= 0.9, (card, off)


def test_ten_streams_are_equal_to_the_byte(both):
    for card, pairs in both.items():
        equal = [r.target for r, trace in pairs if metered.same_stream(RECORDS, r, trace)]
        assert len(equal) >= 10, (card, equal)


def test_our_allocator_replays_real_requests(both):
    """Whatever the trace says: the real stream through our allocator gives torch's own peaks, but
    where what is asked for at one moment has no order (tests/allocator/test_real.py)."""
    for pairs in both.values():
        off = []
        for record, _ in pairs:
            events = metered.stream(RECORDS, record)
            if events is not None and not record.machine.settings:
                peak = record.measured.peak
                if history.replay(events) != (peak.allocated, peak.reserved):
                    off.append(record.target)
        assert len(off) <= len(pairs) / 10, off


# Without a GPU


def test_it_says_so_and_what_to_do_instead(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert menu.run(["measure", "perceptron-sgd"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: measuring needs a GPU")
    assert "`weighbridge trace`" in err
    assert len(err.splitlines()) == 1
