"""Runs that learn from rewards and preferences: what is in a file is what is asked."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.patching import patched
from weighbridge.memory.report.verdict import Condition, Remedy

VERL = """#!/bin/bash
MODEL_PATH=${MODEL_PATH:-qwen3-0.6b}
NGPUS=${NGPUS:-}
case "${DEVICE}" in
    npu)
        NGPUS=16
        share=0.1
        ;;
    gpu)
        NGPUS=${NGPUS:-4}
        share=0.5
        ;;
esac
prompt=512
TRAIN=(
    data.max_prompt_length=${prompt}
    data.max_response_length=$((1024 * 2))
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=${TOKENS:-$((prompt + 7488))}
)
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
    actor_rollout_ref.model.path="$MODEL_PATH" \\
    actor_rollout_ref.actor.use_dynamic_bsz=True \\
    actor_rollout_ref.rollout.gpu_memory_utilization=${share} \\
    actor_rollout_ref.actor.use_kl_loss=True \\
    actor_rollout_ref.rollout.made_up=3 \\
    trainer.n_gpus_per_node=${NGPUS} trainer.nnodes=2 \\
    "${TRAIN[@]}"
"""
OPENRLHF = """set -x
ray job submit -- python3 -m openrlhf.cli.train_ppo_ray {} \\
    --actor_num_nodes 1 --actor_num_gpus_per_node 2 --vllm_num_engines 2 \\
    --vllm_tensor_parallel_size 2 --pretrain qwen3-0.6b --micro_train_batch_size 2 \\
    --prompt_max_len 512 --generate_max_len 512 --zero_stage 3 --vllm_enable_sleep
"""
NEMO = """
defaults: ../../grpo_math_1B.yaml
policy:
  model_name: qwen3-0.6b
  max_total_sequence_length: 2048
  dtensor_cfg: {{lora_cfg: {{enabled: {}, dim: 8}}}}
  logprob_batch_size: ${{policy.train_micro_batch_size}}
cluster: {{gpus_per_node: 8, num_nodes: 2}}
"""
UNSLOTH = """
import os
os.environ["UNSLOTH_VLLM_STANDBY"] = "1"
length = 1024
rank = 32
model, t = FastLanguageModel.from_pretrained(
    "qwen3-0.6b", max_seq_length=length, load_in_4bit=False, fast_inference=True)
model = FastLanguageModel.get_peft_model(model, r=rank, lora_alpha=rank * 2)
GRPOTrainer(model=model, args=GRPOConfig(per_device_train_batch_size=1, num_generations=6,
    gradient_accumulation_steps=1, max_prompt_length=longest + 1,
    max_completion_length=length - longest))
