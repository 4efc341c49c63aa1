"""One interval of a traced program wherever it is shown, and no certainty within it."""

from weighbridge.evidence.traced import Peaks
from weighbridge.memory import Bytes
from weighbridge.trace import levels, report
from weighbridge.units import GIB, MIB

CONTEXT = Bytes(200 * MIB, 250 * MIB, 300 * MIB)
GPU = report.Gpu(id="x", name="X", count=1, memory=12 * GIB, limited=True)
NOWHERE = report.TraceMoment(
    event=0, phase="", module="", op="", allocated=0, reserved=0, roles={}, tensors=()
)


def refused(allocated, requested):
    more = allocated + requested
    return report.Refusal(
        event=1,
        phase="backward",
        module="layer4",
        op="aten.convolution_backward.default",
        requested=requested,
        message="CUDA out of memory.",
        allocated=allocated,
        reserved=allocated,
        roles={},
        tensors=(),
        driver=levels.held(more, more, CONTEXT, levels.runs(convolves=True)).at("driver"),
    )


def verdict(allocated, requested, usable, *, died=True):
    end = refused(allocated, requested)
    device = report.DeviceTrace(
        index=0,
        allocated=NOWHERE,
        reserved=NOWHERE,
        driver=end.driver,
        phases=(),
        allocations=1,
        left=0,
        refusals=(end,),
    )
    return report.verdict(GPU, Bytes(usable, usable, usable), [device], died=died)


def test_an_out_of_memory_within_the_interval_is_no_certainty():
    """0.1 % more than a card of 12 GiB has; published runs took as much less."""
    near = verdict(11 * GIB, GIB - 240 * MIB, 12 * GIB)
    assert near.fits == "unknown"
    assert "published programs differ" in near.reason
    assert verdict(11 * GIB, 4 * GIB, 12 * GIB).fits == "no"


def test_accuracy_and_the_report_say_the_same():
    peaks = Peaks(GIB, GIB + 400 * MIB, CONTEXT)
    for convolves in (False, True):
        like = levels.runs(convolves=convolves)
        of_report = levels.held(peaks.allocated, peaks.reserved, CONTEXT, like)
        assert peaks.at("driver", like) == of_report.at("driver")
        assert of_report.at("driver").high > peaks.reserved + 100 * MIB + CONTEXT.high


def test_a_card_with_less_to_spare_than_the_interval_is_not_said_to_fit():
    """249 MiB to spare on 12 GiB, where programs with convolutions took 8 % more."""
    like = levels.runs(convolves=True)
    held = levels.held(11 * GIB, 11 * GIB, CONTEXT, like).at("driver")
    assert held.high - held.expected > 249 * MIB
