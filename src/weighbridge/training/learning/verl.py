"""verl and EasyR1: FSDP over all cards, with rows or a number of tokens per forward.

    batch         ppo_micro_batch_size_per_gpu rows, or ppo_max_token_len_per_gpu packed tokens
                  (use_dynamic_bsz); of log-probabilities log_prob_micro_batch_size_per_gpu
    weights       float32 if all is trained, 16 bits with adapters; checkpoints are on
    reference     with a KL loss, always in host memory, a unit at a time on the card
    engine        0.5 of the card over two tensor ranks (EasyR1: 0.6), asleep while the trainer
                  trains: level 1 in the trainer's process before 0.7, then 2 in its own
    sync          buckets of 2 GiB since 0.6
    offload       param_offload and optimizer_offload: away while the engine generates
    packed        use_remove_padding, on since 0.6; attn_implementation is flash_attention_2, and
                  rows neither attend to each other nor have score matrices
    sequence      context-parallel ranks exchange heads (ulysses_sequence_parallel_size)
    allocator     expandable segments while the trainer trains, since 0.6 (set_expandable_segments)

Source: verl 0.3 to 0.8 workers/fsdp_workers.py, workers/config/rollout.py, trainer/config/,
utils/device.py (0.6 fsdp_workers.py:731, 0.7 engine_workers.py:553); EasyR1
verl/workers/actor/config.py, rollout/config.py at b44d4c4.
"""

from weighbridge.base.units import GIB
from weighbridge.training.learning import megatron, record
from weighbridge.training.learning.record import LearningRun, before
from weighbridge.workload import Train

LENGTH = 512  # tokens of a prompt, and of an answer (trainer/config/data)
SHARE, EASY = 0.5, 0.6
GENERATIONS = 1  # rollout.n
ROWS = {"easyr1": (4, 16)}  # micro_batch_size_per_device_for_update, _for_experience
# The newest vLLM that a release accepts, or of its time: METADATA of verl 0.2 to 0.8, extra vllm
ENGINES = (
    ((0, 3), "0.6.3"),
    ((0, 4), "0.8.2"),
    ((0, 6), "0.8.5"),
    ((0, 7), "0.11.0"),
    ((0, 9), "0.12.0"),
)


def run(asked: Train, cards: int) -> LearningRun:
    if megatron.split(asked):
        return megatron.run(asked, cards)
    release, tokens = record.released(asked), asked.max_tokens_per_gpu
    row = record.lengths(asked, LENGTH, LENGTH, 2 * LENGTH)
    asked = asked.but(packing=asked.packing or bool(tokens) or not before(release, 0, 6))
    usual, quiet = ROWS.get(asked.framework or "", (1, 0))
    rows = asked.batch_size or usual
    question = record.trained(
        asked,
        "plain",
        rows,
        row[0],
        shard="fsdp1" if cards > 1 else None,
        cpu_ram_efficient_loading=cards > 1,
        precision="bf16-mixed",
        checkpointing="full",
        attention="flash",
        dtype=record.sixteen(asked),
        expandable_segments=_sets_expandable_segments(asked),
        context_parallel_by="ulysses" if (asked.context_parallel_size or 1) > 1 else None,
    )
    beta = 0.001 if asked.kl_beta is None and asked.reference is not None else asked.kl_beta
    old = before(release, 0, 7)
    rollout = record.serving(
        asked,
        EASY if asked.framework == "easyr1" else SHARE,
        tensor_parallel_size=min(2, cards),
        sleep=1 if old else 2,
        context=row[0],
        max_num_batched_tokens=8192,
        max_num_seqs=256,
        same_process=old,
        engine_version=next((v for since, v in ENGINES if before(release, *since)), None),
    )
    learned = record.objective(
        asked,
        quiet or rows,
        row,
        compares=bool(beta) or asked.learns == "ppo",
        copy="host",
    )
    return record.answered(
        asked,
        question,
        row,
        learned,
        rollout=rollout,
        number=GENERATIONS,
        bucket=asked.sync_bucket or (0 if before(release, 0, 6) else 2 * GIB),
        unsaid=record.unsaid(asked, *(() if tokens else ("batch_size",))),
    )


def _sets_expandable_segments(asked: Train) -> bool | None:
    """Return True if verl sets expandable segments (only with torch for CUDA), None if it leaves
    them to the environment."""
    budget = asked.budget()
    part = None if budget is None else budget.choice.part
    other = part is not None and part.stack == "own"
    old = before(record.released(asked), 0, 6) or asked.framework != "verl"
    return None if old or other else True