"""


def run(text: str, name: str = "run.sh"):
    (found,) = read(text, name).runs
    return found


def test_overrides_of_hydra_with_what_the_script_computes():
    """Variables, sums without a dollar, arrays, and the branch of the device that is weighed."""
    found = run(VERL)
    settings = found.settings
    assert (found.model, found.refused, found.cards) == ("qwen3-0.6b", "", 8)
    assert (settings["method"], settings["tuner"], settings["framework"]) == (
        "grpo",
        "full",
        "verl",
    )
    assert (settings["prompt_len"], settings["max_new_tokens"]) == (512, 2048)
    assert settings["max_tokens_per_gpu"] == 8000
    assert (settings["gpu_memory_utilization"], settings["kl_beta"]) == (0.5, 0.001)
    assert settings["shard"] == "fsdp1"
    assert "made_up" in " ".join(one.key for one in found.unread)


def test_a_variable_that_the_script_does_not_set_names_no_model():
    found = run(VERL.replace("MODEL_PATH=${MODEL_PATH:-qwen3-0.6b}\n", ""))
    assert found.model == ""


def test_numbers_of_all_cards_are_divided_by_them():
    """ppo_micro_batch_size counts all rows: 16 over 2 machines of 4 cards are 2 each."""
    micro = "actor_rollout_ref.actor.ppo_micro_batch_size=16"
    settings = run(VERL.replace("actor_rollout_ref.actor.use_dynamic_bsz=True", micro)).settings
    assert settings["batch_size"] == 2
    assert "max_tokens_per_gpu" not in settings


def test_roles_that_nothing_puts_together_have_cards_of_their_own():
    apart, together = (run(OPENRLHF.format(how)) for how in ("", "--colocate_all_models"))
    assert (apart.cards, apart.engine_cards, together.engine_cards) == (2, 4, 0)
    assert together.settings["sleep_level"] == 1
    typed = weighbridge.weigh(OPENRLHF.format(""), name="run.sh", gpu="h100", offline=True)
    workload = typed.runs[0].report.workload
    assert (workload["gpu"], workload["rollout_gpu"]) == ("h100:2", "h100:4")


def test_a_shipped_config_is_what_another_begins_with():
    on, off = (run(NEMO.format(word), "run.yaml") for word in ("true", "false"))
    assert (on.settings["tuner"], on.settings["lora_r"]) == ("lora", 8)
    assert (off.settings["tuner"], off.settings["seq_len"]) == ("full", 2048)
    assert (off.settings["batch_size"], off.settings["logprob_batch_size"]) == (4, 4)
    assert (off.settings["packing"], off.cards) == (True, 16)
    other = run(NEMO.format("false").replace("grpo_math_1B", "mine"), "run.yaml")
    assert "../../mine.yaml" in [one.missing for one in other.unread]


def test_unsloth_takes_as_many_rows_as_answers_and_shares_its_weights():
    settings = run(UNSLOTH, "run.py").settings
    assert (settings["batch_size"], settings["num_generations"]) == (6, 6)
    assert (settings["seq_len"], settings["lora_alpha"]) == (1024, 64)
    assert (settings["rollout_engine"], settings["standby"]) == ("vllm", True)
    assert run(UNSLOTH.replace('"1"', '"0"'), "run.py").settings.get("standby") is None


@all_of(
    ("text", "name", "method", "framework"),
    [
        ("swift rlhf --rlhf_type kto --model org/name\n", "a.sh", "kto", "ms-swift"),
        ("megatron rlhf --model org/name\n", "a.sh", "dpo", "ms-swift"),
        (
            "deepspeed --module openrlhf.cli.train_rm --pretrain org/name\n",
            "a.sh",
            "reward",
            "openrlhf",
        ),
        (
            "python3 -m recipe.dapo.main_dapo actor_rollout_ref.model.path=org/name\n",
            "a.sh",
            "dapo",
            "verl",
        ),
        (
            "base_model: org/name\nrl: simpo\nsequence_len: 64\nmicro_batch_size: 1\n",
            "a.yaml",
            "simpo",
            "axolotl",
        ),
        (
            "model_name_or_path: org/name\nstage: dpo\npref_loss: orpo\nfinetuning_type: lora\n",
            "a.yaml",
            "orpo",
            "llama-factory",
        ),
        ("trl reward --model_name_or_path org/name\n", "a.sh", "reward", "trl"),
        (
            "model_name_or_path: org/name\nlearning_rate: 1\nreward_funcs: x\n",
            "a.yaml",
            "grpo",
            "trl",
        ),
    ],
)
def test_every_framework_says_its_method(text, name, method, framework):
    found = run(text, name)
    assert (found.refused, found.settings["method"]) == ("", method)
    assert found.settings["framework"] == framework


@pytest.mark.parametrize(
    "text",
    [
        "python3 -m verl.trainer.fsdp_sft_trainer actor_rollout_ref.model.path=org/name\n",
        "swift rlhf --rlhf_type nash --model org/name\n",
        "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=remax\n",
    ],
)
def test_what_is_none_of_these_is_refused(text):
    assert run(text).refused


def test_a_value_that_a_setting_has_not_is_one_line():
    with pytest.raises(UsageError, match=r"run\.sh:17: data\.max_response_length is 'many', which"):
        read(VERL.replace("$((1024 * 2))", "many"), "run.sh")


TRL = "model_name_or_path: qwen3-0.6b\nlearning_rate: 1.0e-06\nnum_generations: 8\nuse_vllm: true\n"


def test_a_prompt_that_is_cut_tells_the_release_and_where_the_engine_is():
    """max_prompt_length left TRL's GRPO with 0.28; until 0.29 vLLM was a server by itself."""
    new, old = run(TRL, "a.yaml"), run(f"{TRL}max_prompt_length: 256\n", "a.yaml")
    assert (new.engine_cards, new.settings.get("framework_version")) == (0, None)
    assert (old.engine_cards, old.settings["framework_version"]) == (1, "0.27")
    assert old.settings["prompt_len"] == 256


