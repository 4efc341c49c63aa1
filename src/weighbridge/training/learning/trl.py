"""TRL, and what trains by its classes.

    batch         rows of a forward are per_device_train_batch_size; before 0.15 of GRPO each is a
                  prompt with all its answers
    log-probs     before 0.17 of all rows of a step at once
    reference     of GRPO if beta is not 0: 0.04 before 0.19, then 0
    checkpoints   on since 0.22 (SFTConfig and its kin); before as in the Trainer
    weights       float32 by TRL's own loader (frameworks.txt has its releases), frozen ones too; in
                  16 bits as in the files by ms-swift, axolotl (bf16: auto) and Unsloth;
                  LLaMA-Factory casts what it trains to float32, and its reference stays in 16 bits
    generation    vllm_mode server before 0.18; then colocate, with 0.3 of the card; without vLLM
                  the policy's own generate makes all rows of a step
    ZeRO-3        all weights are gathered while the policy generates (ds3_gather_for_generation),
                  and if adapters are merged to be sent; in ms-swift whatever is sent
    sleep         vllm_enable_sleep_mode, level 2; off by default
    ms-swift      one row, beta 0.04, 0.9 of the card, checkpoints on; sleep_level as set; without
                  use_vllm the policy generates
    Unsloth       one base for both, in the trainer's process; half of what is free (standby: more).
                  Checkpoints are on the host; rows of a forward are as many as fit what is free, at
                  least one: one is counted, or --logprob-batch-size (unsloth_grpo_mini_batch)

Source: trl 0.14 to 1.16 trainer/grpo_config.py, grpo_trainer.py, dpo_trainer.py,
generation/vllm_generation.py (_iter_named_params), models/utils.py; ms-swift 3.8
llm/argument/rlhf_args.py, trainers/rlhf_trainer/grpo_trainer.py, @ 3602360a
swift/rlhf_trainers/rollout_mixin.py (gather_if_zero3), swift/model/utils.py
(get_default_torch_dtype: that of config.json); unsloth_zoo vllm_utils.py; axolotl @ 067b021c
loaders/model.py, core/builders/rl.py (ensure_dtype); LLaMA-Factory @ ff6d4d12 model/adapter.py
(Upcasting trainable params to float32), train/trainer_utils.py (create_ref_model).
"""

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB
from weighbridge.base.versions import numbers
from weighbridge.memory.components.device import context
from weighbridge.training.learning import megatron, record
from weighbridge.training.learning.record import LearningRun, Release, Rollout, before
from weighbridge.workload import Infer, Train

SWIFT = ("ms-swift", "llama-factory")
SWIFTS = 16  # default rows per step (ms-swift arguments/train_args.py)
SHARE, SERVER = 0.3, 0.9
# (GiB of a card from which, share of what is free) (unsloth_zoo ce232d6c vllm_utils.py), 95 % of it
# since vLLM 0.11; before
STANDBY = ((40, 0.925), (25, 0.9), (20, 0.825), (14, 0.8), (10, 0.775), (0, 0.75))
OLD_STANDBY = ((90, 0.9), (40, 0.875), (25, 0.85), (20, 0.825), (14, 0.8), (10, 0.75), (0, 0.7))
PACKED_ENGINE = "0.27"  # the last vLLM that loads a model which bitsandbytes quantizes on load
KEEPS = ("trl", "unsloth", "llama-factory", "axolotl")  # do not empty torch's cache between passes
PROMPT, ANSWER, OLD_ANSWER = 512, 512, 256
ROW = 1024  # most tokens per preference pair (DPOConfig.max_length)
CUTOFF = 2048  # the same of LLaMA-Factory (@ ff6d4d12 hparams/data_args.py, cutoff_len)
ROWS = GENERATIONS = 8  # per_device_train_batch_size, num_generations
# vLLM at a release's time, by default: trl pyproject.toml, extra vllm
ENGINES: tuple[tuple[Release, str], ...] = (((0, 18), "0.8.5"), ((0, 23), "0.10"), ((1, 0), "0.11"))


