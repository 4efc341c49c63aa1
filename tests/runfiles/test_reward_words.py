"""Words that people are told to paste are what our readers read: one table, in both directions."""

import pytest
import yaml
from tests.cases import all_of

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
        (
            f'FastLanguageModel.from_pretrained("{MODEL}", fast_inference=True)\n'
            "FastLanguageModel.get_peft_model(model, r=8{})\n"
            "GRPOTrainer(args=GRPOConfig(num_generations=1{}))\n"
        ),
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
            yield (
                program,
                {"lora_r": 8} | {setting: value} if "lora_" in setting else {setting: value},
            )


@pytest.mark.parametrize(("program", "change"), [*rows()])
def test_what_is_pasted_is_read_as_what_was_meant(program, change):
    settings = asked(program, change)
    meant = {name: str(value).lower() for name, value in change.items()}
    assert {name: str(settings[name]).lower() for name in change} == meant


# A step of the ladder -> the programs that have no words for it; the ladder passes over it there
LACKS = [
    (
        {"logprob_batch_size": 1},
        "trl ms-swift ms-swift-megatron llama-factory axolotl agilerl slime",
    ),
    ({"checkpointing": "full"}, "ms-swift-megatron"),
    ({"batch_size": 2, "gradient_accumulation": 4}, ""),
    (
        {"max_tokens_per_gpu": 4096},
        (
            "trl ms-swift ms-swift-megatron llama-factory axolotl unsloth easyr1 nemo-rl "
            "nemo-rl-megatron agilerl"
        ),
    ),
    (
        {"shard": "zero3"},
        "ms-swift-megatron unsloth verl verl-megatron easyr1 nemo-rl nemo-rl-megatron agilerl slime",
    ),
    (  # the others' always sleep: they need no word
        {"sleep_level": 1},
        "trl llama-factory axolotl unsloth verl verl-megatron easyr1 nemo-rl nemo-rl-megatron slime",
    ),
    (
        {"sleep_level": 2},
        (
            "llama-factory unsloth verl verl-megatron easyr1 openrlhf nemo-rl nemo-rl-megatron agilerl "
            "slime"
        ),
    ),
    ({"gpu_memory_utilization": 0.4}, "llama-factory"),
    (
        {"rollout_offload": "states"},
        "trl llama-factory axolotl unsloth nemo-rl nemo-rl-megatron agilerl slime",
    ),
    (
        {"rollout_offload": "weights"},
        "trl llama-factory axolotl unsloth openrlhf nemo-rl nemo-rl-megatron slime",
    ),
    ({"kl_beta": 0.0}, "llama-factory slime"),
    (
        {"reference": "host"},
        (
            "trl ms-swift ms-swift-megatron llama-factory axolotl unsloth verl verl-megatron easyr1 "
            "nemo-rl nemo-rl-megatron agilerl slime"
        ),
    ),
    (
        {"reference": "precomputed"},
        (
            "ms-swift-megatron llama-factory verl verl-megatron easyr1 openrlhf nemo-rl "
            "nemo-rl-megatron agilerl slime"
        ),
    ),
    ({"context_parallel_size": 2}, "trl llama-factory unsloth agilerl"),
    (
        {"shard": "zero2", "offload": "optimizer"},
        (
            "ms-swift-megatron axolotl unsloth verl verl-megatron easyr1 nemo-rl nemo-rl-megatron "
            "agilerl slime"
        ),
    ),
    (
        {"offload": "params"},
        "ms-swift-megatron unsloth verl-megatron openrlhf nemo-rl-megatron agilerl slime",
    ),
    ({"lora_r": 16}, "unsloth slime"),
    ({"max_new_tokens": 256}, "llama-factory"),
]


@all_of(("change", "lacks"), LACKS)
def test_a_step_has_words_of_its_own_or_none(change, lacks):
    """Neither more nor less: a program that learns a word has a row here."""
    assert [name for name in BASES if spelled(name, change)[1]] == sorted(
        lacks.split(), key=list(BASES).index
    )


@all_of(
    ("program", "change", "text"),
    [
        ("trl", {"sleep_level": 2}, "--vllm_enable_sleep_mode true"),
        (
            "trl",
            {"offload": "optimizer", "shard": "zero2"},
            "--accelerate_config zero2 --offload_optimizer_device cpu",
        ),
        ("ms-swift", {"offload": "optimizer", "shard": "zero2"}, "--deepspeed zero2_offload"),
        (
            "verl",
            {"batch_size": 2, "gradient_accumulation": 4},
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        ),
        ("openrlhf", {"shard": "zero3", "sleep_level": 1}, "--ds.zero_stage 3 --vllm.enable_sleep"),
        (
            "slime",
            {"checkpointing": "full"},
            "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
        ),
        (
            "axolotl",
            {"sleep_level": 2, "kl_beta": 0.0, "batch_size": 1},
            "trl:\n  vllm_enable_sleep_mode: true\n  beta: 0.0\nmicro_batch_size: 1",
        ),
        ("agilerl", {"sleep_level": 1}, "algorithm:\n  vllm_config:\n    sleep_mode: true"),
        ("unsloth", {"standby": True}, "os.environ[\"UNSLOTH_VLLM_STANDBY\"]='1'"),
    ],
)
def test_a_change_is_spelled_as_its_program_does(program, change, text):
    assert spelled(program, change) == (text, ())


def test_what_a_program_has_no_word_for_is_named():
    assert spelled("verl", {"shard": "zero3", "batch_size": 1})[1] == ("shard",)
    assert spelled("torchtune", {"batch_size": 1}) == ("", ("batch_size",))
