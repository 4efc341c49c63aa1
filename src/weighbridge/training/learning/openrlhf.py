"""OpenRLHF: DeepSpeed for each model, on separate cards or all on the same.

    batch         micro_train_batch_size rows; of log-probabilities micro_rollout_batch_size
    states        ZeRO-2 by default; adam_offload is --offload optimizer
    roles         apart unless colocate_all_models: --rollout-gpu names the engine's cards
    reference     a copy on the actor's cards (colocated); on its own cards elsewhere
    engine        0.95 of its cards; it sleeps if vllm_enable_sleep is set
    states        of the optimizer leave with deepspeed_enable_sleep: --rollout-offload states

Source: OpenRLHF 0.5 to 0.11 openrlhf/cli/train_ppo_ray.py, trainer/ray/launcher.py,
utils/deepspeed/deepspeed.py.
"""

from weighbridge.base.errors import TriedError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.training.learning import record
from weighbridge.training.learning.record import LearningRun, before
from weighbridge.workload import Train

LENGTH = 1024
ROW = 2048  # max_len of preferences
SHARE = 0.95
FLASH = (0, 8, 11)  # attn_implementation is flash_attention_2
SLEEPS_SINCE = (0, 17, 6)  # DeepSpeed since which stages 1 and 2 can offload their states


def run(asked: Train, cards: int) -> LearningRun:
    _refuse(asked)
    row = record.lengths(asked, LENGTH, LENGTH, ROW)
    rows = (asked.batch_size or 1) * record.pairs(asked)
    here = not asked.rollout_gpu
    question = record.trained(
        asked,
        "deepspeed",
        rows,
        row[0],
        shard="zero2" if cards > 1 else None,
        precision="bf16",
        checkpointing="none",
        attention=None if before(record.released(asked), *FLASH) else "flash",
    )
    learned = record.objective(asked, rows, row, compares=here and record.compares(asked))
    return record.answered(
        asked,
        question,
        row,
        learned,
        rollout=record.serving(asked, SHARE, sleep=0, context=row[0]),
        critic=record.critic(asked) if here else "",
        workers=True,
        unsaid=record.unsaid(asked, "batch_size"),
    )


def _refuse(asked: Train) -> None:
    """Raise TriedError if optimizer states should be offloaded but DeepSpeed's release cannot do so
    for stages 1 and 2."""
    stage = asked.shard or "zero2"
    known = numbers(asked.deepspeed_version)
    leaves = asked.rollout_offload in ("states", "weights", "all")
    if leaves and stage in ("zero1", "zero2") and known and known < SLEEPS_SINCE:
        raise TriedError(
            sentence("learning.zero_sleep", version=asked.deepspeed_version),
            seen="OpenRLHF train_ppo_ray.py: deepspeed_enable_sleep needs ZeRO-3, or DeepSpeed "
            "after 0.17.5",
        )