def run(asked: Train, cards: int) -> LearningRun:
    release, name = record.released(asked), asked.framework or ""
    swift, learns, writes = name in SWIFT, asked.learns, asked.writes
    if name == "ms-swift" and asked.tuning in ("full", "lora") and megatron.split(asked):
        return megatron.run(asked, cards)
    if name == "unsloth" and asked.tuning == "full":
        raise UnsupportedError(sentence("learning.adapters_alone"))
    if learns == "kto" and not swift:
        _refuse_single_kto_row(asked)
    batch = asked.batch_size or (ROWS if writes and not swift else 2 if learns == "kto" else 1)
    steps = asked.gradient_accumulation or (max(1, SWIFTS // (batch * cards)) if swift else 1)
    most = CUTOFF if name == "llama-factory" else ROW
    row = record.lengths(asked, PROMPT, OLD_ANSWER if before(release, 1, 10) else ANSWER, most)
    number = asked.num_generations or GENERATIONS
    rows = _rows(asked, release, batch, number)
    checks = not (swift and asked.batch_size is None)
    if name == "unsloth" and writes:  # it uses a multiple of the answers
        batch = batch if batch % number == 0 else number
    elif writes and learns != "ppo" and checks and (swift or not before(release, 0, 15)):
        step = rows * steps * (asked.data_parallel_size or cards)
        if step % number:
            raise UsageError(sentence("learning.groups", rows=step, number=number))
    quiet = rows * steps if before(release, 0, 17) and not swift else rows
    beta = asked.kl_beta
    if beta is None:
        beta = 0.04 if swift or before(release, 0, 19) else 0.0
    unsaid = record.unsaid(asked, "batch_size")
    if unsaid and name == "trl" and cards > 1 and asked.shard is None:
        unsaid = (*unsaid, "shard")  # set in a file of accelerate's
    asked = asked.but(kl_beta=beta if writes else None, batch_size=batch)
    learned = record.objective(
        asked,
        quiet,
        row,
        compares=record.compares(asked) or learns == "ppo",
        answer=row[1],
    )
    rollout = _rollout(asked, release, row[0], rows * steps) if writes else None
    whole = asked.tuning != "full" or swift or (rollout is not None and rollout.generates > 0)
    return record.answered(
        asked,
        _question(asked, release, rows, row[0]),
        row,
        replace(learned, empties=name not in KEEPS, halved=_upcast(asked)),
        rollout=rollout,
        number=number,
        gathers=asked.shard == "zero3" and whole,
        unsaid=unsaid,
    )


def _rows(asked: Train, release: Release, batch: int, number: int) -> int:
    """Return the rows of a forward. Unsloth splits rows into chunks that fit free memory; at least
    one row is counted."""
    if asked.framework == "unsloth" and asked.writes:
        return asked.logprob_batch_size or 1
    prompts = asked.writes and before(release, 0, 15) and asked.framework not in SWIFT
    return batch * (number if prompts else record.pairs(asked))


def _question(asked: Train, release: Release, rows: int, length: int) -> Train:
    name, full = asked.framework, asked.tuning == "full"
    old = before(release, 0, 22) and name == "trl"
    by_zero = (asked.shard or "").startswith("zero")
    return record.trained(
        asked,
        "unsloth" if name == "unsloth" else "trl" if asked.learns else "trainer",
        rows,
        length,
        checkpointing="offload" if name == "unsloth" else "none" if old else "full",
        dtype=_dtype(asked),
        precision="fp32" if old and full and asked.dtype is None and not by_zero else None,
    )


def _dtype(asked: Train) -> str | None:
    """Return the dtype that weights are loaded in, by name; None if the TRL release decides."""
    if _upcast(asked):
        return "float32"
    if asked.framework == "trl" or asked.tuning == "qlora" or asked.precision == "fp32":
        return None
    return "float16" if asked.precision in ("fp16-mixed", "fp16") else "bfloat16"


def _upcast(asked: Train) -> bool:
    """Return whether LLaMA-Factory casts trained weights to float32: not with ZeRO, which has its
    own copies."""
    trains = asked.framework == "llama-factory" and asked.tuning == "full"
    apart = asked.dtype is None and asked.precision in (None, "bf16-mixed", "fp16-mixed")
    return trains and apart and not (asked.shard or "").startswith("zero")


def _unsloth_memory_share(asked: Train) -> float:
    """Return Unsloth's memory share as a fraction of the GPU. Unsloth takes it of what is free
    besides the CUDA context; standby has its own by GPU size, whatever the user sets."""
    budget = asked.budget()
    part = None if budget is None else budget.choice.part
    size = 80 * GIB if budget is None else budget.usable.high
    free = 1 - context(part).bytes.expected / size
    if not asked.standby:
        return (asked.gpu_memory_utilization or 0.5) * free
    old = before(numbers(asked.rollout_version), 0, 11)
    table, of = (OLD_STANDBY, 1.0) if old else (STANDBY, 0.95)
    return next(target for least, target in table if size >= least * GIB) * of * free


def _refuse_single_kto_row(asked: Train) -> None:
    """Raise TriedError if KTO has only one row per batch: it compares rows."""
    if (asked.batch_size or 2) < 2:
        raise TriedError(
            sentence("learning.kto"),
            seen="trl kto_trainer.py: Actual (not effective) batch size must be > 1",
        )


def _rollout(asked: Train, release: Release, length: int, rows: int) -> Rollout:
    name = asked.framework or ""
    if name == "unsloth":
        form = (asked.quantization or "nf4") if asked.tuning == "qlora" else None
        return record.serving(
            asked.but(gpu_memory_utilization=None),
            _unsloth_memory_share(asked),
            sleep=int(asked.standby),
            context=length,
            same_process=True,
            shared=True,
            sends=False,
            quantization=form,
            engine_version=asked.rollout_version or PACKED_ENGINE if form else None,
        )
    asks = (
        asked.rollout_engine,
        asked.gpu_memory_utilization,
        asked.rollout_gpu,
        asked.rollout_tp,
        asked.sleep_level,
    )
    engine = asked.rollout_engine
    if engine == "none" or all(x is None for x in asks):
        return Rollout(infer=Infer(engine="transformers"), generates=rows)
    if asked.quantization == "bnb-int8" and name == "trl":
        raise TriedError(
            sentence("learning.packed_policy", form=asked.quantization),
            seen="trl 1.16 generation/vllm_generation.py: vLLM does not support in-flight 8-bit "
            "quantization.",
        )
    version = next((v for since, v in ENGINES if since and before(release, *since)), None)
    share = SHARE if name == "trl" and not before(release, 0, 18) else SERVER
    return record.serving(
        asked,
        share,
        sleep=0,
        context=length,
        max_num_batched_tokens=4096,
        max_num_seqs=rows,
        same_process=not asked.rollout_gpu,
        engine_version=version,
    )
