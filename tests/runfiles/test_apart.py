"""Prose behind a command on its line: where it begins, and what is taken of it."""

from tests.cases import all_of

from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.apart import apart

LINE = "vllm serve org/name --max-model-len 8192"


@all_of(
    ("line", "prose"),
    [
        (f"{LINE} on an RTX 4090", "on an RTX 4090"),
        (f"{LINE} --enforce-eager on a 4090", "on a 4090"),
        (f"{LINE}, it fails", "it fails"),
        (f"{LINE} 在4090上爆显存", "在4090上爆显存"),
        ("ollama run name:4b on my card", "on my card"),
        (LINE, ""),
        (f"{LINE} --served-model-name on a", ""),
        (f"{LINE} on --port 80", ""),
        (f"{LINE} --chat-template 'on a card'", ""),
        (f"{LINE} --served-model-name on", ""),
    ],
)
def test_prose_begins_where_no_flag_takes_it(line, prose):
    head, tail = apart(line)
    assert tail == prose
    assert f"{head} {tail}".strip() == line.replace(",", "")


def test_the_card_of_the_prose_judges_the_command():
    (run,) = read(f"{LINE.replace('org/name', 'qwen3-8b')} on an RTX 4090").runs
    assert run.command == "vllm serve qwen3-8b --max-model-len 8192"
    assert run.settings == {"gpu": "RTX 4090"}


def test_what_the_command_says_stays():
    (run,) = read("vllm serve qwen3-8b --max-model-len 8192 on a 4090 with 32k context").runs
    assert "context" not in run.settings


def test_a_script_is_no_prose():
    (run,) = read("vllm serve qwen3-8b --max-model-len 8192 on a card", "a.sh").runs
    assert run.command.endswith("on a card")


def test_a_blank_that_is_missing_before_a_flag_is_told():
    text = "It fails:\n`vllm serve qwen3-8b --port 80--max-model-len 8192`"
    (run,) = read(text).runs
    assert "--port 80 --max-model-len 8192" in run.command
    assert any("a blank is missing before --max-model-len" in note for note in run.notes)
