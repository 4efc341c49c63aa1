"""Files of every program that learns from rewards, which do not fit: changed, they ask for what was
promised, and fit."""

import pytest

import weighbridge
from weighbridge.files.runfiles.patching import patched

FILES = {  # a name -> the card, the file, and what stands in it afterwards
    "verl.sh": (
        "a100-80gb",
        """#!/bin/bash
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
    data.max_prompt_length=1024 data.max_response_length=4096 \\
    actor_rollout_ref.model.path=qwen2.5-7b \\
    actor_rollout_ref.actor.use_dynamic_bsz=True \\
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=49152 \\
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \\
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6 \\
    trainer.n_gpus_per_node=4
""",
        ("actor_rollout_ref.model.use_fused_kernels=true",),
    ),
    "verl.yaml": (
        "a100-80gb",
        """
algorithm: {adv_estimator: grpo}
data:
  max_prompt_length: 1024
  max_response_length: 4096
actor_rollout_ref:
  model:
    path: qwen2.5-7b
  actor:
    use_dynamic_bsz: true
    ppo_max_token_len_per_gpu: 49152
  rollout:
    tensor_model_parallel_size: 1
    gpu_memory_utilization: 0.6
trainer:
  n_gpus_per_node: 4
""",
        ("    use_fused_kernels: true",),
    ),
    "openrlhf.sh": (
        "a100-80gb",
        """#!/bin/bash
python3 -m openrlhf.cli.train_ppo_ray \\
   --actor.num_gpus_per_node 4 --actor.num_nodes 1 --train.colocate_all \\
   --actor.model_name_or_path qwen2.5-7b --algo.advantage.estimator group_norm \\
   --train.micro_batch_size 2 --data.prompt_max_len 1024 --rollout.max_new_tokens 3072 \\
   --vllm.num_engines 4 --vllm.tensor_parallel_size 1
""",
        (
            "--actor.gradient_checkpointing_enable --actor",
            "--ds.zero_stage 3",
            "--vllm.enable_sleep --ds",
        ),
    ),
    "swift.sh": (
        "a100-80gb",
        """#!/bin/bash
NPROC_PER_NODE=4 swift rlhf --rlhf_type grpo --train_type full --model qwen2.5-7b \\
  --per_device_train_batch_size 8 --max_length 1024 --max_completion_length 2048 \\
  --use_vllm true --vllm_mode colocate --deepspeed zero3
""",
        (
            "--sleep_level 1",
            "--per_device_train_batch_size 2",
        ),
    ),
    "trl.yaml": (
        "a100-40gb:4",
        """
model_name_or_path: qwen2.5-3b
learning_rate: 1.0e-06
dtype: bfloat16
per_device_train_batch_size: 16
gradient_accumulation_steps: 1
num_generations: 8
max_completion_length: 2048
use_vllm: true
vllm_gpu_memory_utilization: 0.6
""",
        (
            "accelerate_config: zero3",
            "vllm_enable_sleep_mode: true",
        ),
    ),
    "trl_script.py": (
        "a100-40gb",
        """
from trl import GRPOTrainer, GRPOConfig
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("qwen2.5-3b", dtype="bfloat16")
args = GRPOConfig(
    per_device_train_batch_size=16,
    num_generations=8,
    max_completion_length=2048,
    use_vllm=True,
    vllm_gpu_memory_utilization=0.6,
)
GRPOTrainer(model=model, args=args, reward_funcs=[f]).train()
""",
        ("    vllm_enable_sleep_mode=True,",),
    ),
    "trl.sh": (
        "a100-40gb",
        """#!/bin/bash
trl grpo --model_name_or_path qwen2.5-3b --dtype bfloat16 --num_processes 4 \\
   --per_device_train_batch_size 16 --max_completion_length 2048 --use_vllm true --vllm_gpu_memory_utilization 0.6
""",
        (
            "--accelerate_config zero3",
            "--vllm_enable_sleep_mode true",
        ),
    ),
    "nemo.yaml": (
        "a100-80gb",
        """
defaults: grpo_math_1B.yaml
policy:
  model_name: qwen2.5-7b
  train_micro_batch_size: 4
  logprob_batch_size: 4
  max_total_sequence_length: 8192
  generation:
    vllm_cfg:
      gpu_memory_utilization: 0.6
cluster: {gpus_per_node: 4}
""",
        ("  dtensor_cfg: {activation_checkpointing: true}",),
    ),
    "easyr1.yaml": (
        "a100-80gb",
        """
data:
  max_prompt_length: 2048
  max_response_length: 4096
algorithm:
  adv_estimator: grpo
worker:
  actor:
    micro_batch_size_per_device_for_update: 8
    micro_batch_size_per_device_for_experience: 16
    model:
      model_path: qwen2.5-7b
    offload:
      offload_params: false
      offload_optimizer: false
  rollout:
    tensor_parallel_size: 1
    gpu_memory_utilization: 0.8
trainer:
  n_gpus_per_node: 4
""",
        (
            "    micro_batch_size_per_device_for_update: 2",
            "    micro_batch_size_per_device_for_experience: 1\n",
        ),
    ),
    "agilerl.yaml": (
        "4090",
        """
algorithm:
  name: GRPO
  micro_batch_size_per_gpu: 16
  group_size: 8
  use_vllm: true
  vllm_config:
    gpu_memory_utilization: 0.3
    sleep_mode: true
environment: {name: x}
network:
  pretrained_model_name_or_path: qwen2.5-7b
  max_context_length: 4096
  lora_config:
    lora_r: 16
    lora_alpha: 64
""",
        ("  micro_batch_size_per_gpu: 2\n",),
    ),
    "axolotl.yaml": (
        "4090",
        """
base_model: qwen2.5-7b
rl: dpo
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
sequence_len: 4096
micro_batch_size: 4
gradient_accumulation_steps: 1
gradient_checkpointing: false
bf16: true
""",
        ("gradient_checkpointing: true",),
    ),
    "llama.yaml": (
        "4090",
        """
model_name_or_path: qwen2.5-7b
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
cutoff_len: 4096
per_device_train_batch_size: 8
gradient_accumulation_steps: 1
bf16: true
""",
        ("per_device_train_batch_size: 1",),
    ),
    "unsloth.py": (
        "4090",
        """
from unsloth import FastLanguageModel
from trl import GRPOConfig, GRPOTrainer
model, tokenizer = FastLanguageModel.from_pretrained(
    "qwen2.5-7b", max_seq_length=8192, load_in_4bit=True, fast_inference=True,
    gpu_memory_utilization=0.9)
model = FastLanguageModel.get_peft_model(model, r=16)
args = GRPOConfig(
    per_device_train_batch_size=8,
    num_generations=8,
    max_prompt_length=1024,
    max_completion_length=7168,
)
GRPOTrainer(model=model, args=args).train()
""",
        ('os.environ["UNSLOTH_VLLM_STANDBY"] = "1"',),
    ),
    "slime.sh": (
        "a100-80gb",
        """#!/bin/bash
python3 train.py --actor-num-nodes 1 --actor-num-gpus-per-node 8 --colocate \\
   --hf-checkpoint /models/qwen3-4b --micro-batch-size 4 --rollout-max-response-len 8192 \\
   --n-samples-per-prompt 8 --tensor-model-parallel-size 2 --sequence-parallel \\
   --advantage-estimator grpo --rollout-num-gpus-per-engine 2 --sglang-mem-fraction-static 0.6
""",
        ("--recompute-granularity full",),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_asks_for_what_was_promised_and_fits(name):
    gpu, text, lines = FILES[name]

    def weighed(text):
        return weighbridge.weigh(text, name=name, gpu=gpu, offline=True)

    before = weighed(text)
    assert before.runs[0].fits != "yes"
    patch = patched(before, weighed)
    assert all(line in patch.after and line not in text for line in lines)
    (after,) = weighed(patch.after).runs
    assert after.fits == "yes"
    (remedy,) = patch.remedies
    told = {k: v for k, v in remedy.change.items() if k in after.run.settings}
    assert {name: after.run.settings[name] for name in told} == told
