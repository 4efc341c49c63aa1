"""Machine parts of a text: where each begins and ends, by hand, and what of the text decides."""

from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import fences, read
from weighbridge.files.runfiles.pieces import blocks, has_words, only_commands

SERVES = "vllm serve qwen3-8b --max-model-len 8192"
TRAINS = (
    "torchrun --nproc_per_node=8 train.py --model_name_or_path Qwen/Qwen2.5-7B-Instruct --bf16 True "
    "--per_device_train_batch_size 1 --gradient_checkpointing True"
)
SCRIPT = """\
from unsloth import FastLanguageModel
model, tok = FastLanguageModel.from_pretrained("unsloth/Qwen3-8B", load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=8)

from trl import SFTConfig, SFTTrainer
SFTTrainer(model=model, args=SFTConfig(per_device_train_batch_size=1, max_length=1024)).train()
"""
MESSAGE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 23.69 GiB of which 1.20 GiB is free. Of the allocated memory 21.00 GiB is allocated "
    "by PyTorch, and 0.20 GiB is reserved by PyTorch but unallocated."
)


@all_of(
    ("text", "expected"),
    [
        (f"It dies:\n\n{SCRIPT}\nIt dies here, why?", [(2, 9)]),
        ("a: 1\nb: 2\nc:\n  - d\nMore words", [(0, 4)]),
        ("Words\n\n[a]\nb = 1\n", [(2, 5)]),
        ('Words\n{\n "a": [\n  1\n ]\n}\nWords', [(1, 6)]),
        (f"a: 1\n{MESSAGE}\nb: 2", [(0, 1), (2, 3)]),
        ("a: 1\nTraceback (most recent call last):\n  b: 2\nc: 3", [(0, 1), (3, 4)]),
        ("Words alone\nand more of them", []),
        (f"Words\n{TRAINS}\nMore words", [(1, 2)]),
        (f"Words\nA=1 \\\n{TRAINS} \\\n  --x 1\nWords", [(1, 4)]),
        (f"Words\n$ {TRAINS}\nWords", [(1, 2)]),
    ],
)
def test_a_block_is_what_stands_between_words(text, expected):
    assert [*blocks(text)] == expected
    assert has_words(text) == ("ords" in text or "It dies" in text or len(expected) > 1)


@all_of(
    ("text", "alone"),
    [
        (SERVES, True),
        (f"export A=1\n{SERVES} \\\n  --tensor-parallel-size 2\n", True),
        (f"# why\n\n{SERVES}", True),
        (f"{SERVES}\nIt dies", False),
        (f"{SERVES}\n{MESSAGE}", False),
        (f"{TRAINS}\n[rank0]: Traceback", False),
        (f"{SERVES}\n\n(EngineCore_0 pid=3132) ERROR {MESSAGE}", False),
        (f"(\n  {SERVES}\n)", True),
    ],
)
def test_a_text_of_commands_has_nothing_else(text, alone):
    assert only_commands(text) is alone


def test_what_stands_below_a_leading_command_counts():
    found = weighbridge.weigh(f"{SERVES}\n{MESSAGE}", name="paste", offline=True)
    assert found.message.reading.size("capacity") > 23 * 2**30
    assert found.runs[0].run.model == "qwen3-8b"
    above = weighbridge.weigh(f"It dies:\n{SERVES}\n{MESSAGE}", name="paste", offline=True)
    assert above.message.cause == found.message.cause


def test_one_torchrun_line_means_the_same_alone_and_in_a_text():
    (alone,) = read(TRAINS).runs
    (within,) = read(f"We train and it dies.\n\n{TRAINS}\n").runs
    assert within.settings == alone.settings
    assert within.model == alone.model


def test_a_script_without_fences_says_what_it_says_between_them():
    (plain,) = read(f"Qwen3-8B LoRA on one Tesla T4:\n\n{SCRIPT}").runs
    (fenced,) = read(f"Qwen3-8B LoRA on one Tesla T4:\n\n```python\n{SCRIPT}```\n").runs
    assert plain.settings == fenced.settings
    assert plain.settings["method"] == "qlora"


def test_a_long_text_has_a_bounded_number_of_parts():
    assert len(fences.read(f"{TRAINS}\nWords\n" * 100, "a").runs) == 40
