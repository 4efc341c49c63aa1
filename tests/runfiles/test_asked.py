"""A question of one line, in English and Chinese, is asked as the command that it means."""

import shlex

from tests.cases import all_of

from weighbridge.faces.cli.references import asked_in_words
from weighbridge.files.runfiles.asked import words

LINES = [
    ("can I run llama-3-70b on a 4090", "fit llama-3-70b --gpu 4090"),
    ("will qwen3-32b fit on 2x3090?", "fit qwen3-32b --gpu 3090:2"),
    ("can I run qwen3 30b on my 12 GB card", "fit 'qwen3 30b' --gpu 12gb"),
    ("is 48gb enough for llama 3.3 70b q4", "fit 'llama 3.3 70b q4' --gpu 48gb"),
    ("qwen3-32b on 24GB with 32k context", "fit qwen3-32b --context 32k --gpu 24gb"),
    ("gpt-oss-120b on a 3090 with 128GB ram", "fit gpt-oss-120b --ram 128GiB --gpu 3090"),
    ("how much vram for llama 3.1 8b at 32k", "infer 'llama 3.1 8b' --context 32k"),
    ("qwen3-32b on an h100, 64 users", "fit qwen3-32b --batch-size 64 --gpu h100"),
    ("llama-3.1-8b on rtx 3060 q4", "fit llama-3.1-8b --quantization q4 --gpu 'rtx 3060'"),
    ("vllm for qwen3-32b on 2x4090", "fit qwen3-32b --gpu 4090:2 --engine vllm"),
    ("what gpu do i need for qwen3-32b", "fit qwen3-32b --smallest gpu"),
    ("how many 4090 for deepseek-v3", "fit deepseek-v3 --smallest count --gpu 4090"),
    ("mistral small on 24GB vram", "fit 'mistral small' --gpu 24gb"),
    ("will a 70b run on 2x3090", "fit 70b --gpu 3090:2"),
    ("fine-tune qwen3-8b on a 4090", "fit qwen3-8b --for lora --gpu 4090"),
    (
        "fine-tune qwen3-8b with lora, batch size 4 3090",  # four samples, and one card
        "train qwen3-8b --method lora --batch-size 4 --gpu 3090",
    ),
    ("grpo qwen3-4b on a 4090", "train qwen3-4b --method grpo --gpu 4090"),
    ("dpo llama-3.1-8b on a100", "train llama-3.1-8b --method dpo --gpu a100"),
    ("flux dev on a 3060 12gb", "fit flux.1-dev --gpu '3060 12GB'"),
    ("flux lora on 16GB", "train-image flux.1-dev --method lora --gpu 16gb"),
    ("4张3090能跑qwen3-32b吗", "fit qwen3-32b --gpu 3090:4"),
    ("24G显存能跑qwen3-32b吗", "fit qwen3-32b --gpu 24gb"),
    ("我有4090和64G内存，能跑gpt-oss-120b吗", "fit gpt-oss-120b --ram 64GiB --gpu 4090"),
    ("qwen3-32b需要多少显存", "infer qwen3-32b"),
    ("双卡3090跑70b", "fit 70b --gpu 3090:2"),
    ("单卡4090微调qwen3-8b够吗", "fit qwen3-8b --for lora --gpu 4090"),
    ("8卡h100全参微调qwen3-32b", "train qwen3-32b --method full --gpu h100:8"),
    (
        "lora微调qwen3-8b，batch size 4，长度2048，3090",
        "train qwen3-8b --method lora --batch-size 4 --seq-len 2048 --gpu 3090",
    ),
    (
        "vllm部署qwen3-32b，50并发，要几张4090",
        "fit qwen3-32b --smallest count --batch-size 50 --gpu 4090 --engine vllm",
    ),
    ("用ollama跑qwen3:30b需要多少内存", "infer qwen3:30b --engine ollama"),
    ("wan2.2 16g显存能跑720p吗", "fit wan2.2-t2v-a14b --size 1280x720 --gpu 16gb"),
    ("sdxl训练lora要多少显存", "train-image sdxl --method lora"),
    ("什么显卡能跑qwen3-32b", "fit qwen3-32b --smallest gpu"),
    (
        "我有一张 3090，想用 LLaMA-Factory 全参微调 Qwen2.5-7B，够吗",
        "train Qwen2.5-7B --method full --gpu 3090 --framework llama-factory",
    ),
    (
        "ms-swift lora qwen2.5-7b on a 3090",
        "train qwen2.5-7b --method lora --gpu 3090 --framework ms-swift",
    ),
    (
        "grpo qwen2.5-7b with verl on 8xh100",
        "train qwen2.5-7b --method grpo --gpu h100:8 --framework verl",
    ),
    (
        "dpo qwen2.5-7b with OpenRLHF on 8xh100",
        "train qwen2.5-7b --method dpo --gpu h100:8 --framework openrlhf",
    ),
]
NONE = [
    "vllm serve qwen3-8b --max-model-len 8k",  # a command, which is read as one
    "why is the sky blue today",
    "qwen3-8b on a 4090 with 7 loras",  # a number that nobody understood
    "two lines of\nqwen3-8b on a 4090",
]


@all_of(("line", "command"), LINES)
def test_a_line_is_asked_as_the_command_that_it_means(line, command):
    assert shlex.join(words(line)) == command


@all_of("line", NONE)
def test_what_is_not_understood_is_no_command(line):
    assert words(line) == []


def test_what_is_typed_behind_words_stays_and_models_are_no_words(monkeypatch):
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    asked = ["fit", "qwen3-8b", "--gpu", "4090", "--json"]
    assert asked_in_words(["qwen3-8b", "on", "a", "4090", "--json"]) == asked
    assert asked_in_words(["qwen3-8b on a 4090", "--json"]) == asked
    assert asked_in_words(["qwen3-8b", "qwen3-4b", "qwen3-1.7b", "--gpu", "4090"]) == []
    assert asked_in_words(["some words of a file", "--fix"]) == []
    monkeypatch.setenv("LANG", "")
    assert asked_in_words(["4张3090能跑qwen3-32b吗"])[-2:] == ["--lang", "zh"]
