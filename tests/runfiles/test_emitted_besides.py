"""What an emitted file keeps of the file that it is made of, and what its first lines say."""

import pytest
import yaml
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.carrying import carried

AXOLOTL = """\
base_model: Qwen/Qwen3-0.6B
datasets:
  - path: somebody/rows
    type: alpaca
sequence_len: 512
micro_batch_size: 1
num_epochs: 2
learning_rate: 2e-5
lr_scheduler: cosine
bf16: true
"""
FACTORY = """\
model_name_or_path: Qwen/Qwen3-0.6B
stage: sft
finetuning_type: full
dataset: identity
per_device_train_batch_size: 1
cutoff_len: 512
num_train_epochs: 3.0
learning_rate: 1.0e-5
bf16: true
"""


def emitted(text, kind, **said):
    return weighbridge.emit(None, kind, file=text, name="a/run.yaml", offline=True, **said)


@pytest.mark.slow
def test_values_that_decide_no_memory_are_kept_by_the_new_names():
    keys = yaml.safe_load(emitted(AXOLOTL, "trl").text)
    assert (keys["num_train_epochs"], keys["lr_scheduler_type"]) == (2, "cosine")
    assert (keys["learning_rate"], keys["dataset_name"]) == ("2e-5", "somebody/rows")


@pytest.mark.slow
def test_a_data_set_of_another_kind_is_named_and_left_out():
    text = emitted(FACTORY, "axolotl").text
    assert "# Left out of run.yaml, write your own: dataset identity\n" in text
    keys = yaml.safe_load(text)
    assert (keys["num_epochs"], keys["learning_rate"]) == (3.0, 1e-5)
    assert keys["datasets"][0]["path"] != "identity"


@pytest.mark.slow
def test_a_script_names_what_it_does_not_keep():
    assert "learning_rate 1e-05" in emitted(FACTORY, "trainer").text.splitlines()[0]


@pytest.mark.slow
def test_another_way_of_a_program_is_named_with_both_sizes():
    made = emitted(AXOLOTL, "trl")
    first, second = made.text.splitlines()[:2]
    assert first.startswith("# Its program has a way of its own: framework trl, not axolotl; ")
    assert first.endswith("; loss trl, not standard")
    assert "run.yaml takes about" in second
    assert made.before.peak != made.report.peak


@pytest.mark.slow
def test_the_same_answer_is_not_remarked_upon():
    made = emitted(FACTORY, "trainer")
    assert made.before is None
    assert "way of its own" not in made.text


@all_of(
    ("line", "kept"),
    [
        ("learning_rate: 1e-4", {"learning_rate": "1e-4"}),
        ("seed: 7", {"seed": 7}),
        ("learning_rate: [1, 2]", {}),
        ("learning_rate: ${LR}", {}),
        ("lr_scheduler_type: hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", {}),
        ("learning_rate: true", {}),
    ],
)
def test_only_plain_values_without_secrets_are_carried(line, kept):
    file = read(f"model_name_or_path: a/b\nfinetuning_type: full\nstage: sft\n{line}\n", "a.yaml")
    assert carried(file, "trl", {}).words == kept


def test_a_command_is_asked_for_its_flags():
    file = read("accelerate launch t.py --model_name_or_path a/b --learning_rate 3e-5\n", "a.sh")
    assert carried(file, "axolotl", {}).words == {"learning_rate": 3e-5}


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  replicas: 2
  template:
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-L40S, pool: a}
      containers:
        - name: v
          image: vllm/vllm-openai:v0.11.0
          command: [vllm, serve, Qwen/Qwen3-0.6B, --max-model-len, "4096"]
          resources: {limits: {nvidia.com/gpu: 1, memory: 64Gi}}
"""


def test_copies_machines_and_limits_of_a_manifest_are_kept():
    data = yaml.safe_load(emitted(MANIFEST, "k8s").text)
    pod = data["spec"]["template"]["spec"]
    assert data["spec"]["replicas"] == 2
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S", "pool": "a"}
    assert pod["containers"][0]["image"] == "vllm/vllm-openai:v0.11.0"
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "64Gi"
    typed = yaml.safe_load(emitted(MANIFEST, "k8s", gpu="h100").text)  # another card
    assert "nodeSelector" not in typed["spec"]["template"]["spec"]


def test_what_a_compose_file_keeps_of_a_manifest():
    made = emitted(MANIFEST, "compose").text
    deploy = yaml.safe_load(made)["services"]["vllm"]["deploy"]
    assert (deploy["replicas"], deploy["resources"]["limits"]) == (2, {"memory": "65536m"})
    assert "# Left out of run.yaml, write your own: nodeSelector nvidia.com/gpu.product" in made
    assert "write your own: replicas 2, nodeSelector" in emitted(MANIFEST, "vllm").text


def test_a_machine_s_memory_is_no_limit_of_a_container():
    text = weighbridge.emit("qwen3-0.6b", "compose", ram="64GiB", engine="vllm").text
    assert "limits" not in text


def test_a_json_object_with_a_secret_loses_that_key_alone():
    flags = """--hf-overrides '{"rope_theta": 5, "auth_token": "abcdefgh", "a": {"b": 1}}'"""
    text = f"services:\n  v:\n    image: vllm/vllm-openai\n    command: >\n      --model qwen3-0.6b {flags}\n"
    made = emitted(text, "compose").text
    assert "# Left out, since it is a secret: auth_token of --hf-overrides\n" in made
    assert "abcdefgh" not in made
    words = yaml.safe_load(made)["services"]["vllm"]["command"]
    assert '{"rope_theta": 5, "a": {"b": 1}}' in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "key"),
    [("trl", "packing"), ("llama-factory", "packing"), ("axolotl", "sample_packing")],
)
def test_packing_is_kept(kind, key):
    assert yaml.safe_load(emitted(f"{AXOLOTL}sample_packing: true\n", kind).text)[key] is True
    assert key not in yaml.safe_load(emitted(AXOLOTL, kind).text)
