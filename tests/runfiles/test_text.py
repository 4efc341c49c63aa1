"""Prose with a run in it: what is picked out, what is asked for, and what is refused by its name."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.cards import card
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.named import models

FENCED = """\
My server uses less than I thought, on 4x H20:
```yaml
services:
  a:
    image: vllm/vllm-openai:v0.19.0
    volumes: ["/data/Qwen3-32B-AWQ:/model"]
    command: --model /model --tensor-parallel-size 2
```
"""


def of(text):
    (document,) = documents(text, "text")
    return document


@all_of(
    ("text", "names"),
    [
        ("I run Qwen/Qwen3-8B at home", ["Qwen/Qwen3-8B"]),
        ("see https://huggingface.co/Qwen/Qwen3-8B for it", ["Qwen3-8B"]),
        ("with the Qwen3 32 B model", ["Qwen3 32B"]),
        ("is Llama 3.1 8B too large", ["Llama 3.1 8B"]),
        ("the file models/qwen2_5_vl.py of Qwen2.5", []),
        ("7 cards and nothing else", []),
        ("alias of `qwen3:14b`", ["qwen3:14b"]),
    ],
)
def test_models_are_found_by_their_names(text, names):
    assert [piece.value for piece in models(of(text))] == names


@all_of(
    ("text", "cards"),
    [
        ("on 8x H100", "H100:8"),
        ("on 8*A800 80g", "A800 80GB:8"),
        ("用8卡h200微调", "h200:8"),
        ("2x NVIDIA GeForce RTX 3090 (24 GB)", "RTX 3090 24GB:2"),
        ("one H100, an H100 NVL", "H100 NVL"),
        ("a 4090 and a 3090", None),
        ("no card", None),
    ],
)
def test_cards_are_found_where_they_are_of_one_kind(text, cards):
    found = card(of(text))
    assert (found and found.value) == cards


def test_a_file_between_fences_is_read_with_the_card_of_the_text():
    (run,) = read(FENCED).runs
    assert run.model == "Qwen3-32B-AWQ"
    assert run.settings == {"gpu": "H20:4"}
    (weighed,) = weighbridge.weigh(FENCED).runs
    assert weighed.report.workload["tensor_parallel_size"] == 2
    assert weighed.report.workload["quantization"] == "awq-4bit-g128"


def test_a_command_in_prose_is_read_and_a_forgotten_blank_is_put_in():
    text = """\
