"""Record of one run that learns from rewards or preferences, and rules that frameworks share."""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.base.versions import numbers
from weighbridge.training.forward.heads import head
from weighbridge.training.objective import Objective, Reference
from weighbridge.workload import Infer, Train

PAIRS = ("dpo", "ipo", "orpo", "cpo", "simpo", "reward")  # two rows of each example
COMPARES = ("dpo", "ipo", "kto", "gkd")  # preference methods that also run a frozen reference model
NEXT_TOKEN = "orpo"  # uses fine-tuning's loss head, and no reference model
# Frameworks whose adapters are on the linears that PEFT, or their own rules, name; all others adapt
# all (verl 0.9 config/model/hf_model.yaml, ms-swift 4.6 arguments/tuner_args.py, NeMo-RL lora_cfg,
# OpenRLHF 0.11 cli/, llamafactory 0.9.5 finetuning_args.py, AgileRL llm_finetuning/)
OTHERS_SAY = ("trl", "axolotl", "unsloth")
Release = tuple[int, ...] | None  # None is the newest


@frozen_record
class Rollout:
    """The engine that generates answers. `sleep`: sleep level, 0 if it never sleeps; `cards`: its
    own GPUs, "" if it shares the trainer's; `same_process`: it shares the trainer's CUDA context;
    `whole_wake`: weights and cache wake together, before weights are synced; `shared`: it uses the
    trainer's weights; `sends`: the GPU sends it weights before its cache exists; `generates`: rows
    that the trainer's model generates at once, without an engine; `of_free`: its memory share is of
    what the trainer leaves free."""

    infer: Infer
    sleep: int = 0
    cards: str = ""
    same_process: bool = False
    whole_wake: bool = False
    shared: bool = False
    sends: bool = True
    generates: int = 0
    of_free: bool = False


@frozen_record
class LearningRun:
    """One run that learns from rewards or preferences. `trained` is the Train request of the
    policy, `effective` the method's other settings. `away`: what is in host memory while the engine
    generates (weights, states, others). `in_turn`: policy and critic are on the GPUs in turn;
    `workers`: a critic has its own process; `one_base`: it shares the policy's base. `gathers`:
    ZeRO-3 gathers all weights on each GPU to generate, or to send them. `capped`: rows may be
    shorter than their cap. `notes`: remarks on the answer. `unsaid`: settings that matter and are
    not set. `outside`: "earlier" or "newer" if the release is outside the known ones."""

    trained: Train
    objective: Objective
    effective: Mapping[str, Any]
    rollout: Rollout | None = None
    away: frozenset[str] = frozenset()
    bucket: int = 0
    critic: str = ""
    reward: str = ""
    in_turn: bool = False
    workers: bool = False
    one_base: bool = False
    gathers: bool = False
    capped: bool = True
    notes: tuple[Sentence, ...] = ()
    unsaid: tuple[str, ...] = ()
    outside: str = ""


def released(asked: Train) -> Release:
    return numbers(asked.framework_version)


def before(release: Release, *number: int) -> bool:
    """Return whether `release` is older than `number`; False for None, the newest."""
    return release is not None and release < number


def lengths(asked: Train, prompt: int, answer: int, row: int) -> tuple[int, int]:
    """Return the most tokens (per row, per answer). A row is the prompt and its answer, by the
    user's lengths or the framework's; without generation, `row`, and 0 for an answer length that is
    not set."""
    if not asked.writes:
        return asked.seq_len or row, asked.max_new_tokens or 0
    answer = asked.max_new_tokens or answer
    if asked.seq_len is None:
        return (asked.prompt_len or prompt) + answer, answer
    if asked.max_new_tokens is None:
        answer = asked.seq_len - (asked.prompt_len or 0)
    prompt = asked.prompt_len or 0
    if answer + prompt > asked.seq_len or answer < 1:
        lengths = {"row": asked.seq_len, "prompt": prompt, "answer": answer}
        raise UsageError(sentence("learning.lengths", **lengths))
    return asked.seq_len, answer


def trained(asked: Train, framework: str, rows: int, length: int, **usual: Any) -> Train:
    """Return the Train request of the trained model: `rows` of `length` tokens, other settings as
    the user's, else as in `usual`."""
    rows, length = packed(asked, rows, length)
    if asked.tuning != "full" and asked.framework not in OTHERS_SAY:
        usual["lora_targets"] = ("all-linear",)
    unsaid = {k: v for k, v in usual.items() if getattr(asked, k) in (None, False)}
    version = asked.framework_version if framework == asked.framework else None
    settings = {
        **dict.fromkeys(OF_ROLES),
        **dict.fromkeys(SWITCHES, False),
        **unsaid,
        "method": asked.tuning,
        "framework": framework,
        "framework_version": version,
        "batch_size": rows,
        "seq_len": length,
        "loss": None if asked.loss in (*FUSED, "liger") else asked.loss,
    }
    if asked.learns == "reward" and asked.tuning != "full" and framework != "megatron":
        # PEFT, of SEQ_CLS
        settings["modules_to_save"] = (*(asked.modules_to_save or ()), "score")
    return asked.but(**settings)


