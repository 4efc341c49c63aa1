"""The sentences of the screens: complete in both languages, and every one is said somewhere."""

import re
from pathlib import Path
from string import Formatter

import pytest

from weighbridge.view.messages import LANGUAGES, en, say, zh
from weighbridge.view.messages.page import PAGE

PACKAGE = Path(__file__).parents[2] / "src" / "weighbridge"
SPEAKING = [*(PACKAGE / "view").rglob("*.py"), PACKAGE / "lab" / "trace" / "screen.py"]
SOURCES = "\n".join(p.read_text() for p in SPEAKING if p.parent.name != "messages")


def placeholders(sentence):
    return sorted(name for _, name, _, _ in Formatter().parse(sentence) if name is not None)


def test_both_languages_have_the_same_keys():
    assert set(en.TABLE) == set(zh.TABLE)


def test_both_languages_say_the_same_things():
    ours, theirs = ({k: placeholders(v) for k, v in table.TABLE.items()} for table in (en, zh))
    assert ours == theirs


def said(key):
    stem = key.rpartition(".")[0]
    spelled = any(f"{q}{key}{q}" in SOURCES for q in "\"'")
    return spelled or re.search(rf'f"{re.escape(stem)}\.\{{', SOURCES) is not None


def test_every_sentence_is_said():
    assert [key for key in sorted(en.TABLE) if not said(key)] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_page_says_the_same_without_options(lang):
    told, page = say(lang), say(lang, page=True)
    assert set(page.table) == set(told.table)
    assert set(PAGE[lang]) == set(PAGE["en"])
    for key, sentence in PAGE[lang].items():
        assert placeholders(sentence) in ([], placeholders(told.table[key]))
        assert "--" not in sentence


def test_no_language_is_invented():
    with pytest.raises(ValueError, match="no language"):
        say("tlh")
    assert {say(lang).lang for lang in LANGUAGES} == {"en", "zh"}


def test_chinese_is_chinese():
    """What is left in English is what has no other name."""
    same = {k for k, v in en.TABLE.items() if v == zh.TABLE[k] and re.search("[a-z]{3}", v)}
    words = {w for k in same for w in re.findall("[a-z]{3,}", re.sub(r"\{\w+\}", "", en.TABLE[k]))}
    assert words <= {"logits", "allocated", "reserved", "driver", "details", "explain", "json"}
