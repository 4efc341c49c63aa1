"""Peaks of our programs beside those of diffusers' own classes on the fake GPU: a forward, and a step
of a LoRA without and with checkpoints. A failure shows what lives at both peaks."""

import pytest

pytest.importorskip("torch", reason="the oracle is a forward of diffusers' classes")
pytest.importorskip("diffusers", reason="the oracle is a forward of diffusers' classes")
pytest.importorskip("peft", reason="a step is that of a LoRA")

from tests.cases import each
from tests.torch.cases_controls import CASES as CONTROLS
from tests.torch.cases_pictures import CASES as IMAGES
from tests.torch.cases_videos import CASES as VIDEOS
from tests.torch.picture_law import MODES, compared
from weighbridge_lab.trace import guard

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore"),
]
CASES = {**IMAGES, **VIDEOS, **CONTROLS}
STEPS = [(name, mode) for name, case in CASES.items() for mode in MODES if mode not in case.skipped]


@pytest.mark.parametrize(("name", "mode"), each(5, STEPS))
def test_peaks(name, mode):
    snapshots = compared(CASES[name], mode)
    if snapshots:
        pytest.fail(snapshots, pytrace=False)
