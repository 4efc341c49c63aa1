"""Measured peaks and what a callback says, with counters of PyTorch that are written by hand."""

import sys
from types import SimpleNamespace

import pytest

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB
from weighbridge.files.runfiles.live.peaks import CardPeak
from weighbridge.files.runfiles.live.telling import Teller

NN = SimpleNamespace(Module=type("Module", (), {}))


class Cuda:
    """The functions of torch.cuda that are asked, over two cards."""

    def __init__(self):
        self.reset = []

    def is_available(self):
        return True

    def device_count(self):
        return 2

    def reset_peak_memory_stats(self, device):
        self.reset.append(device)

    def max_memory_allocated(self, device):
        return (5 - device) * GIB

    def max_memory_reserved(self, device):
        return (6 + device) * GIB

    def mem_get_info(self, device):
        return 10 * GIB, 24 * GIB


@pytest.fixture
def cards(monkeypatch):
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, nn=NN))
    return cuda


@pytest.fixture
def none(monkeypatch):
    bare = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=bare, nn=NN))


def test_a_block_is_measured_card_by_card_after_its_peaks_were_set_back(cards):
    with weighbridge.watch() as seen:
        assert cards.reset == [0, 1]
        assert seen.peaks == ()
    assert seen.peaks[1] == CardPeak(1, 4 * GIB, 7 * GIB, 14 * GIB, 24 * GIB)
    assert (seen.allocated, seen.reserved) == (5 * GIB, 7 * GIB)
    assert str(seen).startswith("card 0: tensors 5.00 GiB, held 6.00 GiB, used 14.00 GiB of 24.00")


def test_a_block_that_fails_is_measured_too(cards):
    with pytest.raises(KeyError), weighbridge.watch() as seen:
        raise KeyError
    assert len(seen.peaks) == 2


def test_the_prediction_stands_beside_the_measured_peaks(cards):
    report = weighbridge.train("llama-3.2-1b", method="lora", gpu="4090")
    with weighbridge.watch(report) as seen:
        pass
    line = str(seen).splitlines()[-1]
    assert line.startswith("predicted: tensors ")
    (card,) = (device for device in report.devices if device.kind == "gpu")
    assert f"{card.peak('reserved').expected / GIB:.2f} GiB" in line


def test_without_a_card_nothing_is_measured_and_it_is_said(none):
    with weighbridge.watch() as seen:
        pass
    assert (seen.peaks, seen.allocated) == ((), 0)
    assert str(seen) == "no CUDA device is here: nothing was measured"


def told(steps=2, weigh=None):
    lines = []
    teller = Teller(steps, lines.append)
    if weigh:
        teller.predict(weigh)
    return teller, lines


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_warned_of_before_its_first_step():
    _, lines = told(weigh=lambda: weighbridge.train("llama-3.1-8b", method="full", gpu="4090"))
    assert lines[0].startswith("weighbridge: predicted: tensors ")
    assert lines[1].startswith("weighbridge: this will run out of memory: needs about ")
    assert " with method lora" in "".join(lines[2:4]) or "with" in lines[2]


def test_a_run_that_fits_is_told_without_a_warning():
    _, lines = told(weigh=lambda: weighbridge.train("llama-3.2-1b", method="lora", gpu="a100-80gb"))
    assert not any("run out" in line or "may not fit" in line for line in lines)


def test_what_cannot_be_weighed_is_one_line():
    def weigh():
        raise UsageError("no such thing")

    teller, lines = told(weigh=weigh)
    assert lines == ["weighbridge: not weighed: no such thing"]
    assert teller.report is None


def test_peaks_are_told_once_after_as_many_steps_as_were_asked_for(cards):
    teller, lines = told(steps=2)
    teller.step(1)
    assert lines == []
    teller.step(2)
    teller.step(3)
    assert [line.partition(": card")[0] for line in lines] == ["weighbridge: after step 2"] * 2


def test_a_machine_without_a_card_says_so_once(none):
    teller, lines = told(steps=1)
    teller.step(1)
    teller.step(2)
    assert lines == ["weighbridge: no CUDA device is here: nothing was measured"]
