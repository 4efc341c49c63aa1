"""Launch lines of trainings, and TRL's arguments: ranks, programs and their own defaults."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.training import launch

ARGUMENTS = "--model_name_or_path org/name --per_device_train_batch_size 2 --bf16 True"


def run(text: str):
    return read(text, "run.sh").runs[0]


def trl(text: str):
    base = "model_name_or_path: org/name\nlearning_rate: 1.0e-5\n"
    return read(base + text, "run.yaml", "trl").runs[0]


@all_of(
    ("launcher", "ranks"),
    [
        ("torchrun --nproc_per_node 8 train.py", 8),
        ("torchrun --nproc-per-node=4 --nnodes=2 train.py", 8),
        ("accelerate launch --num_processes 8 --num_machines 2 train.py", 8),
        ("deepspeed --num_gpus=2 train.py", 2),
        ("python -m torch.distributed.launch --nproc_per_node=2 train.py", 2),
        ("python train.py", None),
    ],
)
def test_a_launcher_says_the_ranks(launcher, ranks):
    settings = run(f"{launcher} {ARGUMENTS}\n").settings
    assert settings.get("data_parallel_size") == ranks
    assert settings.get("shard") == ("ddp" if ranks else None)
    assert (settings["batch_size"], settings["precision"]) == (2, "bf16-mixed")


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("--use_fsdp", {"shard": "fsdp1"}),
        ("--use_fsdp --fsdp_version 2", {"shard": "fsdp2"}),
        ("--use_fsdp --fsdp_sharding_strategy NO_SHARD", {"shard": "ddp"}),
        ("--use_fsdp --fsdp_version=2 --fsdp_offload_params true", {"offload": "params"}),
        ("--use_deepspeed", {"shard": "zero2"}),
        ("--use_deepspeed --zero_stage 3", {"shard": "zero3"}),
        (
            "--use_deepspeed --zero_stage 3 --offload_optimizer_device cpu",
            {"shard": "zero3", "offload": "optimizer"},
        ),
        ("--zero_stage 3", {"shard": "ddp"}),  # of DeepSpeed, which nobody asks for
        (
            "--use_fsdp --fsdp_version 2 --parallelism_config_cp_size 2",
            {"shard": "fsdp2", "context_parallel_size": 2, "data_parallel_size": 2},
        ),
        ("--mixed_precision fp16", {"precision": "bf16-mixed"}),  # the script's own decides
    ],
)
def test_flags_of_accelerate_share_out_as_its_config_does(flags, settings):
    found = run(f"accelerate launch --num_processes 4 {flags} train.py {ARGUMENTS}\n")
    base = {"data_parallel_size": 4, "precision": "bf16-mixed", "batch_size": 2}
    assert {name: found.settings.get(name) for name in base | settings} == base | settings


def test_flags_of_a_launcher_are_shown_by_their_names():
    found = run(
        f"accelerate launch --num_processes 4 --use_deepspeed --zero_stage 3 train.py {ARGUMENTS}"
    )
    told = {u.key: (u.value, u.setting) for u in found.understood if u.key.startswith("--")}
    assert told["--zero_stage"] == (3, "shard")
    megatron = run(f"accelerate launch --num_processes 4 --use_megatron_lm train.py {ARGUMENTS}")
    assert "Megatron" in megatron.refused


@all_of(
    ("line", "shard", "missing"),
    [
        ("trl sft --accelerate_config zero3", "zero3", []),
        ("trl sft --accelerate_config fsdp2", "fsdp2", []),
        ("trl sft --accelerate_config multi_gpu", "ddp", []),
        ("trl sft --accelerate_config mine.yaml", None, []),
        (
            "accelerate launch --config_file examples/accelerate_configs/deepspeed_zero2.yaml a.py",
            "zero2",
            [],
        ),
        ("accelerate launch --config_file zero2.yaml a.py", None, ["zero2.yaml"]),
        ("accelerate launch --config_file b/mine.yaml a.py", None, ["b/mine.yaml"]),
    ],
)
def test_a_config_that_trl_ships_is_known_by_its_name(line, shard, missing):
    (run,) = read(f"{line} --model_name_or_path Qwen/Qwen3-8B --max_length 512\n", "a.sh").runs
    assert run.settings.get("shard") == shard
    assert [one.missing for one in run.unread if one.missing] == missing
    assert ("accelerate_config" in [one.key for one in run.unread]) == ("mine.yaml" in line[:40])
    assert any("what its name says" in note for note in run.notes) == (shard is not None)


def test_a_stage_of_deepspeed_is_read_from_its_files_name():
    settings = run(f"deepspeed train.py {ARGUMENTS} --deepspeed scripts/zero3_offload.json\n")
    assert (settings.settings["shard"], settings.settings["offload"]) == ("zero3", "params")
    settings = run(f"deepspeed train.py {ARGUMENTS} --deepspeed --deepspeed_config ds_zero2.json\n")
    assert settings.settings["shard"] == "zero2"


def test_each_flag_stands_at_its_line():
    (batch,) = [
        one
        for one in run(f"torchrun --nproc_per_node 2 train.py \\\n  {ARGUMENTS}\n").understood
        if one.setting == "batch_size"
    ]
    assert batch.line == 2


def test_what_the_shell_computes_is_told_and_not_guessed():
    found = run(f"python train.py {ARGUMENTS} --gradient_accumulation_steps $(nproc)\n")
    assert [one.key for one in found.unread] == ["gradient_accumulation_steps"]
    found = run(f"python train.py {ARGUMENTS} --gradient_accumulation_steps $(expr 16 / 2)\n")
    assert (found.unread, found.settings["gradient_accumulation"]) == ((), 8)
    found = run(f"python train.py {ARGUMENTS} --gradient_accumulation_steps $(expr 16 / 0)\n")
    assert [one.key for one in found.unread] == ["gradient_accumulation_steps"]


def test_swift_has_its_own_names_and_defaults():
    found = run("NPROC_PER_NODE=2 swift sft --model org/name --quant_bits 4 --max_length 512\n")
    assert found.model == "org/name"
    assert found.settings["method"] == "qlora"
    assert (found.settings["lora_r"], found.settings["batch_size"]) == (8, 1)
    assert found.settings["data_parallel_size"] == 2
    assert all(one.line for one in found.understood)
    assert run("swift sft --model org/name --tuner_type full\n").settings["method"] == "full"
    assert "longlora" in run("swift sft --model org/name --tuner_type longlora\n").refused
    learns = run("swift rlhf --rlhf_type dpo --model org/name\n")
    assert (learns.refused, learns.settings["method"], learns.settings["tuner"]) == (
        "",
        "dpo",
        "lora",
    )
    assert learns.settings["framework"] == "ms-swift"
    assert "xpo" in run("swift rlhf --rlhf_type xpo --model org/name\n").refused


def test_programs_with_a_command_of_their_own():
    assert run(f"trl sft {ARGUMENTS}\n").settings["framework"] == "trl"
    assert run(f"trl grpo {ARGUMENTS}\n").settings["method"] == "grpo"
    assert run(f"python examples/scripts/kto.py {ARGUMENTS}\n").settings["method"] == "kto"
    text = f"llamafactory-cli train {ARGUMENTS} --stage sft --finetuning_type lora\n"
    assert run(text).settings["lora_targets"] == "all-linear"
    assert "it starts a.yaml, which" in run("llamafactory-cli train a.yaml\n").refused
    assert "another file" in run("llamafactory-cli train $1\n").refused


def test_trls_own_defaults():
    settings = trl("").settings
    assert (settings["seq_len"], settings["batch_size"]) == (1024, 8)
    assert (settings["checkpointing"], settings["precision"]) == ("full", "bf16-mixed")
    assert trl("bf16: false\n").settings["precision"] == "fp32"
    assert trl("fp16: true\n").settings["precision"] == "fp16-mixed"
    assert trl("gradient_checkpointing: false\n").settings["checkpointing"] == "none"


def test_adapters_only_where_they_are_asked_for():
    assert trl("lora_r: 8\n").settings["method"] == "full"
    got = trl("use_peft: true\nload_in_4bit: true\n").settings
    assert (got["method"], got["quantization"], got["lora_r"]) == ("qlora", "nf4", 16)
    nested = trl("use_peft: true\nload_in_4bit: true\nuse_bnb_nested_quant: true\n").settings
    assert nested["quantization"] == "nf4-dq"
    eight = trl("use_peft: true\nload_in_8bit: true\n").settings
    assert (eight["method"], eight["quantization"]) == ("lora", "bnb-int8")
    both = trl("use_peft: true\nload_in_4bit: true\nload_in_8bit: true\n")
    assert "load_in_4bit beside load_in_8bit" in both.refused


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("num_generations: 8\n", "grpo"),
        ("beta: 0.1\n", "dpo"),
        ("loss_type: sigmoid\n", "dpo"),
        ("loss_type: nll\n", "full"),
    ],
)
def test_what_is_learned_is_told_by_its_keys(text, method):
    assert (trl(text).refused, trl(text).settings["method"]) == ("", method)
    assert "online RL" in trl("reward_model_path: org/judge\n").refused


def test_open_instruct_is_launched_by_accelerate():
    settings = trl("with_tracking: true\n").settings
    assert (settings["framework"], settings["dtype"]) == ("accelerate", "bfloat16")
    assert settings["checkpointing"] == "none"


def test_prose_is_no_command():
    line = f"torchrun --nproc_per_node 2 train.py {ARGUMENTS}\n"
    (told,) = documents(line, "shell")
    (prose,) = documents(f"I ran this and it died:\n\n{line}", "shell")
    assert launch.tells(told)
    assert not launch.tells(prose)


def test_a_precision_of_the_launcher_counts_where_nothing_is_shared_out():
    """TrainingArguments reads ACCELERATE_MIXED_PRECISION where the script says none itself."""
    line = "accelerate launch --multi_gpu --num_processes 8 {} train.py --model_name_or_path org/name\n"
    told = run(line.format("--mixed_precision bf16")).settings
    assert (told["precision"], told["shard"], told["data_parallel_size"]) == (
        "bf16-mixed",
        "ddp",
        8,
    )
    assert run(line.format("")).settings.get("precision") != "bf16-mixed"


OF_A_SCRIPT = "--per_device_train_batch_size 1 --bf16 True"


@pytest.mark.parametrize("value", ["Qwen/Qwen3-4B", "qwen3-4b", "/data/models/Qwen3-4B", "$NAME"])
@pytest.mark.parametrize("key", launch.MODELS)
def test_a_script_names_its_model_by_a_key_of_its_own(key, value):
    found = run(f"NAME=Qwen/Qwen3-4B\ntorchrun train.py --{key}={value} {OF_A_SCRIPT}\n")
    assert found.model.rpartition("/")[2].lower() == "qwen3-4b"
    assert key in [one.key for one in found.understood]
    assert not found.unread


@pytest.mark.parametrize("value", ["mine", "8"])
def test_what_is_no_name_of_a_model_is_none(value):
    assert run(f"torchrun train.py --model_name={value} {OF_A_SCRIPT}\n").model == ""


@pytest.mark.parametrize(
    "start", ["llamafactory-cli train", "deepspeed src/train.py", "python go.py"]
)
def test_llama_factory_is_told_by_its_keys_and_not_by_what_starts_it(start):
    keys = "--stage sft --finetuning_type full --cutoff_len 4096 --model_name_or_path org/name"
    settings = run(f"{start} {keys} --per_device_train_batch_size 1\n").settings
    assert (settings["seq_len"], settings["checkpointing"]) == (4096, "full")


@pytest.mark.parametrize(
    "start", ["swift rlhf", "torchrun swift/cli/rlhf.py", "python -m swift.cli.rlhf"]
)
def test_swift_is_told_by_its_module_too(start):
    found = run(f"{start} --rlhf_type dpo --model org/name --train_type lora --max_length 512\n")
    assert (found.model, found.settings["framework"]) == ("org/name", "ms-swift")
    assert (found.settings["method"], found.settings["seq_len"]) == ("dpo", 512)


def test_the_model_of_an_axolotl_config_may_be_a_folder():
    text = (
        "base_model: /data/models/Qwen3-8B\nadapter: lora\nmicro_batch_size: 1\nsequence_len: 9\n"
    )
    assert read(text, "ax.yml").runs[0].model == "Qwen3-8B"
