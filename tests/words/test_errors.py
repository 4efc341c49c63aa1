"""Errors in Chinese: what is wrong with a question is told in the language that was asked for."""

import ast
import re
from pathlib import Path

import click
import pytest

import weighbridge
from tests.cases import all_of
from tests.words.english import in_chinese
from weighbridge.base.words import entries, words_in
from weighbridge.faces.cli.menu import run

CHINESE = re.compile("[\u4e00-\u9fff]")
TOLD = {
    f"{catalogue}: {key}": entry
    for catalogue in ("errors", "warnings")
    for key, entry in entries(catalogue).items()
    if key.startswith("known.")
}
SENTENCES = Path(__file__).parents[1] / "sentences.txt"  # those of all corners, # for numbers
RUNFILES = Path(weighbridge.__file__).parent / "files" / "runfiles"  # tables of readers
SOURCES = (Path(weighbridge.__file__).parent, Path(click.__file__).parent)


@pytest.mark.parametrize(
    "typed",
    [
        "load llama-3.1-9b --offline",
        "load ./nowhere",
        "infer llama-3.1-8b --gpu 9090",
        "infer llama-3.1-8b --gpu m3-max",
        "infer llama-3.1-8b --engine vlm",
        "infer llama-3.1-8b --engine zzz",
        "load llama-3.1-8b --quantization foo",
        "infr x",
        "infer llama-3.1-8b --context 4K 16K",
        "infer --command vllm~serve~/model",
        "zzz",
        "infer llama-3.1-8b --contxt 3",
        "infer llama-3.1-8b --zzz 3",
        "infer llama-3.1-8b --context abc",
        "infer llama-3.1-8b --gpu-memory abc",
        "infer llama-3.1-8b --batch-size 0",
        "infer llama-3.1-8b --context 99999999999",
        "train llama-3.1-8b --method foo",
        "infer llama-3.1-8b --engine vllm --n-gpu-layers 3",
        "train llama-3.1-8b --optimizer foo",
        "load meta-llama/Some-Model --offline",
        "fit",
        "load",
        "load llama-3.1-8b --chart x.foo",
        "load llama-3.1-8b --chart none/x.svg",
        "train llama-3.1-8b --batch-size 1,2 --save x.py",
        "infer resnet-50 --engine vllm",
        "infer opt-125m --engine llama.cpp",
        "infer qwen3-8b --engine mlx --gpu 4090",
        "infer qwen3-8b --engine mlx --gpu m3-max-64gb:2",
        "infer qwen3-8b --engine vllm --gpu m3-max-64gb",
        "infer qwen3-8b --engine vllm --quantization Q4_K_M",
        "infer qwen3-8b --engine-version 4.30",
        "infer qwen3-8b --together",
        "infer qwen3-8b gpt2 --together",
        "infer qwen3-8b gpt2 --together --gpu h100 --engine sglang",
        "train resnet-50 --checkpointing full",
    ],
)
def test_what_people_get_wrong_is_told_in_chinese(capsys, typed):
    assert run([*(w.replace("~", " ") for w in typed.split()), "--lang=zh"]) in (2, 3)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("错误")
    assert CHINESE.search(said.removeprefix("错误")), said


def test_in_english_it_is_as_it_was_raised(capsys):
    assert run(["load", "./nowhere"]) == 2
    assert capsys.readouterr().err == "error: './nowhere': no such file or folder\n"


def test_the_word_before_a_warning_is_of_the_language(capsys):
    typed = ["load", "qwen3-0.6b", "--gpu", "h100"]
    assert run(typed) == run([*typed, "--lang", "zh"]) == 0
    english, chinese = capsys.readouterr().err.splitlines()
    assert english.startswith("warning: --gpu") and chinese.startswith("警告")


def literals():
    """What every string in the sources says between its values."""
    for root in SOURCES:
        for path in root.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.mark.slow
def test_every_sentence_is_one_that_is_raised():
    """Each piece of it between values stands in a string of the sources, begins one, or stands in
    an answer of the corners."""
    tables = (path.read_text(encoding="utf-8") for path in RUNFILES.rglob("*.txt"))
    known = "\n".join((*literals(), *tables, SENTENCES.read_text(encoding="utf-8")))
    for key, entry in TOLD.items():
        for piece in re.split(r"\{\w+\}", entry["en"]):
            spoken = [
                part.strip(" `'.?;,:()")
                for part in re.split(r"(?<=[.;?]) |: |^ is |, not $|^ has no ", piece)
            ]
            assert all(part in known for part in spoken if len(part) > 3), (key, piece)


def test_a_message_that_is_not_known_stays_english():
    assert words_in("zh", "errors").told("something else is wrong") == "something else is wrong"


def warnings():
    """Every warning that an answer of the corners has."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith("warnings: ")]


@pytest.mark.slow
@all_of("warning", warnings())
def test_every_warning_of_the_corners_is_told_in_chinese(warning):
    for number in ("3", "1,024.5"):
        told = in_chinese(warning.replace("#", number))
        assert told, "a clause is left in English"
        assert CHINESE.search(told)
        assert re.search(r"\d", told) or "#" not in warning


@all_of(
    ("english", "chinese"),
    [
        ("the text", "文本"),
        ("gpt2: the text", "gpt2：文本"),  # behind a name
        ("not a name: the text", None),
        ("x" * 988 + "; the text; x", None),
        ("the text; the text", "文本；文本"),
        ("the text; something else", None),  # all clauses, or none
        ("something else; the text", None),
    ],
)
def test_clauses_are_told_one_by_one(english, chinese):
    assert words_in("zh").told(english) == (chinese or english)
    assert words_in("zh", "errors").told(english) == (chinese or english)
    assert words_in("en").told(english) == english
