"""The record of one run that learns from rewards or preferences, and what frameworks have alike."""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.base.records import dataclass, field, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import numbers
from weighbridge.training.forward.heads import Head, head
from weighbridge.training.objective import Objective, Reference
from weighbridge.workload import Infer, Train
from weighbridge.workload.train import PREFERENCES, REWARDS

PAIRS = ("dpo", "ipo", "orpo", "cpo", "simpo", "reward")  # two rows of each example
COMPARES = ("dpo", "ipo", "kto", "gkd")  # preferences that ask a frozen model, too
Release = tuple[int, ...] | None  # None is the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The engine that writes. `sleep`: 0 where it never does; `cards` of its own, "" where it is
    on the trainer's; `same_process`: it has the trainer's context; `whole_wake`: weights and cache
    wake together, before the weights are sent; `shared`: it has the trainer's own weights;
    `generates`: rows that the trainer's model writes at once, where no engine serves."""

    infer: Infer
    sleep: int = 0
    cards: str = ""
    same_process: bool = False
    whole_wake: bool = False
    shared: bool = False
    generates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRun:
    """`trained` asks for what is trained, `effective` are the settings that the method has beside.
    `away`: what is in host memory while the engine writes (weights, states, others). `capped`: rows
    may be shorter than their cap. `unsaid`: what decides and was not said."""

    trained: Train
    objective: Objective
    effective: Mapping[str, Any]
    rollout: Rollout | None = None
    away: frozenset[str] = frozenset()
    bucket: int = 0
    critic: str = ""
    reward: str = ""
    capped: bool = True
    unsaid: tuple[str, ...] = ()
    fresh_cache: bool = True  # the allocator's cache is emptied between phases
    notes: tuple[str, ...] = ()


def released(asked: Train) -> Release:
    return numbers(asked.framework_version)


def before(release: Release, *number: int) -> bool:
    """Tell whether a release is older; the newest is not."""
    return release is not None and release < number


def lengths(asked: Train, prompt: int, answer: int) -> tuple[int, int]:
    """Return (tokens of a row, of its answer) at most: as said, or the framework's own."""
    answer = asked.max_new_tokens or answer
    if asked.seq_len is None:
        return (asked.prompt_len or prompt) + answer, answer
    if asked.max_new_tokens is None:
        answer = asked.seq_len - (asked.prompt_len or 0)
    if answer > asked.seq_len or answer < 1:
        raise UsageError(
            sentence("learning.lengths", row=asked.seq_len, prompt=asked.prompt_len, answer=answer)
        )
    return asked.seq_len, answer


def trained(asked: Train, framework: str, **settings: Any) -> Train:
    """Return the question of what is trained alone: what the user said, else the framework's."""
    unsaid = {k: v for k, v in settings.items() if getattr(asked, k) is None}
    forced = {"method": asked.tuning, "tuner": None, "framework": framework}
    roles = dict.fromkeys(OF_ROLES)
    own = {"framework_version": asked.framework_version if framework == asked.framework else None}
    return asked.but(
        **{**roles, **own, **unsaid, **forced, "entropy": False, "packing": False, "standby": False}
    )


OF_ROLES = (
    *("reference", "critic", "reward_model", "kl_beta", "num_generations", "logprob_batch_size"),
    *("max_tokens_per_gpu", "prompt_len", "max_new_tokens", "rollout_engine", "rollout_version"),
    *("rollout_gpu", "rollout_tp", "rollout_offload", "gpu_memory_utilization", "max_num_seqs"),
    *("sleep_level", "sync_bucket"),
)


def headed(asked: Train, release: Release, *, liger: bool = False) -> Head:
    """Return the head of a method; the loss that was asked for says whether it is fused."""
    fused = asked.loss in ("trl", "cce", "chunked", "unsloth")
    return head(
        asked.learns,
        asked.framework or "",
        release,
        fused=fused,
        liger=liger or asked.loss == "liger",
        entropy=asked.entropy,
    )


def reference(asked: Train, *, needs: bool, copy: Reference = "copy") -> Reference:
    """Return where the frozen model is: as asked; of adapters the base without them."""
    if asked.reference is not None:
        if asked.reference == "adapter" and asked.tuning == "full":
            raise ContradictionError(sentence("learning.no_adapter"))
        chosen: Reference = asked.reference  # type: ignore[assignment]
        return chosen
    if not needs:
        return "none"
    return copy if asked.tuning == "full" else "adapter"


def online(asked: Train) -> bool:
    return asked.learns in REWARDS


def pairs(asked: Train) -> int:
    """Count the rows of an example."""
    return 2 if asked.learns in PAIRS and not asked.packing else 1


def away(asked: Train, usual: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return what leaves the cards while the engine writes."""
    named = {
        "none": frozenset[str](),
        "states": frozenset({"states"}),
        "weights": frozenset({"weights", "states"}),
        "all": frozenset({"weights", "states", "others"}),
    }
    return usual if asked.rollout_offload is None else named[asked.rollout_offload]


def groups(asked: Train, rows: int, number: int) -> None:
    """Refuse groups of answers that do not divide the rows of a step, as TRL does."""
    if rows % number:
        raise UsageError(sentence("learning.groups", rows=rows, number=number))


def serving(
    asked: Train,
    *,
    share: float,
    tp: int = 1,
    sleep: int,
    context: int,
    batched: int | None = None,
    seqs: int | None = None,
    **facts: Any,
) -> Rollout:
    """Return the engine's half of the question: as said, else as the framework starts it."""
    engine = asked.rollout_engine or "vllm"
    level = sleep if asked.sleep_level is None else asked.sleep_level
    settings: dict[str, Any] = {
        "engine": engine,
        "engine_version": asked.rollout_version or facts.pop("version", None),
        "gpu_memory": asked.gpu_memory,
        "headroom": asked.headroom,
        "context": context,
        "quantization": facts.pop("quantization", None),
        "tensor_parallel_size": asked.rollout_tp or tp,
    }
    facts.pop("version", None)
    if engine == "vllm":
        settings |= {
            "gpu_memory_utilization": asked.gpu_memory_utilization or share,
            "max_num_seqs": asked.max_num_seqs or seqs,
            "max_num_batched_tokens": batched,
            "enable_sleep_mode": level > 0,
            "sleep_level": level or None,
            "enforce_eager": facts.pop("eager", None),
        }
    else:
        settings |= {
            "mem_fraction_static": asked.gpu_memory_utilization or share,
            "max_running_requests": asked.max_num_seqs or seqs,
        }
    facts.pop("eager", None)
    return Rollout(
        infer=Infer(**{k: v for k, v in settings.items() if v is not None}),
        sleep=level,
        cards=asked.rollout_gpu or "",
        **facts,
    )
