"""The command that starts a run of a program which learns from rewards, as it was sized.

    python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.model.path=...

What a run has is said by the words of the program (words.txt), its defaults too; data are the
program's own. What was asked for and has no words leaves no command.
Source: verl 0.9 trainer/config/ppo_trainer.yaml, utils/config.py (validate_config: micro-batches of
the reference and of the critic are said by names of their own).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.settings.ranks import Ranks
from weighbridge.settings.setting import fields
from weighbridge.settings.shared import DeviceSettings
from weighbridge.training.launching import TrainerRun, TrainingLine
from weighbridge.training.learning.words import spelled


class Command(NamedTuple):
    """How a program is started: its `start`, what it calls methods, and the keys of model, method,
    cards of a machine and machines."""

    start: str
    methods: Mapping[str, str]
    model: str
    method: str
    cards: str
    machines: str


COMMANDS = {
    "verl": Command(
        "python3 -m verl.trainer.main_ppo",
        {"grpo": "grpo", "rloo": "rloo", "ppo": "gae", "reinforce": "reinforce_plus_plus"},
        "actor_rollout_ref.model.path",
        "algorithm.adv_estimator",
        "trainer.n_gpus_per_node",
        "trainer.nnodes",
    )
}
SAID = (  # in the order in which people write them
    *("prompt_len", "max_new_tokens", "num_generations", "lora_r", "lora_alpha", "checkpointing"),
    *("loss", "shard", "batch_size", "max_tokens_per_gpu", "context_parallel_size"),
    *("entropy", "rollout_offload", "offload", "rollout_engine", "rollout_tp"),
    *("gpu_memory_utilization", "max_num_seqs", "rollout_max_len", "rollout_eager"),
    *("logprob_batch_size", "sleep_level", "reward_model"),
)
USUAL = {"shard": "none", "offload": "none", "context_parallel_size": 1}
# What has keys of its own, or follows of others, or is no setting of the program
BESIDE = {
    *("framework", "method", "tuner", "seq_len", "kl_beta", "critic", "packing"),
    *("data_parallel_size", "ranks_per_machine", "gradient_accumulation"),
    *fields(DeviceSettings),
}
ACTOR, REF = "actor_rollout_ref.actor", "actor_rollout_ref.ref"


def command(run: TrainerRun) -> TrainingLine:
    """Return the command, or why there is none."""
    start = COMMANDS[run.framework]
    t, asked = run.settings, run.asked
    typed = (name for name in fields(type(asked)) if getattr(asked, name) not in (None, False))
    others = [name for name in typed if name not in BESIDE and name not in SAID]
    if not run.model:
        return TrainingLine(why=sentence("no_line", reason=sentence("no_weights")))
    if t["method"] not in start.methods:
        others.append("method")
    said = {
        name: value
        for name in SAID
        if (value := t.get(name)) not in (None, False) and value != USUAL.get(name)
    }
    words, without = spelled(run.framework, said)
    others += [name for name in without if getattr(asked, name) not in (None, False)]
    if others:
        flag = others[0].replace("_", "-")
        return TrainingLine(why=sentence("said_elsewhere", flag=flag))
    parts = (
        start.start,
        f"{start.method}={start.methods[t['method']]}",
        f"{start.model}={run.model}",
        words,
        *_rest(run),
        *_cards(run, start),
    )
    return TrainingLine(" ".join(parts))


def _rest(run: TrainerRun) -> Iterator[str]:
    """Yield what one setting says by several keys."""
    t = run.settings
    if t.get("kl_beta"):
        yield f"{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_coef={t['kl_beta']}"
        yield f"{REF}.log_prob_micro_batch_size_per_gpu={t['logprob_batch_size']}"
    if t["method"] == "ppo":
        path = run.model if t["critic"] == "same" else t["critic"]
        yield f"critic.model.path={path} critic.ppo_micro_batch_size_per_gpu={t['batch_size']}"


def _cards(run: TrainerRun, start: Command) -> Iterator[str]:
    count = Ranks.of(run.settings).cards
    inside = min(count, run.asked.ranks_per_machine or MACHINE)
    yield f"{start.cards}={inside} {start.machines}={count // inside}"


def told(settings: Mapping[str, Any]) -> bool:
    """Tell whether a run is started by a command: of Megatron's own layout none is written."""
    return settings["framework"] in COMMANDS and not settings.get("megatron_args")
