"""What people see, sign by sign: tests/screens/*.txt, at several widths, in every form.

WRITE_SCREENS=1 pytest tests/view/test_golden_screens.py     writes them anew: read the difference
"""

import os
from pathlib import Path

import pytest

import weighbridge
from weighbridge.faces.render import render
from weighbridge.faces.view.records import RenderOptions

KEPT = Path(__file__).parents[1] / "screens"
NARROW, USUAL, WIDE = (RenderOptions(width=width) for width in (60, 80, 120))
PLAIN, CHINESE = RenderOptions(plain=True), RenderOptions(lang="zh")
COLOR, FULL, WHY = (
    RenderOptions(color=True),
    RenderOptions(details=True),
    RenderOptions(explain=True),
)
EVERY = (
    *(("human", look, name) for look, name in ((NARROW, "60"), (USUAL, "80"), (WIDE, "120"))),
    *(("human", look, name) for look, name in ((PLAIN, "ascii"), (CHINESE, "zh"))),
    *(("human", look, name) for look, name in ((COLOR, "color"), (FULL, "details"))),
    ("human", WHY, "explain"),
    ("human", RenderOptions(lang="zh", details=True), "zh details"),
    ("markdown", USUAL, "markdown"),
    ("markdown", FULL, "markdown details"),
    ("html", USUAL, "html"),
)
SHORT = (("human", USUAL, "80"), ("human", NARROW, "60"), ("human", CHINESE, "zh"))

ASKED = {
    "load, a card that is too small": ("load", "llama-3.1-8b", {"gpu": "3060"}, EVERY),
    "infer vllm on a 4090": (
        "infer",
        "llama-3.1-8b",
        {"engine": "vllm", "gpu": "4090", "context": 32768},
        EVERY,
    ),
    "train qlora on a 3060": (
        "train",
        "llama-3.1-8b",
        {"method": "qlora", "framework": "trainer", "checkpointing": "full", "gpu": "3060"},
        EVERY,
    ),
    "load, no card": ("load", "llama-3.1-8b", {}, (*SHORT, ("markdown", USUAL, "markdown"))),
    "load on two cards": ("load", "llama-3.1-70b", {"gpu": "4090:2"}, SHORT),
    "infer on four of eight": (
        "infer",
        "llama-3.1-70b",
        {"engine": "vllm", "tensor_parallel_size": 4, "gpu": "h100-sxm:8"},
        SHORT,
    ),
    "infer, experts on the host": (
        "infer",
        "mixtral-8x7b",
        {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "3090"},
        SHORT,
    ),
    "cannot say": ("load", "llama-3.1-8b", {"gpu_memory": "15.5GiB"}, SHORT),
    "a rough size": ("load", "7B", {}, SHORT),
    "not counted": ("infer", "resnet-50", {"gpu": "4090"}, SHORT),
    "host memory decides": (
        "train",
        "llama-3.1-8b",
        {"shard": "fsdp2", "checkpointing": "full", "gpu": "h100-sxm:8", "ram": "64GiB"},
        SHORT,
    ),
    "grpo, an engine beside the trainer": (
        "train",
        "qwen2.5-7b",
        {"method": "grpo", "framework": "openrlhf", "gpu": "a100-80gb:4", "batch_size": 2}
        | {"prompt_len": 1024, "max_new_tokens": 3072},
        (*SHORT, ("human", FULL, "details"), ("markdown", USUAL, "markdown")),
    ),
    "dpo, what decides was not said": (
        "train",
        "qwen2.5-0.5b",
        {"method": "dpo", "lora_r": 16, "gpu": "4090", "seq_len": 1024},
        SHORT,
    ),
    "the host alone": ("load", "llama-3.1-8b", {"ram": "8GiB", "dtype": "float32"}, SHORT),
}


LONG = (
    "train qlora on a 3060",
    "host memory decides",
    "grpo, an engine beside the trainer",
)  # remedies that are trained one by one


@pytest.mark.whole  # each shows sentences that no other does
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in ASKED]
)
def test_screens_are_what_they_were(name):
    task, model, settings, forms = ASKED[name]
    report = getattr(weighbridge, task)(model, **settings)
    shown = "\n".join(
        f"===== {title}\n{render(report, form, look)}" for form, look, title in forms
    ).replace("\x1b", "\\e")
    path = KEPT / f"{name.replace(', ', '-').replace(' ', '-')}.txt"
    if os.environ.get("WRITE_SCREENS"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8"), f"see WRITE_SCREENS in {Path(__file__).name}"
