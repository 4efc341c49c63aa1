"""What a file starts: its own line to paste, its ranks, its card, and the keys that said so."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read

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


@pytest.mark.slow
def test_a_change_of_a_modelfile_is_put_into_a_copy_of_it(tmp_path):
    path = tmp_path / "Modelfile"
    path.write_text("FROM qwen3:32b-q8_0\nPARAMETER num_ctx 40960\nPARAMETER num_gpu 40\n")
    report = weighbridge.weigh(str(path), gpu="4090").runs[0].report
    pastes = [remedy.paste for remedy in report.remedies if remedy.paste]
    assert pastes
    assert not any("> Modelfile" in paste for paste in pastes)
    assert any(f"num_gpu 38|' {path} > qwen3-32b-own.Modelfile" in paste for paste in pastes)
    assert all(paste.endswith("ollama run qwen3-32b-own") for paste in pastes)


@all_of(
    ("text", "change", "told"),
    [
        (
            "FROM a:b\nPARAMETER num_gpu 40\n",
            {},
            "sed -e 's|^PARAMETER num_gpu .*|PARAMETER num_gpu ",
        ),
        ("FROM a:b\n", {}, "{ cat M; echo 'PARAMETER num_gpu 38'; } > x.Modelfile"),
        ("FROM a:c\n", {}, "{ sed -e 's|^FROM .*|FROM a:b|' M; echo 'PARAMETER num_gpu 38'; } >"),
        ("FROM a:b\nPARAMETER num_gpu 38\n", {}, "ollama create x -f M\n"),
        (
            "FROM a:b\nPARAMETER num_ctx 9\n",
            {"context": 5},
            "s|^PARAMETER num_ctx .*|PARAMETER num_ctx 5|",
        ),
    ],
)
def test_lines_of_a_copy_change_what_stands_and_add_what_does_not(text, change, told):
    from weighbridge.files.runfiles.serving.own_modelfile import lines

    paste = (
        "OLLAMA_X=1 ollama serve & sleep 5\nprintf 'FROM a:b\\nPARAMETER num_gpu 38\\n' > Modelfile"
        "\nollama create x\nollama run x"
    )
    made = lines(paste, text, "M", "x", change)
    assert told in made
    assert made.startswith("OLLAMA_X=1 ollama serve & sleep 5\n")
    assert (
        lines("ollama run a:b", "FROM a:b\n", "M", "x", {}) == "ollama create x -f M\nollama run x"
    )
