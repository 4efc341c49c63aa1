"""What NCCL takes before vLLM first looks at free memory: outside its share since 0.11.

One communicator a group of ranks, and torch's own: 2 with tensor parallelism, and one more each
with experts (a group of the same ranks), with a pipeline, with replicas. What the first collectives
open later is in `engines/communication.py`, and inside the share.

No source gives a size, so it is assumed: vLLM 0.19 on 2 and 4 H100 held 1.02 and 1.04 GiB beside
the context with dense models, 1.50 and 1.56 with experts (jgchn/llm-d-planner): 0.51 each.

Source: vllm 0.33 distributed/parallel_state.py (initialize_model_parallel).
"""

from weighbridge.accelerators.budget import Budget
from weighbridge.accelerators.chips import LINKED
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.setting import Launch
from weighbridge.memory import Bytes, exactly
from weighbridge.units import MIB

COMMUNICATOR = Bytes(64 * MIB, 520 * MIB, 560 * MIB)
UNLINKED = Bytes(16 * MIB, 64 * MIB, 520 * MIB)  # cards that talk through host memory


def before(at: Launch, budget: Budget | None, *, experts: bool) -> Bytes:
    if at.tensor * at.pipeline * at.data == 1:
        return exactly(0)
    groups = 2 * (at.tensor > 1) + (at.pipeline > 1) + (at.data > 1)
    count = max(2, groups + (experts and at.tensor * at.data > 1))
    each = COMMUNICATOR if hardware.capability(budget) in LINKED else UNLINKED
    return Bytes(*(count * b for b in each))
