"""The command that asks what a text means: filled with what the text says, and what it lacks."""

import shlex

import pytest

import weighbridge
from weighbridge.faces.cli.menu import run
from weighbridge.files.runfiles.in_words import command, lacking, to_type
from weighbridge.files.runfiles.training.unanswered import learner


@pytest.mark.parametrize(
    ("task", "model", "settings", "line", "lacks"),
    [
        ("fit", "", {}, "weighbridge fit MODEL --gpu NAME", ("MODEL", "--gpu")),
        (
            "infer",
            "qwen3-8b",
            {"engine": "vllm", "gpu": "2x 4090"},
            "weighbridge infer qwen3-8b --engine vllm --context N --batch-size N --gpu '2x 4090'",
            ("--context", "--batch-size"),
        ),
        (
            "train",
            "qwen3-8b",
            {"gpu": "a100:8", "seq_len": 4096, "shard": "zero3", "method": "full", "batch_size": 1},
            (
                "weighbridge train qwen3-8b --method full --seq-len 4096 --batch-size 1 --shard zero3 "
                "--gpu a100:8"
            ),
            (),
        ),
        (
            "train",
            "a b",
            {"gpu": "a100:2", "packing": True},
            (
                "weighbridge train 'a b' --method full|lora|qlora --seq-len N --batch-size N "
                "--shard ddp|zero2|zero3|fsdp2 --packing --gpu a100:2"
            ),
            ("--method", "--seq-len", "--batch-size", "--shard"),
        ),
    ],
)
def test_a_line_has_what_is_said_and_a_word_for_what_is_not(task, model, settings, line, lacks):
    assert command(task, model, settings) == line
    assert lacking(task, model, settings) == lacks
    said = to_type(task, model, settings)
    assert said.key == ("to_type.lacking" if lacks else "to_type")
    assert said.endswith(f"type: {line}")


OPENRLHF = """\
It dies with micro batch 2 on 2*8*h20.

ray job submit -- python -m openrlhf.cli.train_ppo_ray \\
   --actor_num_nodes 1 \\
   --actor_num_gpus_per_node 8 \\
   --pretrain /path/Qwen/Qwen2.5-7B-Instruct \\
   --micro_train_batch_size 1 \\
   --prompt_max_len 13024 \\
   --generate_max_len 13024 \\
   --zero_stage 3 \\
   --gradient_checkpointing \\
   --remote_rm_url "/path/plugin.py"
"""
VERL = """\
python3 -m verl.trainer.main_ppo \\
    data.max_prompt_length=512 \\
    data.max_response_length=1024 \\
    actor_rollout_ref.model.path=org/name \\
    actor_rollout_ref.model.enable_gradient_checkpointing=True \\
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16 \\
    actor_rollout_ref.actor.fsdp_config.param_offload=False \\
    actor_rollout_ref.actor.fsdp_config.optimizer_offload={offload} \\
    actor_rollout_ref.actor.use_dynamic_bsz={dynamic} \\
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=24000 \\
    trainer.n_gpus_per_node=8 trainer.nnodes=2
"""
TRL = """\
model = AutoModelForCausalLM.from_pretrained("org/name", load_in_4bit=True)
peft_config = LoraConfig(lora_alpha=32, lora_dropout=0.1, r=64, bias="none")
args = GRPOConfig(per_device_train_batch_size=8, max_completion_length=96, max_length=300)
"""


@pytest.mark.parametrize(
    ("text", "framework", "settings"),
    [
        (
            OPENRLHF,
            "openrlhf",
            {
                "prompt_len": 13024,
                "max_new_tokens": 13024,
                "batch_size": 1,
                "checkpointing": "full",
                "shard": "zero3",
                "cards": 8,
            },
        ),
        (
            VERL.format(offload="False", dynamic="False"),
            "verl",
            {
                "prompt_len": 512,
                "max_new_tokens": 1024,
                "batch_size": 16,
                "rollout_offload": "none",
                "checkpointing": "full",
                "cards": 16,
            },
        ),
        (
            VERL.format(offload="True", dynamic="True") + "algorithm.adv_estimator=gae",
            "verl",
            {
                "method": "ppo",
                "prompt_len": 512,
                "max_new_tokens": 1024,
                "batch_size": 16,
                "max_tokens_per_gpu": 24000,
                "rollout_offload": "states",
                "checkpointing": "full",
                "cards": 16,
            },
        ),
        (
            TRL,
            "trl",
            {"method": "grpo", "max_new_tokens": 96, "seq_len": 300, "batch_size": 8, "cards": 1},
        ),
        ("GRPO of qwen3-8b", "trl", {"method": "grpo", "cards": 1}),
        ("DPOTrainer", "trl", {"method": "dpo", "cards": 1}),
    ],
)
def test_what_a_text_says_of_a_run_of_rewards(text, framework, settings):
    assert learner(text, framework) == {"framework": framework, **settings}


