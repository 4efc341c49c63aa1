"""NeMo-RL: FSDP2 over all cards, or Megatron's backend; all is offloaded while the engine
generates.

    batch         train_micro_batch_size 4, pairs of preferences; logprob_batch_size as many
    weights       float32, also besides adapters (models/automodel/setup.py)
    optimizer     AdamW without foreach; gradients of a layer are reduced in its own step
    reference     of KL 0.01, and of DPO: in host memory, whole for a pass
    engine        0.6 of the card in its own process, asleep at level 1; cache and weights wake
                  separately, and the trainer's weights and states are on the host by then
    rows          sequence_packing: --packing
    critic        since 0.7, in its own workers; it and the policy are on the cards in turn

Source: NVIDIA-NeMo/RL examples/configs/grpo_math_1B.yaml, ppo_math_1B.yaml, nemo_rl/models/policy/
dtensor_policy_worker.py, models/generation/vllm.py, algorithms/ppo.py (finish_training).
"""

from weighbridge.training.learning import megatron, record
from weighbridge.training.learning.record import LearningRun
from weighbridge.workload import Train

LENGTH, ROW = 256, 1024  # of a prompt and an answer; of a pair
ROWS, SHARE, GENERATIONS = 4, 0.6, 16


def run(asked: Train, cards: int) -> LearningRun:
    if megatron.split(asked):
        return megatron.run(asked, cards)
    row = record.lengths(asked, LENGTH, LENGTH, ROW)
    rows = (asked.batch_size or ROWS) * record.pairs(asked)
    question = record.trained(
        asked,
        "plain",
        rows,
        row[0],
        shard="fsdp2" if cards > 1 else None,
        cpu_ram_efficient_loading=cards > 1,
        optimizer="adamw_torch",
        optim_args=("foreach=False",),
        precision="bf16-mixed",
        dtype=None if asked.tuning == "full" else "float32",
    )
    learned = record.objective(
        asked,
        rows,
        row,
        compares=record.compares(asked),
        copy="host",
    )
    return record.answered(
        asked,
        question,
        row,
        learned,
        rollout=record.serving(asked, SHARE, sleep=1, context=row[0]),
        number=GENERATIONS,
        away=record.away(asked, record.ALL),
        in_turn=True,
        workers=True,
        unsaid=record.unsaid(asked),
    )
