"""The command that starts a run of verl, as estimated.

    python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.model.path=...

Each setting that verl has keys for (words.txt) is written, defaults too; data keys are the user's.
If the user set something without a key, there is no command. Source: verl 0.9
trainer/config/ppo_trainer.yaml, utils/config.py (validate_config: micro-batches of the reference
and of the critic have separate keys).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.machines import MACHINE
from weighbridge.settings.ranks import Ranks
from weighbridge.settings.setting import fields
from weighbridge.settings.shared import DeviceSettings
from weighbridge.training.launching import TrainerRun, TrainingLine
from weighbridge.training.learning.words import spelled, wordings

VERL = "verl"
METHODS = {"grpo": "grpo", "rloo": "rloo", "ppo": "gae", "reinforce": "reinforce_plus_plus"}
# Settings with special keys, or derived from others, or that the program does not have
BESIDE = {
    *("framework", "method", "tuner", "seq_len", "kl_beta", "critic", "packing"),
    *("data_parallel_size", "ranks_per_machine", "gradient_accumulation", "engine_version"),
    *fields(DeviceSettings),
}
ABSENT = (None, False)
ACTOR, REF = "actor_rollout_ref.actor", "actor_rollout_ref.ref"


def written(settings: Mapping[str, Any]) -> bool:
    """Return whether weighbridge writes a command for the run: only for verl, without the user's
    own Megatron arguments."""
    return settings["framework"] == VERL and not settings.get("megatron_args")


def command(run: TrainerRun) -> TrainingLine:
    """Return the command that starts verl, or the reason why there is none."""
    t, known = run.settings, wordings()[VERL]
    names = dict.fromkeys((*known.names, *(name for name, _ in known.phrases)))
    settings = {n: t[n] for n in names if n not in BESIDE and t.get(n) not in ABSENT}
    words, without = spelled(VERL, settings)
    asked = {n for n in fields(type(run.asked)) if getattr(run.asked, n) not in (*ABSENT, "none")}
    others = ["method"] * (t["method"] not in METHODS)
    others += sorted(asked - BESIDE - (settings.keys() - {*without}))
    if others or not run.model:
        flag = others[0].replace("_", "-") if others else "model"
        return TrainingLine(why=sentence("said_elsewhere", flag=flag))
    start = f"python3 -m verl.trainer.main_ppo algorithm.adv_estimator={METHODS[t['method']]}"
    model = f"actor_rollout_ref.model.path={run.model}"
    return TrainingLine(" ".join((start, model, words, *_cards_and_roles(run))))


def _cards_and_roles(run: TrainerRun) -> Iterator[str]:
    """Yield the keys of settings that take several keys each, and those of the GPUs."""
    t, count = run.settings, Ranks.of(run.settings).cards
    if t.get("kl_beta"):
        yield f"{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_coef={t['kl_beta']}"
        yield f"{REF}.log_prob_micro_batch_size_per_gpu={t['logprob_batch_size']}"
    if t["method"] == "ppo":
        path = run.model if t["critic"] == "same" else t["critic"]
        yield f"critic.model.path={path} critic.ppo_micro_batch_size_per_gpu={t['batch_size']}"
    inside = min(count, run.asked.ranks_per_machine or MACHINE)
    yield f"trainer.n_gpus_per_node={inside} trainer.nnodes={count // inside}"
