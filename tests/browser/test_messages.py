"""Out-of-memory messages and launch commands: pasted into the box of a model, or dropped."""

import json

import pytest

from tests.browser.conftest import TINY, settled, state_of
from tests.browser.test_stopping import MOVE
from tests.formats.build_gguf import Writer

MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total"
    " capacity of 23.64 GiB of which 1.12 GiB is free. Including non-PyTorch memory, this process"
    " has 22.51 GiB memory in use. Of the allocated memory 21.60 GiB is allocated by PyTorch, and"
    " 463.21 MiB is reserved by PyTorch but unallocated."
)
PASTE = """([where, text]) => {
  const box = document.querySelector(where);
  box.focus();
  const data = new DataTransfer();
  data.setData("text", text);
  box.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def test_a_message_that_is_pasted_as_a_model_is_explained(opened):
    page = opened()
    page.evaluate(PASTE, ["#model", f"Traceback (most recent call last):\n{MESSAGE}\n"])
    page.wait_for_selector(".headline")
    settled(page)
    assert state_of(page)["task"] == "oom"
    assert "the tensors of one step are too big" in page.inner_text(".headline")
    assert "1.96 GiB" in page.inner_text(".headline") and MESSAGE in page.input_value("#log")
    assert "21.6" in page.inner_text(".parts")
    assert "OutOfMemory" not in page.url
    page.fill("#model", "llama-3.1-8b")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('.result').innerText.includes('By the model')"
    )


def test_a_log_that_is_dropped_is_explained(opened, tmp_path):
    path = tmp_path / "train.log"
    path.write_text(f"step 12\n{MESSAGE}\n")
    page = opened("oom", lang="zh")
    page.set_input_files("#log-file", str(path))
    page.wait_for_selector(".headline")
    assert "train.log" in page.inner_text(".message")
    path.write_text("nothing went wrong\n")
    page.set_input_files("#log-file", str(path))
    page.wait_for_selector(".problem")
    assert page.locator(".headline").count() == 0


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("ollama run llama3.1:8b", "ollama"),
        ("mlx_lm.server --model mlx-community/Llama-3.1-8B-4bit", "mlx"),
        ("./build/bin/llama-cli -m llama-3.1-8b -c 8192 -ngl 99", "llama.cpp"),
        ("$ CUDA_VISIBLE_DEVICES=0 nohup vllm serve \\\n  qwen3-8b --max-model-len 8192", "vLLM"),
    ],
)
def test_every_command_that_is_read_is_known_in_the_box_of_a_model(opened, command, engine):
    page = opened()
    page.evaluate(PASTE, ["#model", command])
    page.wait_for_function("() => new URLSearchParams(location.hash.slice(1)).get('command')")
    settled(page)
    assert state_of(page)["task"] == "infer" and "\n" not in state_of(page)["command"]
    assert "launches no engine" not in page.inner_text(".answers")
    assert engine.lower() in page.inner_text(".answers").lower()


PYTHON = """import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(
    "qwen3-8b",
    dtype=torch.bfloat16,
)
"""
TRAINER = """from trl import SFTConfig, SFTTrainer
args = SFTConfig(per_device_train_batch_size=4, max_length=1024, bf16=True)
SFTTrainer(model="qwen3-0.6b", args=args, train_dataset=rows).train()
"""
LAUNCHED = "accelerate launch train.py --model_name_or_path qwen3-0.6b --bf16 True"


@pytest.mark.parametrize(
    ("text", "task", "says"),
    [
        (PYTHON, "infer", {"command": PYTHON.strip()}),
        (TRAINER, "train", {"framework": "trl", "model": "qwen3-0.6b", "batch_size": "4"}),
        (LAUNCHED, "train", {"framework": "trainer", "model": "qwen3-0.6b"}),
        (json.dumps(TINY, indent=1), "fit", {"file": "config.json"}),
    ],
)
def test_what_the_box_promises_to_read_it_reads(opened, text, task, says):
    page = opened("fit", gpu="4090")
    page.evaluate(PASTE, ["#model", text])
    page.wait_for_selector(".headline")
    settled(page)
    state = state_of(page)
    assert state["task"] == task
    assert {name: state.get(name) for name in says} == says
    assert page.locator(".problem, .files .error").count() == 0


def test_a_name_is_no_command_and_no_message(opened):
    page = opened()
    page.fill("#model", "Llama 3.1 8B")
    page.keyboard.press("Enter")
    settled(page)
    assert state_of(page)["task"] == "fit"


def test_back_takes_back_each_change_and_a_slider_as_one(opened):
    page = opened("train", model="qwen3-0.6b", gpu="3060", method="lora")
    page.evaluate(MOVE, "seq_len")
    page.evaluate(MOVE, "seq_len")
    page.wait_for_function("() => location.hash.includes('seq_len=3072')")
    page.select_option("#set-method", "qlora")
    page.wait_for_function("() => location.hash.includes('method=qlora')")
    page.go_back()
    page.wait_for_function("() => location.hash.includes('method=lora')")
    assert state_of(page)["seq_len"] == "3072"
    page.go_back()
    page.wait_for_function("() => !location.hash.includes('seq_len')")
    settled(page)
    assert "2,048" in page.inner_text("h2#answer")


def test_a_gguf_is_asked_of_llama_cpp_and_the_first_error_goes(opened, tmp_path):
    wrong, right = tmp_path / "wrong.gguf", tmp_path / "right.gguf"
    wrong.write_bytes(b"GGUF and nothing else")
    writer = Writer()
    writer.key("general.architecture", writer.value("str", "llama"))
    writer.tensor("blk.0.attn_q.weight", [64, 64], "Q8_0")
    right.write_bytes(writer.file() + bytes(1 << 16))
    page = opened("train")
    page.set_input_files("#file", str(wrong))
    page.wait_for_selector(".problem")
    told = page.inner_text(".problem")
    assert state_of(page)["engine"] == "llama.cpp" and state_of(page)["task"] == "fit"
    page.click("#tab-load")
    page.set_input_files("#file", str(right))
    page.wait_for_selector("h2#answer")
    settled(page)
    assert told not in page.inner_text("body") and page.locator(".problem").count() == 0


@pytest.mark.parametrize(
    ("question", "given"),
    [
        ("can I run qwen3-0.6b on a 3060 12gb?", {"gpu": "3060 12GB"}),
        ("3060能跑qwen3-0.6b吗", {"gpu": "3060"}),
        ("how much memory does qwen3-0.6b take with 7 hats", {"not_understood": "7 hats"}),
    ],
)
def test_a_question_in_words_is_asked_as_the_command_that_it_means(opened, question, given):
    page = opened()
    page.fill("#model", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(".headline")
    settled(page)
    state = state_of(page)
    assert state["model"] == "qwen3-0.6b"
    assert state["task"] == ("infer" if "hats" in question else "fit")
    assert state.items() >= given.items()
    if "hats" in question:
        assert "7 hats" in page.inner_text(".result")
