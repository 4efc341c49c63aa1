"""Words of other tools, typed at ours: the answer names what is typed here, and that is taken."""

import shlex

import click
import pytest

from weighbridge.faces.cli.menu import COMMANDS, OF_OTHERS, menu, run

ASKING = ("infer", "train", "fit", "image", "train-image")


def complaint(capsys, *words: str) -> str:
    assert run([*words, "--offline"]) == 2
    return str(capsys.readouterr().err)


@pytest.mark.parametrize("flag", OF_OTHERS)
def test_a_flag_of_others_is_answered_with_an_option_that_its_command_has(flag, capsys):
    ctx, named = click.Context(menu), 0
    for verb in ASKING:
        command = menu.get_command(ctx, verb)
        has = {option for each in command.get_params(ctx) for option in each.opts}
        if flag in has:  # an own one of this command
            continue
        said = complaint(capsys, verb, "flux.1-dev" if "image" in verb else "gpt2", flag, "1")
        ours = OF_OTHERS[flag]
        assert (f"type {ours}." in said) == (ours.split()[0] in has)
        named += f"type {ours}." in said
    assert named


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("train gpt2 --method qllora", "did you mean qlora"),
        ("train gpt2 --framework deepspeeds", "did you mean deepspeed"),
        ("train gpt2 --framework fsdp", "--shard fsdp2"),
        ("train gpt2 --method fsdp", "--shard fsdp2"),
        ("train gpt2 --method sft", "--method full"),
        ("infer https://ollama.com/library/qwen3:8b", "qwen3:8b"),
        ("infer ollama.com/library/llama3.1", "llama3.1"),
        ("infer https://ollama.com/owner", "owner"),
    ],
)
def test_a_word_that_is_none_is_answered_with_the_one_that_is_meant(typed, named, capsys):
    said = complaint(capsys, *shlex.split(typed))
    assert named in said and said.count("\n") == 1


@pytest.mark.parametrize("unit", ["MiB", "GB", "GiB"])
def test_the_room_of_a_card_is_in_the_unit_that_was_asked_for(unit, capsys):
    assert run(["infer", "gpt2", "--gpu", "mi300x", "--unit", unit, "--offline"]) == 0
    needs, room = capsys.readouterr().out.splitlines()[2].split(" of ")
    assert unit in needs and not {"MiB", "GB", "GiB"} - {unit} & set(room.split())
    assert (float(room.split()[0].replace(",", "")) > 1000) == (unit == "MiB")


@pytest.mark.parametrize("words", [["help"], ["help", "infer"], ["help", "train"]])
def test_help_is_a_word_too(words, capsys):
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: weighbridge " + " ".join(words[1:]))
    assert words[1:] or all(name in shown for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        "fit qwen3-32b --gpu 4090",
        "fit qwen3-32b qwen3-8b --gpu 4090",
        "infer unsloth/Qwen3-8B-GGUF:Q4_K_M --gpu 4090",
        "infer unsloth/Qwen3-8B-GGUF:Q4_K_M --gpu 4090 -q",
        "infer unsloth/Qwen3-8B-GGUF:Q4_K_M --batch-size 1,2 --gpu h100",
    ],
)
def test_warnings_are_in_the_language_that_was_asked_for(typed, capsys):
    run([*shlex.split(typed), "--offline", "--lang", "zh"])
    said = capsys.readouterr().err.splitlines()
    assert said and all(line.startswith("警告：") for line in said)
    run([*shlex.split(typed), "--offline", "--lang", "en"])
    english = capsys.readouterr().err.splitlines()
    assert len(english) == len(said) and all(line.startswith("warning: ") for line in english)


def test_words_that_a_rank_does_not_count_are_said(capsys):
    assert run(["models", "qwen3-0.6b", "--gpu", "3060", "--not-understood", "64GiB ram"]) == 0
    out, error = capsys.readouterr()
    assert "64GiB ram" in error
    assert "qwen3-0.6b" in out