CHANGES = [
    (VERL, "run.sh", {"gpu_memory_utilization": 0.25}, ".gpu_memory_utilization=0.25"),
    (VERL, "run.sh", {"max_tokens_per_gpu": 4096}, "ppo_max_token_len_per_gpu=4096"),
    (VERL, "run.sh", {"rollout_offload": "states"}, "fsdp_config.optimizer_offload=true"),
    (VERL, "run.sh", {"loss": "chunked"}, " actor_rollout_ref.model.use_fused_kernels=true"),
    (OPENRLHF.format(""), "run.sh", {"batch_size": 1}, "--micro_train_batch_size 1"),
    (OPENRLHF.format(""), "run.sh", {"checkpointing": "full"}, " --gradient_checkpointing --"),
    (NEMO.format("false"), "run.yaml", {"logprob_batch_size": 1}, "  logprob_batch_size: 1"),
    (TRL, "a.yaml", {"gpu_memory_utilization": 0.2}, "vllm_gpu_memory_utilization: 0.2"),
    (TRL, "a.yaml", {"sleep_level": 2}, "vllm_enable_sleep_mode: true"),
    (
        "swift rlhf --model qwen3-0.6b --rlhf_type grpo --sleep_level 1\n",
        "a.sh",
        {"sleep_level": 2},
        "--sleep_level 2",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "name", "change", "line"), CHANGES)
def test_a_change_is_written_into_the_line_of_the_file(text, name, change, line):
    """A change that the search found is written, read again, and asks for nothing else."""
    weighed = weighbridge.weigh(text, name=name, gpu="h100", offline=True)
    one = weighed.runs[0]
    verdict = one.report.verdict.under(Condition("starts", ground="tried"), reason="")
    remedy = Remedy(change=change, peak_bytes=1, fits="yes", cost="")
    report = replace(one.report, verdict=verdict, remedies=(remedy,))
    patch = patched(replace(weighed, runs=(replace(one, report=report),)))
    added = [each[1:] for each in patch.diff.splitlines() if each[0] == "+"][1:]
    assert len(added) == 1 and line in added[0]


