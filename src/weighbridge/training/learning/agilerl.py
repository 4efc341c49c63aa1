"""AgileRL: transformers and PEFT in one process with an engine that sleeps.

    batch         micro_batch_size_per_gpu rows of max_model_len tokens, in all passes
    adapters      in float32 besides a base in 16 bits; a second, frozen one is the reference
    weights       in bfloat16, even if trained whole
    PPO           a third adapter values tokens: rows of policy and critic go through the base in
                  one forward, and those of the reference besides them without gradients
    checkpoints   on; AdamW with foreach
    engine        0.3 of the card, as many sequences as a group has, 8,192 tokens of each at once;
                  asleep at level 1 while the trainer trains
    away          weights and adapters are in host memory before the engine starts and while it
                  generates; its adapter is read from a file, so the card sends no weights

Source: agilerl 2.58 algorithms/grpo.py, algorithms/core/base.py (_offload_trainer_for_rollout,
_prepare_vllm_for_generation), utils/algo_utils.py (VLLMConfig), utils/llm_utils.py
(resolve_vllm_max_num_batched_tokens; create_model_from_name_or_path: torch_dtype).
"""

from weighbridge.base.records import replace
from weighbridge.training.learning import record
from weighbridge.training.learning.record import LearningRun
from weighbridge.workload import Train

ROW, GROUP, SHARE, BETA = 1024, 8, 0.3, 0.001
PER_SEQUENCE = 8192  # max_num_batched_tokens per concurrent sequence of the engine
LEAVES = frozenset({"weights"})


def run(asked: Train, cards: int) -> LearningRun:
    full, writes = asked.tuning == "full", asked.writes
    row = record.lengths(asked, ROW // 2, ROW // 2, ROW)
    values = asked.learns == "ppo"
    rows = (asked.batch_size or 1) * (2 if values else record.pairs(asked))
    question = record.trained(
        asked,
        "trl",
        rows,
        row[0],
        optimizer="adamw_torch",
        checkpointing="full",
        dtype=record.sixteen(asked, whole=True),
    )
    beta = BETA if asked.kl_beta is None else asked.kl_beta
    seqs = asked.max_num_seqs or asked.num_generations or GROUP
    rollout = record.serving(
        asked,
        SHARE,
        sleep=1,
        context=row[0],
        max_num_seqs=seqs,
        max_num_batched_tokens=min(seqs * row[0], max(row[0], seqs * PER_SEQUENCE)),
        max_loras=None if full else 1,
        max_lora_rank=None if full else asked.lora_r,
        same_process=True,
        sends=full,
    )
    asked = asked.but(kl_beta=beta if writes else None)
    learned = record.objective(
        asked,
        rows + rows // 2 * values,
        row,
        compares=record.compares(asked),
    )
    if learned.reference == "adapter":
        learned = replace(learned, adapters=1)
    return record.answered(
        asked,
        question,
        row,
        learned,
        rollout=rollout,
        number=GROUP,
        away=record.away(asked, LEAVES if cards == 1 else frozenset()),
        one_base=not full,
        unsaid=record.unsaid(asked, "batch_size"),
    )
