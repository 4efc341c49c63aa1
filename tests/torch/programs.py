"""Small training programs that run on any device, and what a real run of them allocates.

The oracle is PyTorch's profiler on the CPU: every request and release of the CPU allocator, in
order, with nothing in the way that would change what autograd does.
"""

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

LEAST = 4096  # bytes: below are counters and random states, which the CPU has otherwise
RANDOM_STATE = 5056  # of the CPU's generator, which checkpoints keep
WIDTH = 512


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


class Net(nn.Module):
    """Residual blocks, and one matrix that is used twice: gradients meet in both ways."""

    def __init__(self, checkpoints=None):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.tied = nn.Linear(WIDTH, WIDTH, bias=False)
        self.checkpoints = checkpoints

    def forward(self, x):
        x = self.tied(x)
        for block in self.blocks:
            if self.checkpoints is None:
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.checkpoints == "reentrant")
        return self.tied(x)


def train(
    device, *, checkpoints=None, optimizer="sgd", accumulate=1, set_to_none=True, between=None
):
    """Two steps. `between` is called after backward."""
    model = Net(checkpoints).to(device)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad}
    opt = kinds[optimizer](model.parameters(), lr=0.1, foreach=True)
    for _ in range(2):
        for _ in range(accumulate):
            x = torch.ones(64, WIDTH, device=device, requires_grad=checkpoints == "reentrant")
            model(x).sum().backward()
        if between is not None:
            between(model)
        opt.step()
        opt.zero_grad(set_to_none=set_to_none)


def step_in_backward(device):
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    model = Net().to(device)
    own = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9, foreach=True) for p in model.parameters()}

    def step(parameter):
        own[parameter].step()
        own[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    for _ in range(2):
        model(torch.ones(64, WIDTH, device=device)).sum().backward()


def real(program, **settings):
    """Signed bytes of what `program` asked of the CPU's allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        program("cpu", **settings)
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return [n for n in sizes if abs(n) >= LEAST and abs(n) != RANDOM_STATE]


def recorded(tape, first=0):
    """The same of a tape from event `first` on, without what only a GPU has."""
    made = [(1 if e > 0 else -1, tape.storages[abs(e) - 1]) for e in tape.events[first:]]
    return [sign * s.nbytes for sign, s in made if s.nbytes >= LEAST and s.op != "cuBLAS workspace"]
