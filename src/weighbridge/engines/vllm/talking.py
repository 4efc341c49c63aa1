"""What NCCL takes before vLLM first looks at free memory: outside its share since 0.11.

One communicator a group of ranks, and torch's own: 2 with tensor parallelism, and one more each
with experts (a group of the same ranks), with a pipeline, with replicas. What the first collectives
open later is in `engines/servers/communication.py`, and inside the share.

No source gives a size, so it is assumed: vLLM 0.19 on 2 and 4 H100 held 1.02 and 1.04 GiB beside
the context with dense models, 1.50 and 1.56 with experts (jgchn/llm-d-planner): 0.51 each. Cards of
other generations by NCCL's own channels (kernels/nccl.py).

Source: vllm 0.33 distributed/parallel_state.py (initialize_model_parallel).
"""

from weighbridge.accelerators.budget import Budget
from weighbridge.accelerators.chips import SWITCHED as SWITCHED_CHIPS
from weighbridge.engines.servers.communication import Collectives, linked
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.rules import VllmRules
from weighbridge.engines.vllm.setting import VllmLaunch
from weighbridge.memory import Bytes, exactly
from weighbridge.units import MIB

COMMUNICATOR = Bytes(400 * MIB, 520 * MIB, 640 * MIB)
UNKNOWN = Bytes(12 * MIB, 520 * MIB, 640 * MIB)  # no card was named
# By ranks, on cards with a switch: low, expected, high MiB beyond the first communicators
SWITCHED = {2: (1500, 1780, 2300), 4: (1500, 1930, 2600), 8: (1500, 2150, 3400)}
PLAIN = (40, 160, 560)
# vLLM 0.11 grew by 0.55 GiB outside torch at two H100 with FP8, 0.13 of it kernels (one log). Its
# compiler does not fuse sums of ranks with what follows; later ones do, and keep a workspace.
UNFUSED = (300, 430, 2300)
SCATTER = 16 * MIB


def collectives(rules: VllmRules) -> Collectives:
    """Return the way in which this release sums over ranks, after its first look at free memory."""
    return Collectives(
        engine=ENGINE.name,
        switched=SWITCHED,
        plain=PLAIN,
        most=None if rules.fuses else UNFUSED,
        scatter=SCATTER if rules.scatters else 0,
        always_experts=True,
        symmetric=True,
    )


def before(launch: VllmLaunch, budget: Budget | None, *, experts: bool) -> Bytes:
    if launch.tensor * launch.pipeline * launch.data == 1:
        return exactly(0)
    groups = 2 * (launch.tensor > 1) + (launch.pipeline > 1) + (launch.data > 1)
    count = max(2, groups + (experts and launch.tensor * launch.data > 1))
    return Bytes(*(count * b for b in _each(budget)))


def _each(budget: Budget | None) -> Bytes:
    if budget is None:
        return UNKNOWN
    part = budget.choice.part
    return COMMUNICATOR if part.capability in SWITCHED_CHIPS else linked(part)
