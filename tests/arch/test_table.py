"""The table of model types: its words are known, each is read, and by one module."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of
from tests.code import nodes
from weighbridge.arch.table import COLUMNS, DIFFERENCES, ROWS, column, since, version

ASKED = re.compile(r'\bcolumn\("([^"]+)"\)|\bsince\("([^"]+)",')
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


@cache
def readers_of():
    """The files that ask for a column, by its name."""
    found = defaultdict(list)
    for path, text in TEXTS.items():
        for name in {a or b for a, b in ASKED.findall(text)}:
            found[name].append(path)
    return found


@all_of("name", COLUMNS)
@pytest.mark.house
def test_each_fact_is_read_in_one_module(name):
    readers = readers_of()[name]
    assert len(readers) == 1
    place = str(readers[0].relative_to(SOURCE)).removesuffix("/__init__.py")
    assert f"({place})" in COLUMNS[name].replace("\n", " ")


def test_a_column_has_what_the_rows_say():
    assert column("family")["llama"] == "llama:LLAMA"
    assert column("layers")["t5"] == "sequence:t5"
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


# Files that may spell a model type, and why
SPELLERS = {
    "arch/table.py": "the table",
    "arch/cache_layers/gguf.py": "GGUF architectures, some of which are called as model types",
    "engines/llama_cpp/graphs/architectures.py": "GGUF architectures",
    "engines/ollama/before.py": "GGUF architectures",
    "engines/llama_cpp/classes.py": "GGUF architectures, by build",
    "engines/ollama/classes.py": "GGUF architectures, by release",
    "engines/transformers/classes.py": "which release knows which model type",
    "engines/ollama/estimate.py": "GGUF architectures, by which its formulas go",
    "engines/ollama/rules.py": "GGUF architectures",
    "formats/mistral_params.py": "turns a params.json into the config of a model type",
    "catalogue/everyday.py": "everyday names of models",
    "catalogue/__init__.py": "what transformers calls a network of timm",
    "lab/golden/__init__.py": "small models are called by what they are",
    "lab/golden/configs.py": "configs of small models",
    "lab/golden/vision.py": "small models of images",
    "lab/evidence/programs/__init__.py": "networks of timm",
    "lab/evidence/programs/language_nets.py": "the program's own words",
}
ORDINARY = {  # model types that are words of another meaning, too
    "mamba": "the path of a mixer, the kind of a layer",
    "bitnet": "a format",
    "opt": "an optimizer",
    "Klear": "how the names of classes begin",
}
PATHS = ("base", "bases")  # keywords whose values are paths of modules, called as the model type


def _spelled(text):
    """Model types among the words of strings that are not prose or paths, and among keywords."""
    keywords = list(nodes(text, ast.keyword))
    paths = {
        c.value
        for k in keywords
        if k.arg in PATHS
        for c in ast.walk(k.value)
        if isinstance(c, ast.Constant)
    }
    known = set(ROWS) - set(ORDINARY) - paths
    yield from (k.arg for k in keywords if k.arg in known)
    for node in nodes(text, ast.Constant):
        if isinstance(node.value, str):
            words = node.value.split()
            found = [word for word in words if word in known]
            if 2 * len(found) >= len(words):
                yield from found


@pytest.mark.house
def test_model_types_are_spelled_in_the_table():
    spelled = {str(path.relative_to(SOURCE)): set(_spelled(text)) for path, text in TEXTS.items()}
    spelled = {path: words for path, words in spelled.items() if words}
    assert {path: words for path, words in spelled.items() if path not in SPELLERS} == {}
    assert set(spelled) == set(SPELLERS), "a file of the list spells none: take it off"


def test_the_test_of_spelling_can_fail():
    code = (
        'FEW = "gemma2 qwen3 some"\nmake(base="vit", phi3=1)\nSAY = "gemma2 is what you asked for"'
    )
    assert set(_spelled(code)) == {"gemma2", "qwen3", "phi3"}
