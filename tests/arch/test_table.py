"""The table of model types: its words are known, each is read, and by one module."""

import re
from pathlib import Path

import pytest

import weighbridge
from weighbridge.arch.table import COLUMNS, DIFFERENCES, ROWS, column, since, version

SOURCE = Path(weighbridge.__file__).parent
TEXTS = {p: p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py")}


def test_rows_are_made_of_known_words():
    order = list(COLUMNS)
    for model_type, row in ROWS.items():
        names = [_name(word) for word in row.split()]
        assert set(names) <= set(order), model_type
        assert names == sorted(names, key=order.index), model_type


def _name(word: str) -> str:
    name = word.partition("=")[0]
    return "family" if ":" in name else name


def test_no_row_says_a_thing_twice():
    for model_type, row in ROWS.items():
        names = [_name(word) for word in row.split()]
        assert len(names) == len(set(names)), model_type


@pytest.mark.parametrize("name", COLUMNS)
def test_each_fact_is_read_in_one_module(name):
    asks = re.compile(rf'(?:column\("{re.escape(name)}"\)|since\("{re.escape(name)}",)')
    readers = [p for p, text in TEXTS.items() if asks.search(text)]
    assert len(readers) == 1
    place = str(readers[0].relative_to(SOURCE)).removesuffix("/__init__.py")
    assert f"({place})" in COLUMNS[name].replace("\n", " ")


def test_a_column_has_what_the_rows_say():
    assert column("family")["llama"] == "llama:LLAMA"
    assert column("layers")["deepseek_v2"] == "latent:maybe"
    assert column("no_cache")["bert"] == "encoder"
    assert "bert" not in column("layers")


def test_versions_are_compared_as_numbers():
    assert version("4.9") < version("4.10") < version("never")
    assert since("transformers.sdpa", "mistral", "4.36") == (4, 37)
    assert since("transformers.sdpa", "of no row", "4.36") == (4, 36)


def test_each_difference_is_one_that_a_class_has_and_another_module_asks_for():
    assert {word for words in column("computes").values() for word in words.split(",")} == set(
        DIFFERENCES
    )
    for word in DIFFERENCES:
        assert any(f'"{word}")' in text for text in TEXTS.values()), word
