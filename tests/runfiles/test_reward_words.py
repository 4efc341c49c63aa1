"""Words that people are told to paste are what our readers read: one table, in both directions."""

import pytest
import yaml

from weighbridge.files.runfiles import read
from weighbridge.training.learning.words import spelled, wordings

MODEL = "org/name"
VERL = f"python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path={MODEL}"
NEMO = f"uv run examples/run_grpo_math.py policy.model_name={MODEL}"
SWIFT = f"swift rlhf --train_type full --model {MODEL}"
OF_PAIRS = {  # where answers are written a row is of two numbers
    "trl": ("a.sh", f"trl dpo --model_name_or_path {MODEL}"),
    "ms-swift": ("a.sh", f"{SWIFT} --rlhf_type dpo"),
}
BASES = {  # a file of each, to which words are added
    "trl": ("a.sh", f"trl grpo --model_name_or_path {MODEL} --use_vllm true"),
    "ms-swift": ("a.sh", f"{SWIFT} --rlhf_type grpo --use_vllm true"),
    "ms-swift-megatron": ("a.sh", f"megatron rlhf --rlhf_type grpo --model {MODEL}"),
    "verl": ("a.sh", VERL),
    "verl-megatron": ("a.sh", f"{VERL} actor_rollout_ref.actor.strategy=megatron"),
    "easyr1": ("a.sh", f"python3 -m verl.trainer.main worker.actor.model.model_path={MODEL}"),
    "openrlhf": (
        "a.sh",
        f"python3 -m openrlhf.cli.train_ppo_ray --pretrain {MODEL} --train.colocate_all",
    ),
    "nemo-rl": ("a.sh", NEMO),
    "nemo-rl-megatron": ("a.sh", f"{NEMO} policy.megatron_cfg.enabled=True"),
    "slime": ("a.sh", f"python3 train.py --colocate --hf-checkpoint {MODEL}"),
    "axolotl": (
        "a.yaml",
        {"base_model": MODEL, "rl": "grpo", "sequence_len": 64, "trl": {"use_vllm": True}},
    ),
    "llama-factory": (
        "a.yaml",
        {"model_name_or_path": MODEL, "stage": "dpo", "finetuning_type": "full"},
    ),
    "agilerl": (
        "a.yaml",
        {
            "algorithm": {"name": "GRPO", "use_vllm": True},
            "environment": {},
            "network": {"pretrained_model_name_or_path": MODEL},
        },
    ),
    "unsloth": (
        "a.py",
        f'FastLanguageModel.from_pretrained("{MODEL}", fast_inference=True)\n'
        "FastLanguageModel.get_peft_model(model, r=8{})\n"
        "GRPOTrainer(args=GRPOConfig(num_generations=1{}))\n",
    ),
}
SAMPLES = {
    "gpu_memory_utilization": 0.375,
    "kl_beta": 0.125,
    "lora_dropout": 0.125,
    "dtype": "bfloat16",
    "critic": "org/other",
    "reward_model": "org/other",
    "sleep_level": 1,
}


def put(program, words, base):
    """Return the name and the text of a file with words added."""
    name, text = base
    if wordings()[program].form == "yaml":
        return name, yaml.safe_dump(above(text, yaml.safe_load(words)))
    if program != "unsloth":
        return name, f"{text} {words}\n"
    own = [line for line in words.splitlines() if line.startswith("os.")]
    others = [f", {line}" for line in words.splitlines() if line not in own]
    adapted = "".join(each for each in others if "use_gradient_checkpointing" in each)
    text = text.format(adapted, "".join(each for each in others if each not in adapted))
    return name, "\n".join((*own, text))


def above(below, words):
    """Return a mapping with another put into it."""
    both = dict(below)
    for key, value in words.items():
        inner = both.get(key)
        mappings = isinstance(value, dict) and isinstance(inner, dict)
        both[key] = above(inner, value) if mappings else value
    return both


def asked(program, change):
    words, others = spelled(program, change)
    assert not others
    base = OF_PAIRS.get(program) if "seq_len" in change else None
    (run,) = read(*reversed(put(program, words, base or BASES[program]))).runs
    assert not run.refused
    return run.settings


def rows():
    for program in BASES:
        known = wordings()[program]
        names = {setting: SAMPLES.get(setting, 32) for setting in known.names}
        for setting, value in known.phrases:
            yield program, {setting: SAMPLES.get(setting, 32) if value == "*" else value}
        for setting, value in names.items():
            yield program, {"lora_r": 8} | {setting: value} if "lora_" in setting else {setting: value}


@pytest.mark.parametrize(("program", "change"), [*rows()])
def test_what_is_pasted_is_read_as_what_was_meant(program, change):
    settings = asked(program, change)
    meant = {name: str(value).lower() for name, value in change.items()}
    assert {name: str(settings[name]).lower() for name in change} == meant
