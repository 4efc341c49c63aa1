"""The language of an answer about a pasted text: its own, where nobody says another."""

import io

import pytest

from weighbridge.faces.cli.menu import run as started

QUESTION = "一张 RTX 3090 上用 QLoRA 微调 qwen3-8b，显存够不够？上下文长度 4096"  # of one line
CHINESE = QUESTION.replace("，", "，\n")
ENGLISH = "QLoRA of qwen3-8b on a 3090\nwith 4096 tokens. 显存?"


@pytest.fixture
def pasted(capsys, monkeypatch):
    def run(text: str, lang: str, *options: str) -> str:
        for name in ("LC_ALL", "LC_MESSAGES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LANG", lang)
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
        monkeypatch.setattr("sys.stdin", stdin)
        started(["-", "--offline", *options])
        return str(capsys.readouterr().out)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "lang", "options", "title"),
    [
        (CHINESE, "", (), "qwen3-8b(8.19 B)"),
        (CHINESE, "C.UTF-8", (), "qwen3-8b(8.19 B)"),
        (CHINESE, "zh_CN.UTF-8", (), "qwen3-8b(8.19 B)"),
        (CHINESE, "de_DE.UTF-8", (), "qwen3-8b (8.19 B)"),
        (CHINESE, "", ("--lang", "en"), "qwen3-8b (8.19 B)"),
        (ENGLISH, "", (), "qwen3-8b (8.19 B)"),
        (ENGLISH, "", ("--lang", "zh"), "qwen3-8b(8.19 B)"),
        (QUESTION, "", (), "qwen3-8b(8.19 B)"),
        (QUESTION, "de_DE.UTF-8", (), "qwen3-8b (8.19 B)"),
        (QUESTION, "", ("--lang", "en"), "qwen3-8b (8.19 B)"),
    ],
)
def test_a_text_is_answered_in_its_language_where_nobody_says_another(
    pasted, text, lang, options, title
):
    assert pasted(text, lang, *options).startswith(title)


@pytest.mark.slow
def test_data_is_the_same_in_every_language(pasted):
    assert pasted(CHINESE, "", "--json") == pasted(CHINESE, "en_US.UTF-8", "--json")
