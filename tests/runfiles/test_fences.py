"""Files between fences: each is read as the same file is alone, and the text around it fills in."""

import pytest

import weighbridge
from weighbridge.faces.texts.runfile import view
from weighbridge.files.runfiles import read

AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B
adapter: lora
lora_r: 16
lora_target_linear: true
sequence_len: 8192
micro_batch_size: 2
optimizer: adamw_torch
bf16: true
flash_attention: true
"""
FACTORY = """\
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
stage: sft
finetuning_type: lora
lora_rank: 64
cutoff_len: 6144
per_device_train_batch_size: 3
bf16: true
"""
COMMAND = (
    "torchrun --nproc_per_node 2 sft.py --model_name_or_path Qwen/Qwen3-0.6B \\\n"
    "  --per_device_train_batch_size 2 --max_length 4096 --bf16\n"
)
LOAD = """\
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
packed = BitsAndBytesConfig(load_in_4bit=True)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", quantization_config=packed)
"""
TRAIN = """\
from trl import SFTConfig, SFTTrainer
args = SFTConfig(per_device_train_batch_size=4, max_length=4096, bf16=True)
SFTTrainer(model=model, args=args, peft_config=LoraConfig(r=16))
"""


def around(*fences):
    pieces = "\n".join(f"and this:\n```{tag}\n{text}```" for tag, text in fences)
    return f"It runs out of memory on my 3090.\n\n{pieces}\nWhat can I do?\n"


@pytest.mark.parametrize(
    ("tag", "text", "name"),
    [
        ("yaml", AXOLOTL, "run.yaml"),
        ("", AXOLOTL, "run.yaml"),
        ("text", AXOLOTL, "run.yaml"),
        ("yml title=x", FACTORY, "run.yaml"),
        ("bash", COMMAND, "run.sh"),
        ("python", LOAD + TRAIN, "run.py"),
    ],
)
def test_a_file_between_fences_asks_for_what_it_asks_for_alone(tag, text, name):
    (alone,) = read(text, name).runs
    (found,) = read(around((tag, text))).runs
    assert found.model == alone.model
    cards = "3090:2" if text is COMMAND else "3090"  # as many as the command starts ranks
    assert found.settings == {**alone.settings, "gpu": cards}
    assert found.defaults == alone.defaults
    places = {
        one.line - another.line
        for one, another in zip(found.understood, alone.understood, strict=False)
    }
    assert places == {4}  # the lines of the text


def test_python_in_two_pieces_is_one_script():
    (alone,) = read(LOAD + TRAIN, "run.py").runs
    (found,) = read(around(("python", LOAD), ("python", TRAIN))).runs
    assert found.settings == {**alone.settings, "gpu": "3090"}
    assert found.settings["method"] == "qlora"


def test_a_part_of_a_run_between_fences_fills_in_the_other_file():
    zero = '{"zero_optimization": {"stage": 3}, "bf16": {"enabled": true}}\n'
    (found,) = read(around(("yaml", AXOLOTL), ("json", zero))).runs
    assert found.settings["shard"] == "zero3"
    assert found.settings["seq_len"] == 8192


def test_a_fence_that_cannot_be_read_is_told_with_its_line():
    (found,) = read(around(("yaml", "base_model: [a\nadapter: lora\n"))).runs
    assert any("line 5" in note and "no yaml" in note for note in found.notes)


def test_a_wrong_value_between_fences_is_an_error_and_no_answer_from_prose():
    text = around(("yaml", AXOLOTL.replace("8192", "[8, 9]")))
    (found,) = read(text).runs
    assert "sequence_len is [8, 9]" in found.refused


MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a total "
    "capacity of 23.69 GiB of which 190.00 MiB is free. Including non-PyTorch memory, this process "
    "has 23.50 GiB memory in use. Of the allocated memory 22.80 GiB is allocated by PyTorch, and "
    "300.00 MiB is reserved by PyTorch but unallocated.\n"
)


@pytest.mark.slow
def test_a_message_beside_a_training_is_explained_by_that_run():
    found = weighbridge.weigh(f"{MESSAGE}{around(('yaml', AXOLOTL))}", name="issue")
    message = found.message
    assert message.cause == "activations"
    told = [match.formula for match in message.explained if match.matches == "request"]
    assert told == ["2 x 8,192 tokens x 14,336 x 2 B"]
    said = view(found)
    assert "name the MODEL" not in str(said.footer)


@pytest.mark.parametrize("words", ["I use axolotl.\n", "TRL, Qwen3-8B.\n"])
def test_a_training_is_never_told_what_helps_serving(words):
    message = weighbridge.weigh(f"{words}{MESSAGE}", name="issue").message
    assert "kv_cache_too_big" not in message.judged.others
    assert message.remedies
    for change in message.remedies:
        assert "set_grad_enabled" not in change.paste
        assert "cpu_offload" not in change.paste
    serves = weighbridge.weigh(f"I run Qwen3-8B.\n{MESSAGE}", name="issue").message
    assert any("set_grad_enabled" in change.paste for change in serves.remedies)


@pytest.mark.slow
def test_a_message_about_the_memory_of_the_host_is_no_matter_of_the_card():
    text = "Fine-tune llama-3.1-8b on 8x H200, 160G of RAM: OOMKilled"
    message = weighbridge.weigh(f"{text}\n", name="issue").message
    assert message.cause == "host_memory"
    assert message.remedies