@pytest.mark.slow
def test_a_command_of_rl_in_a_text_is_its_question():
    """Micro batch 2 dies and 1 runs in public (OpenRLHF, 8 x H20): rows are as long as their cap, or
    shorter."""
    (one,) = weighbridge.weigh(OPENRLHF, name="a", gpu="h20:8", offline=True).runs
    workload = one.report.workload
    assert (workload["method"], workload["framework"]) == ("ppo", "openrlhf")
    assert (workload["seq_len"], workload["shard"]) == (26048, "zero3")
    assert one.fits != "no"
    twice = OPENRLHF.replace("micro_train_batch_size 1", "micro_train_batch_size 2")
    (two,) = weighbridge.weigh(twice, name="a", gpu="h20:8", offline=True).runs
    assert two.fits != "yes"
    assert two.report.peak.expected > one.report.peak.expected


def test_a_text_that_speaks_of_rl_has_its_question_to_type():
    text = "It dies with verl on an H100: ppo_micro_batch_size_per_gpu=2, max_response_length=4096"
    weighed = weighbridge.weigh(text + ", GRPO of qwen3-8b", name="a", offline=True).runs[0]
    line = weighed.why.rpartition("type: ")[2]
    _, task, model, *flags = shlex.split(line)
    asked = dict(zip(flags[::2], flags[1::2], strict=True))
    assert (task, model, asked["--gpu"]) == ("train", "qwen3-8b", "H100")
    assert (asked["--framework"], asked["--method"]) == ("verl", "grpo")
    assert (asked["--max-new-tokens"], asked["--batch-size"]) == ("4096", "2")
    filled = {"--prompt-len": "512"}  # what the text does not say
    words = [word for pair in (asked | filled).items() for word in pair]
    assert run(["train", model, *words]) in (0, 1, 4)


GRPO = "GRPO of qwen3-8b by TRL on an RTX 3070: num_generations=8, "


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (GRPO + "QLoRA 4-bit nf4, LoRA r=8 all-proj", {"--tuner": "qlora", "--lora-r": "8"}),
        (GRPO + "LoRA, r=16", {"--tuner": "lora", "--lora-r": "16"}),
        (GRPO + "full fine-tuning", {"--tuner": "full", "--lora-r": None}),
        (GRPO + "LoRA or QLoRA", {"--tuner": None, "--lora-r": None}),
        (GRPO + "QLoRA fits, and LoRA dies", {"--tuner": None}),
        (GRPO + "it dies", {"--tuner": None, "--method": "grpo"}),
        (GRPO.lower() + "it dies", {"--method": "grpo"}),
        ("A reward is worth it: DPO of qwen3-8b by TRL", {"--method": "dpo"}),
    ],
)
def test_what_the_words_say_of_adapters_is_in_the_line_to_type(text, settings):
    """All of an 8B does not fit where its adapters do: a line without them asks something else."""
    (weighed,) = weighbridge.weigh(text, name="a", offline=True).runs
    flags = shlex.split(weighed.why.rpartition("type: ")[2])
    asked = dict(zip(flags[3::2], flags[4::2], strict=True))
    assert {name: asked.get(name) for name in settings} == settings


def test_a_config_that_is_not_in_the_text_is_named_with_its_card():
    text = "It dies with torchtitan/configs/a_16b.toml on 8 x H100 80GB HBM3, by run_train.sh."
    (weighed,) = weighbridge.weigh(text, name="a", offline=True).runs
    assert "type: weighbridge torchtitan/configs/a_16b.toml --gpu 'H100 80GB:8'" in weighed.why