Why is so little left on my 2x3090 with this memory?
```
A=1 \\
  vllm serve org/name --port 80--max-model-len 4096 \\
  --tensor-parallel-size 2
```
"""
    (run,) = read(text).runs
    assert run.model == "org/name"
    assert "--port 80 --max-model-len 4096" in run.command
    assert run.settings == {"gpu": "3090:2"}


def test_a_command_that_breaks_off_is_read_without_its_last_backslash():
    text = "I start it with\n\n    vllm serve org/name --max-model-len 4096 \\\n\nand wait."
    (run,) = read(text).runs
    assert run.command == "vllm serve org/name --max-model-len 4096"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("actor_rollout_ref.model.path=org/name out of memory", "verl"),
        ("GRPO of Qwen3-8B on a 3090", "GRPO"),
        ("mtplx crashes for qwen3 235b a22b: no memory", "MTPLX"),
    ],
)
def test_what_is_not_answered_is_refused_by_its_name(text, says):
    (weighed,) = weighbridge.weigh(text, name="the text").runs
    assert weighed.report is None
    assert says in weighed.why


MESSAGE = (
    "To serve at least one request with the models's max seq len (32768), (4.50 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (3.58 GiB). Based on the available "
    "memory, the estimated maximum model length is 26032"
)


def test_a_message_in_the_text_is_explained():
    found = weighbridge.weigh(f"What now?\n\n{MESSAGE}\n", name="the text")
    assert found.message.reading.parsed["needed_kv_bytes"] == 4.5 * 2**30
    assert found.answered
    assert found.to_dict()["message"]["schema"] == "weighbridge.oom/1"


def test_programs_that_list_what_they_hold_are_read():
    text = "NAME  ID  SIZE\nqwen3:14b  c3a702fca756  15 GB  100% GPU  8192  Forever\n memory"
    (run,) = read(text).runs
    assert (run.model, run.settings) == ("qwen3:14b", {"engine": "ollama", "context": 8192})
    (run,) = read("lms load google/gemma-3-27b --context-length 8000 --gpu max, RAM?").runs
    assert run.settings["context"] == 8000
    assert run.defaults[0][:2] == ("quantization", "Q4_K_M")


def test_a_message_alone_is_not_followed_by_a_run_that_nobody_named():
    from weighbridge.faces.texts.runfile import view

    page = view(weighbridge.weigh(f"What now?\n\n{MESSAGE}\n", name="the text"))
    assert not any("names no model" in str(block) for block in page.blocks)


def test_a_text_file_may_hold_any_other_kind():
    told = read("base_model: org/name\nmicro_batch_size: 2\nadapter: lora\nlora_r: 4\n", "run.txt")
    assert told.kind == "axolotl"
    assert read("On my 4090: out of memory with Qwen/Qwen3-8B", "mail.txt").kind == "text"


@pytest.mark.slow
def test_a_message_beside_a_launch_line_is_answered_for_that_engine():
    text = (
        "It died on my cards:\n```\nvllm serve qwen3-32b -tp 2\n```\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 270.00 MiB. GPU 0 has a total "
        "capacity of 23.52 GiB of which 190.00 MiB is free."
    )
    found = weighbridge.weigh(text, name="the text")
    assert found.message is not None
    assert not any("BitsAndBytes" in change.paste for change in found.message.remedies)


ROWS = """\
NAME  ID  SIZE
qwen3.6:27b-bf16  c3a702fca756  {size} GB  100% GPU  4096  Forever
0       3     0x66a1,   52718  37.0C  28.0W
1       4     0x66a1,   4670   40.0C  32.0W
"""


@pytest.mark.parametrize(("size", "count"), [(60, 2), (85, 3)])
def test_rows_of_rocm_smi_are_cards_and_no_fewer_than_hold_what_is_listed(size, count):
    assert card(of(ROWS.format(size=size))).value == f"MI50 32GB:{count}"
    assert card(of(ROWS.format(size=size).replace("0x66a1", "0x1234"))) is None


RPC = """\
ggml_cuda_init: found 1 ROCm devices
  Device 0: Radeon 8060S Graphics, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 126976 MiB
llama-server -ngl all --rpc 192.0.2.2:50052,192.0.2.3:50052 -fit on{more}
somebody/Qwen3-8B-GGUF:UD-Q6_K_XL runs out of memory
"""


@pytest.mark.parametrize(("more", "context"), [("", 40960), (" -c 8192", 8192)])
def test_cards_of_other_machines_are_counted_like_cards_of_this_one(more, context):
    (run,) = read(RPC.format(more=more)).runs
    assert run.model == "somebody/Qwen3-8B-GGUF:UD-Q6_K_XL"
    assert run.settings == {
        "engine": "llama.cpp",
        "gpu": "Radeon 8060S Graphics:3",
        "gpu_memory": "126976MiB",
        "context": context,
    }


@pytest.mark.slow
def test_the_line_to_paste_names_cards_of_other_machines():
    (run,) = weighbridge.weigh(RPC.format(more=" -c 8192"), name="the text", offline=True).runs
    line = run.report.derived["launch"]
    assert line.startswith("llama-server -hf somebody/Qwen3-8B-GGUF:UD-Q6_K_XL -c 8192")
    assert line.endswith(" --rpc 192.0.2.2:50052,192.0.2.3:50052")


def test_devices_that_llama_cpp_found_are_cards_where_they_are_alike():
    row = "  Device {}: NVIDIA GeForce RTX {}, compute capability 8.9, VMM: yes\n"
    alike = row.format(0, 4090) + row.format(1, 4090)
    assert card(of(f"memory\n{alike}")).value == "NVIDIA GeForce RTX 4090:2"
    assert card(of(f"memory\n{row.format(0, 4090)}{row.format(1, 3090)}")) is None


def test_names_and_cards_stand_between_chinese_words():
    text = "我在两张4090上用vLLM部署Qwen3-8B，显存不够"
    (run,) = read(text).runs
    assert (run.model, run.settings["gpu"], run.settings["engine"]) == (
        "Qwen3-8B",
        "4090:2",
        "vllm",
    )