def packed(asked: Train, rows: int, length: int) -> tuple[int, int]:
    """Return (rows, tokens per row) of a forward. Packed samples are one row with as many tokens as
    allowed."""
    tokens, _ = tokens_of(asked)
    if tokens:
        return 1, max(length, tokens)
    return (1, rows * length) if asked.packing and asked.learns else (rows, length)


FUSED = ("trl", "cce", "chunked", "unsloth")  # losses that never materialize all logits
SWITCHES = ("entropy", "packing", "standby", "rollout_eager")


OF_ROLES = (
    *("tuner", "reference", "critic", "reward_model", "kl_beta", "num_generations"),
    *("logprob_batch_size",),
    *("max_tokens_per_gpu", "prompt_len", "max_new_tokens", "rollout_engine", "rollout_version"),
    *("rollout_gpu", "rollout_tp", "rollout_offload", "gpu_memory_utilization", "max_num_seqs"),
    "max_num_batched_tokens",
    *("sleep_level", "sync_bucket", "sync_parts", "rollout_max_len"),
)


def sixteen(asked: Train, *, whole: bool = False) -> str | None:
    """Return the dtype of a base with adapters, "bfloat16"; also of full weights if `whole` says
    that they load in it; else None."""
    wide = asked.tuning == "full" and not whole
    return None if wide or asked.tuning == "qlora" else "bfloat16"


def compares(asked: Train) -> bool:
    """Return whether the method runs a frozen reference model; an unset KL weight counts as
    nonzero."""
    return asked.learns in COMPARES or (asked.writes and asked.kl_beta != 0)


def critic(asked: Train) -> str:
    """Return the critic, PPO's value model, as a reference; "same" is the policy's model, ""
    without PPO."""
    return (asked.critic or "same") if asked.learns == "ppo" else ""


def reference(asked: Train, *, needs: bool, copy: Reference = "copy") -> Reference:
    """Return where the frozen reference model is: the user's choice, else `copy`, or with adapters
    the base with them off."""
    if asked.reference is not None:
        if asked.reference == "adapter" and asked.tuning == "full":
            raise ContradictionError(sentence("learning.no_adapter"))
        chosen: Reference = asked.reference  # type: ignore[assignment]
        return chosen
    if not needs:
        return "none"
    return copy if asked.tuning == "full" else "adapter"


def pairs(asked: Train) -> int:
    """Return the rows per example."""
    return 2 if asked.learns in PAIRS and not asked.packing else 1


