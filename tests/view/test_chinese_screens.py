"""Chinese screens are Chinese: no English sentence is left but names, flags, units and code."""

import re
from functools import cache
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.words import words_in
from weighbridge.faces.cli.menu import run

KEPT = Path(__file__).parents[1] / "screens"
ZH = re.compile(r"^(?:=====|---) zh\n(.*?)(?=^(?:=====|---) |\Z)", re.M | re.S)
ENGLISH = re.compile(r"[A-Za-z]{2,},? [a-z]{2,} [a-z]{2,}")
FLAGS = re.compile(r"--?[a-z][\w-]*( [\w.:-]+)?|`[^`]*`")
CODE = (
    "import ",
    "  OLLAMA_CONTEXT_LENGTH=",
    "  vllm ",
    "  llama-server ",
    "  weighbridge ",
    "  sglang ",
    "  hf download ",
    "  printf ",
    "  python ",
    "  ollama ",
)


def prose(screen):
    """The lines of a screen but those to paste, without flags."""
    lines = (line for line in screen.splitlines() if not line.startswith(CODE))
    return [FLAGS.sub("", line) for line in lines]


@all_of("path", sorted(KEPT.glob("*.txt")), ids=lambda p: p.stem)
def test_no_english_sentence_is_left(path):
    for screen in ZH.findall(path.read_text(encoding="utf-8")):
        assert [line for line in prose(screen) if ENGLISH.search(line)] == []


KNOWN = [key for key in words_in("en").sentences if key.startswith("known.")]
TUNES = ("qwen3:30b", "deepseek-r1:70b", "magistral", "magistral-small")


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNES)
def test_what_a_name_was_taken_for_is_chinese(name):
    (line,) = (w for w in weighbridge.load(name).warnings if "is sized as" in w)
    assert not ENGLISH.search(FLAGS.sub("", words_in("zh").told(line)))


def test_the_test_can_fail():
    assert ENGLISH.search(prose("what tips it over: logits")[0])


@cache
def sentences():
    """What real answers say beside their screens."""
    fits = [
        weighbridge.fit("qwen3-0.6b", gpu="m3 max 64gb", engine="llama.cpp"),
        weighbridge.fit("vit-base-patch16-224", gpu="t4"),
        weighbridge.fit("7B", gpu="4090", max="model-size"),
    ]
    infers = [
        weighbridge.infer("resnet-50"),
        weighbridge.infer("mixtral"),
        weighbridge.infer("llama3.1:8b", engine="ollama", gpu="4090"),
        weighbridge.infer("llama3.1:8b"),
        weighbridge.infer("qwen3-8b", engine="mlx", gpu="m4 pro 24gb"),
        weighbridge.infer("qwen3-8b", engine="mlx", quantization="mlx-4bit-g64"),
        weighbridge.infer("qwen3-8b", engine="llama.cpp", quantization="Q4_K_M"),
        weighbridge.infer("starcoder2-7b", engine="llama.cpp", quantization="Q8_0"),
        weighbridge.infer("llama-7b", engine="ollama"),
        weighbridge.infer("llama-7b", engine="ollama", quantization="Q6_K"),
        weighbridge.infer("qwen3-8b", engine="ollama", quantization="Q8_0"),
        weighbridge.infer("starcoder2-7b", engine="ollama", quantization="Q8_0"),
        weighbridge.infer("llama-3.1-8b", engine="ollama", quantization="Q6_K"),
        weighbridge.infer("llama-3.1-8b", engine="vllm", quantization="awq-4bit-g128"),
        weighbridge.infer("qwen3-8b", engine="vllm", quantization="awq-4bit-g128"),
        weighbridge.infer("qwen3-8b", engine="vllm", quantization="gptq-4bit-g128"),
    ]
    trains = [
        weighbridge.train("qwen3-0.6b", seq_len=512, gpu="h100:2", shard="ddp"),
        weighbridge.train("qwen2.5-0.5b", seq_len=512, framework="litgpt"),
    ]
    found = {q.reason for f in fits for q in f.questions}
    found |= {line for f in (*fits, *infers) for line in f.warnings}
    found |= {f.solved.note for f in fits if f.solved is not None}
    found |= {line for name in TUNES for line in weighbridge.load(name).warnings}
    found |= {r.derived["launch_note"] for r in (*infers, *trains) if r.derived.get("launch_note")}
    return found | {what for r in infers for what in r.derived["not_counted"] or ()}


@pytest.mark.slow
@pytest.mark.parametrize("key", KNOWN)
def test_known_sentences_are_those_of_real_answers(key):
    words = words_in("zh")
    said = [text for text in sentences() if words.told(text) != text]
    opening = max(re.split(r"\{\w+\}", words.sentences[key]), key=len)
    assert any(opening in words.told(text) for text in said), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("models qwen3-0.6b --lang zh", "不联网即可回答"),
        ("estimate-memory qwen3-0.6b --dtypes int8 --lang zh", "qwen3-0.6b 以 int8 占"),
        ("estimate-memory qwen3-0.6b --lang zh", "用 Adam 训练需"),
        ("train qwen3-0.6b --gpu 3060 --lang zh", "放得下"),
    ],
)
def test_commands_heed_the_language(capfd, typed, said):
    assert run(typed.split()) == 0
    shown = capfd.readouterr()
    assert said in shown.out + shown.err


@pytest.mark.slow
def test_a_training_that_fits_has_its_line():
    fits = weighbridge.train("qwen3-0.6b", gpu="h100")
    assert fits.verdict.fits == "yes"
    assert "TrainingArguments(" in fits.derived["launch"]
    assert "args = TrainingArguments(" in str(fits)
    assert "launch" not in weighbridge.train("llama-3.1-8b", gpu="3060").derived
