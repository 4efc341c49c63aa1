"""NeMo-RL: FSDP2 over all cards, or Megatron's backend; everything leaves while the engine writes.

    batch         train_micro_batch_size 4, pairs of preferences; logprob_batch_size as many
    optimizer     AdamW without foreach; gradients of a layer are reduced in its own step
    reference     of KL 0.01, and of DPO: in host memory, whole for a pass
    engine        0.6 of the card in a process of its own, asleep at level 1; cache and weights wake
                  apart, and the trainer's weights and states are on the host by then
    rows          sequence_packing: --packing

Source: NVIDIA-NeMo/RL examples/configs/grpo_math_1B.yaml, nemo_rl/models/policy/
dtensor_policy_worker.py, models/generation/vllm.py.
"""

from weighbridge.training.learning import megatron
from weighbridge.training.learning.record import (
    COMPARES,
    LearningRun,
    answered,
    away,
    headed,
    lengths,
    online,
    pairs,
    reference,
    released,
    serving,
    trained,
    unsaid,
)
from weighbridge.training.objective import Objective
from weighbridge.workload import Train

LENGTH, ROW = 256, 1024  # of a prompt and an answer; of a pair
ROWS, SHARE, GENERATIONS = 4, 0.6, 16
LEAVES = frozenset({"weights", "states", "others"})


def run(asked: Train, cards: int) -> LearningRun:
    if megatron.split(asked):
        return megatron.run(asked, cards)
    release, writes = released(asked), online(asked)
    row, answer = lengths(asked, LENGTH, LENGTH) if writes else (asked.seq_len or ROW, 0)
    rows = (asked.batch_size or ROWS) * pairs(asked)
    full = asked.tuning == "full"
    question = trained(
        asked,
        "plain",
        rows,
        row,
        shard="fsdp2" if cards > 1 else None,
        cpu_ram_efficient_loading=cards > 1,
        optimizer="adamw_torch",
        optim_args=("foreach=False",),
        precision="bf16-mixed",
        dtype=None if full or asked.tuning == "qlora" else "bfloat16",
    )
    needs = asked.learns in COMPARES or (writes and asked.kl_beta != 0)
    objective = Objective(
        method=asked.learns,
        empties=True,
        head=headed(asked, release),
        reference=reference(asked, needs=needs, copy="host"),
        quiet=(1 if asked.packing else asked.logprob_batch_size or rows) if writes else 0,
    )
    return answered(
        asked,
        question,
        objective,
        rollout=serving(asked, SHARE, sleep=1, context=row) if writes else None,
        lengths=(row, answer) if writes else None,
        number=asked.num_generations or GENERATIONS,
        away=away(asked, LEAVES if writes else frozenset()),
        capped=not asked.packing,
        unsaid=unsaid(asked),
    )