def away(asked: Train, usual: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return which parts are offloaded while the engine generates: the user's choice, else
    `usual`."""
    if asked.rollout_offload is None:
        return usual if asked.writes else frozenset()
    return LEAVES[asked.rollout_offload]


ALL = frozenset({"weights", "states", "others"})
LEAVES: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "states": frozenset({"states"}),
    "weights": frozenset({"weights", "states"}),
    "all": ALL,
}


def serving(
    asked: Train, share: float | None, *, sleep: int, context: int, **usual: Any
) -> Rollout:
    """Return the engine's settings: the user's, else the framework's, with `share` of GPU memory.
    `usual` are settings of `infer`, and fields of `Rollout`."""
    engine = asked.rollout_engine or ("sglang" if asked.framework == "slime" else "vllm")
    level = sleep if asked.sleep_level is None else asked.sleep_level
    facts = {name: usual.pop(name) for name in OF_ROLLOUT if name in usual}
    settings: dict[str, Any] = {
        **usual,
        "engine": engine,
        "gpu_memory": asked.gpu_memory,
        "headroom": asked.headroom,
        "context": context,
        "engine_version": asked.rollout_version or usual.get("engine_version"),
        "tensor_parallel_size": asked.rollout_tp or usual.get("tensor_parallel_size") or 1,
    }
    share, seqs = asked.gpu_memory_utilization or share, asked.max_num_seqs
    seqs = seqs or settings.pop("max_num_seqs", None)
    if engine == "none":  # the policy generates by itself
        rows = seqs or asked.batch_size or 1
        return Rollout(infer=Infer(engine="transformers"), generates=rows)
    if engine == "vllm":
        settings |= {"gpu_memory_utilization": share, "max_num_seqs": seqs}
        settings |= {"enable_sleep_mode": level > 0, "sleep_level": level or None}
        if asked.max_num_batched_tokens:
            settings["max_num_batched_tokens"] = asked.max_num_batched_tokens
    else:
        settings |= {"mem_fraction_static": share, "max_running_requests": seqs}
        settings.pop("max_num_batched_tokens", None)
    settings["context"] = asked.rollout_max_len or context
    settings |= {EAGER[engine]: True} if asked.rollout_eager and engine in EAGER else {}
    asks = Infer(**{k: v for k, v in settings.items() if v is not None})
    facts["of_free"] = engine == "sglang" and asked.framework not in FIRST
    return Rollout(infer=asks, sleep=level, cards=asked.rollout_gpu or "", **facts)


EAGER = {"vllm": "enforce_eager", "sglang": "disable_cuda_graph"}
# Frameworks whose engine starts before the trainer (slime 0.3.1 train.py; NeMo-RL 0.7 algorithms/
# grpo.py, initialize_generation_with_policy). SGLang's share is of what is free as it starts
# (sglang 0.5.23 mem_cache/kv_cache_configurator.py)
FIRST = ("slime", "nemo-rl")
OF_ROLLOUT = ("same_process", "whole_wake", "shared", "sends")


def objective(
    asked: Train,
    rows: int,
    row: tuple[int, int],
    *,
    compares: bool,
    copy: Reference = "copy",
    answer: int = 0,
) -> Objective:
    """Return the objective of a step. Generated answers add forwards without gradients of `rows`
    (or logprob_batch_size) x `row` tokens; `compares` adds a frozen model, kept as `copy` says.
    `answer`: tokens per answer, for heads that score only those. Most frameworks empty torch's
    cache between passes."""
    scores = head(
        asked.learns or NEXT_TOKEN,
        asked.framework or "",
        released(asked),
        fused=asked.loss in FUSED,
        liger=asked.loss == "liger",
        entropy=asked.entropy,
    )
    rows, length = packed(asked, asked.logprob_batch_size or rows, row[0])
    return Objective(
        method=asked.learns,
        head=scores,
        reference=reference(asked, needs=compares, copy=copy),
        quiet=rows if asked.writes else 0,
        length=length,
        answer=answer if scores.answer else 0,
        empties=True,
    )


def answered(
    asked: Train,
    question: Train,
    row: tuple[int, int],
    objective: Objective,
    *,
    rollout: Rollout | None = None,
    number: int = 1,
    **facts: Any,
) -> LearningRun:
    """Return the run with its effective settings. `row`: tokens (per row, per answer); `number`:
    answers per prompt. `facts` are fields of `LearningRun`."""
    writes = asked.writes
    usual: dict[str, Any] = {"away": away(asked), "critic": critic(asked)}
    facts = {"capped": writes or not asked.packing, **usual, **facts}
    effective: dict[str, Any] = {
        "method": asked.learns,
        "tuner": asked.tuning,
        "framework": asked.framework,
        "framework_version": asked.framework_version,
        "batch_size": forward_rows(asked, row[0]),
        "reference": objective.reference,
        "entropy": asked.entropy,
        "packing": asked.packing,
        "critic": facts["critic"] or None,
        "reward_model": asked.reward_model,
        "max_tokens_per_gpu": asked.max_tokens_per_gpu,
        "max_new_tokens": asked.max_new_tokens,
        "unsaid": list(facts.get("unsaid", ())) or None,
        **({} if asked.loss is None else {"loss": asked.loss}),
    }
    if writes:
        effective |= {
            "seq_len": row[0],
            "max_new_tokens": row[1],
            "prompt_len": row[0] - row[1],
            "num_generations": asked.num_generations or number,
            "kl_beta": asked.kl_beta,
            "logprob_batch_size": objective.quiet * objective.length // row[0],
            "rollout_gpu": asked.rollout_gpu,
            "rollout_offload": asked.rollout_offload,
            "sync_bucket": asked.sync_bucket,
            "sync_parts": asked.sync_parts,
            "standby": asked.standby,
            "rollout_max_len": asked.rollout_max_len,
            "rollout_eager": asked.rollout_eager,
        }
    elif asked.packing:  # a row, of which one of all is trained
        effective["seq_len"] = (question.seq_len or 0) // (asked.batch_size or 1)
    return LearningRun(
        trained=question,
        objective=objective,
        effective=effective,
        rollout=rollout if writes else None,
        reward=asked.reward_model or "",
        **facts,
    )


def forward_rows(asked: Train, row: int) -> int:
    """Return the rows per forward: the user's, or how many of the longest rows fit its token
    limit."""
    tokens, _ = tokens_of(asked)
    return max(1, tokens // row) if tokens else asked.batch_size or 1


def tokens_of(asked: Train) -> tuple[int, int]:
    """Return (tokens per forward, ranks that split its rows); 0 tokens if the user sets rows
    instead. NeMo-RL counts tokens per row."""
    ranks = 1 if asked.framework == "nemo-rl" else asked.context_parallel_size or 1
    return (asked.max_tokens_per_gpu or 0) * ranks, ranks


def unsaid(asked: Train, *names: str) -> tuple[str, ...]:
    """Return the names of settings that matter and are not set. Any of a row's length settings will
    do."""
    length = (asked.seq_len, asked.max_new_tokens, asked.max_tokens_per_gpu)
    lacks = [name for name in names if getattr(asked, name) is None]
    if all(n is None for n in length):
        lacks.append("max_new_tokens" if asked.writes else "seq_len")
    return tuple(lacks)
