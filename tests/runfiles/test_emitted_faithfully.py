"""What an emitted file may not say (secrets), and what it may not lose: release, scale, model."""

import pytest
import yaml

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles import read

COMPOSE = """\
services:
  api:
    image: vllm/vllm-openai:v0.10.2
    command: --model qwen3-8b --max-model-len 8192 {}
"""
FACTORY = """\
model_name_or_path: Qwen/Qwen3-8B
stage: sft
finetuning_type: lora
lora_rank: 16
lora_target: all
per_device_train_batch_size: 1
cutoff_len: 1024
bf16: true
"""
TUNE = """\
model:
  _component_: torchtune.models.llama3_1.lora_llama3_1_8b
  lora_attn_modules: [q_proj, v_proj]
  lora_rank: 8
checkpointer:
  checkpoint_dir: /tmp/{}/
tokenizer: {{max_seq_len: 1024}}
batch_size: 1
optimizer: {{_component_: torch.optim.AdamW}}
loss: {{_component_: torch.nn.CrossEntropyLoss}}
dtype: bf16
"""


def emitted(text, kind, **said):
    return weighbridge.emit(None, kind, file=text, name="run.yaml", offline=True, **said).text


@pytest.mark.parametrize("kind", ["compose", "k8s", "vllm"])
@pytest.mark.parametrize(
    "flags", ["--api-key sk-abcdefghijklmnop123", "--api-key=abc", "--api-key abc --api-key def"]
)
def test_a_secret_is_left_out_and_that_is_said(kind, flags):
    text = emitted(COMPOSE.format(flags), kind)
    head, _, body = text.partition("Start it with")
    assert "# Left out, since it is a secret: --api-key\n" in head
    assert not any(word in body for word in ("***", "api-key", "sk-abc", "abc", "def"))
    assert "8192" in body


def test_a_variable_that_holds_a_secret_stays():
    text = emitted(COMPOSE.format("--api-key $$VLLM_API_KEY"), "compose")
    assert "VLLM_API_KEY" in text
    assert "Left out" not in text


def test_the_release_of_an_image_is_said_above_flags_that_have_no_word_for_it():
    text = emitted(COMPOSE.format(""), "vllm")
    assert text.startswith("# For vllm 0.10.2\n")
    assert yaml.safe_load(text) == {"model": "qwen3-8b", "max-model-len": 8192}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "key"), [("axolotl", "lora_alpha"), ("trl", "lora_alpha")])
def test_the_scale_of_llama_factory_is_twice_the_rank_elsewhere_too(kind, key):
    assert yaml.safe_load(emitted(FACTORY, kind))[key] == 32
    assert yaml.safe_load(emitted(f"{FACTORY}lora_alpha: 5\n", kind))[key] == 5


def test_the_scale_of_trl_is_its_own():
    text = "model_name_or_path: Qwen/Qwen3-8B\nuse_peft: true\nmax_length: 512\nbf16: true\n"
    (run,) = read(text, "sft.yaml", "trl").runs
    assert run.settings["lora_alpha"] == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
    ],
)
def test_an_instruct_folder_stays_that_model(folder, model):
    assert yaml.safe_load(emitted(TUNE.format(folder), "axolotl"))["base_model"] == model


def test_another_tune_than_the_one_that_is_known_is_asked_for():
    text = TUNE.format("Llama-3.1-8B-thinking")
    with pytest.raises(UsageError, match="another tune; --model ORG/NAME says its repository"):
        emitted(text, "axolotl")
