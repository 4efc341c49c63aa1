"""What a file starts: its own line to paste, its ranks, its card, and the keys that said so."""

import pytest

import weighbridge
from weighbridge.runfiles import read

MODELFILE = "FROM llama3.1:8b\nPARAMETER num_ctx 8192\n"
SERVER = (
    "./llama-server -hf somebody/Qwen3-8B-GGUF:Q4_K_M -c 4096 --api-key sk-abcdefghijklmnopqr\n"
)
FACTORY = (
    "CUDA_VISIBLE_DEVICES={} llamafactory-cli train --stage sft --model_name_or_path a/b "
    "--finetuning_type lora --cutoff_len 512 --per_device_train_batch_size 1\n"
)
DEPLOYED = """\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-A10G}
      containers:
      - image: vllm/vllm-openai:v0.10.0
        args: ["--model", "Qwen/Qwen3-8B"]
"""
FSDP = """\
distributed_type: FSDP
fsdp_config:
  fsdp_offload_params: true
  fsdp_sharding_strategy: FULL_SHARD
mixed_precision: bf16
num_processes: 4
"""


def test_a_modelfile_is_what_its_model_is_created_from(tmp_path):
    path = tmp_path / "Modelfile"
    path.write_text(MODELFILE)
    (run,) = weighbridge.weigh(path, gpu="h200").runs
    first, second = run.report.derived["launch"].splitlines()
    assert first == f"ollama create llama-3.1-8b-own -f {path}"
    assert second == "ollama run llama-3.1-8b-own"
    assert not any("OLLAMA_CONTEXT_LENGTH" in line for line in run.report.warnings)


def test_a_file_that_a_repository_has_is_not_made_again():
    (run,) = weighbridge.weigh(SERVER, name="a.sh", offline=True).runs
    line = run.report.derived["launch"]
    assert line == SERVER.strip().replace("sk-abcdefghijklmnopqr", "$SECRET")
    (typed,) = weighbridge.weigh(SERVER, name="a.sh", offline=True, context=2048).runs
    assert typed.report.derived["launch"] != line


@pytest.mark.parametrize(("cards", "ranks"), [("0,1", 2), ("3", 1), ("", None)])
def test_llama_factory_starts_a_rank_for_each_card_that_it_sees(cards, ranks):
    (run,) = read(FACTORY.format(cards), "a.sh").runs
    assert run.settings.get("data_parallel_size") == ranks


def test_a_card_of_a_node_selector_is_read_from_the_file():
    (run,) = read(DEPLOYED, "k8s.yaml").runs
    assert run.settings["gpu"] == "NVIDIA-A10G"
    assert [(one.key, one.value) for one in run.understood] == [("the card", "NVIDIA-A10G")]


def test_options_of_fsdp_are_shown_by_their_own_keys():
    (run,) = read(FSDP, "fsdp.yaml").runs
    told = {one.key: (one.value, one.setting) for one in run.understood}
    assert told["fsdp_config.fsdp_sharding_strategy"] == ("FULL_SHARD", "shard")
    assert told["fsdp_config.fsdp_offload_params"] == (True, "offload")
    assert run.settings.items() >= {"shard": "fsdp1", "offload": "params"}.items()


def test_a_copy_of_unsloth_has_the_shapes_of_its_name():
    report = weighbridge.infer("unsloth/gemma-3-12b-it", offline=True)
    assert "gemma-3-12b" in report.warnings[0]