LEARNS = [
    {"method": "dpo", "lora_r": 16, "seq_len": 512},
    {"method": "dpo", "reference": "precomputed", "gradient_accumulation": 4, "loss": "liger"},
    {"method": "grpo", "max_new_tokens": 128, "prompt_len": 300, "kl_beta": 0.04},
    {
        "method": "grpo",
        "max_new_tokens": 128,
        "rollout_engine": "vllm",
        "sleep_level": 2,
        "gpu_memory_utilization": 0.4,
        "lora_r": 8,
        "num_generations": 4,
        "batch_size": 4,
    },
    *({"method": name, "seq_len": 512, "batch_size": 2} for name in ("kto", "reward", "ipo")),
    *({"method": name, "seq_len": 512, "lora_r": 8} for name in ("orpo", "cpo", "simpo")),
    {"method": "reward", "seq_len": 512, "lora_r": 8},
    {"method": "kto", "reference": "precomputed", "batch_size": 4},
    {"method": "rloo", "max_new_tokens": 128, "num_generations": 2, "batch_size": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", LEARNS)
def test_a_script_of_trl_is_read_as_what_was_asked(settings):
    made = weighbridge.emit("qwen3-0.6b", "trl", offline=True, **settings)
    found = run(made.text, "train.py")
    kept = {name: value for name, value in settings.items() if name != "prompt_len"}
    assert {name: found.settings.get(name) for name in kept} == kept
    dtype = found.settings.get("dtype")  # of the recipe that a script without a framework is of
    asked = weighbridge.train("qwen3-0.6b", framework="trl", dtype=dtype, offline=True, **settings)
    assert made.report.peak == asked.peak


@pytest.mark.slow
def test_what_no_script_says_is_refused():
    with pytest.raises(UsageError, match="for TRL alone"):
        weighbridge.emit("qwen3-0.6b", "axolotl", offline=True, method="dpo")
    with pytest.raises(UsageError, match="no script is written for gkd"):
        weighbridge.emit("qwen3-0.6b", "trl", offline=True, method="gkd")
    with pytest.raises(UsageError, match="max-num-seqs"):
        weighbridge.emit("qwen3-0.6b", "trl", offline=True, method="grpo", max_num_seqs=3)


AXOLOTL = "base_model: qwen3-0.6b\nrl: grpo\nmicro_batch_size: 8\nsequence_len: 512\ntrl:\n{}"


def test_the_engine_of_axolotl_is_a_server_where_nobody_says():
    """axolotl utils/schemas/validation.py: vllm_mode is "server" where it is not set."""
    modes = ("  use_vllm: true\n", "  use_vllm: true\n  vllm_mode: colocate\n", "  beta: 0.0\n")
    cards = [run(AXOLOTL.format(mode), "a.yaml").engine_cards for mode in modes]
    assert cards == [1, 0, 0]


BASES = {
    "examples/configs/sft.yaml": "policy: {max_total_sequence_length: 1024, "
    "train_micro_batch_size: 2, sequence_packing: {enabled: true}}\nsft: {a: 1}\n",
    "examples/configs/distill.yaml": "policy: {max_total_sequence_length: 512, train_micro_batch_size"
    ": 1, generation: {backend: vllm, max_new_tokens: '${..max_total_sequence_length}'}}\n"
    "distillation: {a: 1}\nteacher: {model_name: qwen3-8b}\n",
    "examples/configs/recipes/llm/one.yaml": "defaults: ../../sft.yaml\n"
    "policy: {model_name: qwen3-0.6b}\ncluster: {gpus_per_node: 8}\n",
    "examples/configs/recipes/llm/two.yaml": "defaults: ./one.yaml\ncluster: {num_nodes: 2}\n",
    "examples/configs/recipes/llm/student.yaml": "defaults: ../../distill.yaml\n"
    "policy: {model_name: qwen3-0.6b}\ncluster: {gpus_per_node: 1}\n",
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in BASES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "examples/configs/recipes/llm"


def weighed(folder, name):
    (one,) = read((folder / name).read_text(), name, folder=str(folder)).runs
    return one


def test_a_config_is_read_with_all_that_it_begins_with_in_its_repository(checkout):
    """Paths go by `..` up to the root of the repository, and by what a sibling says of the program: its
    fine-tuning is weighed by what trains there, packed rows as one."""
    (checkout.parents[3] / ".git").mkdir()
    one, two = (weighed(checkout, name) for name in ("one.yaml", "two.yaml"))
    assert (two.model, two.refused, two.cards, one.cards) == ("qwen3-0.6b", "", 16, 8)
    assert two.settings == one.settings | {"data_parallel_size": 16}
    assert (two.settings["framework"], two.settings["method"]) == ("nemo-rl", "full")
    assert (two.settings["batch_size"], two.settings["seq_len"]) == (1, 2048)


def test_without_a_repository_nothing_above_the_folder_is_read(checkout):
    lacks = {one.missing: one.why for one in weighed(checkout, "one.yaml").unread if one.missing}
    assert lacks.keys() == {"../../sft.yaml"}
    assert "outside" in lacks["../../sft.yaml"]


def test_a_student_that_writes_has_an_engine_and_a_teacher_that_is_not_counted(checkout):
    (checkout.parents[3] / ".git").mkdir()
    student = weighed(checkout, "student.yaml")
    assert (student.settings["method"], student.settings["rollout_engine"]) == ("gkd", "vllm")
    assert [one.raises for one in student.unread if one.key == "teacher"] == [True]
    workload = weighbridge.train(student.model, gpu="h100", **student.settings).workload
    assert workload["max_new_tokens"] == workload["seq_len"] == 512


def test_packed_rows_of_verl_have_no_scores_and_a_dtype_is_read_with_hydra_s_plus():
    """FlashAttention sees each row alone: 32 rows of 8,704 tokens of gpt-oss are 28,000 GiB in one
    matrix of pairs, which nobody makes."""
    dtype = "+actor_rollout_ref.actor.fsdp_config.model_dtype=bfloat16"
    text = VERL.replace("actor_rollout_ref.rollout.made_up=3", dtype)
    found = run(text.replace("qwen3-0.6b", "gpt-oss-20b"))
    assert found.settings["dtype"] == "bfloat16"
    assert not [one.key for one in found.unread if "dtype" in one.key]
    asked = {"max_tokens_per_gpu": 65536, "gpu": "h100:8"}
    report = weighbridge.prepare(found.model).train(remedies=False, **found.settings | asked)
    assert report.peak.expected < 300 * 2**30


def test_a_teacher_of_ms_swift_is_not_counted_and_its_student_writes_by_vllm():
    line = (
        "swift rlhf --rlhf_type gkd --model org/name --teacher_model org/other --use_vllm true "
        "--vllm_mode colocate --max_completion_length 512\n"
    )
    found = run(line)
    assert (found.settings["method"], found.settings["rollout_engine"]) == ("gkd", "vllm")
    assert [one.key for one in found.unread if one.raises and "teacher" in one.key] == [
        "teacher_model"
    ]


MCORE = """
policy:
  model_name: qwen2.5-7b
  max_total_sequence_length: 4096
  train_micro_batch_size: 1
  megatron_cfg: {{enabled: true, pipeline_model_parallel_size: 2, fp8_cfg: {fp8}}}
  generation: {{backend: {engine}, vllm_cfg: {{tensor_parallel_size: 1}}}}
grpo: {{num_generations_per_prompt: 8}}
cluster: {{gpus_per_node: 8, num_nodes: 1}}
"""


@pytest.mark.parametrize(
    ("fp8", "said"),
    [
        ("{enabled: true}", {"fp8_format=e4m3", "fp8_recipe=blockwise"}),
        (
            "{enabled: true, fp8: hybrid, fp8_recipe: tensorwise, fp8_param: true}",
            {"fp8_format=hybrid", "fp8_recipe=tensorwise", "fp8_param_gather"},
        ),
        ("{enabled: false, fp8: hybrid}", set()),
    ],
)
def test_float8_of_nemo_rl_is_that_of_megatron(fp8, said):
    """nemo_rl/models/megatron/setup.py (_apply_performance_config): fp8, fp8_recipe, fp8_param."""
    found = run(MCORE.format(fp8=fp8, engine="vllm"), "run.yaml")
    args = {word for word in found.settings["megatron_args"] if word.startswith("fp8")}
    assert args == said and not any("fp8" in one.key for one in found.unread)


@pytest.mark.parametrize(("ranks", "taken"), [(8, 8), (1, None)])
def test_experts_of_nemo_rl_s_fsdp_are_shared_out(ranks, taken):
    """NeMo-RL 7ea279ab examples/configs/recipes/llm/grpo-nanov3-30BA3B-2n8g-fsdp2.yaml: each rank
    has an eighth of the experts, and gathers none of the others."""
    sizes = f"dtensor_cfg: {{enabled: true, expert_parallel_size: {ranks}}}\n  megatron_cfg: "
    text = MCORE.format(fp8="{enabled: false}", engine="vllm").replace("megatron_cfg: ", sizes)
    found = run(text.replace("{enabled: true, pipeline", "{enabled: false, pipeline"), "run.yaml")
    assert found.settings.get("expert_parallel_size") == taken
    assert not [one.key for one in found.unread if "expert" in one.key]


@pytest.mark.parametrize(
    ("engine", "open_"), [("vllm", False), ("sglang", False), ("megatron", True)]
)
def test_an_engine_that_is_not_counted_leaves_no_sure_verdict(engine, open_):
    """Megatron's own inference has no share of the card: neither a yes nor a no of vLLM's is its."""
    found = run(MCORE.format(fp8="{enabled: false}", engine=engine), "run.yaml")
    (doubt,) = [one for one in found.unread if one.key.endswith("backend")] or (None,)
    assert (doubt is not None) == open_
    assert doubt is None or (doubt.lowers and doubt.raises)


@all_of(
    ("value", "model"),
    [
        ("qwen2.5-7b", "qwen2.5-7b"),
        ("$DATA/models/qwen2.5-7b", "qwen2.5-7b"),
        ("${DATA}/models/qwen2.5-7b/", "qwen2.5-7b"),
        ("$MODEL", ""),
        ("/models/$MODEL", ""),
        ("'Follow what https://example.org/guides/deepseek.md says'", ""),
    ],
)
def test_a_path_below_a_variable_names_its_model_and_a_sentence_names_none(value, model):
    """verl 1dda039b examples/grpo_trainer/run_nemotron_nano_v3_30b_a3b_megatron.sh; NeMo-RL
    7ea279ab examples/configs/recipes/llm/performance/grpo-deepseek-v3-32n8g.yaml."""
    line = "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo"
    found = run(f"{line} actor_rollout_ref.model.path={value} trainer.n_gpus_per_node=8\n")
    assert found.model == model


@all_of("name", ["gpg", "gdpo", "opo", "grpo_vectorized", "optimal_token_baseline"])
def test_estimators_without_a_critic_are_grpo_s_step(name):
    """verl 1dda039b trainer/ppo/utils.py (need_critic): gae alone has one."""
    line = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=qwen2.5-7b"
    found = run(f"{line} algorithm.adv_estimator={name} trainer.n_gpus_per_node=8\n")
    assert found.settings["method"] == "grpo" and "critic" not in found.settings


def test_sums_within_sums_are_computed_as_a_shell_does():
    """verl's examples: $(((max_prompt_length + max_response_length) / sp_size))."""
    script = (
        "a=$((1024 * 2))\nb=${B:-8190}\nsp=4\nc=$(((a + b) / sp))\nd=${D:-$(((a + b) * 10 / 10))}\n"
    )
    line = "python3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=qwen2.5-7b "
    line += "algorithm.adv_estimator=grpo data.max_prompt_length=$a data.max_response_length=$b "
    line += "actor_rollout_ref.actor.use_dynamic_bsz=True "
    line += "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=%s\n"
    for name, tokens in {"c": (2048 + 8190) // 4, "d": 2048 + 8190}.items():
        assert run(script + line % f"${name}").settings["max_tokens_per_gpu"] == tokens
    with pytest.raises(UsageError, match="no value of --max-tokens-per-gpu"):
        run(script + line % "$((a / 0))")


@pytest.mark.parametrize(
    ("more", "prompt"),
    [
        ("--vllm_mode colocate --vllm_max_model_len 4096", 3072),
        ("--vllm_mode colocate --vllm_max_model_len 4096 --max_length 512", 512),
        ("--vllm_mode server --vllm_max_model_len 4096", None),
        ("--vllm_mode colocate", None),
    ],
)
def test_a_prompt_of_ms_swift_is_no_longer_than_its_engine_takes(more, prompt):
    """ms-swift @ 3602360a examples/train/grpo/internal/gspo.sh: no max_length, and an engine of
    16,384 tokens beside answers of 8,192."""
    line = "swift rlhf --rlhf_type grpo --model qwen3-0.6b --use_vllm true --tuner_type full "
    run = weighbridge.weigh(
        f"{line}--max_completion_length 1024 {more}\n", name="a.sh", gpu="h100", offline=True
    ).runs[0]
    assert run.run.settings.get("prompt_len") == prompt
    assert any(u.key == "max_length" for u in run.run.unread) == (prompt is None)


def test_the_count_of_a_file_is_the_count_where_no_card_is_named():
    """Ranks of the engine divide the cards that the file counts, with a card named or without."""
    line = (
        "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo "
        "actor_rollout_ref.model.path=qwen3-0.6b "
        "actor_rollout_ref.rollout.tensor_model_parallel_size={} trainer.n_gpus_per_node={}\n"
    )
    for ranks, cards, divides in ((2, 8, True), (1, 1, True), (2, 1, False), (3, 8, False)):
        (run,) = weighbridge.weigh(line.format(ranks, cards), name="verl.sh").runs
        assert (run.report is not None) is divides
        assert divides or f"the {cards} cards" in run.why
        assert run.report is None or run.report.verdict is None
