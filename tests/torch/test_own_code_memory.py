"""Scripts that run out of memory and catch it, in the ways that people write that; and sizes that
hang on values."""

import pytest

from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")

NET = """
import sys
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4096, 65536), nn.ReLU(), nn.Linear(65536, 4096)).cuda()

def step(model, optimizer, batch):
    optimizer.zero_grad()
    model(torch.randn(batch, 4096, device="cuda")).sum().backward()
    optimizer.step()

model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""

HALVED = """
batch = 65536
while batch:
    try:
        for _ in range(2):
            step(model, optimizer, batch)
        break
    except torch.cuda.OutOfMemoryError:
        batch //= 2
        torch.cuda.empty_cache()
"""

LEFT_OUT = """
done = []
for batch in [1024, 16384, 131072, 512]:
    try:
        step(model, optimizer, batch)
    except torch.OutOfMemoryError:
        continue
    done.append(batch)
batch = max(done)
"""

FAIRSEQ = """
def train_step(batch):
    try:
        loss = model(torch.randn(batch, 4096, device="cuda")).sum()
        loss.backward()
        optimizer.step()
    except RuntimeError as e:
        if "out of memory" not in str(e):
            raise e
        for p in model.parameters():
            p.grad = None
        torch.cuda.empty_cache()
        return 0
    optimizer.zero_grad()
    return batch

batch = max(train_step(each) for each in [512, 65536, 16384, 65536, 1024])
"""

LIGHTNING = """
import gc

def search(batch):
    low, high = 0, None
    for _ in range(12):
        gc.collect()
        try:
            step(model, optimizer, batch)
            low = batch
            batch = (low + high) // 2 if high else batch * 2
            if high and high - low <= 2048:
                break
        except RuntimeError as exception:
            if isinstance(exception, RuntimeError) and "CUDA out of memory" in exception.args[0]:
                gc.collect()
                torch.cuda.empty_cache()
                high = batch
                batch = (high + low) // 2
            else:
                raise
    return low

batch = search(2048)
step(model, optimizer, batch)
"""

ACCELERATE = """
from accelerate.utils import find_executable_batch_size

@find_executable_batch_size(starting_batch_size=65536)
def train(batch_size):
    for _ in range(2):
        step(model, optimizer, batch_size)
    return batch_size

batch = train()
"""

# What one step at a batch takes on its own: two weights and their gradients, what ReLU keeps, and
# the gradients of both sides of it
WAYS = {
    "halved": (HALVED, 16384),
    "left out": (LEFT_OUT, 16384),
    "fairseq": (FAIRSEQ, 16384),
    "lightning": (LIGHTNING, 16384),  # the cache is cut in pieces that no larger one fits into
    "accelerate": (ACCELERATE, 20563),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_caught_error_gives_its_memory_back(trace, way):  # noqa: F811
    text, batch = WAYS[way]
    done = trace(NET + text + "print('batch', batch)", options=["--gpu", "4090", "--json"])
    assert f"batch {batch}\n" in done.stderr
    found = report(done)
    assert found["program"]["ending"] == "finished" and found["verdict"]["fits"] == "yes"
    alone = report(
        trace(NET + f"for _ in range(3): step(model, optimizer, {batch})", options=["--json"])
    )
    peak, other = (one["devices"][0]["allocated"]["allocated"] for one in (found, alone))
    assert peak == pytest.approx(other, rel=0.02)


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "sys.exit(3)", "raise ValueError('later')"])
def test_what_was_refused_and_never_went_through_does_not_fit(trace, end):  # noqa: F811
    text = f"""
def main():
    try:
        step(model, optimizer, 65536)
    except Exception as error:
        print("failed:", type(error).__name__)

main()
{end}
"""
    found = report(trace(NET + text, options=["--gpu", "4090", "--json"]))
    assert found["program"]["ending"] == "out of memory" and found["program"]["exit_code"] == 1
    assert found["verdict"]["fits"] == "no"


def test_a_run_that_recovered_and_crashed_later_cannot_be_said(trace):  # noqa: F811
    found = report(
        trace(NET + HALVED + "raise ValueError('later')", options=["--gpu", "4090", "--json"])
    )
    assert found["program"]["ending"] == "exception"
    assert found["verdict"]["fits"] == "unknown"


HOST = """
import torch
ids = torch.randint(0, 1000, (200_000,))
table = torch.rand(50_000, 16)
rows = table[table[:, 0] > 0.5]
edges = torch.randint(0, 1000, (2, 300_000)).cuda()
print(ids.unique().numel(), 24_000 < len(rows) < 26_000, int(edges.max()) + 1, edges.unique().numel())
"""


def test_integers_and_tables_of_the_host_are_computed(trace):  # noqa: F811
    done = trace(HOST, options=["--gpu", "4090"])
    assert done.stdout.startswith("1000 True 1000 1000\n")
    assert "at most" not in done.stdout


@pytest.mark.filterwarnings("default")
def test_a_size_that_hangs_on_the_device_is_at_most_so_much(trace):  # noqa: F811
    text = """
    import torch
    x = torch.randn(1 << 20, 4096, device="cuda")
    y = x[x[:, 0] > 0]
    """
    done = trace(text, options=["--gpu", "4090"])
    assert "? cannot say" in done.stdout and "needs at most about 32.3 GiB" in done.stdout
    assert "what script.py:4 takes is not known here" in " ".join(done.stdout.split())
    assert "✓ fits" in trace(text, options=["--gpu", "a100-80gb"]).stdout


FINDER = """
    import torch
    net = torch.nn.Sequential(
        torch.nn.Linear(4096, 16384), torch.nn.ReLU(), torch.nn.Linear(16384, 4096)
    ).cuda()
    def step(rows):
        net.zero_grad()
        net(torch.randn(rows, 4096, device="cuda")).pow(2).mean().backward()
        torch.optim.SGD(net.parameters(), lr=1).step()
    rows = 16384
    while True:
        try:
            step(rows)
            rows *= 2
        except torch.cuda.OutOfMemoryError:
            break
    torch.cuda.empty_cache()
    for _ in range(8):
        step(rows // 2)
    print("rows", rows // 2)
"""


@pytest.mark.filterwarnings("default")
def test_a_search_that_nearly_fills_the_card_held_no_more_than_it_has(trace):  # noqa: F811
    """In the backward of ReLU: the input, what ReLU left, two gradients as wide, the weights, and
    the gradient of the second layer's."""
    found = report(trace(FINDER, options=["--gpu", "t4", "--json"]))
    (device,) = found["devices"]
    assert device["reserved"]["reserved"] <= found["gpu"]["memory"]
    numbers = 65536 * (4096 + 3 * 16384) + 3 * 4096 * 16384
    assert device["allocated"]["allocated"] == pytest.approx(4 * numbers, rel=5e-3)
    assert found["verdict"]["fits"] == "unknown"
