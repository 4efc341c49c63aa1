"""Megatron's step in a framework for rewards: slime, and the Megatron backends of verl, NeMo-RL and
ms-swift.

    mask          no loader makes a mask of pairs of tokens: only pretrain_gpt does
    gradients     NeMo-RL reduces them in 16 bits, with its precision-aware optimizer
    experts       NeMo-RL and ms-swift have one tensor rank per expert; Megatron as many as others
    sequence      verl shards tokens between layers (sequence_parallel)
    away          slime and NeMo-RL: weights and states are on the host while the engine generates
    reference     in host memory (verl, NeMo-RL, slime), a copy elsewhere
    engine        slime: SGLang, with its default share
    critic        Megatron's step with one output: in the policy's workers (verl), or in separate
                  workers on the same cards, in turn with the policy (slime, NeMo-RL)

Source: THUDM/slime slime/backends/megatron_utils/actor.py, ray/placement_group.py,
utils/arguments.py (offload_train of use_critic); verl workers/megatron_workers.py; NeMo-RL
examples/configs/grpo_math_1B_megatron.yaml, models/policy/megatron_policy_worker.py.
"""

from weighbridge.training.learning import record
from weighbridge.training.learning.record import LearningRun
from weighbridge.workload import Train

LENGTH = 512
SHARES = {"nemo-rl": 0.6, "slime": None}  # None: SGLang's own
SHARE = 0.5
LEAVES = ("slime", "nemo-rl")
NO_MASK = "no_create_attention_mask_in_dataloader"


def split(asked: Train) -> bool:
    """Return whether the user sets Megatron's backend: by its arguments, or by a pipeline, which
    other backends do not have."""
    return bool(asked.megatron_args) or (asked.pipeline_parallel_size or 1) > 1


def run(asked: Train, cards: int) -> LearningRun:
    name = asked.framework or ""
    row = record.lengths(asked, LENGTH, LENGTH, LENGTH)
    rows = (asked.batch_size or 1) * record.pairs(asked)
    question = record.trained(
        asked.but(megatron_args=_arguments(asked)),
        "megatron",
        rows,
        row[0],
        shard="zero1" if cards > 1 else None,
        precision="bf16-mixed",
        checkpointing="none",
    )
    learned = record.objective(
        asked,
        rows,
        row,
        compares=record.compares(asked),
        copy="host" if name in ("verl", "nemo-rl", "slime") else "copy",
    )
    return record.answered(
        asked,
        question,
        row,
        learned,
        rollout=record.serving(asked, SHARES.get(name, SHARE), sleep=1, context=row[0]),
        away=record.away(asked, record.ALL if name in LEAVES else frozenset()),
        in_turn=name in LEAVES,
        workers=name in LEAVES,
        unsaid=record.unsaid(asked),
    )


def _arguments(asked: Train) -> tuple[str, ...]:
    """Return Megatron's arguments: the user's, followed by those that the framework adds."""
    said = asked.megatron_args or ()
    own = [NO_MASK]
    if asked.framework == "verl" and (asked.tensor_parallel_size or 1) > 1:
        own.append("sequence_parallel")
    if asked.framework == "nemo-rl":
        own += ["grad_reduce_in_bf16", "use_precision_aware_optimizer"]
    if asked.framework in ("nemo-rl", "ms-swift") and (asked.expert_parallel_size or 1) > 1:
        own.append("expert_tensor_parallel_size=1")
    names = {argument.partition("=")[0] for argument in said}
    return (*said, *(argument for argument in own if argument.partition("=")[0] not in names))
