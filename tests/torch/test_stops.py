"""A stop from outside is judged whoever swallowed it, and what a loop never ran bounds its answer."""

import pytest

from tests.cases import each
from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ENDLESS = """
import sys, torch
net = torch.nn.Linear(256, 256).cuda()
opt = torch.optim.AdamW(net.parameters())
def rounds():
    while True:
        net(torch.randn(64, 256, device="cuda")).sum().backward()
        opt.step()
        opt.zero_grad()
        yield
try:
    for _ in rounds():
        pass
except KeyboardInterrupt:
    {way}
"""


@pytest.mark.parametrize(
    "way", each(3, ["sys.exit(1)", "print('saved')", "raise RuntimeError('stopped')"])
)
def test_a_stop_that_the_script_swallows_is_a_stop(trace, way):  # noqa: F811
    options = ["--json", "--gpu", "t4", "--time-limit", "25", "--steps", "all"]
    found = report(trace(ENDLESS.format(way=way), options=options))
    assert found["program"]["ending"] == "time is up"
    assert found["program"]["settled"] >= 4 and found["verdict"]["fits"] == "yes"


UNFREEZES = """
import torch
net = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(4)]).cuda()
net[:3].requires_grad_(False)
opt = torch.optim.AdamW(net[3].parameters())
def losses():
    return [loss.item()]
for i in range(400):
    loss = net(torch.randn(8, 1024, device="cuda")).sum()
    loss.backward()
    opt.step()
    opt.zero_grad()
    good = losses()
    if {condition}:
        net.requires_grad_(True)
        opt = torch.optim.AdamW(net.parameters())
"""
LAYER = 4 * (1024 * 1024 + 1024)


def test_what_later_rounds_unfreeze_is_trained(trace):  # noqa: F811
    options = ["--json", "--gpu", "t4"]
    found = report(trace(UNFREEZES.format(condition="i >= 100"), options=options))
    roles = found["devices"][0]["allocated"]["roles"]
    assert roles["optimizer state"] == pytest.approx(8 * LAYER, rel=0.01)
    assert found["verdict"]["fits"] == "yes"
    assert "if no later batch is larger" in found["verdict"]["reason"]


def test_what_trains_and_never_ran_is_no_fit(trace):  # noqa: F811
    done = trace(UNFREEZES.format(condition="good[-1] > 3"), options=["--gpu", "t4"])
    assert done.returncode == 4
    assert "? cannot say" in done.stdout and "trains more, and never ran" in done.stdout
    done = trace(UNFREEZES.format(condition="good[-1] > 3"), options=["--gpu-memory", "256MiB"])
    assert "✗ does not fit" in done.stdout  # whatever comes later


LONGER = """
import torch
net = torch.nn.Linear(256, 256).cuda()
opt = torch.optim.AdamW(net.parameters())
lengths = [64] * 300
lengths[200] = 1280
rows = [torch.zeros(64 * n, 256) for n in lengths]
for x in rows:
    net(x.cuda()).sum().backward()
    opt.step()
    opt.zero_grad()
"""


def test_the_largest_batch_to_come_is_run(trace):  # noqa: F811
    found = report(trace(LONGER, options=["--json", "--gpu", "t4"]))
    (loop,) = found["loops"]
    assert loop["scanned"] and loop["rounds"] < 20
    whole = report(trace(LONGER, options=["--json", "--gpu", "t4", "--steps", "all"]))
    peaks = [one["devices"][0]["allocated"]["allocated"] for one in (found, whole)]
    assert peaks[0] == peaks[1]
    assert "later batch" not in found["verdict"]["reason"]
