"""AgileRL: transformers and PEFT in one process with an engine that sleeps.

    batch         micro_batch_size_per_gpu rows of max_model_len tokens, of all passes
    adapters      in float32 beside a base in 16 bits; a second, frozen one is the reference
    checkpoints   on; AdamW with foreach
    engine        0.3 of the card, as many sequences as a group has, 8,192 tokens of each at once;
                  asleep at level 1 while the trainer trains
    away          weights and adapters are in host memory before the engine starts and while it
                  writes; its adapter is read from a file, so no weights are sent from the card

Source: agilerl 2.58 algorithms/grpo.py, algorithms/core/base.py (_offload_trainer_for_rollout,
_prepare_vllm_for_generation), utils/algo_utils.py (VLLMConfig), utils/llm_utils.py
(resolve_vllm_max_num_batched_tokens).
"""

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

ROW, GROUP, SHARE, BETA = 1024, 8, 0.3, 0.001
PER_SEQUENCE = 8192  # tokens that the engine takes at once
LEAVES = frozenset({"weights"})


def run(asked: Train, cards: int) -> LearningRun:
    writes, full = online(asked), asked.tuning == "full"
    row, answer = lengths(asked, ROW // 2, ROW // 2) if writes else (asked.seq_len or ROW, 0)
    rows = (asked.batch_size or 1) * pairs(asked)
    group = asked.num_generations or GROUP
    question = trained(
        asked,
        "trl",
        rows,
        row,
        optimizer="adamw_torch",
        checkpointing="full",
        dtype=None if full or asked.tuning == "qlora" else "bfloat16",
    )
    beta = BETA if asked.kl_beta is None else asked.kl_beta
    beside = reference(asked, needs=asked.learns in COMPARES or (writes and beta > 0))
    objective = Objective(
        method=asked.learns,
        head=headed(asked, released(asked)),
        reference=beside,
        quiet=(asked.logprob_batch_size or rows) if writes else 0,
        adapters=int(beside == "adapter"),
        empties=True,
    )
    seqs = asked.max_num_seqs or group
    rollout = serving(
        asked,
        SHARE,
        sleep=1,
        context=row,
        max_num_seqs=seqs,
        max_num_batched_tokens=min(seqs * row, max(row, seqs * PER_SEQUENCE)),
        max_loras=None if full else 1,
        max_lora_rank=None if full else asked.lora_r,
        same_process=True,
        sends=full,
    )
    return answered(
        asked.but(kl_beta=beta if writes else None),
        question,
        objective,
        rollout=rollout if writes else None,
        lengths=(row, answer) if writes else None,
        number=group,
        away=away(asked, LEAVES if writes and cards == 1 else frozenset()),
        unsaid=unsaid(asked, "batch_size"),
    )
